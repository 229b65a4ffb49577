"""One small tree of exceptions; each carries a stable code and the exit status of the command line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PlainfilmError(Exception):
    """Anything plainfilm refuses, in words a user can act on.

    Attributes:
        code: Stable, upper-case reason such as `IMG_TRUNCATED`; safe to match in scripts.
        exit_code: What the command line exits with (2 usage, 3 bad data, 4 audit failed, 5 resource).
    """

    default_code = "ERROR"
    exit_code = 70

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code

    def located(self, where: str) -> PlainfilmError:
        """The same error with the file, row or shape that only the caller knows put before it."""
        return type(self)(f"{where}: {self}", code=self.code)


class UsageError(PlainfilmError):
    """An option, name or combination of options that cannot be."""

    default_code = "USAGE"
    exit_code = 2


class DataError(PlainfilmError):
    """Input that cannot be used as it is."""

    default_code = "DATA"
    exit_code = 3


class ImageError(DataError):
    """One image that cannot be read; the code says why (`IMG_...`)."""

    default_code = "IMG_UNREADABLE"


class TableError(DataError):
    """A manifest, folder or table that cannot be used (`TAB_...`)."""

    default_code = "TAB_INVALID"


class LeakageError(DataError):
    """A patient, or an image, in two splits at once (`SPL_...`)."""

    default_code = "SPL_LEAK"


class BundleError(DataError):
    """A model bundle, checkpoint or run folder that cannot be trusted (`BUN_...`)."""

    default_code = "BUN_INVALID"


class TrainingError(PlainfilmError):
    """Training that cannot go on (`TRN_...`)."""

    default_code = "TRN_FAILED"
    exit_code = 3


class ResourceError(PlainfilmError):
    """Disk, memory, permission or a lock (`RES_...`)."""

    default_code = "RES_EXHAUSTED"
    exit_code = 5


class Interrupted(PlainfilmError):  # noqa: N818 - what happened is not an error
    """A stop asked for by signal; what was finished is on disk."""

    default_code = "INTERRUPTED"
    exit_code = 130


class Helped(PlainfilmError):  # noqa: N818 - what happened is not an error
    """Raised in all processes of a team but the first when their work is done: its result is with the first."""

    default_code = "HELPED"
    exit_code = 0


def nearest_name(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` when a known name is near, else an empty string."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, offering the nearest that does."""
    names = sorted(known)
    listed = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:12])} and {len(names) - 12} more"
    code = f"UNKNOWN_{kind.upper().replace(' ', '_')}"
    return UsageError(f"No {kind} named '{name}'.{nearest_name(name, names)} Known: {listed}.", code=code)
