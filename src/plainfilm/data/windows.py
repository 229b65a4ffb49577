"""Which window of grey values an image is seen through: its own, none, or one that is given."""

from __future__ import annotations

import re
from dataclasses import dataclass

from plainfilm.errors import UsageError

FILE, NONE = "file", "none"
# Centre and width in Hounsfield units, as CT consoles have them.
NAMED = {
    "brain": (40.0, 80.0),
    "soft-tissue": (40.0, 400.0),
    "lung": (-600.0, 1500.0),
    "bone": (480.0, 2500.0),
}


@dataclass(frozen=True)
class Window:
    """A window, parsed.

    Attributes:
        kind: `file` (what the file gives), `none` or `given`.
        number: Which of the file's windows, counted from 0.
        center: Of a given window, in units after rescale.
        width: The same; above 0.
    """

    kind: str = FILE
    number: int = 0
    center: float = 0.0
    width: float = 1.0


def parse_window(text: str) -> Window:
    """`file`, `file:2` (the second window of the file), `none`, `CENTRE/WIDTH`, or a name of `NAMED`.

    Raises:
        UsageError: `OPT_WINDOW`.
    """
    if text == NONE:
        return Window(NONE)
    if text in NAMED:
        return Window("given", 0, *NAMED[text])
    own = re.fullmatch(rf"{FILE}(?::([1-9]\d?))?", text)
    if own:
        return Window(FILE, int(own[1] or 1) - 1)
    number = r"(-?\d+(?:\.\d+)?)"
    given = re.fullmatch(rf"{number}/{number}", text)
    if given and float(given[2]) > 0:
        return Window("given", 0, float(given[1]), float(given[2]))
    names = ", ".join(NAMED)
    raise UsageError(
        f"window is file, file:2 (the file's second), none, CENTRE/WIDTH such as 40/400, or one of {names}; not "
        f"'{text}'.",
        code="OPT_WINDOW",
    )
