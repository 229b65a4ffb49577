"""What people have becomes a listing: class folders, manifests, Hugging Face parquet, MedMNIST files."""

from __future__ import annotations

import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from plainfilm.data.dicom.cohort import with_dicom
from plainfilm.data.dicom.options import DicomOptions
from plainfilm.data.folders import OTHER_SUFFIXES, FoundFile, list_class_folders, listed, walk_files
from plainfilm.data.hub import fetch_dataset, is_hub_id, parse_hub_id
from plainfilm.data.images import ImageRef
from plainfilm.data.manifests import (
    LABEL_NAMES,
    MAX_ROWS,
    PATH_NAMES,
    PATIENT_NAMES,
    SPLIT_NAMES,
    find_column,
    holds_images,
    read_parquet_table,
    read_text_table,
)
from plainfilm.data.nifti.cohort import is_volume, with_volumes
from plainfilm.data.nifti.options import NiftiOptions
from plainfilm.data.table import (
    RESERVED,
    LeftOut,
    Listing,
    check_labels,
    clean_text,
    free_name,
    make_rows,
    one_line,
    printable,
    shown,
    split_of,
)
from plainfilm.errors import DataError, TableError, UsageError

METADATA_NAMES = ("metadata.csv", "metadata.tsv", "metadata.parquet")
MAX_LABEL_BYTES = 1 << 28  # of one array of labels in a .npz, unpacked
MAX_PATH = 4096
YES_OR_NO = {"0", "1", "true", "false"}


class SourceOptions(NiftiOptions, DicomOptions):
    """How the table is read where its own names do not say it, and which part of DICOM and NIfTI files."""

    images: Path | None = Field(None, description="Folder that the paths of a manifest are relative to.")
    path_column: str | None = Field(None, description="Manifest column with the path, or the bytes, of the image.")
    label_column: str | None = Field(None, description="Manifest column with the class.")
    patient_column: str | None = Field(None, description="Manifest column with the patient id.")
    split_column: str | None = Field(None, description="Manifest column with the split.")


def list_images(data: Path, options: SourceOptions | None = None) -> Listing:
    """Find out what DATA is, and list its images without reading them.

    Args:
        data: Class folders (with or without split folders), a tree of DICOM files, a folder of parquet shards, a CSV,
            TSV or parquet table, a MedMNIST `.npz`, or the id of a data set on the Hugging Face hub, `hf:OWNER/NAME`.
        options: Names of columns, where they are not the usual ones.

    Raises:
        ResourceError: `RES_DOWNLOAD` if a data set is neither in the hub's cache nor to be had.
        DataError: `TAB_MISSING`, `TAB_URL`, `TAB_NOT_A_FILE`, `TAB_UNREADABLE` or `TAB_FORMAT`: DATA itself.
        UsageError: `OPT_IMAGES` if `images` is not a folder.
        TableError: If nothing can be made of what it holds; see the code.
    """
    if is_hub_id(data):
        data = fetch_dataset(parse_hub_id(data))
    _check_place(data)
    try:
        listing = _reader(data)(data, options or SourceOptions())
        _check_not_empty(listing)
        check_labels(listing.rows["label"])
    except OSError as error:
        raise DataError(f"'{data}' cannot be read: {error.strerror}.", code="TAB_UNREADABLE") from None
    except TableError as error:
        raise error.located(data.name or str(data)) from None
    return listing


def _check_place(data: Path) -> None:
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(data), re.IGNORECASE):  # `Path` makes one `/` of two
        raise DataError(f"'{data}' is an address; give a folder or file on this machine.", code="TAB_URL")
    try:
        exists = data.exists()
    except OSError as error:  # a name too long, or a folder that may not be entered
        raise DataError(f"'{data}' cannot be read: {error.strerror}.", code="TAB_UNREADABLE") from None
    if not exists:
        raise DataError(f"'{data}' does not exist.", code="TAB_MISSING")
    if not data.is_dir() and not data.is_file():
        raise DataError(f"'{data}' is a pipe, socket or device; give a folder or file.", code="TAB_NOT_A_FILE")


