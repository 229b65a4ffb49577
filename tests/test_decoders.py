"""Decoding bytes in processes that stay: each image as it would be read alone, whatever happens to a process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bad_images import bad_images, encoded, noise, png
from plainfilm.data.decoders import DecoderPool
from plainfilm.data.fitting import fit_image
from plainfilm.data.images import ImageLimits, ImageRef, read_image
from plainfilm.data.workers import Job, decode_images
from plainfilm.errors import ResourceError


def job(**limits) -> Job:
    return Job(ImageLimits(**limits), (32, 48), "pad", "smooth", "grey")


@pytest.fixture(scope="module")
def pool():
    with DecoderPool(job(), 2) as opened:
        yield opened


def slow_png() -> bytes:
    """49 million pixels of 16 bits, which take a good part of a second."""
    return png(np.broadcast_to(np.arange(7_000, dtype=np.uint16) * 9, (7_000, 7_000)), depth=16)


def test_images_from_many_threads_come_back_as_read_alone(pool):
    files = [encoded(np.roll(noise(20 + number, 40), number), "PNG") for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(pool.decode, files))

    for data, decoded in zip(files, found, strict=True):
        pixels, record = read_image(data)
        assert decoded.record == record
        assert np.array_equal(decoded.pixels, fit_image(pixels, height=32, width=48, fit="pad"))
        assert decoded.view is None


def test_a_view_keeps_the_depth_and_is_reduced_never_enlarged(pool):
    pixels = noise(300, 200, dtype=np.uint16)

    small = pool.decode(encoded(pixels, "PNG"), view_side=100)
    whole = pool.decode(encoded(pixels, "PNG"), view_side=1000)

    assert small.view.shape == (100, 67)
    assert small.view.dtype == np.uint16
    assert np.array_equal(whole.view, pixels)
    assert whole.pixels.shape == (32, 48)


def test_bad_bytes_get_the_codes_they_get_as_files(pool, tmp_path):
    bad = bad_images(tmp_path / "bad")[::8]
    as_files = {decoded.index: decoded for decoded in decode_images([ImageRef(one.path) for one in bad], workers=1)}

    for number, one in enumerate(bad):
        decoded = pool.decode(one.path.read_bytes())
        assert decoded.code == one.code
        assert (decoded.code, decoded.detail) == (as_files[number].code, as_files[number].detail)


def test_a_slow_image_is_ended_and_the_next_is_read():
    with DecoderPool(job(max_seconds=0.3), 1) as pool:
        assert pool.decode(slow_png()).code == "IMG_TIMEOUT"
        assert pool.restarts == 1
        assert pool.decode(encoded(noise(), "PNG")).code is None


def test_a_killed_process_costs_the_image_it_had_and_no_other():
    with DecoderPool(job(), 1) as pool:
        pool.decode(encoded(noise(), "PNG"))
        process = pool._decoders[0]._process
        threading.Timer(0.2, process.kill).start()
        assert pool.decode(slow_png()).code == "IMG_DECODER_DIED"
        assert pool.decode(encoded(noise(), "PNG")).code is None


def test_no_process_is_left_when_the_pool_is_closed():
    with DecoderPool(job(), 2) as pool:
        processes = [decoder._process for decoder in pool._decoders]
        assert all(process.poll() is None for process in processes)

    assert all(process.poll() is not None for process in processes)
    with pytest.raises(ResourceError, match="stopping"):
        pool.decode(encoded(noise(), "PNG"))
