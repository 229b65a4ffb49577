"""What people have becomes a listing: class folders, manifests, Hugging Face parquet, MedMNIST files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.data.folders import FoundFile, walk_files
from plainfilm.data.images import ImageRef
from plainfilm.data.manifests import (
    LABEL_NAMES,
    PATH_NAMES,
    PATIENT_NAMES,
    SPLIT_NAMES,
    find_column,
    read_parquet_table,
    read_text_table,
)
from plainfilm.data.table import COLUMNS, LeftOut, Listing, check_labels, clean_text
from plainfilm.errors import DataError, PlainfilmError, TableError

SPLIT_OF_NAME = {
    **dict.fromkeys(("train", "training", "trn", "tr", "train_set", "training_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "val_set", "validation_set"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "ts", "test_set", "testing_set", "holdout"), "test"),
    **dict.fromkeys(("external", "external_test"), "external"),
}


class SourceOptions(BaseModel):
    """How the table is read where its own names do not say it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Path | None = Field(None, description="Folder that the paths of a manifest are relative to.")
    path_column: str | None = Field(None, description="Manifest column with the path of the image.")
    label_column: str | None = Field(None, description="Manifest column with the class.")
    patient_column: str | None = Field(None, description="Manifest column with the patient id.")
    split_column: str | None = Field(None, description="Manifest column with the split.")


def list_images(data: Path, options: SourceOptions | None = None) -> Listing:
    """Find out what DATA is, and list its images without reading them.

    Args:
        data: Class folders (with or without split folders), a folder of parquet shards, a CSV, TSV or parquet
            table, or a MedMNIST `.npz`.
        options: Names of columns, where they are not the usual ones.

    Raises:
        TableError: If nothing can be made of it; see the code.
    """
    options = options or SourceOptions()
    if re.match(r"^[a-z][a-z0-9+.-]*://", str(data)):
        raise DataError(f"'{data}' is an address; give a folder or file on this machine.", code="TAB_URL")
    if not data.exists():
        raise DataError(f"'{data}' does not exist.", code="TAB_MISSING")
    try:
        listing = _reader(data)(data, options)
    except PermissionError:
        raise DataError(f"'{data}' cannot be opened: permission denied.", code="TAB_UNREADABLE") from None
    except TableError as error:
        raise error.located(data.name) from None
    if listing.rows.empty and not listing.left_out:
        raise TableError(f"'{data}' holds no images.", code="TAB_NO_IMAGES")
    check_labels(listing.rows["label"])
    return listing


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
    return readers.get(data.suffix.lower(), _list_single)


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a frame that always has `COLUMNS`, with None for what is missing."""
    frame = pd.DataFrame(list(rows), dtype=object)
    for name in COLUMNS:
        if name not in frame.columns:
            frame[name] = None
    frame = frame[[*COLUMNS, *(name for name in frame.columns if name not in COLUMNS)]]
    return frame.astype(object).where(frame.notna(), None)


# --- folders ----------------------------------------------------------------------------------------------


def _list_folder(root: Path, options: SourceOptions) -> Listing:
    shards = sorted(path for path in _shallow(root) if path.suffix.lower() == ".parquet")
    if shards:
        return _list_shards(root, shards, options)
    for name in ("metadata.csv", "metadata.tsv"):
        if (root / name).is_file():
            return _list_manifest(root / name, options)
    found, left_out = walk_files(root)
    return _class_folders(root, found, left_out)


def _shallow(root: Path) -> Iterator[Path]:
    """Files at most one folder down: where parquet shards are."""
    for path in sorted(root.iterdir()):
        if path.is_file():
            yield path
        elif path.is_dir() and path.name == "data" and not path.is_symlink():
            yield from sorted(p for p in path.iterdir() if p.is_file())


@dataclass(frozen=True)
class _Layout:
    """How the folders of a tree are read.

    Attributes:
        depth: Folders to step over before the class folder (a single wrapping folder, as archives make).
        split_depth: Index of the folder that names the split, or None.
    """

    depth: int
    split_depth: int | None


def _class_folders(root: Path, found: Sequence[FoundFile], left_out: Sequence[LeftOut]) -> Listing:
    layout = _layout([file.parts for file in found])
    rows, refs, out = [], [], list(left_out)
    for file in found:
        split, label = _split_and_label(file.parts, layout)
        if label is None and split is None and layout != _Layout(0, None):
            detail = "the image lies outside the split and class folders."
            out.append(LeftOut(file.name, "skipped", "SKIP_OUTSIDE_CLASSES", detail))
            continue
        rows.append({"path": file.name, "label": label, "patient_id": None, "split": split})
        refs.append(ImageRef(file.path))
    frame = _frame(rows)
    if frame["label"].notna().any() and layout.split_depth is None:
        frame, refs, out = _drop_loose_images(frame, refs, out)
    return Listing(frame, tuple(refs), tuple(out), _understood_folders(frame, layout))


def _layout(paths: Sequence[tuple[str, ...]]) -> _Layout:
    """Read the layout off the folder names alone; `paths` hold each file's folders under the root."""
    depth = 0
    folders = {parts for parts in paths if parts}
    while folders and len({parts[depth] for parts in folders if len(parts) > depth}) == 1:
        only = next(parts[depth] for parts in folders if len(parts) > depth)
        deeper = all(len(parts) > depth + 1 for parts in folders) and all(paths)
        if only.casefold() in SPLIT_OF_NAME or not deeper:
            break
        depth += 1
    first = {parts[depth].casefold() for parts in folders if len(parts) > depth}
    named_splits = {name for name in first if name in SPLIT_OF_NAME}
    is_split = named_splits == first and "train" in {SPLIT_OF_NAME[name] for name in named_splits}
    mostly_split = "train" in {SPLIT_OF_NAME[name] for name in named_splits} and len(named_splits) >= 2
    return _Layout(depth, depth if is_split or mostly_split else None)