def _check_not_empty(listing: Listing) -> None:
    """Refuse what holds no image at all; images that are all refused are left to the account."""
    if not listing.rows.empty or any(item.status == "refused" for item in listing.left_out):
        return
    counts = Counter(item.code for item in listing.left_out).most_common()
    skipped = ", ".join(f"{count:,} {code}" for code, count in counts)
    raise TableError(f"no images in it{f' (skipped: {skipped})' if skipped else ''}.", code="TAB_NO_IMAGES")


def _reader(data: Path) -> Callable[[Path, SourceOptions], Listing]:
    if data.is_dir():
        return _list_folder
    readers = {
        ".csv": _list_manifest,
        ".tsv": _list_manifest,
        ".txt": _list_manifest,
        ".parquet": _list_parquet,
        ".npz": _list_npz,
    }
    suffix = data.suffix.lower()
    if suffix in OTHER_SUFFIXES - readers.keys() and not is_volume(data):
        raise DataError(
            f"'{data.name}' is neither an image nor a table read here. Give a folder (archives unpacked), or a CSV, "
            "TSV, parquet or .npz file.",
            code="TAB_FORMAT",
        )
    return readers.get(suffix, _list_single)


# --- folders ------------------------------------------------------------------------------------------------


def _list_folder(root: Path, options: SourceOptions) -> Listing:
    """A table in a folder comes before the folder's names; whatever it does not name is accounted for all the same."""
    found, left_out = walk_files(root)
    metadata = next((root / name for name in METADATA_NAMES if (root / name).is_file()), None)
    if metadata is not None:
        listing = _reader(metadata)(metadata, options)
        return _with_the_rest(listing, root, found, left_out, named_under=options.images or root)
    shards = [item.path for item in left_out if item.code == "SKIP_NOT_AN_IMAGE" and item.path.endswith(".parquet")]
    if found:  # parquet beside images is the data only if it holds images itself
        shards = [name for name in shards if holds_images(root / name)]
    if shards:
        listing = _list_shards(root, shards, options)
        left_out = [item for item in left_out if item.path not in shards]
        return _with_the_rest(listing, root, found, left_out, named_under=options.images or root)
    return _opened_out(list_class_folders(found, left_out), options, root, from_folders=True)


def _opened_out(listing: Listing, options: SourceOptions, root: Path, **how: bool) -> Listing:
    """DICOM files opened out into their frames, volumes into their slices; other files as they are."""
    columns = {"label": options.label_column, "split": options.split_column}
    listing = with_dicom(listing, options, root, names=columns, **how)
    return with_volumes(listing, options, options.frames, root, options.label_column)


def _with_the_rest(
    listing: Listing, root: Path, found: Sequence[FoundFile], left_out: Sequence[LeftOut], *, named_under: Path
) -> Listing:
    """The listing of a table in `root`, and every file there that it does not name.

    Args:
        listing: What the table names; its paths are relative to `named_under`.
        root: The folder that was walked.
        found: What `walk_files` found there.
        left_out: What it left out.
        named_under: See `listing`.
    """
    named = {*listing.rows["path"], *(item.path for item in listing.left_out)}
    known = {named_under.resolve() / name for name in named} | {ref.path for ref in listing.refs}
    unnamed = [file.name for file in found] + [item.path for item in left_out if item.status == "refused"]
    rest = [
        *(item for item in left_out if item.status == "skipped"),
        *(LeftOut(name, "skipped", "SKIP_NOT_LISTED", "the table does not name it.") for name in unnamed),
    ]
    others = (item for item in rest if root.resolve() / item.path not in known)
    return replace(listing, left_out=(*listing.left_out, *others))


