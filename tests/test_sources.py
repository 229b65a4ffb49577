"""What people have becomes one listing, and every file of it is accounted for."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bad_tables import as_csv, good_rows, image_bytes, small_image, write_images
from plainfilm.data.folders import read_layout, walk_files
from plainfilm.data.sources import SourceOptions, list_images
from plainfilm.data.table import Listing, check_labels, split_of
from plainfilm.errors import PlainfilmError, TableError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared/data")


def touched(root: Path, *names: str) -> Path:
    """Empty files: a listing reads names, not images."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def facts(listing: Listing) -> dict[str, tuple[str | None, str | None]]:
    """Split and class by path."""
    rows = listing.rows
    return dict(zip(rows["path"], zip(rows["split"], rows["label"], strict=True), strict=True))


def left_out(listing: Listing) -> dict[str, str]:
    return {item.path: item.code for item in listing.left_out}


# --- class folders ------------------------------------------------------------------------------------------


def test_folders_are_classes(tmp_path):
    listing = list_images(touched(tmp_path, "ill/1.png", "well/a/2.png", "well/b/3.png"))

    assert facts(listing) == {
        "ill/1.png": (None, "ill"),
        "well/a/2.png": (None, "well"),
        "well/b/3.png": (None, "well"),
    }
    assert [ref.path for ref in listing.refs] == [tmp_path / path for path in listing.rows["path"]]
    assert listing.understood == ("2 class folders: ill, well.",)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("TRAIN", "VAL", "TEST"),
        ("train", "valid", "test"),
        ("Training", "Validation", "Testing"),
        ("training_set", "validation_set", "test_set"),
        ("train images", "val images", "test images"),
        ("trainset", "dev", "holdout"),
    ],
)
@pytest.mark.parametrize("wrapper", ["", "archive/", "archive/Brain MRI data/"])
@pytest.mark.parametrize("inner", ["", "images/"])
def test_split_folders_under_any_usual_name(tmp_path, train, validation, test, wrapper, inner):
    names = [
        f"{wrapper}{split}/{inner}{label}/1.png" for split in (train, validation, test) for label in ("ill", "well")
    ]
    listing = list_images(touched(tmp_path, *names))

    expected = [(split, label) for split in ("train", "validation", "test") for label in ("ill", "well")]
    assert [facts(listing)[name] for name in names] == expected


@pytest.mark.parametrize("splits", [("Training", "Testing"), ("train", "val"), ("train",), ("test",)])
def test_some_of_the_splits_are_enough(tmp_path, splits):
    listing = list_images(touched(tmp_path, *(f"{split}/{label}/1.png" for split in splits for label in "ab")))

    assert list(listing.rows["split"]) == [split_of(split) for split in sorted(splits) for _ in "ab"]
    assert list(listing.rows["label"]) == ["a", "b"] * len(splits)


def test_splits_may_lie_within_classes(tmp_path):
    listing = list_images(touched(tmp_path, "ill/train/1.png", "ill/test/2.png", "well/train/3.png", "well/4.png"))

    assert facts(listing) == {
        "ill/train/1.png": ("train", "ill"),
        "ill/test/2.png": ("test", "ill"),
        "well/train/3.png": ("train", "well"),
        "well/4.png": (None, "well"),
    }


def test_a_class_may_be_called_like_a_split(tmp_path):
    listing = list_images(touched(tmp_path, "test/1.png", "control/2.png"))

    assert set(facts(listing).values()) == {(None, "test"), (None, "control")}


def test_images_outside_the_class_folders_have_no_class(tmp_path):
    listing = list_images(touched(tmp_path, "overview.png", "ill/1.png", "well/2.png"))
    assert facts(listing)["overview.png"] == (None, None)
    assert "1 image outside the class folders, without a class." in listing.understood

    listing = list_images(
        touched(tmp_path / "split", "train/a/1.png", "train/b/1.png", "test/2.png", "test/a/1.png", "more/c/3.png")
    )
    assert facts(listing)["test/2.png"] == ("test", None)
    assert facts(listing)["more/c/3.png"] == (None, None)


