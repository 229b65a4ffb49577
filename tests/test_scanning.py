"""Every file is read once and accounted for; pixels keep their depth until the training rows say what a model sees."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bad_images import bad_images, encoded, noise
from bad_tables import as_csv, good_rows, image_bytes, write_images
from plainfilm.cli import run
from plainfilm.data import pixels
from plainfilm.data.fitting import fit_image
from plainfilm.data.images import ImageRef, read_image
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import FittingOptions, IntensityOptions, Preprocessing
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.data.table import LeftOut, Listing, make_rows
from plainfilm.errors import PlainfilmError, ResourceError, TableError, UsageError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared/data")

IMAGE = encoded(noise(16, 16), "PNG")
CONTENTS = {"good": IMAGE, "cut": IMAGE[:60], "empty": b"", "text": b"not an image"}
REFUSED_AS = {"cut": "IMG_TRUNCATED", "empty": "IMG_EMPTY", "text": "IMG_NOT_AN_IMAGE"}


def scan_of(folder: Path, **options):
    return scan_listing(list_images(folder), workers=0, **options)


# --- the account --------------------------------------------------------------------------------------------

FILES = st.dictionaries(
    st.tuples(
        st.sampled_from(["", "a/", "b/", "a/p1/", "masks/", ".cache/"]),
        st.sampled_from(["1.png", "2.png", "1_mask.png", "x", ".DS_Store", "y.txt", "😀.jpg"]),
    ),
    st.sampled_from(sorted(CONTENTS)),
    min_size=1,
    max_size=14,
)


@given(FILES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_file_written_is_used_skipped_or_refused(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("tree")
    for (folder, name), content in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_bytes(CONTENTS[content])
    meant = {folder + name: content for (folder, name), content in files.items() if is_meant(folder, name, files)}
    if not meant:
        with pytest.raises(TableError, match=r"no images in it \(skipped: "):
            scan_of(root)
        return
    table, _ = scan_of(root)

    assert len(table) + len(table.skipped) + len(table.refused) == len(files)
    assert sorted(table.account()["path"]) == sorted(folder + name for folder, name in files)
    assert set(table.rows["path"]) == {path for path, content in meant.items() if content == "good"}
    assert {item.path: item.code for item in table.refused} == {
        path: REFUSED_AS[content] for path, content in meant.items() if content != "good"
    }


def is_meant(folder: str, name: str, files: dict[tuple[str, str], str]) -> bool:
    """Whether a file of the trees above is meant as an image."""
    a_mask = name == "1_mask.png" and (folder, "1.png") in files
    return folder not in {"masks/", ".cache/"} and name not in {".DS_Store", "y.txt"} and not a_mask


def test_bad_images_are_refused_with_their_codes_and_good_ones_kept(tmp_path):
    listed = {f"ill/{bad.name}": bad.code for bad in bad_images(tmp_path / "ill")}
    write_images(tmp_path, [{"path": f"well/{n}.png"} for n in range(3)])
    table, _ = scan_listing(list_images(tmp_path), workers=2)

    assert list(table.rows["path"]) == ["well/0.png", "well/1.png", "well/2.png"]
    assert {item.path: item.code for item in table.refused} == listed
    assert all(item.labelled for item in table.refused)


def test_the_table_holds_the_source_and_the_facts_of_the_decoder(tmp_path):
    write_images(tmp_path, good_rows())
    (tmp_path / "table.csv").write_text(as_csv([row | {"format": "DICOM", "age": "061"} for row in good_rows()]))
    table, store = scan_listing(list_images(tmp_path / "table.csv"), workers=0)
    row = table.rows.iloc[5]
    _, record = read_image(tmp_path / "images" / "05.png")

    assert store is None
    assert (row["path"], row["label"], row["patient_id"], row["age"]) == ("images/05.png", "well", "002", "061")
    assert (row["format"], row["format_"]) == ("PNG", "DICOM")  # the decoder owns its names
    assert (row["width"], row["bits"], row["file_sha256"]) == (32, 8, record.file_sha256)


def test_pixels_stand_in_the_order_of_the_table(tmp_path):
    write_images(tmp_path, good_rows())
    (tmp_path / "images" / "03.png").write_bytes(b"")
    (tmp_path / "table.csv").write_text(as_csv(good_rows()))
    table, store = scan_listing(list_images(tmp_path / "table.csv"), size=(16, 24), fit="stretch", workers=2)

    assert len(table) == len(store) == 23
    for index, ref in enumerate(table.refs):
        expected = fit_image(read_image(ref)[0], height=16, width=24, fit="stretch")
        assert np.array_equal(store.stored(np.array([index]))[0][0], expected)


def test_nothing_readable_gives_an_empty_table(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    table, store = scan_of(tmp_path, size=(8, 8))

    assert (len(table), len(store), table.classes) == (0, 0, ())
    assert [item.code for item in table.refused] == ["IMG_EMPTY"]
    assert list(table.account()["status"]) == ["refused"]


def test_an_empty_listing_is_scanned():
    table, _ = scan_listing(Listing(make_rows([]), (), (LeftOut("x", "refused", "TAB_CONFLICT", "why."),)), workers=0)

    assert (len(table), len(table.refused)) == (0, 1)


def test_a_table_taken_in_part_keeps_its_account(tmp_path):
    write_images(tmp_path, [{"path": f"{label}/{n}.png"} for label in "ab" for n in range(3)])
    (tmp_path / "a" / "bad.png").write_bytes(b"")
    table, _ = scan_of(tmp_path)
    part = table.take([4, 0])

    assert list(part.rows["path"]) == ["b/1.png", "a/0.png"]
    assert [ref.path.name for ref in part.refs] == ["1.png", "0.png"]
    assert part.left_out == table.left_out
    assert table.classes == ("a", "b")


def test_rows_of_parquet_and_npz_are_scanned(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = [row["label"] for row in good_rows()]
    pq.write_table(pa.table({"image": image_bytes(), "label": labels}), tmp_path / "train.parquet")
    images = np.stack([noise(16, 16) + np.uint8(n) for n in range(4)])
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=np.array([0, 1, 0, 1]))

    for name, count in (("train.parquet", 24), ("set.npz", 4)):
        table, _ = scan_of(tmp_path / name)
        assert (len(table), table.left_out) == (count, ())
        assert table.rows["path"].iat[3].endswith("#3")


def test_the_account_is_written_as_a_safe_table(tmp_path, capsys):
    write_images(
        tmp_path / "data", [{"path": f"{label}/{name}.png"} for label in "ab" for name in ("=1+1", "new\nline")]
    )
    (tmp_path / "data" / "a" / "cut.png").write_bytes(IMAGE[:60])
    (tmp_path / "data" / "notes.txt").write_bytes(b"")
    account = tmp_path / "account.csv"

    assert run(["scan", str(tmp_path / "data"), "-q", "--workers", "0", "-o", str(account)]) == 0
    assert "6 files: 4 used, 1 skipped, 1 refused" in capsys.readouterr().out
    rows = list(csv.DictReader(account.read_text().splitlines()))  # one line for each: names are made printable
    assert {row["path"]: row["status"] for row in rows} == {
        "a/=1+1.png": "used",
        "a/new\\x0aline.png": "used",
        "b/=1+1.png": "used",
        "b/new\\x0aline.png": "used",
        "a/cut.png": "refused",
        "notes.txt": "skipped",
    }
    assert {row["code"] for row in rows} == {"", "IMG_TRUNCATED", "SKIP_NOT_AN_IMAGE"}


@needs_shared
@pytest.mark.parametrize(
    ("place", "options", "used", "patients"),
    [
        ("alzheimer-mri.csv", ["--split-column", "image_split"], 6400, 200),
        ("openi-chest-abdomen", [], 77, None),
        ("covid-chestxray/manifest.csv", [], 79, 52),
    ],
)
def test_the_real_sets_are_used_whole(place, options, used, patients, capsys):
    assert run(["scan", str(SHARED / place), "--json", "--quiet", "--workers", "0", *options]) == 0
    counts = json.loads(capsys.readouterr().out)

    assert (counts["files"], counts["used"], counts["skipped"], counts["refused"]) == (used, used, {}, {})
    assert counts["patients"] == patients


# --- pixels -------------------------------------------------------------------------------------------------


def mixed_store() -> PixelStore:
    """Six 4x5 images: 8-bit, 16-bit and float, two of each, in turn."""
    store = PixelStore(6, 4, 5)
    for index in range(6):
        dtype = pixels.DTYPES[index % 3]
        store.put(
            index, (np.arange(20).reshape(4, 5) + 100 * index).clip(0, 255 if index % 3 == 0 else 1000).astype(dtype)
        )
    return store


def test_each_depth_is_kept_and_measured_by_its_own_range():
    store = mixed_store()
    values = store.values(np.arange(6))

    assert values.dtype == np.float32
    assert values[0, 0, 1] == pytest.approx(1 / 255)
    assert values[1, 0, 1] == pytest.approx(101 / 65535)
    assert values[2, 0, 1] == 201
    assert values[3].max() == 1
    assert not store.is_eight_bit
    stored, full_range = store.stored(np.array([1, 4]))
    assert (stored.dtype, full_range) == (np.uint16, 65535)


@given(st.lists(st.integers(0, 5), max_size=8))
def test_images_taken_are_the_images_in_that_order(indices):
    store = mixed_store()
    taken = store.take(indices)

    assert len(taken) == len(indices)
    if indices:
        assert np.array_equal(taken.values(np.arange(len(indices))), store.values(indices))


@pytest.mark.parametrize("in_files", [False, True])
def test_what_is_taken_is_a_copy(monkeypatch, in_files):
    if in_files:
        monkeypatch.setattr(pixels, "IN_MEMORY_BYTES", 0)
    store = mixed_store()
    taken = store.take([0, 1, 2])
    before = taken.values([0, 1, 2])
    for index, dtype in enumerate(pixels.DTYPES):
        store.put(index, np.zeros((4, 5), dtype))

    assert np.array_equal(taken.values([0, 1, 2]), before)
    assert before.any(axis=(1, 2)).all()
    for own in taken._arrays.values():
        assert not any(np.shares_memory(own, array) for array in store._arrays.values())
        assert len(own) == 3  # and no room in which another image could be


def test_no_room_for_pixels_is_said_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(pixels, "IN_MEMORY_BYTES", 0)
    with pytest.raises(ResourceError, match="GiB for decoded images cannot be had") as caught:
        PixelStore(1 << 20, 1 << 14, 1 << 14).put(0, np.zeros((1 << 14, 1 << 14), np.uint8))
    assert caught.value.code == "RES_DISK_FULL"
    assert caught.value.exit_code == 5


# --- what a model sees --------------------------------------------------------------------------------------


def store_of(images: np.ndarray) -> PixelStore:
    store = PixelStore(*images.shape)
    for index, image in enumerate(images):
        store.put(index, image)
    return store


def fitted(store: PixelStore, pretrained: tuple[float, float] | None = None, **options: str) -> Preprocessing:
    return Preprocessing.fit_training(
        store, fitting=FittingOptions(), options=IntensityOptions.model_validate(options), pretrained=pretrained
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_training_images_come_out_centred(dtype):
    images = np.random.default_rng(0).integers(0, 200, (20, 16, 16)).astype(dtype) * dtype(1)
    store = store_of(images)
    seen = fitted(store).apply(store.values(np.arange(20)))

    assert seen.mean() == pytest.approx(0, abs=1e-4)
    assert seen.std() == pytest.approx(1, abs=1e-4)


def test_mixed_depths_come_out_centred_too():
    store = mixed_store()
    seen = fitted(store).apply(store.values(np.arange(6)))

    assert seen.mean() == pytest.approx(0, abs=1e-4)
    assert seen.std() == pytest.approx(1, abs=1e-3)


def test_only_the_rows_given_are_looked_at():
    images = np.random.default_rng(0).integers(0, 4000, (12, 8, 8)).astype(np.uint16)
    before = fitted(store_of(images).take(range(6)))
    images[6:] = 65535  # whatever the test images are

    assert fitted(store_of(images).take(range(6))) == before


def test_eight_bits_keep_their_range_and_deeper_images_give_theirs():
    eight = fitted(store_of(noise(64, 64)[None]))
    assert (eight.low, eight.high) == (0, 1)
    assert "full range of the depth" in eight.source

    values = np.linspace(1000, 2000, 10_001)[: 100 * 100].reshape(1, 100, 100)
    twelve = fitted(store_of(values.astype(np.uint16)))
    assert twelve.low * 65535 == pytest.approx(1001, abs=1)
    assert twelve.high * 65535 == pytest.approx(1999, abs=1)
    assert fitted(store_of(values.astype(np.uint16)), rescale="depth").high == 1
    floats = fitted(store_of(values.astype(np.float32)))
    assert floats.low == pytest.approx(1001, abs=1)


def test_large_images_are_sampled_by_pixels(monkeypatch):
    from plainfilm.data import preprocessing

    monkeypatch.setattr(preprocessing, "SAMPLED_PIXELS", 8 * 8 * 3)
    images = np.random.default_rng(0).integers(0, 4000, (50, 8, 8)).astype(np.uint16)
    few = fitted(store_of(images))
    monkeypatch.undo()

    assert few.high != fitted(store_of(images)).high
    assert few.high * 65535 == pytest.approx(4000, rel=0.05)


def test_equal_values_divide_by_no_zero():
    constant = fitted(store_of(np.full((3, 8, 8), 7, np.uint16)))

    assert np.isfinite([constant.offset, constant.gain]).all()
    assert constant.apply(7 / 65535) == pytest.approx(0, abs=1e-3)


def test_pretrained_mean_and_sd_are_used_where_there_are_weights():
    store = store_of(noise(16, 16)[None])

    assert (fitted(store, (0.45, 0.22)).mean, fitted(store, (0.45, 0.22)).std) == (0.45, 0.22)
    assert fitted(store, (0.45, 0.22), normalize="training").mean != 0.45
    assert (fitted(store, normalize="none").mean, fitted(store, normalize="none").std) == (0, 1)
    with pytest.raises(UsageError, match="the model has none") as caught:
        fitted(store, normalize="pretrained")
    assert caught.value.code == "OPT_NORMALIZE"


@given(
    st.floats(-100, 100),
    st.floats(0.01, 1000),
    st.floats(-2, 2),
    st.floats(0.01, 10),
    st.lists(st.floats(-1000, 1000), min_size=1),
)
def test_the_map_is_what_its_four_numbers_say(low, width, mean, std, values):
    made = Preprocessing(height=1, width=1, fit="pad", low=low, high=low + width, mean=mean, std=std)
    expected = ((np.array(values) - low) / (made.high - low) - mean) / std

    assert made.apply(np.array(values)) == pytest.approx(expected, rel=1e-6, abs=1e-6 / min(1, std * width))


def test_a_missing_image_file_is_refused_by_name_alone(tmp_path):
    listing = Listing(make_rows([{"path": "a.png", "label": "x"}]), (ImageRef(tmp_path / "a.png"),))
    (item,) = scan_listing(listing, workers=0)[0].refused

    assert (item.path, item.code, item.labelled) == ("a.png", "IMG_MISSING", True)
    assert str(tmp_path) not in item.detail


def test_errors_name_no_folder_beyond_what_was_given(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(PlainfilmError) as caught:
        list_images(tmp_path / "table.csv")
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).startswith("table.csv: ")
