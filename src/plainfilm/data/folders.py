"""Class folders: every file under a root is found, or left out with a reason; folder names give split and class."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from plainfilm.data.images import ImageRef
from plainfilm.data.table import SPLITS, LeftOut, Listing, clean_text, make_rows, printable, split_of

SYSTEM_NAMES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", ".ds_store", "__macosx", "dicomdir"}
# A file with one of these names was not meant as an image. Anything else goes to the image reader, which looks at
# the content, never at the name.
OTHER_SUFFIXES = {
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".log",
    ".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".zip", ".tar", ".gz", ".tgz", ".7z",
    ".rar", ".py", ".ipynb", ".r", ".m", ".mat", ".npy", ".npz", ".parquet", ".h5", ".hdf5", ".pkl", ".pt", ".pth",
    ".safetensors", ".onnx", ".db", ".sqlite", ".bak", ".tmp", ".part",
}  # fmt: skip
TABLE_SUFFIXES = {".csv", ".tsv", ".parquet"}
MASK_FOLDERS = {"mask", "masks", "segmentation", "segmentations"}
# "scan_mask.png" or "scan_mask_1.png" is a mask if there is a "scan" beside it.
MASK_NAME = re.compile(r"(.+?)[-_ ](?:masks?|seg|segmentation)(?:[-_ ]?\d+)?", re.IGNORECASE)
# Between split and class, folders with these names say nothing.
IMAGE_FOLDERS = {"images", "image", "imgs", "img", "data"}

Reason = tuple[str, str]


@dataclass(frozen=True)
class FoundFile:
    """A file that may be an image.

    Attributes:
        path: Where it is.
        name: Path under the root, with `/`, printable even where the file system's bytes are not UTF-8.
        parts: The folders between the root and the file.
    """

    path: Path
    name: str
    parts: tuple[str, ...]


# --- every file is found or left out ------------------------------------------------------------------------


def walk_files(root: Path) -> tuple[list[FoundFile], list[LeftOut]]:
    """Every file under `root`, in a stable order, as found or left out: never neither, never both.

    Linked folders are not entered, and links that leave the root are not followed; each counts as one file.
    """
    found: list[FoundFile] = []
    left_out: list[LeftOut] = []
    inside = root.resolve()
    folders: list[tuple[Path, Reason | None]] = [(root, None)]
    while folders:  # a list, not recursion: trees can be deeper than Python's stack
        folder, inherited = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            left_out.append(_unopened(printable(folder.relative_to(root).as_posix()), inherited))
            continue
        names = {entry.name for entry in entries}
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                continue
            name = printable(path.relative_to(root).as_posix())
            skipped = inherited or _why_skipped(entry.name, names)
            refused = _why_not_followed(path, inside) if entry.is_symlink() else None
            if skipped is not None:
                left_out.append(LeftOut(name, "skipped", *skipped))
            elif refused is not None:
                left_out.append(LeftOut(name, "refused", *refused, labelled=True))
            elif entry.is_dir():
                detail = "linked folders are not entered; its files are listed where they lie."
                left_out.append(LeftOut(name, "skipped", "SKIP_LINKED_FOLDER", detail))
            else:
                parts = tuple(printable(part) for part in path.relative_to(root).parts[:-1])
                found.append(FoundFile(path, name, parts))
        below = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        folders += [(Path(entry.path), inherited or _why_folder_skipped(entry.name)) for entry in reversed(below)]
    return found, left_out


def _unopened(name: str, inherited: Reason | None) -> LeftOut:
    if inherited is not None:
        return LeftOut(name, "skipped", *inherited)
    return LeftOut(name, "refused", "TAB_UNREADABLE", "the folder cannot be opened.", labelled=True)


def _why_folder_skipped(name: str) -> Reason | None:
    if name.startswith("."):
        return "SKIP_HIDDEN", "in a hidden folder."
    if name.casefold() in SYSTEM_NAMES:
        return "SKIP_SYSTEM", "in a folder made by the operating system."
    if name.casefold() in MASK_FOLDERS:
        return "SKIP_MASK", "in a folder of masks, not of images."
    return None


def _why_skipped(name: str, beside: Collection[str]) -> Reason | None:
    """Why a file of this name is not meant as an image; `beside` are the names in its folder."""
    folded = name.casefold()
    if folded in SYSTEM_NAMES:
        return "SKIP_SYSTEM", "a file made by the operating system."
    if name.startswith("."):
        return "SKIP_HIDDEN", "a hidden file."
    stem, suffix = os.path.splitext(name)
    if not folded.endswith((".nii.gz", ".hdr.gz")) and suffix.casefold() in OTHER_SUFFIXES:
        return "SKIP_NOT_AN_IMAGE", f"a '{suffix.casefold()}' file is not an image."
    if folded.endswith(".img") and f"{stem}.hdr" in beside:
        return "SKIP_NOT_AN_IMAGE", "the voxels of the header beside it."
    masked = MASK_NAME.fullmatch(stem)
    suffixes = (suffix, ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
    if masked and any(masked[1] + other in beside for other in suffixes):
        return "SKIP_MASK", "a mask beside its image."
    return None


def _why_not_followed(link: Path, root: Path) -> Reason | None:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return "TAB_LINK_BROKEN", "the link leads nowhere, or round in a circle."
    if target.is_relative_to(root):
        return None
    return "TAB_PATH_OUTSIDE", "the link leaves the data folder; copy what it names, or give that folder itself."


# --- folder names give split and class ----------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How the folders of a tree are read.

    Attributes:
        label_at: Index of the folder that names the class, among a file's folders under the root.
        split_at: Index of the folder that names the split, or None.
    """

    label_at: int
    split_at: int | None = None

    def split_and_label(self, folders: tuple[str, ...]) -> tuple[str | None, str | None]:
        """What the folders of one file say of it."""
        split = None
        if self.split_at is not None:
            split = split_of(folders[self.split_at]) if len(folders) > self.split_at else None
            if split is None and self.split_at < self.label_at:
                return None, None  # beside the split folders: what is below it is not known to be a class
        label = clean_text(folders[self.label_at]) if len(folders) > self.label_at else None
        return split, label


