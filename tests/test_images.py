"""Reading one image: every depth and colour in, one grey channel or one coded error out."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import warnings
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from bad_images import bad_images, encoded, flipped, noise, odd_images, png, png_chunk, tiff
from plainfilm.data.images import REASONS, DecodeRecord, ImageLimits, ImageRef, read_image
from plainfilm.errors import ImageError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared/data")

SIZE = {256: 64, 257: 64}


def refusal(source: Path | bytes | ImageRef, **limits: Any) -> str:
    """The code an image is refused with."""
    with pytest.raises(ImageError) as caught:
        read_image(source, limits=ImageLimits(**limits))
    return caught.value.code


def pixels_of(source: Path | bytes | ImageRef) -> np.ndarray[Any, Any]:
    return read_image(source)[0]


def notes_of(source: Path | bytes | ImageRef) -> tuple[str, ...]:
    return read_image(source)[1].notes


# --- What is refused ---


def test_every_bad_image_is_refused_with_its_code_and_without_its_folder(tmp_path):
    listed = bad_images(tmp_path)

    assert len(listed) >= 45
    assert len({bad.name for bad in listed}) == len(listed)
    for bad in listed:
        with pytest.raises(ImageError) as caught:
            read_image(bad.path)
        assert (bad.name, caught.value.code) == (bad.name, bad.code)
        assert str(caught.value).endswith(REASONS[bad.code])
        assert str(tmp_path) not in str(caught.value)


def test_what_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket must be short
        server.bind("socket.png")
        os.chdir(here)

    assert refusal(tmp_path / "absent.png") == "IMG_MISSING"
    assert refusal(tmp_path / "nul\0.png") == "IMG_MISSING"
    assert refusal(tmp_path / ("long" * 2000)) == "IMG_MISSING"
    assert refusal(tmp_path) == "IMG_UNREADABLE"
    assert refusal(tmp_path / "loop.png") == "IMG_UNREADABLE"
    assert refusal(tmp_path / "pipe.png") == "IMG_NOT_A_FILE"
    assert refusal(tmp_path / "socket.png") == "IMG_NOT_A_FILE"
    assert refusal(Path("/dev/zero")) == "IMG_NOT_A_FILE"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(noise(), "PNG"))
    path.chmod(0)

    assert refusal(path) == "IMG_UNREADABLE"


def test_limits_hold_before_pixels_are_decoded():
    data = encoded(noise(100, 90), "PNG")

    assert refusal(data, max_pixels=8_999) == "IMG_TOO_LARGE"
    assert refusal(data, max_side=99) == "IMG_TOO_LARGE"
    assert refusal(data, min_side=91) == "IMG_TOO_SMALL"
    assert refusal(data, max_aspect=1.1) == "IMG_TOO_LONG"
    assert refusal(data, max_file_bytes=len(data) - 1) == "IMG_FILE_TOO_LARGE"
    assert refusal(data, max_memory_bytes=50_000) == "IMG_MEMORY"
    read_image(data, limits=ImageLimits(max_pixels=9_000, max_side=100, min_side=90, max_file_bytes=len(data)))


def test_a_file_over_the_limit_is_not_read_whole(tmp_path):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(2**40)

    assert refusal(path) == "IMG_FILE_TOO_LARGE"


def test_a_bomb_just_below_the_limit_is_refused_as_constant():
    side = 6_700
    black = Image.new("L", (side, side))

    assert refusal(encoded(black, "PNG", compress_level=1)) == "IMG_CONSTANT"


def test_a_compressed_text_bomb_is_never_unpacked():
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50 * 2**20), 1))

    assert np.array_equal(pixels_of(png(noise(), extra=text)), noise())


def test_a_jpeg_of_a_thousand_scans_is_refused():
    data = encoded(noise(), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")

    assert refusal(data[:-2] + data[scan:-2] * 1000 + b"\xff\xd9") == "IMG_CORRUPT"


def test_long_runs_of_fill_bytes_cost_no_more_than_others():
    data = encoded(noise(), "JPEG")
    filled = data[:-2] + (b"\xff" * 100_000 + b"\0") * 3 + b"\xff" * 100_000 + b"\xd9"

    assert np.array_equal(pixels_of(filled), pixels_of(data))


def test_tiff_tags_are_counted_before_they_are_read():
    many_tags = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 70_000) + bytes(2 * 10**6)
    many_values = tiff(bytes(10**6), SIZE | {259: 5}).replace(
        struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 273, 4, 240_000)
    )

    assert refusal(many_tags) == "IMG_CORRUPT"
    assert refusal(many_values) == "IMG_CORRUPT"


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_damage_is_read_or_refused_and_never_raises_anything_else(data):
    whole = FUZZED[data.draw(st.sampled_from(sorted(FUZZED)))]
    for _ in range(data.draw(st.integers(1, 3))):
        whole = flipped(whole, data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255)))
    try:
        pixels, _ = read_image(whole, limits=ImageLimits(max_pixels=1_000_000))
    except ImageError as error:
        assert error.code in REASONS  # noqa: PT017
    else:
        assert pixels.ndim == 2


FUZZED = {
    "png": encoded(noise(16, 16), "PNG"),
    "jpeg": encoded(noise(16, 16), "JPEG"),
    "tiff": encoded(noise(16, 16, np.uint16), "TIFF"),
    "tiff packed": encoded(noise(16, 16), "TIFF", compression="tiff_lzw"),
    "bmp": encoded(noise(16, 16), "BMP"),
    "webp": encoded(noise(16, 16), "WEBP", lossless=True),
}


def test_reading_in_threads_leaves_the_warning_filters_alone():
    before = list(warnings.filters)
    data = encoded(noise(), "PNG")
    threads = [threading.Thread(target=lambda: [read_image(data) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert warnings.filters == before


def test_reading_needs_no_torch():
    code = "import sys, plainfilm.data.workers; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Depth ---


def grey_images(dtype: Any) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    finite = {"allow_nan": False, "allow_infinity": False} if dtype == np.float32 else {}
    shapes = st.tuples(st.integers(8, 24), st.integers(8, 24))
    arrays = hnp.arrays(dtype, shapes, elements=hnp.from_dtype(np.dtype(dtype), **finite))
    return arrays.filter(lambda image: image.min() != image.max())


@settings(deadline=None, max_examples=30)
@given(grey_images(np.uint8), st.sampled_from(["PNG", "TIFF", "BMP", "WEBP"]))
def test_eight_bit_images_come_back_equal(image, form):
    found, record = read_image(encoded(image, form, **({"lossless": True} if form == "WEBP" else {})))

    assert found.dtype == np.uint8
    assert np.array_equal(found, image)
    assert (record.format, record.bits, record.height, record.width) == (form, 8, *image.shape)


@settings(deadline=None, max_examples=30)
@given(grey_images(np.uint16), st.sampled_from(["PNG", "TIFF", "TIFF big-endian", "TIFF lzw"]))
def test_sixteen_bit_images_come_back_equal(image, form):
    data = {
        "PNG": lambda: encoded(image, "PNG"),
        "TIFF": lambda: encoded(image, "TIFF"),
        "TIFF lzw": lambda: encoded(image, "TIFF", compression="tiff_lzw"),
        "TIFF big-endian": lambda: tiff(
            image.astype(">u2").tobytes(), {256: image.shape[1], 257: image.shape[0], 258: 16}, order=">"
        ),
    }[form]()
    found, record = read_image(data)

    assert found.dtype == np.uint16
    assert np.array_equal(found, image)
    assert record.bits == (12 if image.max() < 4096 else 16)


@settings(deadline=None, max_examples=30)
@given(grey_images(np.float32))
def test_float_images_come_back_equal(image):
    found, record = read_image(encoded(image, "TIFF"))

    assert found.dtype == np.float32
    assert np.array_equal(found, image)
    assert record.bits == 32


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_one_bit_becomes_black_and_full_white(form):
    bits = noise() > 127
    found, record = read_image(encoded(bits, form))

    assert np.array_equal(found, np.where(bits, 255, 0))
    assert (record.bits, record.notes) == (1, ("one-bit",))


@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_and_32_bit_integers_become_exact_floats(order):
    signed = noise(dtype=np.uint16).astype(np.int32) - 32768
    large = noise(dtype=np.uint16).astype(np.uint32) << np.uint32(16)

    for values, kind, tags in (
        (signed, "i2", {258: 16, 339: 2}),
        (signed, "i4", {258: 32, 339: 2}),
        (large, "u4", {258: 32}),
    ):
        found, record = read_image(tiff(values.astype(order + kind).tobytes(), SIZE | tags, order=order))
        assert found.dtype == np.float32
        assert np.array_equal(found, values)
        assert record.bits == tags[258]


def test_twelve_bit_samples_keep_their_values():
    values = noise(dtype=np.uint16) >> 4
    pairs = values.reshape(-1, 2)
    first, second = pairs[:, 0], pairs[:, 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)
    found, record = read_image(tiff(packed.tobytes(), SIZE | {258: 12}))

    assert np.array_equal(found, values)
    assert record.bits == 12


@pytest.mark.parametrize(
    ("stored", "bright"),
    [
        (noise(), 255 - noise()),
        (noise(dtype=np.uint16), 65535 - noise(dtype=np.uint16)),
        (noise(dtype=np.uint16) >> 4, 4095 - (noise(dtype=np.uint16) >> 4)),
        (noise().astype(np.float32), -noise().astype(np.float32)),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_white_is_zero_is_inverted_so_that_bright_is_high(stored, bright, order):
    tags = {258: 8 * stored.itemsize, 262: 0, 339: 3 if stored.dtype.kind == "f" else 1}
    data = tiff(stored.astype(stored.dtype.newbyteorder(order)).tobytes(), SIZE | tags, order=order)
    found, record = read_image(data)

    assert np.array_equal(found, bright)
    assert found.dtype == stored.dtype
    assert record.notes == ("white-is-zero",)


def test_white_is_zero_holds_for_one_bit_too():
    bits = noise() > 127

    assert np.array_equal(
        pixels_of(tiff(np.packbits(bits, axis=1).tobytes(), SIZE | {258: 1, 262: 0})), np.where(bits, 0, 255)
    )


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "zstd"])
def test_lossless_tiff_compressions_are_read(compression):
    for pixels in (noise(), noise(dtype=np.uint16), noise().astype(np.float32), noise() > 127):
        stored = np.where(pixels, 255, 0) if pixels.dtype == bool else pixels
        assert np.array_equal(pixels_of(encoded(pixels, "TIFF", compression=compression)), stored)


@pytest.mark.parametrize("compression", ["group3", "group4"])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_faxed_pages_are_read(compression, white_is_zero):
    bits = noise() > 127
    tiffinfo = {262: 0} if white_is_zero else {}
    data = encoded(bits, "TIFF", compression=compression, tiffinfo=tiffinfo)

    assert np.array_equal(pixels_of(data), np.where(bits, 255, 0))
    assert ("white-is-zero" in notes_of(data)) == white_is_zero


def test_every_odd_image_is_read_at_its_depth_with_a_note(tmp_path):
    listed = odd_images(tmp_path)

    records = {image.name: read_image(image.path)[1] for image in listed}

    assert len(listed) >= 30
    assert {name: record.bits for name, record in records.items()} == {image.name: image.bits for image in listed}
    assert [image.name for image in listed if image.note and image.note not in records[image.name].notes] == []


@pytest.mark.parametrize("compression", ["group4", "jpeg"])
def test_a_compressed_tiff_that_libtiff_only_complains_of_is_refused(compression, capfd):
    pixels = noise() > 127 if compression == "group4" else noise()
    whole = encoded(pixels, "TIFF", compression=compression)
    middle = 8 + (len(whole) - 8) // 3
    damaged = whole[:middle] + bytes([255, 0xC3]) + whole[middle + 2 :]

    assert pixels_of(whole).shape == (64, 64)
    assert refusal(damaged) == "IMG_CORRUPT"
    assert capfd.readouterr().err == ""  # and it does not talk to the terminal


def test_bigtiff_is_read():
    assert np.array_equal(pixels_of(encoded(noise(), "TIFF", big_tiff=True)), noise())


def test_tiled_and_planar_tiff_is_read():
    tiles = noise().reshape(4, 16, 4, 16).swapaxes(1, 2).tobytes()
    places = b"".join(struct.pack("<I", 8 + 256 * i) for i in range(16))
    counts = struct.pack("<I", 256) * 16
    start = 8 + len(tiles)
    values = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16, 323: 16, 324: start, 325: start + 64}
    count = {324: 16, 325: 16}
    fields = b"".join(struct.pack("<HHII", tag, 4, count.get(tag, 1), value) for tag, value in values.items())
    directory = struct.pack("<H", len(values)) + fields + bytes(4)
    data = b"II*\0" + struct.pack("<I", start + 128) + tiles + places + counts + directory

    assert np.array_equal(pixels_of(data), noise())


# --- Sixteen-bit colour ---


def colour_16(channels: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 65536, (20, 30, channels), np.uint16)


def luma(rgb: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return rgb.astype(np.float64) @ [0.299, 0.587, 0.114]


def test_16_bit_rgb_png_keeps_its_depth():
    rgb = colour_16(3)
    found, record = read_image(png(rgb, depth=16, colour=2))

    assert found.dtype == np.uint16
    assert np.abs(found - luma(rgb)).max() < 1.5
    assert (record.mode, record.bits, record.channels, record.notes) == ("RGB;16", 16, 3, ("rgb-to-grey",))


def test_16_bit_rgb_png_is_exact_where_channels_are_equal_and_rows_are_filtered():
    grey = colour_16(1)
    rows = np.repeat(grey, 3, axis=2).astype(">u2").view(np.uint8).reshape(20, 180)
    filtered = rows.copy()
    filtered[:, 6:] -= rows[:, :-6]
    stream = zlib.compress(b"".join(b"\1" + row.tobytes() for row in filtered))
    found, record = read_image(png(np.repeat(grey, 3, axis=2), depth=16, colour=2, idat=stream))

    assert np.array_equal(found, grey[..., 0])
    assert record.notes == ("equal-channels",)


def test_16_bit_alpha_is_laid_over_black_at_full_depth():
    grey_alpha, rgba = colour_16(2), colour_16(4)
    rgba[..., 1:3] = rgba[..., :1]
    for pixels, colour in ((grey_alpha, 4), (rgba, 6)):
        found, record = read_image(png(pixels, depth=16, colour=colour))
        exact = pixels[..., 0].astype(np.float64) * pixels[..., -1] / 65535
        assert np.abs(found - exact).max() <= 0.5
        assert "alpha-over-black" in record.notes
        assert record.channels == pixels.shape[2]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_rgb_tiff_keeps_its_depth(order, packed, channels):
    colour = colour_16(channels)
    raw = colour.astype(order + "u2").tobytes()
    data = zlib.compress(raw) if packed else raw
    tags = {256: 30, 257: 20, 258: 16, 259: 8 if packed else 1, 262: 2, 277: channels}
    found, record = read_image(tiff(data, tags | ({338: 0} if channels == 4 else {}), order=order))

    assert np.abs(found - luma(colour[..., :3])).max() < 1.5
    assert record.mode == ("RGB;16" if channels == 3 else "RGBA;16")


def test_premultiplied_alpha_of_a_tiff_already_lies_over_black():
    rgb = np.repeat(colour_16(1), 4, axis=2)
    tags = {256: 30, 257: 20, 258: 16, 262: 2, 277: 4, 338: 1}
    found, record = read_image(tiff(rgb.astype("<u2").tobytes(), tags))

    assert np.array_equal(found, rgb[..., 0])
    assert record.notes == ("alpha-over-black", "equal-channels")


# --- Colour to grey ---


def rgb_8() -> np.ndarray[Any, Any]:
    return np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)


def test_colour_becomes_the_luma_that_pillow_has():
    found, record = read_image(encoded(rgb_8(), "PNG"))

    assert np.array_equal(found, np.asarray(Image.fromarray(rgb_8()).convert("L")))
    assert record.notes == ("rgb-to-grey",)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_equal_channels_give_that_channel(form):
    rgb = np.repeat(noise()[..., None], 3, axis=2)
    found, record = read_image(encoded(rgb, form, **({"lossless": True} if form == "WEBP" else {})))

    assert np.array_equal(found, noise())
    assert record.notes == ("equal-channels",)
    assert record.channels == 3


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_over_black(mode):
    alpha = noise()[::-1]
    bands = [Image.fromarray(noise())] * (len(mode) - 1)
    found, record = read_image(encoded(Image.merge(mode, [*bands, Image.fromarray(alpha)]), "PNG"))

    assert np.array_equal(found, np.rint(noise().astype(np.float64) * alpha / 255))
    assert "alpha-over-black" in record.notes


def test_opaque_alpha_changes_nothing():
    opaque = Image.fromarray(np.full((64, 64), 255, np.uint8))
    found, record = read_image(encoded(Image.merge("LA", [Image.fromarray(noise()), opaque]), "PNG"))

    assert np.array_equal(found, noise())
    assert record.notes == ("opaque-alpha",)


def test_a_palette_gives_colours_and_not_indices():
    image = Image.fromarray(rgb_8()).quantize(32)
    found, record = read_image(encoded(image, "PNG"))

    assert np.array_equal(found, np.asarray(image.convert("RGB").convert("L")))
    assert (record.channels, record.notes) == (1, ("palette", "rgb-to-grey"))


def test_a_see_through_palette_colour_is_black():
    image = Image.fromarray(rgb_8()).quantize(32)
    hidden = np.asarray(image) == 3
    found, record = read_image(encoded(image, "PNG", transparency=3))

    assert (found[hidden] == 0).all()
    assert found[~hidden].any()
    assert "alpha-over-black" in record.notes


@pytest.mark.parametrize("depth", [8, 16])
def test_a_see_through_grey_value_is_black(depth):
    values = noise(dtype=np.uint16 if depth == 16 else np.uint8)
    key = int(values[0, 0])
    found, record = read_image(png(values, depth=depth, extra=png_chunk(b"tRNS", struct.pack(">H", key))))

    assert np.array_equal(found, np.where(values == key, 0, values))
    assert record.notes == ("alpha-over-black",)


def test_a_see_through_16_bit_colour_needs_all_its_bits_to_match():
    rgb = np.repeat(colour_16(1), 3, axis=2)
    rgb[0, 0], rgb[0, 1] = 258, 259  # the same high byte
    chunk = png_chunk(b"tRNS", struct.pack(">HHH", 258, 258, 258))
    found = pixels_of(png(rgb, depth=16, colour=2, extra=chunk))

    assert (found[0, 0], found[0, 1]) == (0, 259)


def test_cmyk_and_ycbcr_become_grey_by_way_of_rgb():
    cmyk = Image.fromarray(rgb_8()).convert("CMYK")
    jpeg = encoded(cmyk, "JPEG", quality=95)
    ycbcr = encoded(Image.fromarray(rgb_8()).convert("YCbCr"), "TIFF", tiffinfo={530: (1, 1)})
    expected = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB").convert("L"))

    assert np.array_equal(pixels_of(jpeg), expected)
    assert notes_of(jpeg) == ("cmyk", "rgb-to-grey")
    assert np.array_equal(pixels_of(encoded(cmyk, "TIFF")), np.asarray(cmyk.convert("RGB").convert("L")))
    assert np.abs(pixels_of(ycbcr) - luma(rgb_8())).max() < 3


# --- Orientation, names and trailing bytes ---


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation, form):
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(noise(40, 24))
    data = encoded(stored, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    found, record = read_image(data)
    plain = Image.fromarray(pixels_of(encoded(stored, form, **({"lossless": True} if form == "WEBP" else {}))))
    plain.getexif()[274] = orientation

    assert np.array_equal(found, np.asarray(ImageOps.exif_transpose(plain)))
    assert (record.height, record.width) == found.shape
    turned = f"exif-orientation-{orientation}"
    assert (turned in record.notes) == (orientation != 1)


def test_an_exif_block_that_cannot_be_read_is_noted_and_not_believed():
    data = encoded(noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\0\0")

    assert notes_of(data) == ("exif-unreadable",)


def test_right_content_under_a_wrong_name_is_read_with_a_note(tmp_path):
    (tmp_path / "image.jpg").write_bytes(encoded(noise(), "PNG"))
    (tmp_path / "image.png").write_bytes(encoded(noise(), "PNG"))
    (tmp_path / "image").write_bytes(encoded(noise(), "PNG"))

    assert notes_of(tmp_path / "image.jpg") == ("wrong-extension",)
    assert notes_of(tmp_path / "image.png") == notes_of(tmp_path / "image") == ()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_bytes_after_the_image_are_noted_and_not_read(form):
    data = encoded(noise(), form)
    found, record = read_image(data + b"PK\x03\x04 and an archive")

    assert np.array_equal(found, pixels_of(data))
    assert record.notes[0] == "trailing-bytes"


def test_the_second_picture_of_a_phone_is_trailing_bytes():
    first, second = Image.fromarray(noise()), Image.fromarray(noise()[::-1].copy())
    data = encoded(first, "MPO", save_all=True, append_images=[second])

    assert np.array_equal(pixels_of(data), pixels_of(encoded(first, "JPEG")))
    assert notes_of(data) == ("trailing-bytes",)


# --- Records ---


def test_a_record_is_json_and_holds_the_hashes(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(noise(), "PNG"))
    record = read_image(path)[1]

    assert json.loads(json.dumps(asdict(record)))["notes"] == []
    assert record.file_bytes == path.stat().st_size
    assert record == read_image(path.read_bytes())[1]


def test_equal_pixels_have_equal_hashes_whatever_holds_them():
    hashes = {read_image(encoded(noise(), form))[1].pixel_sha256 for form in ("PNG", "TIFF", "BMP")}
    other = read_image(encoded(noise().reshape(32, 128), "PNG"))[1].pixel_sha256
    deeper = read_image(encoded(noise().astype(np.uint16), "PNG"))[1].pixel_sha256

    assert len(hashes) == 1
    assert len(hashes | {other, deeper}) == 3


# --- Images inside parquet and npz ---


@pytest.fixture
def parquet(tmp_path) -> Path:
    """Seven rows in groups of three: bytes in `plain`, `{bytes, path}` in `image`; the last are null."""
    cells = [encoded(noise() // (i + 1), "PNG") for i in range(6)]
    columns = {
        "image": [*({"bytes": cell, "path": "x.png"} for cell in cells), {"bytes": None, "path": "x.png"}],
        "plain": [*cells, None],
        "label": [0, 1, 0, 1, 0, 1, 0],
    }
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


@pytest.mark.parametrize("column", ["image", "plain"])
def test_a_parquet_cell_is_an_image(parquet, column):
    for row in (0, 5, 3, 2):
        found, record = read_image(ImageRef(parquet, column, row))
        assert np.array_equal(found, noise() // (row + 1))
        assert (record.format, record.notes) == ("PNG", ())


def test_a_parquet_cell_that_is_no_image_is_refused(parquet):
    assert refusal(ImageRef(parquet, "image", 6)) == "IMG_MISSING"
    assert refusal(ImageRef(parquet, "plain", 6)) == "IMG_MISSING"
    assert refusal(ImageRef(parquet, "label", 0)) == "IMG_MISSING"
    assert refusal(ImageRef(parquet, "absent", 0)) == "IMG_MISSING"
    assert refusal(ImageRef(parquet, "image", 7)) == "IMG_MISSING"
    assert refusal(ImageRef(parquet, "image", -1)) == "IMG_MISSING"
    assert refusal(ImageRef(parquet, "plain", 0), max_memory_bytes=1000) == "IMG_MEMORY"
    assert refusal(ImageRef(parquet, "plain", 0), max_file_bytes=1000) == "IMG_FILE_TOO_LARGE"


def test_a_truncated_parquet_file_is_refused(parquet):
    parquet.write_bytes(parquet.read_bytes()[:-20])

    assert refusal(ImageRef(parquet, "image", 0)) == "IMG_CORRUPT"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float16, np.bool_])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_row_of_an_npz_array_is_an_image(tmp_path, dtype, save):
    images = np.random.default_rng(0).integers(0, 250, (4, 20, 30)).astype(dtype)
    save(tmp_path / "set.npz", train_images=images)
    found, record = read_image(ImageRef(tmp_path / "set.npz", "train_images", 2))

    assert np.array_equal(found, images[2] * 255 if dtype == np.bool_ else images[2])
    assert (record.format, record.mode, record.channels) == ("ARRAY", np.dtype(dtype).name, 1)


def test_colour_rows_and_single_images_of_an_npz_are_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), np.uint8)
    np.savez(tmp_path / "set.npz", many=images, one=images[0, ..., 0], column=images[..., :1])

    assert np.array_equal(pixels_of(ImageRef(tmp_path / "set.npz", "many", 1)), pixels_of(encoded(images[1], "PNG")))
    assert np.array_equal(pixels_of(ImageRef(tmp_path / "set.npz", "one")), images[0, ..., 0])
    assert np.array_equal(pixels_of(ImageRef(tmp_path / "set.npz", "column", 2)), images[2, ..., 0])


def test_an_npz_row_that_is_no_image_is_refused(tmp_path):
    path = tmp_path / "set.npz"
    images = np.zeros((2, 20, 30), np.float32)
    images[1, 0, 0] = np.nan
    labels = np.arange(2)
    np.savez(path, images=images, labels=labels, words=np.array(["a", "b"]), huge=np.full((2, 9, 9), 1e300))
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "pickled.npz", images=objects, allow_pickle=True)

    assert refusal(ImageRef(path, "images", 0)) == "IMG_CONSTANT"
    assert refusal(ImageRef(path, "images", 1)) == "IMG_NONFINITE"
    assert refusal(ImageRef(path, "huge", 0)) == "IMG_NONFINITE"
    assert refusal(ImageRef(path, "images", 2)) == "IMG_MISSING"
    assert refusal(ImageRef(path, "absent", 0)) == "IMG_MISSING"
    assert refusal(ImageRef(path, "labels", 0)) == "IMG_DEPTH_UNSUPPORTED"
    assert refusal(ImageRef(path, "words", 0)) == "IMG_DEPTH_UNSUPPORTED"
    assert refusal(ImageRef(path, "images", 0), max_memory_bytes=100) == "IMG_MEMORY"
    assert refusal(ImageRef(tmp_path / "pickled.npz", "images", 0)) == "IMG_DEPTH_UNSUPPORTED"


def test_an_npz_that_promises_more_than_it_holds_is_refused(tmp_path):
    header = np.lib.format.header_data_from_array_1_0(np.zeros((2, 20, 30), np.uint8)) | {"shape": (2**40, 20, 30)}
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    path = tmp_path / "set.npz"
    np.savez(path, other=np.zeros(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("images.npy", member.getvalue())

    assert refusal(ImageRef(path, "images", 0)) == "IMG_MEMORY"


def test_a_member_of_a_plain_image_is_refused(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(noise(), "PNG"))

    assert refusal(ImageRef(path, "image", 0)) == "IMG_FORMAT_NOT_ALLOWED"
    assert np.array_equal(pixels_of(ImageRef(path)), noise())


# --- Real images ---


def real_images(folder: str) -> list[Path]:
    return sorted(x for x in (SHARED / folder).rglob("*") if x.suffix in (".png", ".jpg", ".jpeg"))


@needs_shared
@pytest.mark.parametrize(("folder", "n_images"), [("openi-chest-abdomen", 77), ("covid-chestxray", 79)])
def test_real_images_are_read_as_pillow_shows_them(folder, n_images):
    paths = real_images(folder)

    assert len(paths) == n_images
    for path in paths[::8]:
        found, record = read_image(path)
        with Image.open(path) as image:
            shown = ImageOps.exif_transpose(image).convert("RGB").convert("L")
        assert np.array_equal(found, np.asarray(shown)) or "alpha-over-black" in record.notes


@needs_shared
def test_real_slices_are_eight_bit_grey():
    for path in real_images("alzheimer-mri")[::200]:
        found, record = read_image(path)
        expected = DecodeRecord("JPEG", "L", 8, 1, 128, 128, *_hashes(record))
        assert found.shape == (128, 128)
        assert record == expected


def _hashes(record: DecodeRecord) -> tuple[int, str, str]:
    return record.file_bytes, record.file_sha256, record.pixel_sha256
