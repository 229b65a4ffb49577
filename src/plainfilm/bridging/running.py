"""The bridge: what comes in is answered in its turn, and the answers are sent."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from types import TracebackType
from typing import Self

from plainfilm.bridging.addresses import check_service, is_this_machine, parse_peer
from plainfilm.bridging.delivering import Courier, Sender
from plainfilm.bridging.options import BridgeOptions
from plainfilm.bridging.receiving import Admitted, Door, Receiver
from plainfilm.bridging.spool import Spool
from plainfilm.errors import PlainfilmError, UsageError

FINISHING = 20.0  # seconds that senders, the model and the receiver each get when the bridge stops

Answer = Callable[[list[Admitted]], Iterable[bytes]]


def check_bridge(options: BridgeOptions) -> None:
    """Refuse options that lead nowhere, or further than was allowed.

    Raises:
        UsageError: `MISSING_EXTRA`, `BRG_NO_RECEIVER`, `BRG_REMOTE`, or what is wrong with an address.
    """
    missing = [name for name in ("pynetdicom", "dicomweb_client") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"The bridge needs {', '.join(missing)}. Install with: pip install 'plainfilm[dicom]'", code="MISSING_EXTRA"
        )
    if (options.peer is None) == (options.stow is None):
        raise UsageError(
            "Say where reports go: either --peer TITLE@HOST:PORT or --stow http://HOST:PORT/...", code="BRG_NO_RECEIVER"
        )
    receiver = check_service(options.stow) if options.stow is not None else parse_peer(options.peer or "").host
    for what, host in (("listen on", options.host), ("send to", receiver)):
        if not is_this_machine(host) and not options.allow_remote:
            raise UsageError(
                f"'{host}' is not this machine. To {what} it, give --allow-remote; what goes over the wire names "
                "patients and is not encrypted.",
                code="BRG_REMOTE",
            )
    if not is_this_machine(options.host) and not options.calling_ae:
        raise UsageError(
            f"To listen on '{options.host}', name the senders that are let in: --calling-ae TITLE.", code="BRG_REMOTE"
        )


class Bridge:
    """Receives, answers and sends, until it is closed; a context manager.

    Args:
        options: Where, to whom, how much.
        door: Reads and decodes one object, or refuses it by a `PlainfilmError`.
        answer: Makes the results about the images of one association.
        sender: The way to the receiver.
        say: Told in words, without patients, what has happened.
    """

    def __init__(
        self, options: BridgeOptions, door: Door, answer: Answer, sender: Sender, say: Callable[[str], None]
    ) -> None:
        self._answer, self._say = answer, say
        self._spool = Spool(options.spool)
        self._courier = Courier(self._spool, sender, retry_seconds=options.retry_seconds, say=say)
        self._receiver = Receiver(options, door, self._deliver)
        self._todo: queue.SimpleQueue[list[Admitted] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True, name="plainfilm-bridge")
        self.address = ("", 0)

    def __enter__(self) -> Self:
        self.address = self._receiver.start()
        self._thread.start()
        self._courier.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._receiver.close(seconds=FINISHING)
        self._todo.put(None)
        self._thread.join(FINISHING)
        self._courier.close(seconds=FINISHING)
        left = len(self._spool.waiting())
        if left:
            self._say(f"{left} results stay in the spool; they are sent when the bridge runs again")

    def _deliver(self, images: list[Admitted], refused: Counter[str]) -> None:
        """What one sender sent, and what was refused of it."""
        said = f"received {len(images)} images"
        if refused:
            said += ", refused " + ", ".join(f"{count} {code}" for code, count in sorted(refused.items()))
        self._say(said)
        if images:
            self._todo.put(images)

    def _run(self) -> None:
        while (images := self._todo.get()) is not None:
            try:
                for data in self._answer(images):
                    self._spool.put(data)
            except PlainfilmError as error:
                self._say(f"{len(images)} images got no answer ({error.code})")
            except Exception as error:  # one sender's images must not end the bridge for the others
                self._say(f"{len(images)} images got no answer (INTERNAL {type(error).__name__})")
            finally:
                self._receiver.classified(len(images))
