"""NIfTI volumes of a listing become rows: one for each slice, with patient and geometry; BIDS participants joined."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from plainfilm.data.choosing import choose
from plainfilm.data.images import ImageLimits, ImageRef
from plainfilm.data.manifests import LABEL_NAMES, find_column, read_text_table
from plainfilm.data.nifti.header import HEADER_BYTES, VolumeHeader, looks_like_nifti, read_volume_header
from plainfilm.data.nifti.options import NiftiOptions
from plainfilm.data.nifti.reading import SHARE, Axis, count_slices
from plainfilm.data.table import RESERVED, LeftOut, Listing, clean_text, free_name, make_rows
from plainfilm.errors import ImageError, TableError

ENDINGS = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
PARTICIPANTS = "participants.tsv"
_SUBJECT, _SESSION = re.compile(r"sub-[a-zA-Z0-9]+"), re.compile(r"ses-[a-zA-Z0-9]+")


def is_volume(path: Path) -> bool:
    """Whether a file's name is that of a NIfTI volume or of its header."""
    return path.name.lower().endswith(ENDINGS)


def with_volumes(listing: Listing, options: NiftiOptions, frames: str, root: Path, label_column: str | None) -> Listing:
    """The listing with each volume opened out into its slices; other files as they are.

    Args:
        listing: One row per file.
        options: How they are cut.
        frames: Which slices, see `choosing.parse_choice`.
        root: Where `participants.tsv` may be.
        label_column: Its column with the class, where it has not a usual name.
    """
    if not any(is_volume(ref.path) and ref.member is None for ref in listing.refs):
        return listing
    participants, said = _participants(root / PARTICIPANTS, label_column)
    rows: list[dict[str, Any]] = []
    refs: list[ImageRef] = []
    left_out = list(listing.left_out)
    n_volumes = 0
    for record, ref in zip(listing.rows.to_dict("records"), listing.refs, strict=True):
        row = {str(name): value for name, value in record.items()}
        if ref.member is not None or not is_volume(ref.path):
            rows.append(row)
            refs.append(ref)
            continue
        n_volumes += 1
        row = _about(row, ref.path, participants)
        header = _header(ref.path)
        if header is None:  # its reader will say why
            rows.append(row)
            refs.append(ref)
            continue
        if header.volumes > 1 and options.volumes == "refuse":
            detail = f"{header.volumes} volumes in one file. Use the first of each with --volumes first."
            left_out.append(LeftOut(row["path"], "refused", "NII_VOLUMES", detail, labelled=row["label"] is not None))
            continue
        for number in choose(count_slices(header, options.axis), frames):
            rows.append({**row, "path": f"{row['path']}#{number}", **_geometry(header, options.axis, number)})
            refs.append(replace(ref, member=options.axis, row=number))
    understood = (*listing.understood, f"{n_volumes:,} NIfTI volumes in {options.axis} slices ({frames}).", *said)
    return replace(listing, rows=make_rows(rows), refs=tuple(refs), left_out=tuple(left_out), understood=understood)


def _header(path: Path) -> VolumeHeader | None:
    """The header of a volume whose voxels may be there; a few bytes can declare a million slices that are not."""
    try:
        with path.open("rb") as file:
            data = file.read(1 << 16)
        if not looks_like_nifti(data) or len(data) < min(HEADER_BYTES, 64):
            return None
        header = read_volume_header(data)
        is_packed = data.startswith(b"\x1f\x8b")
        is_cut = not (header.is_pair or is_packed) and path.stat().st_size < header.offset + header.data_bytes
    except (OSError, ImageError):
        return None
    return None if is_cut or header.data_bytes > ImageLimits().max_memory_bytes // SHARE else header


def _about(row: dict[str, Any], path: Path, participants: Mapping[str, dict[str, str | None]]) -> dict[str, Any]:
    """The row with its patient, by `sub-XX` in the name or else the name itself, and what BIDS's table says."""
    places = [path.name, *(parent.name for parent in path.parents)]
    subject = next((found[0] for found in map(_SUBJECT.search, places) if found), None)
    session = next((found[0] for found in map(_SESSION.search, places) if found), None)
    patient = row.get("patient_id") or subject or re.sub(r"(\.nii|\.hdr)?(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    known = participants.get(patient) or participants.get(patient.removeprefix("sub-")) or {}
    label = known.get("label") or (None if participants else row.get("label"))
    further = {name: value for name, value in known.items() if name != "label" and name not in row}
    return {**row, "patient_id": patient, "label": label, "session": session, **further}


def _geometry(header: VolumeHeader, axis: Axis, number: int) -> dict[str, str]:
    from nibabel.orientations import aff2axcodes

    return {
        "slice": str(number),
        "axis": axis,
        "stored_as": "".join(aff2axcodes(header.affine)),
        "spacing_mm": " x ".join(f"{length:.4g}" for length in header.spacing_mm),
    }


def _participants(path: Path, label_column: str | None) -> tuple[dict[str, dict[str, str | None]], Iterator[str]]:
    """What the table of BIDS says of each participant, by id; nothing where there is no such table."""
    if not path.is_file():
        return {}, iter(())
    try:
        frame = read_text_table(path)
    except TableError as error:
        raise error.located(path.name) from None
    key = find_column(frame, None, ("participant_id",), kind="participant")
    if key is None:
        raise TableError(f"{path.name}: no column participant_id.", code="TAB_NO_COLUMN")
    label = find_column(frame, label_column, (*LABEL_NAMES, "group"), kind="label")
    names = {name: free_name(name, (*RESERVED, "session")) for name in frame.columns if name not in (key, label)}
    found: dict[str, dict[str, str | None]] = {}
    for record in frame.to_dict("records"):
        one = clean_text(record[key])
        if one is not None:
            further = {to: _cell(record[name]) for name, to in names.items()}
            found[one] = {"label": _cell(record[label]) if label else None, **further}
    said = (
        f"Participants from '{path.name}', classes from its column '{label}'."
        if label
        else (f"'{path.name}' has no usual column of classes; name it with --label-column.")
    )
    return found, iter((said,))


def _cell(value: object) -> str | None:
    """BIDS writes `n/a` for what is not known."""
    text = clean_text(value)
    return None if text == "n/a" else text
