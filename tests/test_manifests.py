"""CSV, TSV and parquet as text: what is written is what is read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bad_tables import as_csv, image_bytes
from plainfilm.data.manifests import (
    LABEL_NAMES,
    MAX_COLUMNS,
    PATIENT_NAMES,
    find_column,
    holds_images,
    read_parquet_table,
    read_text_table,
)
from plainfilm.errors import TableError

# Any text but NUL, which has its own refusal; a lone "\r" ends a line as "\n" does.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6)


def written(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def cells(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    return list(frame.itertuples(index=False, name=None))


@given(ROWS, st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.booleans())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_cell_comes_back_as_it_was_written(tmp_path, rows, separator, encoding, windows):
    stream = io.StringIO()
    csv.writer(
        stream, delimiter=separator, lineterminator="\r\n" if windows else "\n", quoting=csv.QUOTE_ALL
    ).writerows([("first", "second", "third"), *rows])
    frame = read_text_table(written(tmp_path, stream.getvalue().encode(encoding)))

    assert cells(frame) == [row for row in rows if any(cell.strip() for cell in row)]


def test_nothing_is_guessed_of_a_cell(tmp_path):
    odd = ["007", "1.0", "NA", "nan", "None", "True", "1e3", "2020-01-02", "=1+1", "-", "null"]
    frame = read_text_table(written(tmp_path, "id,x\n" + "".join(f"{cell},y\n" for cell in odd)))

    assert list(frame["id"]) == odd


def test_the_index_is_the_line_on_which_a_record_ends(tmp_path):
    frame = read_text_table(written(tmp_path, 'a,b\n\n1,"two\nlines"\n\n2,x\n'))

    assert frame.index.name == "line"
    assert list(frame.index) == [4, 6]


def test_a_fault_is_placed_at_its_line(tmp_path):
    with pytest.raises(TableError, match="line 4 has 3 cells, the header 2") as caught:
        read_text_table(written(tmp_path, 'a,b\n"two\nlines",1\n1,2,3\n'))
    assert caught.value.code == "TAB_RAGGED"
    with pytest.raises(TableError, match="line 3 is not UTF-8 text"):
        read_text_table(written(tmp_path, b"a,b\n1,2\n\xff,3\n"))


def test_a_column_without_a_name_is_called_after_its_place(tmp_path):
    """As pandas writes its index."""
    assert list(read_text_table(written(tmp_path, ",path,label\n0,a.png,x\n")).columns) == ["column_1", "path", "label"]


def test_names_of_columns_stay_on_one_line(tmp_path):
    assert list(read_text_table(written(tmp_path, '"finding\nlabels", path \nx,y\n')).columns) == [
        "finding labels",
        "path",
    ]


def test_the_widest_table_that_is_read(tmp_path):
    names = [f"c{number}" for number in range(MAX_COLUMNS)]
    assert len(read_text_table(written(tmp_path, as_csv([dict.fromkeys(names, "1")]))).columns) == MAX_COLUMNS
    with pytest.raises(TableError, match="4,097 columns; at most 4,096"):
        read_text_table(written(tmp_path, as_csv([dict.fromkeys([*names, "more"], "1")])))


def test_reading_leaves_the_csv_module_as_it_was(tmp_path):
    before = csv.field_size_limit()
    read_text_table(written(tmp_path, "a,b\n1,2\n"))

    assert csv.field_size_limit() == before


# --- parquet ------------------------------------------------------------------------------------------------


def class_label(*names: str) -> dict[bytes, bytes]:
    """Schema metadata as Hugging Face `datasets` writes it."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def parquet(folder: Path, table: pa.Table) -> Path:
    pq.write_table(table, folder / "table.parquet")
    return folder / "table.parquet"


def test_class_label_names_replace_their_numbers(tmp_path):
    table = pa.table({"image": image_bytes()[:4], "label": [0, 1, 1, -1]})
    frame, image_column = read_parquet_table(
        parquet(tmp_path, table.replace_schema_metadata(class_label("well", "ill")))
    )

    assert image_column == "image"
    assert list(frame["label"]) == ["well", "ill", "ill", ""]  # -1 is Hugging Face's "no label"
    assert list(frame.columns) == ["label"]


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"info": 1}', b'{"info": {"features": {"label": null}}}'])
def test_damaged_metadata_leaves_the_numbers(tmp_path, metadata):
    table = pa.table({"label": [0, 1]}).replace_schema_metadata({b"huggingface": metadata})

    assert list(read_parquet_table(parquet(tmp_path, table))[0]["label"]) == ["0", "1"]


def test_numbers_dates_and_dictionaries_become_text(tmp_path):
    table = pa.table(
        {
            "patient": pa.array(["007", "007", None]).dictionary_encode(),
            "age": [61.0, 61.5, None],
            "count": [1, None, 3],
            "label": pa.array([b"ill", b"well", b""]),  # text that an old writer did not mark as text
        }
    )
    frame, image_column = read_parquet_table(parquet(tmp_path, table))

    assert image_column is None
    assert list(frame["patient"]) == ["007", "007", ""]
    assert list(frame["age"]) == ["61", "61.5", ""]
    assert list(frame["count"]) == ["1", "", "3"]
    assert list(frame["label"]) == ["ill", "well", ""]


def test_of_several_columns_of_bytes_the_one_named_image_or_asked_for_is_taken(tmp_path):
    table = pa.table({"mask": image_bytes()[:2], "image": image_bytes()[2:4], "thumbnail": [b"1", b"2"]})
    path = parquet(tmp_path, table)

    assert read_parquet_table(path)[1] == "image"
    frame, chosen = read_parquet_table(path, image_column="Mask")
    assert chosen == "mask"
    assert list(frame.columns) == []
    assert len(frame) == 2


def test_only_parquet_with_bytes_holds_images(tmp_path):
    assert holds_images(parquet(tmp_path, pa.table({"image": image_bytes()[:1]})))
    assert not holds_images(parquet(tmp_path, pa.table({"path": ["a.png"]})))
    assert not holds_images(parquet(tmp_path, pa.table({"path": [b"a.png"]})))
    assert not holds_images(written(tmp_path, "text", "text.parquet"))
    assert not holds_images(tmp_path / "absent.parquet")


# --- columns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Finding Labels", "finding_labels", "FINDING-LABELS", " finding  labels "])
def test_usual_names_are_known_in_any_spelling(name):
    assert find_column(pd.DataFrame(columns=["x", name]), None, LABEL_NAMES, kind="label") == name


def test_the_more_usual_name_comes_first():
    assert find_column(pd.DataFrame(columns=["diagnosis", "label"]), None, LABEL_NAMES, kind="label") == "label"


def test_a_column_asked_for_by_name_must_exist():
    frame = pd.DataFrame(columns=["path", "Case No"])

    assert find_column(frame, "case_no", PATIENT_NAMES, kind="patient id") == "Case No"
    assert find_column(frame, None, PATIENT_NAMES, kind="patient id") is None
    with pytest.raises(TableError, match=r"no column 'case' for the patient id\. Columns: path, Case No\.") as caught:
        find_column(frame, "case", PATIENT_NAMES, kind="patient id")
    assert caught.value.code == "TAB_NO_COLUMN"
