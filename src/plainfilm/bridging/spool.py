"""Reports that wait for their receiver, as files: they outlive its absence, and a crash of ours."""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress
from pathlib import Path

from plainfilm.storage import delete, make_folder, sweep, write_bytes

WAITING, REFUSED = "waiting", "refused"


class Spool:
    """A folder of objects to send; the names of its files say nothing.

    Args:
        folder: Made if it is not there, for its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self._waiting, self._refused = folder / WAITING, folder / REFUSED
        for path in (folder, self._waiting, self._refused):
            make_folder(path)
            with suppress(OSError):
                path.chmod(0o700)
        sweep(folder)
        self.changed = threading.Event()
        self._number = len(list(self._waiting.iterdir()))

    def put(self, data: bytes) -> None:
        """Keep an object until it is sent."""
        self._number += 1
        write_bytes(self._waiting / f"{self._number:08d}-{uuid.uuid4().hex}.dcm", data)
        self.changed.set()

    def waiting(self) -> list[Path]:
        """What is to be sent, oldest first."""
        return sorted(path for path in self._waiting.glob("*.dcm") if not path.name.startswith("."))

    def sent(self, path: Path) -> None:
        """Forget an object that has arrived."""
        delete(path)

    def refuse(self, path: Path) -> None:
        """Lay aside what the receiver will never take."""
        path.replace(self._refused / path.name)

    def refused(self) -> list[Path]:
        """What was laid aside."""
        return sorted(self._refused.glob("*.dcm"))
