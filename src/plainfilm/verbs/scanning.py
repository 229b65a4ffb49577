"""Reading every file, without training."""

from __future__ import annotations

from pathlib import Path

from plainfilm.config import RunOptions
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.data.table import Table
from plainfilm.prediction import safe_csv
from plainfilm.progress import Progress
from plainfilm.storage import write_text
from plainfilm.verbs.helping import working_together


def scan(
    data: str | Path,
    *,
    options: RunOptions | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Table:
    """Read every file of DATA: used, skipped or refused, each with its reason.

    Args:
        data: Anything `list_images` understands.
        options: `source` and `reading` are used.
        output: Where to write the account as CSV, one row per file; nothing is written without it.
        progress: Told after every image.
    """
    options = options or RunOptions()
    with working_together(1, "cpu") as team:
        listing = list_images(Path(data), options.source)
        table, _ = scan_listing(
            listing, workers=options.reading.workers, keeping=options.reading.keeping, team=team, progress=progress
        )
    if output is not None:
        write_text(Path(output), safe_csv(table.account()))
    return table
