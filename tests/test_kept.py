"""Decoded images that are kept: found by content, never wrong, never in the way."""

import logging
import shutil
import sqlite3

import numpy as np
import pytest
from PIL import Image

from plainfilm import verbs
from plainfilm.config import RunOptions
from plainfilm.data import kept, scanning
from plainfilm.data.images import ImageLimits
from plainfilm.data.kept import FOLDER, INDEX, Keeping
from plainfilm.data.scanning import scan_as_prepared, scan_listing
from plainfilm.data.sources import list_images
from plainfilm.data.workers import Job
from plainfilm.storage import cache_folder
from small_runs import PLAIN, as_parquet, repaint, train_small, weights_hash, write_small_data

SIZE = (32, 32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAINFILM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch):
    """How many images were decoded, scan by scan."""
    counts = []
    really = scanning.decode_together

    def counting(team, refs, **how):
        counts.append(len(refs))
        return really(team, refs, **how)

    monkeypatch.setattr(scanning, "decode_together", counting)
    return counts


@pytest.fixture
def films(tmp_path):
    """Eight-bit, 16-bit and unreadable images."""
    folder = tmp_path / "films"
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(rng.integers(0, 256, (40, 50), dtype=np.uint8)).save(folder / label / f"{number}.png")
    Image.fromarray(rng.integers(0, 65536, (40, 50), dtype=np.uint16)).save(folder / "b" / "deep.png")
    (folder / "b" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


def scanned(folder, *, keeping=True, size=SIZE, **how):
    found = Keeping(cache_folder(), **({"writes": keeping != "look"})) if keeping else None
    return scan_listing(list_images(folder), size=size, workers=0, keeping=found, **how)


def same(one, other) -> bool:
    (table, pixels), (again, pixels_again) = one, other
    everything = np.arange(len(table))
    return (
        table.rows.equals(again.rows)
        and table.left_out == again.left_out
        and table.refs == again.refs
        and all(
            np.array_equal(pixels.stored(everything[i : i + 1])[0], pixels_again.stored(everything[i : i + 1])[0])
            and pixels.stored(everything[i : i + 1])[0].dtype == pixels_again.stored(everything[i : i + 1])[0].dtype
            for i in everything
        )
    )


def test_a_second_scan_decodes_only_what_was_refused_and_gives_the_same(films, decoded):
    without = scanned(films, keeping=None)
    first, second = scanned(films), scanned(films)

    assert decoded == [8, 8, 1]
    assert same(without, first)
    assert same(first, second)
    assert [item.path for item in second[0].refused] == ["b/bad.png"]


@pytest.mark.parametrize(
    "how",
    [{"size": (16, 16)}, {"fit": "stretch"}, {"resample": "nearest"}, {"channel": "red"}, {"size": None}],
    ids=lambda how: str(next(iter(how.values()))),
)
def test_another_way_of_decoding_finds_nothing(films, decoded, how):
    scanned(films)

    scanned(films, **how)

    assert decoded == [8, 8]


def test_a_scan_without_pixels_is_kept_too(films, decoded):
    one, other = (scanned(films, size=None) for _ in range(2))

    assert decoded == [8, 1]
    assert one[0].rows.equals(other[0].rows)
    assert other[1] is None


def test_renamed_files_are_found_and_changed_ones_are_not(films, decoded):
    scanned(films)
    shutil.move(films / "a" / "0.png", films / "a" / "new.png")
    repaint(films / "a" / "1.png", seed=7)

    table, pixels = scanned(films)

    assert decoded == [8, 2]  # the changed one, and the one that cannot be read
    assert same((table, pixels), scanned(films, keeping=None))


def test_images_inside_one_file_are_kept_one_by_one(tmp_path, decoded):
    manifest = write_small_data(tmp_path / "data", patients=4)
    shard = as_parquet(manifest, tmp_path / "train.parquet")

    first, second = scanned(shard), scanned(shard)

    assert decoded == [16, 0]
    assert same(first, second)


@pytest.mark.parametrize("damage", ["pixels", "cut short", "index", "pixels gone"])
def test_what_is_damaged_is_decoded_anew(films, decoded, damage):
    first = scanned(films)
    (place,) = (cache_folder() / FOLDER).iterdir()
    raw = place / "uint8.raw"
    if damage == "pixels":
        raw.write_bytes(bytes(raw.stat().st_size))
    elif damage == "cut short":
        raw.write_bytes(raw.read_bytes()[:100])
    elif damage == "index":
        (place / INDEX).write_bytes(b"no database" * 100)
    else:
        raw.unlink()

    assert same(first, scanned(films))
    assert decoded[1] > 6
    assert same(first, scanned(films))


def test_a_cache_that_cannot_be_written_changes_nothing(films, tmp_path, monkeypatch, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")

    with caplog.at_level(logging.WARNING):
        found = scanned(films)

    assert same(found, scanned(films, keeping=None))
    assert "not kept" in caplog.text


def test_no_more_is_kept_than_there_is_room_for(films, decoded, monkeypatch, caplog):
    monkeypatch.setattr(kept, "MOST_BYTES", 3 * 32 * 32)

    scanned(films)
    scanned(films)

    assert decoded == [8, 8]
    assert "not kept" in caplog.text


def test_nothing_of_a_name_or_a_path_is_kept(tmp_path):
    folder = tmp_path / "PATIENTNAME" / "CLASSNAME"
    folder.mkdir(parents=True)
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40).astype(np.uint8)).save(folder / "FILENAME.png")
    scanned(tmp_path / "PATIENTNAME")

    stored = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert stored
    assert not any(name in stored for name in (b"PATIENTNAME", b"CLASSNAME", b"FILENAME"))
    (place,) = (cache_folder() / FOLDER).iterdir()
    assert place.stat().st_mode & 0o077 == 0