def test_a_folder_of_images_has_no_classes(tmp_path):
    listing = list_images(touched(tmp_path, "1.png", "2.png"))

    assert list(listing.rows["label"]) == [None, None]
    assert listing.understood == ("A folder of images without classes.",)


def test_a_wrapping_folder_is_stepped_over_but_a_class_is_not():
    assert read_layout([("only", "a"), ("only", "b", "c")]).label_at == 1
    assert read_layout([("only",), ("only", "a")]).label_at == 0
    assert read_layout([()]).label_at == 0


def test_two_forms_of_one_name_are_one_class(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    listing = list_images(touched(tmp_path, f"{composed}/1.png", f"{decomposed}/2.png", "tea/3.png"))

    assert sorted(set(listing.rows["label"])) == [composed, "tea"]


def test_a_table_beside_class_folders_is_pointed_at(tmp_path):
    listing = list_images(touched(tmp_path, "ill/1.png", "well/2.png", "manifest.csv"))

    assert left_out(listing) == {"manifest.csv": "SKIP_NOT_AN_IMAGE"}
    assert "'manifest.csv' was not read; to use its columns, give it as DATA." in listing.understood


FOLDERS = ["a", "B", "train", "test", "images", "masks", ".git", "__MACOSX"]
FILES = ["x.png", "x_mask.png", "x_mask_2.png", "y.jpg", "scan", "ü 😀.png", "new\nline.png", "bad\udcff.png"]
OTHER_FILES = ["notes.txt", ".DS_Store", "Thumbs.db", ".hidden.png", "d.csv"]
NAMES = st.sampled_from([*FOLDERS, *FILES, *OTHER_FILES])
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=12)


