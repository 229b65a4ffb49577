"""The table: what every source becomes, with an account of every file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.data.images import ImageRef
from plainfilm.errors import TableError

COLUMNS = ("path", "label", "patient_id", "split")
SPLITS = ("train", "validation", "test", "external")
# Columns the account and the run's table add: a source's column of the same name is kept under another.
RESERVED = (*COLUMNS, "status", "code", "detail", "fold")

# Words a folder, file or cell may use for a split; see `split_of`.
SPLIT_OF_NAME = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "ts", "holdout"), "test"),
    "external": "external",
}
_FILLERS = {"set", "data", "dataset", "images", "image", "imgs", "img", "split", "folder"}

Status = Literal["used", "skipped", "refused"]
Cells = npt.NDArray[np.object_]


@dataclass(frozen=True)
class LeftOut:
    """One file or row that is not used, and why.

    Attributes:
        path: As the table names it.
        status: `skipped` (not meant as an image) or `refused` (meant as one, but unusable).
        code: Stable reason, such as `SKIP_HIDDEN` or `IMG_TRUNCATED`.
        detail: One sentence; no patient data.
        labelled: Whether a label was attached; training tolerates none of these unless told.
        file: The file that `path` stands for, where its name is hidden; for the account alone.
    """

    path: str
    status: Literal["skipped", "refused"]
    code: str
    detail: str
    labelled: bool = False
    file: str = ""


@dataclass(frozen=True)
class Listing:
    """What a source names, before any image is read.

    Attributes:
        rows: One row per image: `COLUMNS` (missing values are None), then any further columns as text.
        refs: Where each row's bytes are, aligned with `rows`.
        left_out: What is not in `rows`, and why.
        understood: Sentences on how the source was read, for the user to check.
        hidden_root: Folder of files whose names are hidden: `path` does not say where they are. None where it does.
    """

    rows: pd.DataFrame
    refs: tuple[ImageRef, ...]
    left_out: tuple[LeftOut, ...] = ()
    understood: tuple[str, ...] = ()
    hidden_root: Path | None = None


@dataclass(frozen=True)
class Table:
    """The images that can be used, and an account of all that cannot.

    Attributes:
        rows: One row per used image, index 0..n-1: `COLUMNS`, further columns of the source, then the facts
            of the decoder (`format`, `bits`, `width`, `height`, `file_sha256`, `pixel_sha256`, ...).
        refs: Where each row's bytes are, aligned with `rows`.
        left_out: Every skipped or refused file.
        understood: Sentences on how the source was read.
        hidden_root: As of the listing.
    """

    rows: pd.DataFrame
    refs: tuple[ImageRef, ...]
    left_out: tuple[LeftOut, ...] = ()
    understood: tuple[str, ...] = field(default=())
    hidden_root: Path | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted; an image without a label is not a class."""
        return tuple(sorted(self.rows["label"].dropna().unique()))

    @property
    def refused(self) -> tuple[LeftOut, ...]:
        """What was meant as an image but cannot be used."""
        return tuple(item for item in self.left_out if item.status == "refused")

    @property
    def skipped(self) -> tuple[LeftOut, ...]:
        """What was not meant as an image."""
        return tuple(item for item in self.left_out if item.status == "skipped")

    def take(self, indices: Sequence[int] | np.ndarray) -> Table:
        """The rows at `indices`, in that order; the account of files left out goes along."""
        chosen = np.asarray(indices, dtype=int)
        return Table(
            self.rows.iloc[chosen].reset_index(drop=True),
            tuple(self.refs[i] for i in chosen),
            self.left_out,
            self.understood,
            self.hidden_root,
        )

    def account(self) -> pd.DataFrame:
        """Every file, one row each: `path`, `status`, `code`, `detail`, then the columns of used rows.

        Where names are hidden, the column `file` says what each stands for. Nothing else does.
        """
        used = self.rows.assign(status="used", code="", detail="")
        out = pd.DataFrame(
            [(item.path, item.status, item.code, item.detail) for item in self.left_out],
            columns=["path", "status", "code", "detail"],
        )
        head = ["path", "status", "code", "detail"]
        if self.hidden_root is not None:
            used["file"] = [printable(_under(ref.path, self.hidden_root)) for ref in self.refs]
            out["file"] = [item.file for item in self.left_out]
            head.append("file")
        ordered = used[head + [name for name in used.columns if name not in head]]
        return ordered if out.empty else pd.concat([ordered, out], ignore_index=True)