def test_looking_up_adds_nothing(films, decoded):
    scanned(films, keeping="look")

    assert not cache_folder().exists()
    scanned(films)
    scanned(films, keeping="look")
    assert decoded == [8, 8, 1]


def test_audit_training_and_prediction_share_what_was_decoded(tmp_path, decoded):
    data = write_small_data(tmp_path / "data")
    options = RunOptions.from_flat({"workers": 0})
    verbs.scan(data, options=options)
    verbs.scan(data, options=options)
    first = train_small(data, tmp_path / "one")
    second = train_small(data, tmp_path / "two")
    verbs.predict(first.folder, data, workers=0)
    without = train_small(data, tmp_path / "three", keep_images=False)

    assert decoded == [80, 0, 80, 0, 0, 80]
    assert weights_hash(first) == weights_hash(second) == weights_hash(without)


def test_two_writers_at_once_lose_nothing(films, decoded):
    keeping = Keeping(cache_folder())
    refs = list_images(films).refs
    job = Job(ImageLimits(), SIZE, "pad", "smooth", "grey")
    images = [job.decode(index, ref) for index, ref in enumerate(refs)]
    with keeping.opened(job) as one, keeping.opened(job) as other:
        for index, image in enumerate(images):
            (one if index % 2 else other).keep(refs[index], image)

    with keeping.opened(job) as again:
        found = {image.index: image for image in again.find(refs)}
    assert set(found) == {image.index for image in images if image.record is not None}
    for index, image in found.items():
        assert np.array_equal(image.pixels, images[index].pixels)
        assert image.record == images[index].record


def test_prepared_scans_look_up_and_do_not_add(tmp_path, decoded):
    data = write_small_data(tmp_path / "data", patients=4)
    prepared = PLAIN.model_copy(update={"height": 32, "width": 32})

    for _ in range(2):
        scan_as_prepared(list_images(data), prepared, workers=0)
    scan_listing(list_images(data), size=SIZE, workers=0, keeping=Keeping(cache_folder()))
    scan_as_prepared(list_images(data), prepared, workers=0)

    assert decoded == [16, 16, 16, 0]


def test_the_index_is_a_database_that_can_be_looked_into(films):
    scanned(films)
    (place,) = (cache_folder() / FOLDER).iterdir()

    with sqlite3.connect(place / INDEX) as database:
        assert database.execute("SELECT count(*) FROM decoded").fetchone() == (7,)