def list_class_folders(found: Sequence[FoundFile], left_out: Sequence[LeftOut]) -> Listing:
    """The listing that `walk_files` and the names of folders give.

    Images outside the class folders are kept, without a class: they can be scored, not learnt from.
    """
    layout = read_layout([file.parts for file in found])
    rows = []
    for file in found:
        split, label = layout.split_and_label(file.parts)
        rows.append({"path": file.name, "label": label, "patient_id": None, "split": split})
    frame = make_rows(rows)
    refs = tuple(ImageRef(file.path) for file in found)
    return Listing(frame, refs, tuple(left_out), tuple(_understood(frame, layout, left_out)))


def read_layout(paths: Sequence[tuple[str, ...]]) -> Layout:
    """Read the layout off the folder names alone.

    Args:
        paths: Each file's folders under the root. Known are `class/...`, `split/class/...`, `class/split/...` and
            all of them inside single folders of any name, as archives make them.
    """
    folders = {parts for parts in paths if parts}
    depth = 0
    while _is_wrapper(folders, depth):
        depth += 1
    if _are_splits(folders, depth):
        label_at = depth + 1
        if {name.casefold() for name in _names_at(folders, label_at)} <= IMAGE_FOLDERS and _reaches(folders, depth + 2):
            label_at += 1
        return Layout(label_at, depth)
    below = {parts for parts in folders if len(parts) > depth + 1}
    if below and all(split_of(parts[depth + 1]) for parts in below) and _are_splits(below, depth + 1):
        return Layout(depth, depth + 1)
    return Layout(depth)


def _names_at(folders: Collection[tuple[str, ...]], depth: int) -> set[str]:
    return {parts[depth] for parts in folders if len(parts) > depth}


def _reaches(folders: Collection[tuple[str, ...]], depth: int) -> bool:
    return any(len(parts) > depth for parts in folders)


def _is_wrapper(folders: Collection[tuple[str, ...]], depth: int) -> bool:
    """Whether there is a single folder at `depth`, with nothing but folders in it, that names no split."""
    names = _names_at(folders, depth)
    inside = [parts for parts in folders if len(parts) > depth]
    return len(names) == 1 and split_of(next(iter(names))) is None and all(len(parts) > depth + 1 for parts in inside)


def _are_splits(folders: Collection[tuple[str, ...]], depth: int) -> bool:
    """Whether folders at `depth` name splits: a training split and another, or splits alone with classes in them."""
    names = _names_at(folders, depth)
    splits = {split_of(name) for name in names} - {None}
    if "train" in splits and len(splits) >= 2:
        return True
    only_splits = bool(names) and all(split_of(name) for name in names)
    return only_splits and ("train" in splits or _reaches(folders, depth + 1))


def _understood(frame: pd.DataFrame, layout: Layout, left_out: Sequence[LeftOut]) -> Iterator[str]:
    classes = sorted(frame["label"].dropna().unique())
    if layout.split_at is not None:
        yield f"Split folders: {listed([name for name in SPLITS if (frame['split'] == name).any()])}."
    if not classes:
        yield "A folder of images without classes."
        return
    yield f"{len(classes)} class folder{'s' * (len(classes) > 1)}: {listed(classes)}."
    n_loose = int(frame["label"].isna().sum())
    if n_loose:
        yield f"{n_loose} image{'s' * (n_loose > 1)} outside the class folders, without a class."
    for item in left_out:
        if "/" not in item.path and Path(item.path).suffix.casefold() in TABLE_SUFFIXES:
            yield f"'{item.path}' was not read; to use its columns, give it as DATA."


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names in a row, the first few where there are many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
