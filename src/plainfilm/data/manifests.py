"""CSV, TSV and parquet files as text tables: nothing guessed, nothing executed, size bounded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from plainfilm.data.table import clean_text
from plainfilm.errors import TableError

MAX_MANIFEST_BYTES = 1 << 30
MAX_COLUMNS = 4096
MAX_CELL_CHARACTERS = 1 << 20

PATH_NAMES = ("path", "file_name", "filename", "file", "image", "image_path", "image index", "images")
LABEL_NAMES = ("label", "labels", "class", "target", "diagnosis", "finding labels", "finding")
PATIENT_NAMES = (
    "patient_id",
    "patientid",
    "patient id",
    "patient",
    "subject_id",
    "subject",
    "participant_id",
)
SPLIT_NAMES = ("split",)


def read_text_table(path: Path) -> pd.DataFrame:
    """A CSV or TSV file with every cell as text, exactly as written ("007" stays "007", "NA" stays "NA").

    Separator (`,` `;` tab `|`) and encoding (UTF-8 or UTF-16 with a byte-order mark, else UTF-8) are detected.

    Raises:
        TableError: `TAB_TOO_LARGE`, `TAB_ENCODING`, `TAB_NUL`, `TAB_EMPTY`, `TAB_TOO_WIDE`, `TAB_CELL_TOO_LARGE`,
            `TAB_QUOTING`, `TAB_RAGGED` or `TAB_DUPLICATE_COLUMN`, with the line where it happened.
    """
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise TableError("the table is larger than 1 GiB; split it, or save it as parquet.", code="TAB_TOO_LARGE")
    text = _decode(path.read_bytes())
    if not text.strip():
        raise TableError("the table is empty.", code="TAB_EMPTY")
    first_line = text.lstrip().splitlines()[0]
    separator = max(",;\t|", key=first_line.count)
    if first_line.count(separator) >= MAX_COLUMNS:
        raise TableError(f"the table has more than {MAX_COLUMNS} columns.", code="TAB_TOO_WIDE")
    return _parse(text, separator)


def _decode(data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise TableError(f"line {line} is not {encoding} text; save the table as UTF-8.", code="TAB_ENCODING") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise TableError(f"line {line} holds a NUL byte; this is not a text table.", code="TAB_NUL")
    return text


def _parse(text: str, separator: str) -> pd.DataFrame:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        _check_header(header)
        rows = []
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise TableError(
                    f"line {reader.line_num} has {len(cells)} cells, the header {len(header)}.",
                    code="TAB_RAGGED",
                )
            rows.append(cells)
    except csv.Error as error:
        too_large = "field larger" in str(error)
        raise TableError(
            f"line {reader.line_num}: {error}.", code="TAB_CELL_TOO_LARGE" if too_large else "TAB_QUOTING"
        ) from None
    return pd.DataFrame(rows, columns=header, dtype=object)


def _check_header(header: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in header:
        if name.casefold() in seen:
            raise TableError(f"two columns are named '{name}'.", code="TAB_DUPLICATE_COLUMN")
        seen.add(name.casefold())


def read_parquet_table(path: Path) -> tuple[pd.DataFrame, str | None]:
    """A parquet file as text columns, and the name of the column that holds image bytes, if one does.

    Image bytes stay where they are. The names of a Hugging Face `ClassLabel` replace its numbers.

    Raises:
        TableError: `TAB_PARQUET` for a file that is not sound parquet; `TAB_MULTI_LABEL` for a list of labels.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        image_column = next((f.name for f in schema if _holds_images(f.type)), None)
        # A dictionary or run-length column can expand without bound: what it would take is known from the footer.
        names = [f.name for f in schema if f.name != image_column]
        if len(names) > MAX_COLUMNS:
            raise TableError(f"the table has more than {MAX_COLUMNS} columns.", code="TAB_TOO_WIDE")
        if file.metadata.num_rows > 50_000_000:
            raise TableError("the table has more than 50 million rows.", code="TAB_TOO_LARGE")
        nested = [f.name for f in schema if f.name != image_column and pa.types.is_nested(f.type)]
        for name in nested:
            if name.casefold() in LABEL_NAMES:
                raise TableError(
                    f"column '{name}' holds several labels per image: multi-label tables are not supported. "
                    "Choose one class per image, or one table per finding.",
                    code="TAB_MULTI_LABEL",
                )
        columns = [name for name in names if name not in nested]
        data = file.read(columns=columns).to_pydict() if columns else {}
        n_rows = file.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableError(f"not a sound parquet file ({type(error).__name__}).", code="TAB_PARQUET") from None
    class_names = _class_names(schema.metadata or {})
    frame = pd.DataFrame(
        {name: [_cell(value, class_names.get(name)) for value in values] for name, values in data.items()},
        index=range(n_rows),
        dtype=object,
    )
    _check_header(list(frame.columns))
    return frame, image_column


def _holds_images(arrow_type: Any) -> bool:
    """Whether a column holds bytes, or the struct `{bytes, path}` of Hugging Face."""
    import pyarrow as pa

    if pa.types.is_struct(arrow_type):
        return any(field.name == "bytes" for field in arrow_type)
    return bool(pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type))


def _cell(value: object, class_names: Sequence[str] | None) -> object:
    if class_names is not None and isinstance(value, int) and 0 <= value < len(class_names):
        return class_names[value]
    return "" if value is None else clean_text(value) or ""


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, Sequence[str]]:
    """Names of Hugging Face ClassLabel columns, from the schema's own metadata."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and "names" in feature
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def find_column(frame: pd.DataFrame, wanted: str | None, guesses: Sequence[str], *, kind: str) -> str | None:
    """The column asked for, or the first whose name is a usual one; None if there is none.

    Raises:
        TableError: `TAB_NO_COLUMN` if a column was asked for by name and is absent.
    """
    by_name = {str(name).casefold(): str(name) for name in frame.columns}
    if wanted is not None:
        if wanted in frame.columns:
            return wanted
        if wanted.casefold() in by_name:
            return by_name[wanted.casefold()]
        listed = ", ".join(map(str, frame.columns[:12]))
        raise TableError(f"no column '{wanted}' for the {kind}. Columns: {listed}.", code="TAB_NO_COLUMN")
    return next((by_name[guess] for guess in guesses if guess in by_name), None)