def _split_and_label(parts: tuple[str, ...], layout: _Layout) -> tuple[str | None, str | None]:
    rest = parts[layout.depth :]
    if layout.split_depth is None:
        return None, clean_text(rest[0]) if rest else None
    split = SPLIT_OF_NAME.get(rest[0].casefold()) if rest else None
    if split is None:
        return None, None
    return split, clean_text(rest[1]) if len(rest) > 1 else None


def _drop_loose_images(
    frame: pd.DataFrame, refs: list[ImageRef], out: list[LeftOut]
) -> tuple[pd.DataFrame, list[ImageRef], list[LeftOut]]:
    """Images beside class folders have no class: skipped, not guessed."""
    loose = frame["label"].isna().to_numpy()
    detail = "the image lies beside the class folders, not in one."
    out += [LeftOut(path, "skipped", "SKIP_OUTSIDE_CLASSES", detail) for path in frame.loc[loose, "path"]]
    kept = [ref for ref, is_loose in zip(refs, loose, strict=True) if not is_loose]
    return frame[~loose].reset_index(drop=True), kept, out


def _understood_folders(frame: pd.DataFrame, layout: _Layout) -> tuple[str, ...]:
    classes = frame["label"].dropna().unique()
    if len(classes) == 0:
        return ("A folder of images without classes.",)
    said = f"{len(classes)} class folders: {_listed(sorted(classes))}."
    if layout.split_depth is None:
        return (said,)
    splits = [name for name in ("train", "validation", "test", "external") if (frame["split"] == name).any()]
    return (f"Split folders: {_listed(splits)}.", said)


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


# --- manifests and parquet ----------------------------------------------------------------------------------


def _list_manifest(path: Path, options: SourceOptions) -> Listing:
    return _list_paths(path, read_text_table(path), options)


