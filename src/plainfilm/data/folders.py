"""Walk a folder of images: every file is found, or left out with a reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plainfilm.data.table import LeftOut

SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx", "dicomdir"}
# A file with one of these names was not meant as an image. Anything else goes to the image reader, which looks at
# the content, never at the name.
OTHER_SUFFIXES = {
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".log",
    ".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".zip", ".tar", ".gz", ".tgz", ".7z",
    ".rar", ".py", ".ipynb", ".r", ".m", ".mat", ".npy", ".npz", ".parquet", ".h5", ".hdf5", ".pkl", ".pt", ".pth",
    ".safetensors", ".onnx", ".db", ".sqlite", ".bak", ".tmp", ".part",
}  # fmt: skip
MASK_FOLDERS = {"mask", "masks", "segmentation", "segmentations"}
MASK_ENDINGS = ("_mask", "-mask", "_seg", "_segmentation")


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


def walk_files(root: Path) -> tuple[list[FoundFile], list[LeftOut]]:
    """Every file under `root`, in a stable order, as found or left out.

    Linked folders are not entered, and links that leave the root are not followed.
    """
    found: list[FoundFile] = []
    left_out: list[LeftOut] = []
    inside = root.resolve()
    for path in _files(root, left_out, root):
        name = _printable(path.relative_to(root).as_posix())
        reason = _why_skipped(path)
        if reason is not None:
            left_out.append(LeftOut(name, "skipped", *reason))
        elif path.is_symlink() and not _stays_inside(path, inside):
            detail = "the link leaves the data folder, or leads nowhere."
            left_out.append(LeftOut(name, "refused", "TAB_PATH_OUTSIDE", detail, labelled=True))
        else:
            parts = tuple(_printable(part) for part in path.relative_to(root).parts[:-1])
            found.append(FoundFile(path, name, parts))
    return found, left_out


def _files(folder: Path, left_out: list[LeftOut], root: Path) -> Iterator[Path]:
    """Files below `folder`, depth first, sorted by name; folders that are not entered are accounted for."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        name = _printable(folder.relative_to(root).as_posix())
        left_out.append(LeftOut(name, "refused", "IMG_UNREADABLE", "the folder cannot be opened.", labelled=True))
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            reason = _why_folder_skipped(entry.name)
            if reason is None:
                yield from _files(path, left_out, root)
            else:
                left_out.append(LeftOut(_printable(path.relative_to(root).as_posix()) + "/", "skipped", *reason))
        elif entry.is_symlink() and path.is_dir():
            name = _printable(path.relative_to(root).as_posix())
            left_out.append(LeftOut(name, "skipped", "SKIP_LINKED_FOLDER", "linked folders are not entered."))
        else:
            yield path


def _why_folder_skipped(name: str) -> tuple[str, str] | None:
    if name.startswith("."):
        return "SKIP_HIDDEN", "a hidden folder."
    if name.casefold() in SYSTEM_FILES:
        return "SKIP_SYSTEM", "a folder made by the operating system."
    if name.casefold() in MASK_FOLDERS:
        return "SKIP_MASK", "a folder of masks, not of images."
    return None


def _why_skipped(path: Path) -> tuple[str, str] | None:
    name = path.name.casefold()
    if name in SYSTEM_FILES or name == ".ds_store":
        return "SKIP_SYSTEM", "a file made by the operating system."
    if name.startswith("."):
        return "SKIP_HIDDEN", "a hidden file."
    if path.suffix.casefold() in OTHER_SUFFIXES:
        return "SKIP_NOT_AN_IMAGE", f"a '{path.suffix.casefold()}' file is not an image."
    stem = path.stem.casefold()
    for ending in MASK_ENDINGS:
        if stem.endswith(ending) and path.with_name(path.stem[: -len(ending)] + path.suffix).exists():
            return "SKIP_MASK", "a mask beside its image."
    return None


def _stays_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def _printable(name: str) -> str:
    r"""The name as text that can be written anywhere; bytes that are not UTF-8 shown as `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
