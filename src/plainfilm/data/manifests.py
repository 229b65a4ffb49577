"""CSV, TSV and parquet files as text tables: nothing guessed, nothing executed, size bounded."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from plainfilm.data.table import plain_text, shown
from plainfilm.errors import TableError

MAX_MANIFEST_BYTES = 1 << 30
MAX_COLUMNS = 4096
MAX_ROWS = 50_000_000

# Usual names, in the order they are preferred; compared as `_folded`.
PATH_NAMES = ("path", "file_name", "filename", "file", "image", "image_path", "image_index", "images", "img")
LABEL_NAMES = ("label", "labels", "class", "target", "diagnosis", "finding_labels", "finding")
PATIENT_NAMES = ("patient_id", "patientid", "patient", "subject_id", "subject", "participant_id")
SPLIT_NAMES = ("split",)
# Old parquet writers do not mark text as text: a column of bytes with one of these names holds no images.
TEXT_NAMES = {*PATH_NAMES, *LABEL_NAMES, *PATIENT_NAMES, *SPLIT_NAMES} - {"image", "images", "img"}


def read_text_table(path: Path) -> pd.DataFrame:
    """A CSV or TSV file with every cell as text, exactly as written ("007" stays "007", "NA" stays "NA").

    Separator (`,` `;` tab `|`) and encoding (UTF-16 with a byte-order mark, else UTF-8) are detected.

    Returns:
        One row per record; the index, named "line", is the line of the file on which the record ends.

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
    _check_width(first_line.count(separator) + 1)
    return _parse(text, separator)


def _decode(data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise TableError(f"line {line} is not {name} text; save the table as UTF-8.", code="TAB_ENCODING") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise TableError(f"line {line} holds a NUL byte; this is not a text table.", code="TAB_NUL")
    return text


def _parse(text: str, separator: str) -> pd.DataFrame:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] = []
    rows, lines = [], []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue  # a blank line, or nothing but separators
            if not header:
                header = _header(cells)
                continue
            if len(cells) != len(header):
                message = f"line {reader.line_num} has {len(cells)} cells, the header {len(header)}."
                raise TableError(message, code="TAB_RAGGED")
            rows.append(cells)
            lines.append(reader.line_num)
    except csv.Error as error:
        # The reader's own limit on a cell is 128 KiB.
        code = "TAB_CELL_TOO_LARGE" if "field larger" in str(error) else "TAB_QUOTING"
        raise TableError(f"line {reader.line_num}: {error}.", code=code) from None
    return pd.DataFrame(rows, columns=header, index=pd.Index(lines, name="line", dtype="int64"), dtype=object)


def _header(cells: Sequence[str]) -> list[str]:
    """Column names, each on one line; one without a name is called after its place."""
    names = [" ".join(name.split()) or f"column_{place}" for place, name in enumerate(cells, start=1)]
    _check_names(names)
    return names


def _check_names(names: Sequence[str]) -> None:
    _check_width(len(names))
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        raise TableError(f"two columns are named '{shown(twice[0])}'.", code="TAB_DUPLICATE_COLUMN")


def _check_width(n_columns: int) -> None:
    if n_columns > MAX_COLUMNS:
        raise TableError(f"{n_columns:,} columns; at most {MAX_COLUMNS:,} are read.", code="TAB_TOO_WIDE")


# --- parquet ------------------------------------------------------------------------------------------------


