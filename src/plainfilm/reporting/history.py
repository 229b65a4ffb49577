"""The epochs of a training as a table and a picture, written while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from plainfilm.plots import training_plot
from plainfilm.storage import write_bytes, write_text


def write_history(folder: Path, history: Sequence[Mapping[str, Any]], *, chosen_epoch: int | None = None) -> None:
    """Write `history.csv` and `curves.png`; readers find them whole at every instant."""
    frame = pd.DataFrame(list(history))
    write_text(folder / "history.csv", frame.to_csv(index=False))
    write_bytes(folder / "curves.png", training_plot(frame, chosen_epoch=chosen_epoch).png())