def _list_paths(table: Path, frame: pd.DataFrame, options: SourceOptions) -> Listing:
    """A manifest whose rows name image files."""
    root = (options.images or table.parent).resolve()
    path_column = find_column(frame, options.path_column, PATH_NAMES, kind="path")
    if path_column is None:
        raise TableError(
            f"no column names the images (looked for {', '.join(PATH_NAMES[:4])}). Name it with --path-column.",
            code="TAB_NO_COLUMN",
        )
    rows, understood = _standard_rows(frame, options, drop=path_column)
    kept, refs, out, seen = [], [], [], {}
    for line, (row, raw) in enumerate(zip(rows, frame[path_column], strict=True), start=2):
        name = str(raw).strip().replace("\\", "/")
        problem = _path_problem(name, root)
        facts = (row["label"], row["patient_id"], row["split"])
        if problem is None and name in seen:
            same = seen[name] == facts
            problem = (
                "TAB_LISTED_TWICE" if same else "TAB_CONFLICT",
                f"line {line} lists the file again" + ("." if same else " with another label, patient or split."),
            )
        if problem is not None:
            code, detail = problem
            status = "skipped" if code == "TAB_LISTED_TWICE" else "refused"
            out.append(LeftOut(name, status, code, detail, labelled=row["label"] is not None))  # type: ignore[arg-type]
            continue
        seen[name] = facts
        kept.append({**row, "path": name})
        refs.append(ImageRef(root / name))
    return Listing(_frame(kept), tuple(refs), tuple(out), tuple(understood))


def _path_problem(name: str, root: Path) -> tuple[str, str] | None:
    """Why a path of a manifest is not followed; None if it is safe and inside the root."""
    if not name:
        return "TAB_NO_PATH", "the path is empty."
    if re.match(r"^[a-zA-Z][a-zA-Z0-9+.-]+:", name) or name.startswith("//"):
        return "TAB_PATH_URL", "addresses are not followed; name a file under the table's folder."
    if len(name) > 4096 or "\0" in name:
        return "TAB_PATH_INVALID", "not a usable file name."
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or re.match(r"^[a-zA-Z]:", name):
        return "TAB_PATH_OUTSIDE", "the path leaves the table's folder; make it relative, or set --images."
    try:
        inside = (root / name).resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return "TAB_PATH_INVALID", "not a usable file name."
    return None if inside else ("TAB_PATH_OUTSIDE", "the file is a link that leaves the table's folder.")


