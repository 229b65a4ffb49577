"""Read every file of a listing once: the table of what can be used, and the pixels if wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from plainfilm.data.fitting import Fit, Resample
from plainfilm.data.grey import Channel
from plainfilm.data.images import DecodeRecord, ImageLimits, ImageRef
from plainfilm.data.kept import Keeping, decoded_once
from plainfilm.data.messages import Decoded
from plainfilm.data.nifti.reading import is_axis
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.data.shares import decode_together
from plainfilm.data.table import LeftOut, Listing, Table, free_name, printable
from plainfilm.data.workers import Job
from plainfilm.errors import DataError
from plainfilm.progress import Progress, Silent
from plainfilm.storage import cache_folder
from plainfilm.team import ALONE, Team


def scan_listing(
    listing: Listing,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "pad",
    resample: Resample = "smooth",
    channel: Channel = "grey",
    limits: ImageLimits | None = None,
    workers: int | None = None,
    keeping: Keeping | None = None,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> tuple[Table, PixelStore | None]:
    """Decode every image of `listing`.

    Args:
        listing: What a source names.
        size: `(height, width)` to fit the pixels to; without it only the table is made.
        fit: How they are fitted.
        resample: How values between pixels are found.
        channel: What of colour images is kept; hashes are then of that channel.
        limits: What a file may ask for before it is decoded.
        workers: Decoding processes; by default one per processor.
        keeping: Where decoded images are kept, so that they are not decoded again; None keeps nothing, and a team of
            several does not either.
        team: Processes of which each decodes its share.
        progress: Told after every image.

    Returns:
        The table, and its pixels in the same order (None without `size`).
    """
    n_images = len(listing.refs)
    store = PixelStore(n_images, *size) if size is not None else None
    records: list[DecodeRecord | None] = [None] * n_images
    refused: dict[int, LeftOut] = {}
    has_label = listing.rows["label"].notna().to_numpy()
    job = Job(limits or ImageLimits(), size, fit, resample, channel)

    def decode(refs: Sequence[ImageRef]) -> Iterator[Decoded]:
        return decode_together(
            team,
            refs,
            limits=job.limits,
            size=size,
            fit=fit,
            resample=resample,
            channel=channel,
            workers=workers,
        )

    with (progress or Silent()).task("reading images", n_images) as advance:
        for decoded in decoded_once(keeping if team.size == 1 else None, listing.refs, job, decode):
            if decoded.record is None:
                name = str(listing.rows["path"].iat[decoded.index])
                code, detail = decoded.code or "IMG_UNREADABLE", decoded.detail or ""
                if code == "IMG_CONSTANT" and is_axis(listing.refs[decoded.index].member):
                    code, detail = "SKIP_EMPTY_SLICE", "a slice of a volume in which nothing is to be seen."
                refused[decoded.index] = LeftOut(
                    name,
                    "skipped" if code == "SKIP_EMPTY_SLICE" else "refused",
                    code,
                    detail,
                    bool(has_label[decoded.index]),
                    _file(listing, decoded.index),
                )
            else:
                records[decoded.index] = decoded.record
                if store is not None and decoded.pixels is not None:
                    store.put(decoded.index, decoded.pixels)
            advance(1)
    good = np.array([index for index in range(n_images) if records[index] is not None], dtype=np.intp)
    rows = listing.rows.iloc[good].reset_index(drop=True)
    facts = _facts([record for record in records if record is not None])
    taken = {*rows.columns, *facts.columns}
    clashing = {name: free_name(name, taken) for name in rows.columns if name in facts.columns}
    table = Table(
        pd.concat([rows.rename(columns=clashing), facts], axis=1),
        tuple(listing.refs[index] for index in good),
        (*listing.left_out, *(refused[index] for index in sorted(refused))),
        listing.understood,
        listing.hidden_root,
    )
    if store is not None and len(good) < n_images:
        store = store.take(good)
    return table, store


def _file(listing: Listing, index: int) -> str:
    """The file that a hidden name stands for, for the account; empty where names are not hidden."""
    root, path = listing.hidden_root, listing.refs[index].path
    if root is None:
        return ""
    return printable(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name)


def scan_as_prepared(
    listing: Listing,
    preprocessing: Preprocessing,
    *,
    workers: int | None = None,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> tuple[Table, PixelStore]:
    """Decode every image of `listing` as a trained model takes it: its size, its fit, its window.

    Images that a training or an audit has kept are not decoded again; none are added to them.

    Raises:
        DataError: With the code of the first refused file, or `PRD_NONE`, if not one image can be read.
    """
    refs = tuple(replace(ref, window=preprocessing.window) for ref in listing.refs)
    table, pixels = scan_listing(
        replace(listing, refs=refs),
        size=(preprocessing.height, preprocessing.width),
        fit=preprocessing.fit,
        resample=preprocessing.resample,
        workers=workers,
        keeping=Keeping(cache_folder(), writes=False),
        team=team,
        progress=progress,
    )
    return table, readable_pixels(table, pixels)


def readable_pixels(table: Table, pixels: PixelStore | None) -> PixelStore:
    """The pixels of a scan, if one image at least could be read.

    Raises:
        DataError: As `scan_as_prepared`.
    """
    if not len(table) or pixels is None:
        first = next(iter(table.refused), None)
        reason = f": {first.path}: {first.code} ({first.detail})" if first else "."
        raise DataError(f"Not one image can be read{reason}", code=first.code if first else "PRD_NONE")
    return pixels


def _facts(records: Sequence[DecodeRecord]) -> pd.DataFrame:
    """What the decoder found, one column per fact."""
    names = list(DecodeRecord.__dataclass_fields__)
    facts = pd.DataFrame([vars(record) for record in records], columns=names)
    facts["notes"] = [" ".join(notes) for notes in facts["notes"]]
    return facts