def _list_shards(root: Path, shards: Sequence[str], options: SourceOptions) -> Listing:
    """A folder of parquet files, as Hugging Face lays data sets out; their names or folders give the split."""
    listings, out = [], []
    for name in shards:
        try:
            listings.append(_list_parquet(root / name, options, name=name))
        except TableError as error:
            if error.code != "TAB_PARQUET":
                raise error.located(name) from None
            out.append(LeftOut(name, "refused", error.code, str(error), labelled=True))
    if not listings:
        raise TableError(f"none of {len(shards)} parquet files can be read.", code="TAB_PARQUET")
    rows = pd.concat([listing.rows for listing in listings], ignore_index=True)
    return Listing(
        rows.astype(object).where(rows.notna(), None),
        tuple(ref for listing in listings for ref in listing.refs),
        (*(item for listing in listings for item in listing.left_out), *out),
        tuple(said for listing in listings for said in listing.understood),
    )


# --- tables that name files ---------------------------------------------------------------------------------


def _list_manifest(path: Path, options: SourceOptions) -> Listing:
    return _list_paths(path, read_text_table(path), options)


def _list_paths(table: Path, frame: pd.DataFrame, options: SourceOptions) -> Listing:
    """A manifest whose rows name image files."""
    path_column = find_column(frame, options.path_column, PATH_NAMES, kind="path")
    if path_column is None:
        raise TableError(
            f"no column names the images (looked for {', '.join(PATH_NAMES[:4])}). Name it with --path-column.",
            code="TAB_NO_COLUMN",
        )
    if options.images is not None and not options.images.is_dir():
        raise UsageError(f"--images '{options.images}' is not a folder.", code="OPT_IMAGES")
    root = (options.images or table.parent).resolve()
    columns = _standard_columns(frame, options)
    names = map(_plain_path, frame[path_column])
    cells = _standard_rows(frame, columns, drop=path_column)
    places = (f"{frame.index.name} {number}" for number in frame.index)
    kept, left_out = _sort_out([_Row(*row) for row in zip(names, cells, places, strict=True)], root)
    rows = make_rows([{**row.cells, "path": printable(row.name)} for row in kept])
    refs = tuple(ImageRef(root / row.name) for row in kept)
    listing = Listing(rows, refs, tuple(left_out), (_columns_in_words(frame, columns),))
    return _opened_out(listing, options, root, names_are_given=True)


@dataclass(frozen=True)
class _Row:
    """One row of a manifest: the file it names, its other cells, and where it stands."""

    name: str
    cells: dict[str, Any]
    place: str

    @property
    def facts(self) -> tuple[str | None, ...]:
        """What two rows on one file must agree on."""
        return self.cells["label"], self.cells["patient_id"], self.cells["split"]


def _sort_out(rows: Sequence[_Row], root: Path) -> tuple[list[_Row], list[LeftOut]]:
    """The rows that can be followed, one for each file; and the others, with the reason."""
    versions = defaultdict(set)
    for row in rows:
        versions[row.name].add(row.facts)
    kept: dict[str, _Row] = {}
    left_out = []
    for row in rows:
        problem = _path_problem(row.name, root)
        if problem is None and len(versions[row.name]) > 1:  # none of them is believed
            detail = f"{row.place}: other rows list the file with another label, patient or split."
            problem = "TAB_CONFLICT", detail
        name, labelled = shown(row.name, MAX_PATH), row.cells["label"] is not None
        if problem is not None:
            left_out.append(LeftOut(name, "refused", *problem, labelled))
        elif row.name in kept:
            detail = f"{row.place} says again what {kept[row.name].place} says."
            left_out.append(LeftOut(name, "skipped", "TAB_LISTED_TWICE", detail, labelled))
        else:
            kept[row.name] = row
    return list(kept.values()), left_out


def _plain_path(cell: object) -> str:
    """A path as the table means it: `/` between folders, no `./` before it."""
    name = str(cell).strip().replace("\\", "/")
    is_address = name.startswith("//") or "://" in name
    return name if not name or is_address else PurePosixPath(name).as_posix()