def _standard_rows(
    frame: pd.DataFrame, options: SourceOptions, *, drop: str | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The table's own columns under the standard names; further columns are kept as text."""
    columns = {
        "label": find_column(frame, options.label_column, LABEL_NAMES, kind="label"),
        "patient_id": find_column(frame, options.patient_column, PATIENT_NAMES, kind="patient id"),
        "split": find_column(frame, options.split_column, SPLIT_NAMES, kind="split"),
    }
    if columns["label"] is None:
        _refuse_one_hot(frame)
    taken = {name for name in columns.values() if name is not None} | ({drop} if drop else set())
    # The decoder and the table own their names: a column of the same name is kept under another.
    extra = {name: f"{name}_" if name in COLUMNS else name for name in frame.columns if name not in taken}
    rows = []
    for record in frame.to_dict("records"):
        row = {to: clean_text(record[column]) if column else None for to, column in columns.items()}
        row["split"] = _split_name(row["split"])
        row.update({to: clean_text(record[name]) for name, to in extra.items()})
        rows.append(row)
    understood = [
        f"{len(rows)} rows; "
        + ", ".join(f"{to} from column '{column}'" for to, column in columns.items() if column)
        + "."
    ]
    return rows, understood


def _refuse_one_hot(frame: pd.DataFrame) -> None:
    flags = [name for name in frame.columns if len(frame) and set(frame[name]) <= {"0", "1", "0.0", "1.0"}]
    if len(flags) >= 2:
        raise TableError(
            f"no label column, but {len(flags)} columns of 0 and 1 ({_listed(flags, 4)}): this is a multi-label "
            "table, which is not supported. Make one column 'label' with one class per image.",
            code="TAB_MULTI_LABEL",
        )


def _split_name(split: str | None) -> str | None:
    if split is None:
        return None
    name = SPLIT_OF_NAME.get(split.casefold())
    if name is None:
        raise TableError(f"'{split}' is not a split. Use train, validation, test or external.", code="TAB_SPLIT_NAME")
    return name


def _list_parquet(path: Path, options: SourceOptions) -> Listing:
    frame, image_column = read_parquet_table(path)
    if image_column is None:
        return _list_paths(path, frame, options)
    split = SPLIT_OF_NAME.get(re.split(r"[-_.]", path.stem)[0].casefold())
    rows, understood = _standard_rows(frame, options, drop=None)
    listed = [{**row, "path": f"{path.name}#{index}", "split": row["split"] or split} for index, row in enumerate(rows)]
    refs = tuple(ImageRef(path, image_column, index) for index in range(len(listed)))
    return Listing(
        _frame(listed),
        refs,
        understood=(f"Image bytes in column '{image_column}' of {path.name}.", *understood),
    )


def _list_shards(root: Path, shards: Sequence[Path], options: SourceOptions) -> Listing:
    """A folder of parquet files, as Hugging Face lays data sets out; the file name gives the split."""
    listings, out = [], []
    for shard in shards:
        try:
            listings.append(_list_parquet(shard, options))
        except PlainfilmError as error:
            if error.code == "TAB_PARQUET":
                out.append(LeftOut(shard.name, "refused", error.code, str(error), labelled=True))
                continue
            raise error.located(shard.name) from None
    if not listings:
        raise TableError(f"none of {len(shards)} parquet files can be read.", code="TAB_PARQUET")
    out += [
        LeftOut(path.relative_to(root).as_posix(), "skipped", "SKIP_NOT_AN_IMAGE", "not one of the parquet files.")
        for path in _shallow(root)
        if path not in shards
    ]
    return Listing(
        pd.concat([listing.rows for listing in listings], ignore_index=True),
        tuple(ref for listing in listings for ref in listing.refs),
        tuple(out),
        tuple(said for listing in listings for said in listing.understood),
    )


# --- MedMNIST and single files ------------------------------------------------------------------------------


def _list_npz(path: Path, options: SourceOptions) -> Listing:
    """A MedMNIST file: arrays `{train,val,test}_images` and `{train,val,test}_labels`."""
    del options  # the layout is fixed
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = set(arrays.files)
            found = [name for name in ("train", "val", "test") if f"{name}_images" in names]
            labels = {name: arrays[f"{name}_labels"] for name in found if f"{name}_labels" in names}
    except (OSError, ValueError, EOFError, KeyError, MemoryError) as error:
        raise TableError(f"not a sound .npz file ({type(error).__name__}).", code="TAB_NPZ") from None
    except Exception as error:  # zipfile raises its own kinds; none of them may reach the user
        raise TableError(f"not a sound .npz file ({type(error).__name__}).", code="TAB_NPZ") from None
    if not found:
        raise TableError("no array named train_images, val_images or test_images.", code="TAB_NPZ")
    rows, refs = [], []
    for name, values in labels.items():
        if values.ndim == 2 and values.shape[1] > 1:
            raise TableError(
                f"{name}_labels has {values.shape[1]} columns: a multi-label table, which is not supported.",
                code="TAB_MULTI_LABEL",
            )
        for index, value in enumerate(values.reshape(-1).tolist()):
            rows.append({"path": f"{name}_images#{index}", "label": clean_text(value), "split": SPLIT_OF_NAME[name]})
            refs.append(ImageRef(path, f"{name}_images", index))
    counts = Counter(row["split"] for row in rows)
    understood = ", ".join(f"{split} {count}" for split, count in counts.items())
    return Listing(_frame(rows), tuple(refs), understood=(f"MedMNIST arrays: {understood}.",))


def _list_single(path: Path, options: SourceOptions) -> Listing:
    """One image file, as `predict` may be given."""
    del options
    rows = [{"path": path.name, "label": None, "patient_id": None, "split": None}]
    return Listing(_frame(rows), (ImageRef(path),), understood=("One image.",))
