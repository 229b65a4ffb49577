"""Image files that must be refused, written on demand, each with its code; and odd ones that must not be.

All carry the suffix of an image that is read, so that a scan of their folder tries every one of them.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class BadImage:
    """One file on disk, and the code that `read_image` must refuse it with."""

    name: str
    path: Path
    code: str


def bad_images(folder: Path) -> list[BadImage]:
    """Write all bad images into `folder`, about 6 MB, and list them."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for name, data, code in _all():
        path = folder / name
        path.write_bytes(data)
        listed.append(BadImage(name, path, code))
    return listed


@dataclass(frozen=True)
class OddImage:
    """One file that looks wrong or is stored in an unusual way, yet is sound.

    Attributes:
        name: What is odd about it.
        path: Where it is.
        note: What its record must say; empty if nothing.
        bits: Significant bits, after reading.
    """

    name: str
    path: Path
    note: str
    bits: int


def odd_images(folder: Path) -> list[OddImage]:
    """Write the odd images into `folder`, less than 1 MB, and list them."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for name, data, note, bits in (*_deep(), *_coloured(), *_turned(), *_misnamed()):
        path = folder / name
        path.write_bytes(data)
        listed.append(OddImage(name, path, note, bits))
    return listed


def noise(height: int = 64, width: int = 64, dtype: type[np.unsignedinteger[Any]] = np.uint8) -> NDArray[Any]:
    """Random pixels over the whole range of `dtype`, the same in each run."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True)


def encoded(pixels: NDArray[Any] | Image.Image, format: str, **options: Any) -> bytes:
    """The pixels as a file of that format, by Pillow."""
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, format, **options)
    return stream.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    pixels: NDArray[Any], *, depth: int = 8, colour: int = 0, extra: bytes = b"", idat: bytes | None = None
) -> bytes:
    """A PNG written chunk by chunk; `extra` chunks go before the pixels, `idat` replaces their stream."""
    rows = pixels.astype(">u2" if depth == 16 else "u1")
    stream = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows), 1) if idat is None else idat
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", stream) + png_chunk(b"IEND", b"")
    return PNG_SIGNATURE + body


def tiff(data: bytes, tags: dict[int, int], *, order: str = "<", following: int = 0) -> bytes:
    """An uncompressed TIFF of one strip; each tag of `tags` is one LONG, `following` the next directory."""
    entries = {258: 8, 259: 1, 262: 1, 277: 1, 273: 8, 279: len(data)} | tags
    start = 8 + len(data)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    fields = b"".join(struct.pack(order + "HHII", tag, 4, 1, entries[tag]) for tag in sorted(entries))
    return head + data + struct.pack(order + "H", len(entries)) + fields + struct.pack(order + "I", following)


def flipped(data: bytes, place: int, mask: int = 0xFF) -> bytes:
    """The same bytes but one, whose bits of `mask` are turned over."""
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def _all() -> Iterator[tuple[str, bytes, str]]:
    yield from _not_images()
    yield from _other_formats()
    yield from _truncated()
    yield from _damaged()
    yield from _wrong_size()
    yield from _many_frames()
    yield from _unusable_pixels()


def _not_images() -> Iterator[tuple[str, bytes, str]]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("image.png", encoded(noise(), "PNG"))
    yield "zero_bytes.png", b"", "IMG_EMPTY"
    yield "text.png", b"this is a shopping list\n" * 20, "IMG_NOT_AN_IMAGE"
    yield "html.jpg", b"<!DOCTYPE html><html><body>404</body></html>", "IMG_NOT_AN_IMAGE"
    yield "xml.tif", b"<?xml version='1.0'?><series/>", "IMG_NOT_AN_IMAGE"
    yield "zip_archive.png", archive.getvalue(), "IMG_NOT_AN_IMAGE"
    yield "pickle.png", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.", "IMG_NOT_AN_IMAGE"
    yield "program.bmp", b"MZ\x90\x00" + bytes(200), "IMG_NOT_AN_IMAGE"
    yield "bmp_like_text.bmp", b"BMI: 23.4 kg/m2, measured at admission", "IMG_NOT_AN_IMAGE"
    yield "all_zero_bytes.png", bytes(4096), "IMG_NOT_AN_IMAGE"


