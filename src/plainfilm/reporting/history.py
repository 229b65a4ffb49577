"""The epochs of a training as a table and a picture, written while it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from plainfilm.plots import training_plot
from plainfilm.storage import write_bytes, write_text

SECONDS_BETWEEN_PICTURES = 20.0


def write_history(
    folder: Path, history: Sequence[Mapping[str, Any]], *, chosen_epoch: int | None = None, draw: bool = True
) -> None:
    """Write `history.csv` and, unless `draw` is False or there is but one row, `curves.png`; each whole at any time."""
    frame = pd.DataFrame(list(history))
    write_text(folder / "history.csv", frame.to_csv(index=False))
    if draw and len(frame) > 1:  # one row is a fit without epochs: nothing to follow
        write_bytes(folder / "curves.png", training_plot(frame, chosen_epoch=chosen_epoch).png())


class LiveHistory:
    """Writes the history while a training runs; draws now and then, since a picture takes as long as a short epoch.

    Args:
        folder: Where `write_history` writes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drawn_at = time.monotonic()

    def __call__(self, history: Sequence[Mapping[str, Any]]) -> None:
        """One more epoch is finished."""
        is_due = time.monotonic() - self._drawn_at > SECONDS_BETWEEN_PICTURES
        write_history(self._folder, history, draw=is_due)
        if is_due:
            self._drawn_at = time.monotonic()