def _under(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def cells(rows: pd.DataFrame, name: str) -> Cells:
    """A column as objects, None for what is missing."""
    return rows[name].astype(object).where(rows[name].notna(), None).to_numpy(dtype=object, copy=True)


def make_rows(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame that begins with `COLUMNS`, all cells objects, None for what is missing."""
    frame = pd.DataFrame(list(rows), dtype=object)
    for name in COLUMNS:
        if name not in frame.columns:
            frame[name] = None
    frame = frame[[*COLUMNS, *(name for name in frame.columns if name not in COLUMNS)]]
    return frame.astype(object).where(frame.notna(), None)


def free_name(name: str, taken: Collection[str]) -> str:
    """`name`, with as many `_` after it as it takes to differ from all names in `taken`."""
    while name in taken:
        name += "_"
    return name


# Control characters but tab, line feed and return; what turns the direction of others or shows nothing; odd line ends.
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_LINES = re.compile(r"[\t\n\r]")


def clean_text(value: object) -> str | None:
    r"""Text as a table means it: as `plain_text` gives it, with nothing in it that hides.

    Characters that a terminal would obey, or that turn or hide others, are written out: `\x1b`, `\u202e`.
    """
    text = plain_text(value)
    return None if text is None else _HIDDEN.sub(_written_out, text)


def plain_text(value: object) -> str | None:
    """A cell as text: NFC, without surrounding white space; None for an empty cell.

    A whole float is written as the integer it is: columns of integers become floats where a cell is empty.
    """
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", str(value)).strip() or None


def one_line(text: str | None) -> str | None:
    r"""A name that is printed on a line with others: a line feed is written out as `\x0a`."""
    return None if text is None else _LINES.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def printable(name: str) -> str:
    r"""A file name that can be written anywhere: bytes that are not UTF-8, and what `clean_text` hides, as `\xNN`."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _LINES.sub(_written_out, _HIDDEN.sub(_written_out, text))


def shown(text: str, most: int = 80) -> str:
    """Text of the data as an error may quote it: on one line, and cut where it is long."""
    cut = text if len(text) <= most else f"{text[:most]}..."
    return printable(cut)


def split_of(name: str) -> str | None:
    """The split that a folder, file or cell names ("Training", "test_images", "valset"); None if it names none."""
    words = [word for word in re.split(r"[\W_]+", name.casefold()) if word and word not in _FILLERS]
    if words[:1] == ["external"]:
        return "external"
    return SPLIT_OF_NAME.get(words[0].removesuffix("set")) if len(words) == 1 else None


def check_labels(labels: Iterable[str | None]) -> None:
    """Refuse labels that say several things at once, or one thing in several ways.

    Raises:
        TableError: `TAB_MULTI_LABEL` for `A|B` or a list `[...]`; `TAB_LABEL_VARIANTS` where two labels differ only
            in case, inner white space, or as `1` and `1.0` do.
    """
    spellings: dict[str, str] = {}
    for label in sorted({label for label in labels if label is not None}):
        if "|" in label or (label.startswith("[") and label.endswith("]")):
            raise TableError(
                f"The label '{shown(label)}' names several classes, but each image must have one: multi-label tables "
                "are not supported. Choose one class per image, or one table per finding.",
                code="TAB_MULTI_LABEL",
            )
        other = spellings.setdefault(_spelling(label), label)
        if other != label:
            raise TableError(
                f"The labels '{shown(other)}' and '{shown(label)}' look like one class spelled twice. "
                "Spell it one way, or rename one of them.",
                code="TAB_LABEL_VARIANTS",
            )


def _spelling(label: str) -> str:
    """What two spellings of one label have in common."""
    folded = " ".join(unicodedata.normalize("NFKC", label).casefold().replace("_", " ").split())
    try:
        number = float(folded)
    except ValueError:
        return folded
    return repr(number) if np.isfinite(number) else folded