def read_parquet_table(path: Path, *, image_column: str | None = None) -> tuple[pd.DataFrame, str | None]:
    """A parquet file as text columns, and the name of the column that holds image bytes, if one does.

    Image bytes stay where they are; columns of lists and structs, and bytes that are not the images, are not read.
    The names of a Hugging Face `ClassLabel` replace its numbers; -1, its "no label", becomes an empty cell.

    Args:
        path: The file.
        image_column: Which column of bytes holds the images, where there are several; by default the first of
            `PATH_NAMES`, else the first.

    Returns:
        The table, its index named "row" and counted from 0; and the column of images.

    Raises:
        TableError: `TAB_PARQUET` for a file that is not sound parquet; `TAB_MULTI_LABEL` for a list of labels;
            `TAB_TOO_WIDE`, `TAB_TOO_LARGE`, `TAB_DUPLICATE_COLUMN`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, n_rows = file.schema_arrow, file.metadata.num_rows
            _check_names(schema.names)
            if n_rows > MAX_ROWS:
                raise TableError(f"{n_rows:,} rows; at most {MAX_ROWS:,} are read.", code="TAB_TOO_LARGE")
            _refuse_lists_of_labels(schema)
            images = _image_column(schema, image_column)
            columns = [field.name for field in schema if field.name != images and _is_plain(field)]
        class_names = _class_names(schema.metadata or {})
        data = {name: _read_cells(path, schema.field(name), class_names.get(name)) for name in columns}
        frame = pd.DataFrame(data, index=pd.RangeIndex(n_rows, name="row"), dtype=object)  # of n_rows each, or no table
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise TableError(f"not a sound parquet file ({type(error).__name__}).", code="TAB_PARQUET") from None
    return frame, images


def _read_cells(path: Path, field: Any, class_names: Sequence[str] | None) -> list[str]:
    """The cells of a column as text; equal ones are one object where the file keeps them as one.

    Text is read as its distinct values and where they stand, in portions: a bomb repeats one long value.

    Raises:
        TableError: `TAB_CELL_TOO_LARGE`, or `TAB_TOO_LARGE` if all cells together hold more than a text table may.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells: list[str] = []
    size = 0
    text = [field.name] if pa.types.is_string(field.type) else []
    with pq.ParquetFile(path, read_dictionary=text) as file:
        for portion in file.iter_batches(columns=[field.name], use_threads=False):
            column = portion.column(0)
            if not pa.types.is_dictionary(column.type):
                size += column.nbytes
                cells += [_cell(value, class_names) for value in column.to_pylist()]
            else:
                distinct = [_cell(value, class_names) for value in column.dictionary.to_pylist()]
                longest = max(map(len, distinct), default=0)
                if longest > csv.field_size_limit():
                    raise TableError(f"a cell of {longest:,} characters.", code="TAB_CELL_TOO_LARGE")
                places = column.indices.to_pylist()
                size += sum(len(distinct[place]) for place in places if place is not None)
                cells += ["" if place is None else distinct[place] for place in places]
            if size > MAX_MANIFEST_BYTES:
                raise TableError("its columns of text unpack to over 1 GiB.", code="TAB_TOO_LARGE")
    return cells


def holds_images(path: Path) -> bool:
    """Whether a parquet file has a column of image bytes; False where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _image_column(pq.read_schema(path), None) is not None
    except (pa.ArrowException, OSError, ValueError):
        return False


def _refuse_lists_of_labels(schema: Any) -> None:
    import pyarrow as pa

    for field in schema:
        if _folded(field.name) in LABEL_NAMES and pa.types.is_nested(field.type):
            raise TableError(
                f"column '{field.name}' holds several labels per image: multi-label tables are not supported. "
                "Choose one class per image, or one table per finding.",
                code="TAB_MULTI_LABEL",
            )


def _image_column(schema: Any, wanted: str | None) -> str | None:
    held = {_folded(field.name): field.name for field in schema if _may_be_images(field)}
    if wanted is not None:
        return held.get(_folded(wanted))
    preferred = [held[name] for name in PATH_NAMES if name in held]
    return next(iter([*preferred, *held.values()]), None)


def _may_be_images(field: Any) -> bool:
    """Whether a column holds the struct `{bytes, path}` of Hugging Face, or bytes that are not a column of text."""
    import pyarrow as pa

    if pa.types.is_struct(field.type):
        return any(child.name == "bytes" for child in field.type)
    return _is_binary(field) and _folded(field.name) not in TEXT_NAMES


def _is_plain(field: Any) -> bool:
    """Whether a column can be read as text."""
    import pyarrow as pa

    return not pa.types.is_nested(field.type) and not (_is_binary(field) and _may_be_images(field))


def _is_binary(field: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))


def _cell(value: object, class_names: Sequence[str] | None) -> str:
    if class_names is not None and isinstance(value, int):
        if 0 <= value < len(class_names):
            return class_names[value]
        if value == -1:
            return ""
    return plain_text(value) or ""


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


# --- columns ------------------------------------------------------------------------------------------------


def find_column(frame: pd.DataFrame, wanted: str | None, guesses: Sequence[str], *, kind: str) -> str | None:
    """The column asked for, or the first whose name is a usual one; None if there is none.

    Case, and whether words are parted by space, `-` or `_`, do not matter.

    Raises:
        TableError: `TAB_NO_COLUMN` if a column was asked for by name and is absent.
    """
    by_name = {_folded(str(name)): str(name) for name in frame.columns}
    if wanted is None:
        return next((by_name[guess] for guess in guesses if guess in by_name), None)
    if wanted in frame.columns:
        return wanted
    if _folded(wanted) in by_name:
        return by_name[_folded(wanted)]
    columns = ", ".join(shown(str(name)) for name in frame.columns[:12])
    raise TableError(f"no column '{wanted}' for the {kind}. Columns: {columns}.", code="TAB_NO_COLUMN")


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())
