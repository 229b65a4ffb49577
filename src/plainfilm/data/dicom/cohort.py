"""DICOM files of a listing become rows: one for each frame, with patient, study, series and how it was taken.

Ids, and the names of the files, are hashed unless they are to be kept: what goes on into tables, reports and logs names
nobody. Which file a hashed name stands for is said in one place only, the account that `scan --output` writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plainfilm.data.choosing import choose
from plainfilm.data.dicom.facts import FileFacts, read_facts
from plainfilm.data.dicom.labels import LabelTable, read_labels
from plainfilm.data.dicom.options import DicomOptions
from plainfilm.data.dicom.pseudonyms import Pseudonyms, read_pseudonyms
from plainfilm.data.dicom.series import is_wanted, parse_condition
from plainfilm.data.dicom.tags import ACQUISITION, ACQUISITION_COLUMNS, BURNT_IN, HASHED, Tag, find_tag
from plainfilm.data.formats.recognising import SUFFIXES
from plainfilm.data.images import ImageRef
from plainfilm.data.table import LeftOut, Listing, make_rows, printable

_OTHERS = {suffix for name, suffixes in SUFFIXES.items() if name != "DICOM" for suffix in suffixes}
UNKNOWN = "unknown"  # stands for the patient in the name of a file that names none


@dataclass(frozen=True)
class _Reader:
    """What is the same for all files."""

    options: DicomOptions
    names: Pseudonyms
    root: Path
    hides_files: bool
    labels: LabelTable | None

    def shown(self, path: Path, facts: FileFacts | None) -> str:
        """What a file is called where names are hidden."""
        patient = self.names.name("patient", facts.patient_id) if facts is not None and facts.patient_id else UNKNOWN
        return f"{patient}/{self.names.name('file', printable(_relative(path, self.root)))}"

    def ids(self, facts: FileFacts) -> dict[str, str | None]:
        """The ids of a file, as the table has them."""
        found = {kind: getattr(facts, kind) for kind in ("study", "series", "instance")}
        return {kind: self.names.name(kind, value) if value else None for kind, value in found.items()}

    def columns(self, facts: FileFacts) -> dict[str, str | None]:
        """How it was taken; what tells sites apart is hashed with the ids."""
        hashed = {tag.column for tag in HASHED.values()} if self.names.are_hashed else set()
        return {
            ("burnt_in" if name == BURNT_IN.column else name): self.names.name(name, value)
            if value and name in hashed
            else value
            for name, value in facts.columns.items()
        }


def with_dicom(
    listing: Listing,
    options: DicomOptions,
    root: Path,
    *,
    names: Mapping[str, str | None] | None = None,
    names_are_given: bool = False,
    from_folders: bool = False,
) -> Listing:
    """The listing with each DICOM file opened out into its frames.

    Args:
        listing: One row per file.
        options: What becomes of them.
        root: Folder that names of files are relative to.
        names: Columns of labels and splits in a table beside (`label`, `split`), where they are not the usual ones.
        names_are_given: Whether a table named the files: then they keep their names.
        from_folders: Whether the labels are the names of folders; where each holds one patient, they are no classes.
    """
    tags = _wanted_tags(options)
    facts = [None if _is_other(ref) else read_facts(ref.path, tags) for ref in listing.refs]
    if not any(facts):
        return replace(listing, refs=tuple(replace(ref, window=options.window) for ref in listing.refs))
    pseudonyms = read_pseudonyms(hashed=options.ids == "hashed", key=options.id_key)
    columns = names or {}
    labels = None
    if options.labels is not None:
        labels = read_labels(
            options.labels,
            label_column=columns.get("label"),
            split_column=columns.get("split"),
            keep=options.label_columns,
        )
    hides_files = pseudonyms.are_hashed and not names_are_given
    reader = _Reader(options, pseudonyms, root, hides_files, labels)
    is_tree = from_folders and labels is None and _is_tree(listing, facts)
    return _opened_out(listing, facts, reader, drops_labels=is_tree or labels is not None)


def _is_other(ref: ImageRef) -> bool:
    """Whether the name says that a file is of another format; such a file is not opened to look."""
    return ref.member is not None or ref.path.suffix.lower() in _OTHERS


def _wanted_tags(options: DicomOptions) -> list[Tag]:
    asked = [find_tag(name) for name in options.tags]
    conditions = [parse_condition(condition)[0] for condition in options.series]
    return list(dict.fromkeys([*ACQUISITION.values(), *asked, *conditions]))


def _is_tree(listing: Listing, facts: Sequence[FileFacts | None]) -> bool:
    """Whether folders stand for patients or studies: most of those that would be classes hold one patient."""
    patients = defaultdict(set)
    for label, one in zip(listing.rows["label"], facts, strict=True):
        if one is not None and one.refused is None and not one.skipped:
            patients[label].add(one.patient_id or one.study)
    alone = sum(len(found) == 1 for found in patients.values())
    return 2 * alone > len(patients)  # most, not all: one file in a wrong folder makes no classes of patients


def _opened_out(listing: Listing, facts: Sequence[FileFacts | None], reader: _Reader, *, drops_labels: bool) -> Listing:
    rows: list[dict[str, Any]] = []
    refs: list[ImageRef] = []
    left_out = [_hidden(item, reader) for item in listing.left_out]
    records: list[dict[str, Any]] = [{**record} for record in listing.rows.to_dict("records")]  # type: ignore[dict-item]
    asked = {tag.column for tag in _wanted_tags(reader.options)} | {"burnt_in", "transfer_syntax"}
    matched: set[str] = set()
    n_unmatched = 0
    for record, plain, one in zip(records, listing.refs, facts, strict=True):
        row = {**record, "label": None} if drops_labels else dict(record)
        ref = replace(plain, window=reader.options.window)
        if reader.hides_files:
            row["path"] = reader.shown(ref.path, one)
        if one is None:
            rows.append(row)
            refs.append(ref)
            continue
        reason = _why_left_out(one, reader.options)
        if reason is not None:
            left_out.append(_left_out(reason, row, ref.path, reader))
            continue
        if reader.labels is not None:
            found = reader.labels.find(one, _relative(ref.path, reader.root))
            if found is None:
                n_unmatched += 1
            else:
                matched.add(found[0])
                row |= {name: value for name, value in found[1].items() if value is not None or name != "split"}
        for more_row, more_ref in _frames(row, ref, one, reader):
            rows.append(more_row)
            refs.append(more_ref)
    frame = make_rows(rows)
    empty = [name for name in frame.columns if name in asked and frame[name].isna().all()]
    return Listing(
        frame.drop(columns=empty),
        tuple(refs),
        tuple(left_out),
        (*_understood(listing, facts, reader, drops_labels), *_matching(reader.labels, matched, n_unmatched)),
        reader.root if reader.hides_files else None,
    )


def _frames(
    row: dict[str, Any], ref: ImageRef, facts: FileFacts, reader: _Reader
) -> Iterator[tuple[dict[str, Any], ImageRef]]:
    """One row for each chosen frame."""
    patient = row["patient_id"]
    if patient is None and facts.patient_id:
        patient = reader.names.name("patient", facts.patient_id)
    ids, columns = reader.ids(facts), reader.columns(facts)
    ids = {name: value for name, value in ids.items() if name not in row}
    columns = {name: value for name, value in columns.items() if name not in row}
    base = {**row, "patient_id": patient, **ids}
    if facts.frames == 1 or facts.refused is not None:
        yield {**base, "frame": None, **columns}, ref
        return
    for frame in choose(facts.frames, reader.options.frames):
        yield {**base, "path": f"{row['path']}#{frame}", "frame": str(frame), **columns}, replace(ref, row=frame)


def _why_left_out(facts: FileFacts, options: DicomOptions) -> tuple[str, str] | None:
    if facts.skipped:
        return "SKIP_DERIVED" if facts.is_derived else "SKIP_NO_PIXELS", facts.skipped
    conditions = [parse_condition(condition) for condition in options.series]
    if facts.refused is None and conditions and not is_wanted(facts.columns, conditions):
        return "SKIP_SERIES", "not of the series asked for."
    return None


def _left_out(reason: tuple[str, str], row: dict[str, Any], path: Path, reader: _Reader) -> LeftOut:
    file = printable(_relative(path, reader.root)) if reader.hides_files else ""
    return LeftOut(row["path"], "skipped", *reason, file=file)


def _hidden(item: LeftOut, reader: _Reader) -> LeftOut:
    """A file that is left out, under a name that says nothing: it may be a patient's."""
    if not reader.hides_files:
        return item
    return replace(item, path=f"{UNKNOWN}/{reader.names.name('file', item.path)}", file=item.path)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _understood(
    listing: Listing, facts: Sequence[FileFacts | None], reader: _Reader, drops_labels: bool
) -> Iterator[str]:
    if not drops_labels:
        yield from listing.understood
    read = [one for one in facts if one is not None and one.refused is None and not one.skipped]
    counts = {
        "patients": len({one.patient_id for one in read if one.patient_id}),
        "studies": len({one.study for one in read if one.study}),
        "series": len({one.series for one in read if one.series}),
    }
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    yield f"{len(read):,} DICOM files: {said}."
    if drops_labels and reader.labels is None:
        yield "Folders hold one patient or study each, so they are no classes. Give the classes with --labels."
    if not reader.names.are_hashed:
        yield "Ids are kept as they are (--ids kept)."
    elif reader.names.is_lasting:
        yield "Ids and file names are hashed with your key; 'scan --output' writes which file is which."
    else:
        yield "Ids are hashed with a key for this time only: your configuration folder cannot be written. See --id-key."
    flagged = sum(one.columns.get(BURNT_IN.column) == "YES" for one in read)
    if flagged:
        yield f"{flagged:,} files say that annotation is burnt into their pixels (column burnt_in): look at them."


def _matching(labels: LabelTable | None, matched: set[str], n_unmatched: int) -> Iterator[str]:
    if labels is None:
        return
    what = {"patient_id": "patient", "file": "file name"}.get(labels.kind, labels.kind)
    yield f"Classes from '{labels.name}', matched on {what}."
    idle = len(labels.rows) - len(matched)
    if idle:
        yield f"{idle:,} of its {len(labels.rows):,} rows match no file."
    if n_unmatched:
        yield f"{n_unmatched:,} DICOM files have no row in it, so no class."


DICOM_COLUMNS = ("study", "series", "instance", "frame", "burnt_in", *ACQUISITION_COLUMNS)