def _path_problem(name: str, root: Path) -> tuple[str, str] | None:
    """Why a path of a manifest is not followed; None if it is safe and inside the root."""
    if not name:
        return "TAB_NO_PATH", "the path is empty."
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", name) or name.startswith("//"):
        return "TAB_PATH_URL", "addresses are not followed; name a file under the table's folder."
    if len(name) > MAX_PATH or "\0" in name:
        return "TAB_PATH_INVALID", "not a usable file name."
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or re.match(r"[a-zA-Z]:", name):
        return "TAB_PATH_OUTSIDE", "the path leaves the table's folder; make it relative, or set --images."
    try:
        inside = (root / name).resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):
        return "TAB_PATH_INVALID", "not a usable file name."
    return None if inside else ("TAB_PATH_OUTSIDE", "the file is a link that leaves the table's folder.")


# --- columns ------------------------------------------------------------------------------------------------


def _standard_columns(frame: pd.DataFrame, options: SourceOptions) -> dict[str, str | None]:
    """Which column of the table is the label, the patient and the split."""
    columns = {
        "label": find_column(frame, options.label_column, LABEL_NAMES, kind="label"),
        "patient_id": find_column(frame, options.patient_column, PATIENT_NAMES, kind="patient id"),
        "split": find_column(frame, options.split_column, SPLIT_NAMES, kind="split"),
    }
    if columns["label"] is None:
        _refuse_one_hot(frame)
    return columns


def _refuse_one_hot(frame: pd.DataFrame) -> None:
    flags = [name for name in frame.columns if _is_flag(frame[name])]
    if len(flags) >= 2:
        raise TableError(
            f"no label column, but {len(flags)} columns of 0 and 1 ({listed(flags, 4)}): this is a multi-label "
            "table, which is not supported. Make one column 'label' with one class per image.",
            code="TAB_MULTI_LABEL",
        )


def _is_flag(column: pd.Series) -> bool:
    """Whether a column says yes, no, or (-1 or nothing) not known."""
    found = {str(cell).strip().removesuffix(".0").casefold() for cell in column}
    return bool(found & YES_OR_NO) and found <= YES_OR_NO | {"-1", ""}


def _standard_rows(
    frame: pd.DataFrame, columns: dict[str, str | None], *, drop: str | None = None
) -> Iterator[dict[str, Any]]:
    """Each row's cells under the standard names; further columns keep theirs, as text."""
    taken = {drop, *columns.values()}
    further: dict[str, str] = {}
    for name in frame.columns:
        if name not in taken:
            further[name] = free_name(one_line(clean_text(name)) or "_", {*RESERVED, *further.values()})
    for record in frame.to_dict("records"):
        cells = {to: one_line(clean_text(record[column])) if column else None for to, column in columns.items()}
        yield {
            **cells,
            "split": _split_cell(cells["split"], columns["split"]),
            **{to: clean_text(record[name]) for name, to in further.items()},
        }


def _split_cell(cell: str | None, column: str | None) -> str | None:
    if cell is None:
        return None
    split = split_of(cell)
    if split is None:
        raise TableError(
            f"'{shown(cell)}' in column '{column}' is not a split. Use train, validation, test or external; or "
            "give the column another name.",
            code="TAB_SPLIT_NAME",
        )
    return split


def _columns_in_words(frame: pd.DataFrame, columns: dict[str, str | None]) -> str:
    known = [f"{to} from column '{column}'" for to, column in columns.items() if column]
    return f"{len(frame):,} rows; {', '.join(known) or 'no column of labels, patients or splits'}."


# --- tables that hold images --------------------------------------------------------------------------------


def _list_parquet(path: Path, options: SourceOptions, *, name: str | None = None) -> Listing:
    """One parquet file, of paths or of image bytes; `name` is what its rows are called after."""
    frame, image_column = read_parquet_table(path, image_column=options.path_column)
    if image_column is None:
        return _list_paths(path, frame, options)
    name = name or path.name
    columns = _standard_columns(frame, options)
    split = _split_of_file(name)
    rows = [
        {**row, "path": f"{name}#{index}", "split": row["split"] or split}
        for index, row in enumerate(_standard_rows(frame, columns))
    ]
    refs = tuple(ImageRef(path, image_column, index) for index in range(len(rows)))
    understood = f"{name}: images in column '{image_column}'; {_columns_in_words(frame, columns)}"
    return Listing(make_rows(rows), refs, understood=(understood,))