@given(TREES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_file_of_any_tree_is_listed_or_left_out(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("tree")
    for parts in tree:
        path = root.joinpath(*parts)
        if not any(parent.is_file() for parent in path.parents) and not path.exists():
            touched(root, "/".join(parts))
    n_files = sum(path.is_file() for path in root.rglob("*"))

    found, out = walk_files(root)
    assert len(found) + len(out) == n_files
    assert len({file.name for file in found} | {item.path for item in out}) == n_files
    listing = listing_or_none(root)
    if listing is not None:
        assert len(listing.rows) == len(listing.refs)
        assert len(listing.rows) + len(listing.left_out) == n_files


def listing_or_none(root: Path) -> Listing | None:
    """None for a tree that is refused as a whole, as some must be."""
    try:
        return list_images(root)
    except TableError as error:
        if error.code not in {"TAB_NO_IMAGES", "TAB_LABEL_VARIANTS"}:
            raise
        return None


def test_a_tree_deeper_than_the_stack_is_walked(tmp_path):
    deepest = str(tmp_path)
    for _ in range(sys.getrecursionlimit() + 100):
        deepest += "/d"
        os.mkdir(deepest)

    assert walk_files(touched(tmp_path, "1.png"))[0][0].name == "1.png"
    os.removedirs(deepest)  # pytest's own clearing is not as patient


def test_links_within_the_data_are_followed_to_files_only(tmp_path):
    touched(tmp_path, "ill/1.png", "well/2.png")
    (tmp_path / "well" / "again.png").symlink_to(tmp_path / "ill" / "1.png")
    (tmp_path / "well" / "all").symlink_to(tmp_path / "ill")
    listing = list_images(tmp_path)

    assert "well/again.png" in facts(listing)
    assert left_out(listing) == {"well/all": "SKIP_LINKED_FOLDER"}


def test_masks_are_known_by_the_image_beside_them(tmp_path):
    names = [
        "a/1.png",
        "a/1_mask.png",
        "a/1_mask_1.png",
        "a/2.jpg",
        "a/2-seg.png",
        "a/3_mask.png",
        "b/masks/1.png",
        "b/4.png",
    ]
    listing = list_images(touched(tmp_path, *names))

    assert list(facts(listing)) == ["a/1.png", "a/2.jpg", "a/3_mask.png", "b/4.png"]
    assert set(left_out(listing).values()) == {"SKIP_MASK"}


# --- manifests ----------------------------------------------------------------------------------------------


def manifest(folder: Path, text: str, name: str = "table.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_ids_stay_text_and_only_an_empty_cell_is_missing(tmp_path):
    listing = list_images(manifest(tmp_path, "path,label,patient_id\na.png,NA,007\nb.png,x,7\nc.png,,1.0\nd.png,x,\n"))

    assert list(listing.rows["patient_id"]) == ["007", "7", "1.0", None]
    assert list(listing.rows["label"]) == ["NA", "x", None, "x"]


def test_columns_may_be_named_by_the_user(tmp_path):
    text = "scan;dx;case;part;sex\nx/a.png;ill;1;Training;F\n"
    options = SourceOptions(
        path_column="scan", label_column="DX", patient_column="case", split_column="part", images=tmp_path / "here"
    )
    (tmp_path / "here").mkdir()
    listing = list_images(manifest(tmp_path, text), options)

    assert listing.rows.to_dict("records") == [
        {"path": "x/a.png", "label": "ill", "patient_id": "1", "split": "train", "sex": "F"}
    ]
    assert listing.refs[0].path == tmp_path / "here" / "x" / "a.png"


def test_a_folder_of_images_that_does_not_exist_is_said_once(tmp_path):
    with pytest.raises(PlainfilmError, match="is not a folder") as caught:
        list_images(manifest(tmp_path, "path,label\na.png,x\n"), SourceOptions(images=tmp_path / "none"))
    assert (caught.value.code, caught.value.exit_code) == ("OPT_IMAGES", 2)


def test_columns_that_the_table_owns_are_kept_under_another_name(tmp_path):
    text = "file,diagnosis,label,label_,code,path\na.png,ill,1,2,3,4\n"
    options = SourceOptions(path_column="file", label_column="diagnosis")
    row = list_images(manifest(tmp_path, text), options).rows.iloc[0]

    assert row["label"] == "ill"
    assert row["path"] == "a.png"
    assert {"1", "2", "3", "4"} == set(row[["label_", "label__", "code_", "path_"]])


def test_one_file_under_several_spellings_is_one_file(tmp_path):
    text = "path,label\na/b.png,x\n./a/b.png,x\na\\b.png,x\na/./b.png,y\n"
    listing = list_images(manifest(tmp_path, text))

    assert listing.rows.empty
    assert [item.code for item in listing.left_out] == ["TAB_CONFLICT"] * 4  # no row is believed


def test_a_file_listed_again_counts_once(tmp_path):
    listing = list_images(manifest(tmp_path, "path,label\na.png,x\nb.png,y\na.png,x\n"))

    assert list(listing.rows["path"]) == ["a.png", "b.png"]
    (again,) = listing.left_out
    assert (again.code, again.status, again.detail) == (
        "TAB_LISTED_TWICE",
        "skipped",
        "line 4 says again what line 2 says.",
    )


def test_metadata_in_a_folder_is_read_and_every_other_file_accounted_for(tmp_path):
    touched(tmp_path, "a/1.png", "a/2.png", "b/3.png", "notes.txt")
    manifest(tmp_path, "file_name,label\na/1.png,x\nb/3.png,y\nb/4.png,y\n../5.png,y\n", "metadata.csv")
    listing = list_images(tmp_path)

    assert list(listing.rows["path"]) == ["a/1.png", "b/3.png", "b/4.png"]
    assert left_out(listing) == {
        "../5.png": "TAB_PATH_OUTSIDE",
        "a/2.png": "SKIP_NOT_LISTED",
        "metadata.csv": "SKIP_NOT_AN_IMAGE",
        "notes.txt": "SKIP_NOT_AN_IMAGE",
    }


def test_an_empty_label_column_with_flags_beside_it_is_no_multi_label_table(tmp_path):
    listing = list_images(manifest(tmp_path, "path,label,smoker,diabetes\na.png,ill,0,1\nb.png,well,1,1\n"))

    assert list(listing.rows["smoker"]) == ["0", "1"]


# --- parquet and npz ----------------------------------------------------------------------------------------


def hugging_face(path: Path, rows: slice, metadata: bool = True) -> None:
    """A shard in the layout of Falah/Alzheimer_MRI."""
    features = {"image": {"_type": "Image"}, "label": {"names": ["well", "ill"], "_type": "ClassLabel"}}
    labels = [int(row["label"] == "ill") for row in good_rows()]
    table = pa.table({"image": image_bytes()[rows], "label": pa.array(labels[rows], pa.int64())})
    if metadata:
        table = table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


@pytest.mark.parametrize("wrapper", ["", "Alzheimer_MRI/"])
@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001-c08a401c53fe5312.parquet", "data/test-00000-of-00001-44110b9df98c5585.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("train.parquet", "test.parquet"),
    ],
)
def test_hugging_face_shards_give_classes_and_splits(tmp_path, wrapper, train, test):
    hugging_face(tmp_path / wrapper / train, slice(0, 16))
    hugging_face(tmp_path / wrapper / test, slice(16, 24))
    touched(tmp_path, "README.md", ".gitattributes")
    listing = list_images(tmp_path)

    rows = listing.rows.sort_values("split", ascending=False, kind="stable")
    assert list(rows["split"]) == ["train"] * 16 + ["test"] * 8
    assert list(rows["label"]) == [row["label"] for row in good_rows()]
    assert rows["path"].is_unique
    assert set(left_out(listing)) == {"README.md", ".gitattributes"}
    assert {(ref.path.suffix, ref.member) for ref in listing.refs} == {(".parquet", "image")}


def test_parquet_of_images_beside_other_files_is_the_data(tmp_path):
    hugging_face(tmp_path / "data" / "train-00000.parquet", slice(0, 24))
    listing = list_images(touched(tmp_path, "banner.png"))

    assert len(listing.rows) == 24
    assert left_out(listing) == {"banner.png": "SKIP_NOT_LISTED"}


def test_parquet_without_images_beside_class_folders_is_not(tmp_path):
    pq.write_table(pa.table({"feature": [1.0]}), tmp_path / "features.parquet")
    listing = list_images(touched(tmp_path, "ill/1.png", "well/2.png"))

    assert list(listing.rows["label"]) == ["ill", "well"]
    assert left_out(listing) == {"features.parquet": "SKIP_NOT_AN_IMAGE"}


def test_a_parquet_manifest_names_files(tmp_path):
    rows = pd.DataFrame(good_rows())
    rows.to_parquet(tmp_path / "table.parquet")
    listing = list_images(tmp_path / "table.parquet")

    assert list(listing.rows["path"]) == list(rows["path"])
    assert list(listing.rows["patient_id"]) == list(rows["patient_id"])


def test_medmnist_arrays_give_labels_and_splits(tmp_path):
    images = np.stack([small_image(n, side=28) for n in range(9)])
    labels = np.arange(9, dtype=np.uint8)[:, None] % 3
    np.savez(
        tmp_path / "set.npz",
        train_images=images[:5],
        train_labels=labels[:5],
        val_images=images[5:7],
        val_labels=labels[5:7],
        test_images=images[7:],  # without labels: kept, to be scored
    )
    listing = list_images(tmp_path / "set.npz")

    assert list(listing.rows["split"]) == ["train"] * 5 + ["validation"] * 2 + ["test"] * 2
    assert list(listing.rows["label"]) == ["0", "1", "2", "0", "1", "2", "0", None, None]
    assert (listing.refs[6].member, listing.refs[6].row) == ("val_images", 1)
    assert listing.rows["path"].is_unique


def test_one_image_is_a_listing_of_one(tmp_path):
    listing = list_images(touched(tmp_path, "scan") / "scan")

    assert facts(listing) == {"scan": (None, None)}


# --- names of splits, and labels ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a", "train1", "train test", "set", "trained", "contest", "images"])
def test_other_names_are_no_splits(name):
    assert split_of(name) is None


@pytest.mark.parametrize(
    "labels", [["a|b"], ["['a']"], ["x", "X"], ["1", "1.0"], ["01", "1"], ["a b", "a  b"], ["a_b", "A B"]]
)
def test_labels_that_say_too_much_or_twice_are_refused(labels):
    with pytest.raises(TableError) as caught:
        check_labels(labels)
    assert caught.value.code == ("TAB_LABEL_VARIANTS" if len(labels) == 2 else "TAB_MULTI_LABEL")


@given(
    st.lists(st.integers(0, 99).map(str), unique=True),
    st.lists(st.sampled_from(["nan", "inf", "a", "b c", "[x", None])),
)
def test_labels_that_differ_are_not(numbers, words):
    check_labels([*numbers, *words])


def test_an_error_quotes_little_and_on_one_line():
    with pytest.raises(TableError) as caught:
        check_labels(["a|\n" + "b" * 100_000])
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


# --- real data ----------------------------------------------------------------------------------------------


@needs_shared
def test_the_alzheimer_set_is_four_class_folders():
    listing = list_images(SHARED / "alzheimer-mri")

    assert len(listing.rows) == 6400
    assert listing.left_out == ()
    assert listing.rows["label"].value_counts().to_dict() == {
        "Non_Demented": 3200,
        "Very_Mild_Demented": 2240,
        "Mild_Demented": 896,
        "Moderate_Demented": 64,
    }


@needs_shared
def test_its_table_gives_patients_and_the_papers_split():
    listing = list_images(SHARED / "alzheimer-mri.csv", SourceOptions(split_column="image_split"))

    assert listing.rows["patient_id"].nunique() == 200
    assert listing.rows["split"].value_counts().to_dict() == {"train": 5120, "test": 1280}


@needs_shared
def test_the_chest_set_has_two_test_images_without_a_class():
    rows = list_images(SHARED / "openi-chest-abdomen").rows

    assert rows.groupby(["split", "label"], dropna=False).size().to_dict() == {
        ("train", "openI_CXR"): 33,
        ("train", "openI_abd_xray"): 32,
        ("validation", "openI_CXR"): 5,
        ("validation", "openI_abd_xray"): 5,
    } | {key: 2 for key in rows.groupby(["split", "label"], dropna=False).groups if key[0] == "test"}
    assert len(rows) == 77
    assert rows.loc[rows["label"].isna(), "split"].tolist() == ["test", "test"]


@needs_shared
def test_the_covid_set_has_three_rows_without_a_patient():
    listing = list_images(SHARED / "covid-chestxray" / "manifest.csv")

    assert len(listing.rows) == 79
    assert listing.rows["patient_id"].isna().sum() == 3
    assert {"sex", "age", "view"} <= set(listing.rows.columns)


def test_write_images_and_rows_agree(tmp_path):
    """The sound manifest that the bad ones are made from is sound."""
    write_images(tmp_path, good_rows())
    listing = list_images(manifest(tmp_path, as_csv(good_rows())))

    assert len(listing.rows) == 24
    assert all(ref.path.is_file() for ref in listing.refs)


@pytest.mark.parametrize("name", ["http://a/b", "s3://bucket/x", "FILE:///x"])
def test_addresses_are_not_places(name):
    with pytest.raises(PlainfilmError) as caught:
        list_images(Path(name))
    assert caught.value.code == "TAB_URL"


def test_what_a_terminal_would_obey_or_what_hides_is_written_out(tmp_path):
    rows = [
        {"path": f"images/{n:02}.png", "label": label, "si\x1bte": cell, "note": "two\nlines"}
        for n, (label, cell) in enumerate([("one\ntwo", "\x1b[31mred"), ("abc\u202egnp", "il\u200bl\x9b1A")])
    ]
    path = tmp_path / "table.parquet"
    pd.DataFrame(rows).to_parquet(path)

    listed = list_images(path).rows

    assert listed["label"].tolist() == [r"one\x0atwo", r"abc\u202egnp"]
    assert listed[r"si\x1bte"].tolist() == [r"\x1b[31mred", r"il\u200bl\x9b1A"]
    assert set(listed["note"]) == {"two\nlines"}  # a further column may have lines
