"""What a collection looks like, before or beside any model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from plainfilm.bundle import find_bundles, read_config
from plainfilm.data.grey import Channel
from plainfilm.data.pixels import PixelStore
from plainfilm.data.scanning import readable_pixels, scan_as_prepared, scan_listing
from plainfilm.data.sources import SourceOptions, list_images
from plainfilm.data.table import Listing, Table
from plainfilm.exploration.exploring import embedding_frame, exploration_facts, explore_table
from plainfilm.exploration.options import ExploreOptions
from plainfilm.exploration.projection import Features, Planes, Seen
from plainfilm.exploration.results import Exploration
from plainfilm.prediction import safe_csv
from plainfilm.progress import Progress, Silent
from plainfilm.storage import check_output, delete, make_folder, write_bytes, write_json, write_text
from plainfilm.verbs.recovering import recovery_note, with_recovered_patients

PAGE, NUMBERS, POINTS, PLOTS = "explore.html", "explore.json", "embedding.csv", "plots"
LEARNT = "The model learnt the labels of its training images: that their features follow the label shows nothing new."


def explore(
    data: str | Path,
    options: ExploreOptions | None = None,
    *,
    run: str | Path | None = None,
    source: SourceOptions | None = None,
    patients: Literal["column", "recovered"] = "column",
    output: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Exploration:
    """Components, embeddings and clusters of images, and whether they follow the label, the patient or the file.

    Args:
        data: Anything `list_images` understands; labels are not needed.
        options: What to compute.
        run: Look at the features of this run's model instead of the pixels.
        source: Names of columns, where they are not the usual ones.
        patients: Where they are known from: the table's column of ids, or recovered from the pixels.
        output: Folder for the page, the numbers, the points and the plots; nothing is written without it.
        overwrite: Replace an exploration in `output`.
        workers: Decoding processes.
        device: Where features are computed.
        progress: Told of every step.

    Raises:
        DataError: `EXP_TOO_FEW`, `EXP_ALIKE`, `EXP_NOT_FINITE`, or why no image can be read.
        UsageError: `OUT_EXISTS`, `OUT_STRANGE`, `EXP_PERPLEXITY`, `MISSING_EXTRA`.
    """
    options, progress = options or ExploreOptions(), progress or Silent()
    folder = None if output is None else Path(output)
    if folder is not None:
        check_output(folder, "an exploration", {PAGE, NUMBERS, POINTS, PLOTS}, mark=NUMBERS, overwrite=overwrite)
    listing = list_images(Path(data), source)
    seen: Seen
    notes: tuple[str, ...] = ()
    if run is None:
        table, seen = _pixels(listing, options, workers, progress)
        pictures = seen.stores
        looked_at = f"pixels, {options.side}x{options.side}, {options.channels}"
    else:
        table, seen, pictures = _features(listing, Path(run), workers, device, progress)
        looked_at = f"features of the model in '{Path(run).name}'"
        notes = (LEARNT,)
    if patients == "recovered":
        table, recovered = with_recovered_patients(table, pictures[0], progress=progress)
        notes = (*notes, recovery_note(recovered))
    exploration = explore_table(
        table.rows,
        seen,
        pictures,
        source=Path(data).name or str(data),
        looked_at=looked_at,
        options=options,
        notes=notes,
        progress=progress,
    )
    if folder is not None:
        _write(exploration, folder)
    return exploration


def _pixels(listing: Listing, options: ExploreOptions, workers: int | None, progress: Progress) -> tuple[Table, Planes]:
    """The table, and the pixels at the size asked for; colours are read one after the other."""
    channels: tuple[Channel, ...] = ("red", "green", "blue") if options.channels == "rgb" else ("grey",)
    stores: list[PixelStore] = []
    for channel in channels:
        table, pixels = scan_listing(
            listing,
            size=(options.side, options.side),
            fit="stretch",
            resample=options.resizing,
            channel=channel,
            workers=workers,
            progress=progress,
        )
        stores.append(readable_pixels(table, pixels))
    if options.channels == "rgb":  # of one channel, they would not be the image's
        table = replace(table, rows=table.rows.drop(columns=["pixel_sha256", "notes"]))
    return table, Planes(tuple(stores))


def _features(
    listing: Listing, run: Path, workers: int | None, device: str, progress: Progress
) -> tuple[Table, Features, tuple[PixelStore, ...]]:
    """The table, what a run's model makes of its images, and the images as the model was given them."""
    from plainfilm.features import run_features

    preprocessing = read_config(find_bundles(run)[0]).preprocessing
    table, pixels = scan_as_prepared(listing, preprocessing, workers=workers, progress=progress)
    return table, Features(run_features(run, table, pixels, device=device, progress=progress)), (pixels,)


# --- files --------------------------------------------------------------------------------------------------


def _write(exploration: Exploration, folder: Path) -> None:
    """The numbers first, and removed last: a folder without them is not taken for an exploration."""
    from plainfilm.exploration.page import write_page
    from plainfilm.plots.exploration import drawings

    make_folder(folder)
    for name in (PAGE, POINTS, PLOTS, NUMBERS):
        delete(folder / name)
    write_json(folder / NUMBERS, exploration_facts(exploration))
    write_text(folder / POINTS, safe_csv(embedding_frame(exploration)))
    make_folder(folder / PLOTS)
    for name, drawing in drawings(exploration).items():
        write_text(folder / PLOTS / f"{name}.svg", drawing.svg())
        write_bytes(folder / PLOTS / f"{name}.png", drawing.png())
    write_text(folder / PAGE, write_page(exploration))