def _other_formats() -> Iterator[tuple[str, bytes, str]]:
    grey = Image.fromarray(noise())
    others = {
        "gif.png": encoded(grey, "GIF"),
        "gif_animated.png": encoded(grey, "GIF", save_all=True, append_images=[grey.rotate(90)]),
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
        "eps_dos.png": b"\xc5\xd0\xd3\xc6" + bytes(60),
        "svg.png": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'/>",
        "pdf.png": b"%PDF-1.7\n1 0 obj\n",
        "wmf.png": b"\xd7\xcd\xc6\x9a" + bytes(60),
        "psd.png": b"8BPS\x00\x01" + bytes(60),
        "heic.jpg": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
        "jpeg2000.jpg": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(60),
        "jpeg_ls.jpg": b"\xff\xd8\xff\xf7\x00\x0b\x08\x00\x40\x00\x40\x01\x01\x11\x00\xff\xd9",
        "gif_of_10000_frames.png": _long_gif(),
        "jpeg_xl.png": b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(60),
        "avif.jpg": b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf",
        "fits.tif": b"SIMPLE  =                    T".ljust(2880),
        "open_exr.tif": b"\x76\x2f\x31\x01" + bytes(60),
        "ico.png": encoded(grey, "ICO", sizes=[(32, 32)]),
        "pgm.png": encoded(grey, "PPM"),
    }
    for name, data in others.items():
        yield name, data, "IMG_FORMAT_NOT_ALLOWED"
    empty = b"DICM" + bytes(60)
    yield "dicom_without_elements.png", bytes(128) + empty, "DCM_NO_PIXELS"
    yield "dicom_with_program_preamble.png", b"MZ\x90\x00".ljust(128, b"\0") + empty, "DCM_NO_PIXELS"
    yield "dicom_with_tiff_preamble.tif", b"II*\0\x08\0\0\0".ljust(128, b"\0") + empty, "DCM_NO_PIXELS"


def _long_gif() -> bytes:
    """10,000 frames of one pixel, in 150 KB."""
    frame = b"!\xf9\x04\0\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    return b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff" + frame * 10_000 + b";"


