"""Decoding in processes: each image once, whatever happens to the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bad_images import bad_images, encoded, noise, png
from plainfilm.data.fitting import fit_image
from plainfilm.data.images import ImageLimits, ImageRef, read_image
from plainfilm.data.workers import Decoded, decode_images
from plainfilm.errors import ResourceError, UsageError

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture
def good_refs(tmp_path) -> list[ImageRef]:
    """Forty small images, each unlike the others."""
    refs = []
    for number in range(40):
        path = tmp_path / f"image_{number}.png"
        path.write_bytes(encoded(np.roll(noise(20 + number, 40), number), "PNG"))
        refs.append(ImageRef(path))
    return refs


@pytest.fixture
def slow_ref(tmp_path) -> ImageRef:
    """One image of 49 million pixels, which takes a good part of a second."""
    path = tmp_path / "slow.png"
    row = np.arange(7_000, dtype=np.uint16) % 251
    path.write_bytes(png(np.broadcast_to(row, (7_000, 7_000))))
    return ImageRef(path)


def by_index(results: list[Decoded]) -> list[Decoded]:
    assert len({decoded.index for decoded in results}) == len(results)
    return sorted(results, key=lambda decoded: decoded.index)


def child_processes() -> list[int]:
    """The running processes that this one started."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.read_text().split(" (", 1)
        except OSError:
            continue
        state, parent = rest.rsplit(") ", 1)[1].split()[:2]
        if int(parent) == os.getpid() and state != "Z":
            children.append(int(pid))
    return children


def soon(condition: Callable[[], object], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_image_comes_back_once_as_it_would_alone(good_refs, workers):
    results = by_index(list(decode_images(good_refs, size=(32, 48), fit="stretch", workers=workers)))

    assert len(results) == len(good_refs)
    for ref, decoded in zip(good_refs, results, strict=True):
        pixels, record = read_image(ref)
        assert decoded.record == record
        assert np.array_equal(decoded.pixels, fit_image(pixels, height=32, width=48, fit="stretch"))
        assert (decoded.code, decoded.detail) == (None, "")


def test_without_a_size_only_records_come_back(good_refs):
    for decoded in decode_images(good_refs[:3]):
        assert decoded.pixels is None
        assert decoded.record == read_image(good_refs[decoded.index])[1]


def test_nothing_to_decode_starts_nothing():
    assert list(decode_images([])) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels_keep_their_depth_on_the_way(tmp_path, dtype):
    (tmp_path / "image.tif").write_bytes(encoded(noise().astype(dtype) * dtype(1), "TIFF"))
    (decoded,) = decode_images([ImageRef(tmp_path / "image.tif")], size=(64, 64), workers=1)

    assert decoded.pixels.dtype == dtype
    assert np.array_equal(decoded.pixels, noise())


def test_bad_images_are_refused_and_the_others_go_on(tmp_path, good_refs):
    listed = bad_images(tmp_path / "bad")
    refs = [*(ImageRef(bad.path) for bad in listed), *good_refs, ImageRef(tmp_path / "absent.png")]
    results = by_index(list(decode_images(refs, size=(16, 16), workers=2)))

    assert [decoded.code for decoded in results] == [*(bad.code for bad in listed), *[None] * 40, "IMG_MISSING"]
    assert not any(str(tmp_path) in decoded.detail for decoded in results)


def test_names_that_are_not_valid_unicode_are_found(tmp_path):
    names = ["bad\udcffbyte.png", "new\nline.png", 'quote".png', "ü\u202e.png"]
    for name in names:
        (tmp_path / name).write_bytes(encoded(noise(), "PNG"))

    assert [decoded.code for decoded in decode_images([ImageRef(tmp_path / x) for x in names])] == [None] * 4


def test_rows_of_parquet_and_npz_are_decoded(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    np.savez(tmp_path / "set.npz", images=images)
    cells = pa.table({"image": [{"bytes": encoded(image, "PNG"), "path": None} for image in images]})
    pq.write_table(cells, tmp_path / "set.parquet", row_group_size=6)
    refs = [ImageRef(tmp_path / "set.npz", "images", row) for row in range(20)]
    refs += [ImageRef(tmp_path / "set.parquet", "image", row) for row in range(20)]
    results = by_index(list(decode_images(refs, size=(16, 16), workers=2)))

    assert [decoded.code for decoded in results] == [None] * 40
    assert np.array_equal(np.stack([decoded.pixels for decoded in results]), np.concatenate([images, images]))


def test_an_image_over_its_time_is_refused_and_the_others_go_on(good_refs, slow_ref):
    refs = [*good_refs[:5], slow_ref, *good_refs[5:]]
    limits = ImageLimits(max_seconds=0.2)
    results = by_index(list(decode_images(refs, limits=limits, size=(16, 16), workers=1)))

    assert results[5].code == "IMG_TIMEOUT"
    assert {decoded.code for decoded in results[:5] + results[6:]} == {None}


@on_linux
def test_a_dictionary_bomb_is_refused_for_its_memory_and_the_others_go_on(tmp_path, good_refs):
    five_megabytes = pa.array([bytes(5 * 2**20)])
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), five_megabytes)
    bomb = tmp_path / "bomb.parquet"  # 5 MB by its own account, 1 GB when read
    pq.write_table(pa.table({"image": rows}), bomb, store_schema=False)
    limits = ImageLimits(max_memory_bytes=300 * 2**20)
    refs = [*good_refs[:5], ImageRef(bomb, "image", 3), *good_refs[5:]]
    results = by_index(list(decode_images(refs, limits=limits, workers=1)))

    assert bomb.stat().st_size < 2**20
    assert results[5].code == "IMG_MEMORY"
    assert {decoded.code for decoded in results[:5] + results[6:]} == {None}


@on_linux
def test_a_worker_that_dies_costs_one_image(good_refs, slow_ref):
    others = set(child_processes())
    refs = [*good_refs[:5], slow_ref, *good_refs[5:]]

    def kill_at_work() -> None:
        def busy() -> list[int]:
            return [pid for pid in set(child_processes()) - others if _resident_bytes(pid) > 80 * 2**20]

        assert soon(busy)
        os.kill(busy()[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_at_work)
    killer.start()
    results = by_index(list(decode_images(refs, size=(16, 16), workers=1)))
    killer.join()

    assert results[5].code == "IMG_DECODER_DIED"
    assert {decoded.code for decoded in results[:5] + results[6:]} == {None}


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@on_linux
def test_a_worker_that_stands_still_is_replaced(good_refs):
    others = set(child_processes())
    results = decode_images(good_refs * 5, limits=ImageLimits(max_seconds=1), workers=1)
    first = next(results)
    for pid in set(child_processes()) - others:
        os.kill(pid, signal.SIGSTOP)
    rest = list(results)

    codes = [decoded.code for decoded in by_index([first, *rest])]
    assert codes.count("IMG_TIMEOUT") <= 1
    assert set(codes) <= {None, "IMG_TIMEOUT"}
    assert len(codes) == 200


@on_linux
def test_closing_early_leaves_no_process(good_refs):
    others = set(child_processes())
    results = decode_images(good_refs * 20, size=(16, 16), workers=2)
    next(results)
    assert set(child_processes()) - others
    results.close()

    assert set(child_processes()) == others
    assert not [thread for thread in threading.enumerate() if thread.name == "plainfilm-decoder"]


def test_only_a_few_batches_are_decoded_ahead_of_the_caller(good_refs):
    reads = []

    class Watched(list[ImageRef]):
        def __iter__(self):
            for ref in super().__iter__():
                reads.append(ref)
                yield ref

    results = decode_images(Watched(good_refs * 20), workers=1)
    next(results)
    time.sleep(0.3)

    assert len(reads) <= 64
    results.close()


@pytest.mark.parametrize("guard", [False, True])
def test_a_script_needs_no_main_guard(tmp_path, good_refs, guard):
    body = f"""
from pathlib import Path
from plainfilm.data.images import ImageRef
from plainfilm.data.workers import decode_images
paths = sorted(Path({str(tmp_path)!r}).glob("image_*.png"))
print(sum(decoded.code is None for decoded in decode_images([ImageRef(path) for path in paths])))
"""
    script = tmp_path / "script.py"
    script.write_text(body if not guard else "if __name__ == '__main__':\n" + body.replace("\n", "\n    "))
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the current folder was imported')")
    done = subprocess.run([sys.executable, "-P", str(script)], cwd=tmp_path, capture_output=True, check=True, text=True)

    assert (done.stdout.strip(), done.stderr) == ("40", "")


@on_linux
def test_an_interrupt_ends_the_processes_without_a_traceback_of_theirs(good_refs):
    script = f"""
import sys
from pathlib import Path
from plainfilm.data.images import ImageRef
from plainfilm.data.workers import decode_images
results = decode_images([ImageRef(Path({str(good_refs[0].path)!r}))] * 100_000, workers=2)
first = next(results).code
try:
    print("ready", first, flush=True)
    list(results)
except KeyboardInterrupt:
    results.close()
    print("interrupted", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "ready None\n"
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=120)

    assert (output, errors, process.returncode) == ("interrupted\n", "", 0)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_what_cannot_be_asked_is_refused_at_once(good_refs):
    with pytest.raises(UsageError, match="No fit named"):
        decode_images(good_refs, size=(8, 8), fit="crop")
    with pytest.raises(UsageError, match="at least 1 x 1"):
        decode_images(good_refs, size=(0, 8))


@pytest.mark.parametrize("program", ["/absent/python", "/bin/false"])
def test_a_worker_that_cannot_start_is_an_error_and_not_a_bad_image(good_refs, monkeypatch, program):
    monkeypatch.setattr(sys, "executable", program)

    with pytest.raises(ResourceError, match="could not be started"):
        list(decode_images(good_refs))