def _split_of_file(name: str) -> str | None:
    """The split in `data/train-00000-of-00001.parquet`, or in `test/0000.parquet`."""
    *folders, file = name.split("/")
    words = [re.split(r"[-_.\s]", file)[0], *reversed(folders)]
    return next((split for split in map(split_of, words) if split is not None), None)


def _list_npz(path: Path, options: SourceOptions) -> Listing:
    """A MedMNIST file: arrays `{train,val,test}_images` and `{train,val,test}_labels`."""
    del options  # the layout is fixed
    try:
        arrays = _npz_headers(path)
        rows, refs = [], []
        for name in ("train", "val", "test"):
            if f"{name}_images" not in arrays:
                continue
            for index, label in enumerate(_npz_labels(path, name, arrays)):
                rows.append({"path": f"{name}_images#{index}", "label": label, "split": split_of(name)})
                refs.append(ImageRef(path, f"{name}_images", index))
    except TableError:
        raise
    except Exception as error:  # zipfile and NumPy raise many kinds; none of them may reach the user
        raise TableError(f"not a sound .npz file ({type(error).__name__}).", code="TAB_NPZ") from None
    if not rows:
        raise TableError("no images in arrays named train_images, val_images or test_images.", code="TAB_NPZ")
    counts = Counter(row["split"] for row in rows)
    understood = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    return Listing(make_rows(rows), tuple(refs), understood=(f"MedMNIST arrays: {understood}.",))


class _Header(NamedTuple):
    """What the header of an array says, before anything is unpacked."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _npz_headers(path: Path) -> dict[str, _Header]:
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as member:
                    first = np.lib.format.read_magic(member) == (1, 0)
                    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(member)
                    headers[name.removesuffix(".npy")] = _Header(shape, dtype)
    return headers


def _npz_labels(path: Path, name: str, arrays: dict[str, _Header]) -> list[str | None]:
    """One label per image of a split; None for each where the file has no labels for it."""
    images, labels = f"{name}_images", f"{name}_labels"
    n_images = arrays[images].shape[0] if arrays[images].shape else 0
    if n_images > MAX_ROWS:
        raise TableError(f"{images} has {n_images:,} rows; at most {MAX_ROWS:,} are read.", code="TAB_TOO_LARGE")
    for array in {images, labels} & arrays.keys():
        if arrays[array].dtype.hasobject:
            raise TableError(f"{array} holds pickled objects, which are never loaded; save numbers.", code="TAB_PICKLE")
    if labels not in arrays:
        return [None] * n_images
    shape, dtype = arrays[labels]
    if len(shape) == 2 and shape[1] > 1:
        raise TableError(
            f"{labels} has {shape[1]} columns: a multi-label table, which is not supported. "
            "Choose one class per image, or one table per finding.",
            code="TAB_MULTI_LABEL",
        )
    n_labels = int(np.prod(shape, dtype=object))
    if n_labels != n_images:
        raise TableError(f"{images} has {n_images:,} rows, {labels} {n_labels:,}.", code="TAB_NPZ")
    if n_labels * dtype.itemsize > MAX_LABEL_BYTES:
        raise TableError(f"{labels} is larger than {MAX_LABEL_BYTES >> 20} MiB.", code="TAB_TOO_LARGE")
    with np.load(path, allow_pickle=False) as opened:
        return [clean_text(value) for value in opened[labels].reshape(-1).tolist()]


# --- single images ------------------------------------------------------------------------------------------


def _list_single(path: Path, options: SourceOptions) -> Listing:
    """One image file, as `predict` may be given."""
    listing = Listing(make_rows([{"path": printable(path.name)}]), (ImageRef(path),), understood=("One image.",))
    return _opened_out(listing, options, path.parent)