def _truncated() -> Iterator[tuple[str, bytes, str]]:
    whole = {
        "png": encoded(noise(), "PNG"),
        "jpg": encoded(noise(), "JPEG"),
        "tif": encoded(noise(dtype=np.uint16), "TIFF"),
    }
    for suffix, data in whole.items():
        for percent in (99, 90, 50, 10, 1):
            yield f"{suffix}_cut_at_{percent}.{suffix}", data[: len(data) * percent // 100], "IMG_TRUNCATED"
    for suffix, data in {"bmp": encoded(noise(), "BMP"), "webp": encoded(noise(), "WEBP")}.items():
        for percent in (99, 90, 50, 10):
            yield f"{suffix}_cut_at_{percent}.{suffix}", data[: len(data) * percent // 100], "IMG_TRUNCATED"
    yield "png_signature_only.png", PNG_SIGNATURE, "IMG_TRUNCATED"
    yield "png_half_a_signature.png", PNG_SIGNATURE[:4], "IMG_TRUNCATED"
    yield "png_without_end.png", whole["png"][:-12], "IMG_TRUNCATED"
    yield "png_short_stream.png", png(noise(), idat=zlib.compress(bytes(1000))), "IMG_TRUNCATED"
    yield "png_empty_stream.png", png(noise(), idat=b""), "IMG_TRUNCATED"
    yield "jpg_without_end.jpg", whole["jpg"][:-2], "IMG_TRUNCATED"
    yield "jpg_start_only.jpg", b"\xff\xd8\xff", "IMG_TRUNCATED"
    yield "tif_directory_past_end.tif", b"II*\0\xff\xff\xff\x7f" + bytes(64), "IMG_TRUNCATED"
    strip_past_end = tiff(bytes(64), {256: 64, 257: 64})
    yield "tif_strip_past_end.tif", strip_past_end, "IMG_TRUNCATED"


def _damaged() -> Iterator[tuple[str, bytes, str]]:
    good_png, good_jpg = encoded(noise(), "PNG"), encoded(noise(), "JPEG")
    stream = zlib.compress(b"".join(b"\0" + row.tobytes() for row in noise()))
    huffman = good_jpg.index(b"\xff\xc4")
    frame = good_jpg.index(b"\xff\xc0")
    yield "png_flip_in_signature.png", flipped(good_png, 1), "IMG_NOT_AN_IMAGE"
    yield "png_flip_in_width.png", flipped(good_png, 19, 0x01), "IMG_CORRUPT"
    yield "png_flip_in_kind.png", flipped(good_png, 37, 0x01), "IMG_CORRUPT"
    yield "png_flip_in_pixels.png", flipped(good_png, len(good_png) // 2, 0x10), "IMG_CORRUPT"
    yield "png_flip_in_checksum.png", flipped(good_png, len(good_png) - 1), "IMG_CORRUPT"
    yield "png_damaged_stream.png", png(noise(), idat=flipped(stream, 2)), "IMG_CORRUPT"
    yield "png_without_header.png", PNG_SIGNATURE + good_png[33:], "IMG_CORRUPT"
    yield "png_unknown_colour.png", png(noise(), colour=5), "IMG_CORRUPT"
    yield "png_zero_width.png", png(np.zeros((64, 0), np.uint8)), "IMG_CORRUPT"
    yield "jpg_without_frame.jpg", good_jpg[:frame] + b"\xff\xd9", "IMG_CORRUPT"
    huffman_counts = good_jpg[: huffman + 5] + b"\xff" * 16 + good_jpg[huffman + 21 :]
    yield "jpg_damaged_huffman_table.jpg", huffman_counts, "IMG_CORRUPT"
    yield "jpg_junk_for_segment.jpg", good_jpg[:2] + b"junk" + good_jpg[2:], "IMG_NOT_AN_IMAGE"
    yield "jpg_junk_after_header.jpg", good_jpg[:20] + b"junk" + good_jpg[20:], "IMG_CORRUPT"
    yield "tif_without_strips.tif", tiff(noise().tobytes(), {256: 64, 257: 64, 278: 8}), "IMG_CORRUPT"
    yield "tif_zero_height.tif", tiff(noise().tobytes(), {256: 64, 257: 0}), "IMG_CORRUPT"


def _wrong_size() -> Iterator[tuple[str, bytes, str]]:
    good_jpg = encoded(noise(), "JPEG")
    size = good_jpg.index(b"\xff\xc0") + 5
    jpg_bomb = good_jpg[:size] + struct.pack(">HH", 20_000, 20_000) + good_jpg[size + 4 :]
    webp = encoded(Image.fromarray(noise()), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    webp_bomb = webp[:24] + b"\xff\x3f\x00\xff\x3f\x00" + webp[30:]
    text = png_chunk(b"tEXt", b"Comment\0" + bytes(4 * 2**20 + 1))
    yield "png_bomb_under_limit.png", _black_png(6_708), "IMG_CONSTANT"
    yield "strip_1_x_60000.png", png(noise(60_000, 1)), "IMG_TOO_LARGE"
    yield "bmp_bomb.bmp", _bmp_bomb(), "IMG_TRUNCATED"
    yield "png_bomb_over_limit.png", _black_png(7_417), "IMG_TOO_LARGE"
    yield "png_bomb_twice_limit.png", _black_png(10_247), "IMG_TOO_LARGE"
    yield "png_bomb_2_to_31.png", _bare_png(2**31 - 1, b""), "IMG_TOO_LARGE"
    yield "jpg_bomb.jpg", jpg_bomb, "IMG_TOO_LARGE"
    yield "webp_bomb.webp", webp_bomb, "IMG_TOO_LARGE"
    yield "tif_tile_bomb.tif", _tile_bomb(), "IMG_TOO_LARGE"
    yield "strip_60000_x_1.png", png(noise(1, 60_000)), "IMG_TOO_LARGE"
    yield "strip_12000_x_100.png", png(np.tile(noise(100, 100), (1, 120))), "IMG_TOO_LONG"
    yield "one_pixel.png", png(noise(1, 1)), "IMG_TOO_SMALL"
    yield "one_pixel.jpg", encoded(noise(1, 1), "JPEG"), "IMG_TOO_SMALL"
    yield "seven_rows.png", png(noise(7, 64)), "IMG_TOO_SMALL"
    yield "png_text_bomb.png", png(noise(), extra=text), "IMG_FILE_TOO_LARGE"


def _black_png(side: int) -> bytes:
    """A complete square PNG of zeros that needs a thousandth of its pixels on disk."""
    packer = zlib.compressobj(1)
    row = bytes(1 + side)
    stream = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return _bare_png(side, stream)


def _bare_png(side: int, stream: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": stream, b"IEND": b""}
    return PNG_SIGNATURE + b"".join(png_chunk(kind, body) for kind, body in chunks.items())


def _bmp_bomb() -> bytes:
    """A BMP of 4 KB that declares 30,000 x 30,000 pixels."""
    whole = encoded(noise(), "BMP")
    return whole[:18] + struct.pack("<ii", 30_000, 30_000) + whole[26:]


def _tile_bomb() -> bytes:
    """A small TIFF whose one compressed tile declares 30,000 x 30,000 pixels."""
    data = zlib.compress(bytes(4096))
    tile = {322: 30_000, 323: 30_000, 324: 8, 325: len(data)}
    return tiff(data, {256: 64, 257: 64, 259: 8} | tile)


def _many_frames() -> Iterator[tuple[str, bytes, str]]:
    first, second = Image.fromarray(noise()), Image.fromarray(noise()[::-1].copy())
    pages = {"save_all": True, "append_images": [second]}
    one_page = tiff(noise().tobytes(), {256: 64, 257: 64})
    start = 8 + noise().nbytes
    yield "tif_two_pages.tif", encoded(first, "TIFF", **pages), "IMG_MULTIFRAME"
    yield "webp_animated.webp", encoded(first, "WEBP", **pages), "IMG_MULTIFRAME"
    yield "png_animated.png", encoded(first, "PNG", **pages), "IMG_MULTIFRAME"
    yield "tif_loop.tif", tiff(noise().tobytes(), {256: 64, 257: 64}, following=start), "IMG_CORRUPT"
    directory = one_page[start:]
    there = start + len(directory)
    back_and_forth = one_page[:-4] + struct.pack("<I", there) + directory[:-4] + struct.pack("<I", start)
    yield "tif_loop_of_two.tif", back_and_forth, "IMG_CORRUPT"


def _unusable_pixels() -> Iterator[tuple[str, bytes, str]]:
    flat = np.full((64, 64), 7, np.uint8)
    with_nan, with_inf = np.ones((2, 64, 64), np.float32)
    with_nan[3, 4], with_inf[5, 6] = np.nan, np.inf
    good_jpg = encoded(noise(), "JPEG")
    precision = good_jpg.index(b"\xff\xc0") + 4
    many = noise(dtype=np.uint32).astype(np.int64)
    size = {256: 64, 257: 64}
    yield "constant.png", encoded(flat, "PNG"), "IMG_CONSTANT"
    yield "constant.jpg", encoded(flat, "JPEG"), "IMG_CONSTANT"
    yield "constant_16_bit.tif", encoded(np.full((64, 64), 700, np.uint16), "TIFF"), "IMG_CONSTANT"
    yield (
        "fully_transparent.png",
        encoded(Image.merge("LA", [Image.fromarray(x) for x in (noise(), 0 * flat)]), "PNG"),
        "IMG_CONSTANT",
    )
    yield "all_nan.tif", encoded(np.full((64, 64), np.nan, np.float32), "TIFF"), "IMG_NONFINITE"
    yield "fax_with_a_damaged_line.tif", _damaged_fax(), "IMG_CORRUPT"
    yield "nan.tif", encoded(with_nan, "TIFF"), "IMG_NONFINITE"
    yield "infinite.tif", encoded(with_inf, "TIFF"), "IMG_NONFINITE"
    yield "jpg_12_bit.jpg", good_jpg[:precision] + b"\x0c" + good_jpg[precision + 1 :], "IMG_DEPTH_UNSUPPORTED"
    yield "tif_float64.tif", tiff(noise().astype("<f8").tobytes(), size | {258: 64, 339: 3}), "IMG_DEPTH_UNSUPPORTED"
    yield "tif_signed_bytes.tif", tiff(noise().tobytes(), size | {339: 2}), "IMG_DEPTH_UNSUPPORTED"
    yield "tif_32_bit_beyond_float.tif", tiff(many.astype("<u4").tobytes(), size | {258: 32}), "IMG_DEPTH_UNSUPPORTED"
    yield "tif_lab.tif", encoded(Image.merge("LAB", [Image.fromarray(noise())] * 3), "TIFF"), "IMG_DEPTH_UNSUPPORTED"


def _damaged_fax() -> bytes:
    """A page of which libtiff only says that it cannot go on, and fills up the rest."""
    whole = encoded(noise() > 127, "TIFF", compression="group4")
    middle = 8 + (len(whole) - 8) // 3
    return whole[:middle] + b"\xff\xc3" + whole[middle + 2 :]


# --- odd, but sound -----------------------------------------------------------------------------------------

Odd = tuple[str, bytes, str, int]


def _deep() -> Iterator[Odd]:
    deep, size = noise(dtype=np.uint16), {256: 64, 257: 64, 258: 16}
    floats = noise().astype(np.float32) / 7
    yield "16_bit.png", encoded(deep, "PNG"), "", 16
    yield "16_bit_little_endian.tif", tiff(deep.astype("<u2").tobytes(), size), "", 16
    yield "16_bit_big_endian.tif", tiff(deep.astype(">u2").tobytes(), size, order=">"), "", 16
    yield "12_bit_in_16.png", encoded(deep >> 4, "PNG"), "", 12
    yield "12_bit_in_16.tif", encoded(deep >> 4, "TIFF"), "", 12
    yield "float.tif", encoded(floats, "TIFF"), "", 32
    yield "float_beyond_unit_range.tif", encoded(floats * 1e6, "TIFF"), "", 32
    yield "signed_16_bit.tif", tiff((deep.astype("<i4") - 32768).astype("<i2").tobytes(), size | {339: 2}), "", 16
    yield "one_bit.png", encoded(Image.fromarray(noise() > 127), "PNG"), "one-bit", 1
    yield "one_bit_fax.tif", encoded(noise() > 127, "TIFF", compression="group4"), "one-bit", 1
    yield "white_is_zero.tif", tiff(noise().tobytes(), {256: 64, 257: 64, 262: 0}), "white-is-zero", 8
    yield "white_is_zero_16_bit.tif", tiff(deep.astype("<u2").tobytes(), size | {262: 0}), "white-is-zero", 16


def _coloured() -> Iterator[Odd]:
    grey = Image.fromarray(noise())
    turned = [grey, grey.rotate(90), grey.rotate(180)]
    colour, equal = Image.merge("RGB", turned), Image.merge("RGB", [grey] * 3)
    clear = colour.copy()
    clear.putalpha(grey)
    yield "cmyk.jpg", encoded(colour.convert("CMYK"), "JPEG"), "cmyk", 8
    yield "cmyk.tif", encoded(colour.convert("CMYK"), "TIFF"), "cmyk", 8
    yield "palette.png", encoded(colour.convert("P"), "PNG"), "palette", 8
    yield "palette_with_transparency.png", encoded(colour.convert("P"), "PNG", transparency=3), "palette", 8
    yield "grey_with_alpha.png", encoded(Image.merge("LA", [grey, turned[1]]), "PNG"), "alpha-over-black", 8
    yield "colour_with_alpha.png", encoded(clear, "PNG"), "alpha-over-black", 8
    yield "colour_with_alpha.webp", encoded(clear, "WEBP", lossless=True), "alpha-over-black", 8
    yield "equal_channels.png", encoded(equal, "PNG"), "equal-channels", 8
    yield "equal_channels.bmp", encoded(equal, "BMP"), "equal-channels", 8
    yield "colour.jpg", encoded(colour, "JPEG"), "rgb-to-grey", 8


def _turned() -> Iterator[Odd]:
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(noise(48, 64), "JPEG", exif=exif)
        yield f"orientation_{orientation}.jpg", data, f"exif-orientation-{orientation}", 8


def _misnamed() -> Iterator[Odd]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("program.sh", "echo no")
    yield "jpeg_called.png", encoded(noise(), "JPEG"), "wrong-extension", 8
    yield "png_called.jpg", encoded(noise(), "PNG"), "wrong-extension", 8
    yield "tiff_called.bmp", encoded(noise(), "TIFF"), "wrong-extension", 8
    yield "png_then_zip.png", encoded(noise(), "PNG") + archive.getvalue(), "trailing-bytes", 8
    yield "jpeg_then_text.jpg", encoded(noise(), "JPEG") + b"<script>alert(1)</script>", "trailing-bytes", 8
