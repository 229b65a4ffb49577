"""Reading one image: bytes in, one grey channel out, or one error with a stable code.

Every entry point reads its pictures here. A file goes through four steps, and each may refuse it:

1. its bytes are fetched (`ImageRef` says from where) and recognised by content, never by name;
2. its header is walked by our own short readers: size, checksums, pages, orientation;
3. Pillow decodes what is left after everything but pixels was cut away;
4. the samples become one grey channel without losing depth, and are checked.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
import struct
import sys
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import COMPRESSION_INFO, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from plainfilm.errors import ImageError

Pixels = NDArray[Any]

REASONS: dict[str, str] = {
    "IMG_MISSING": "There is nothing at this place; correct the path, column, name or row.",
    "IMG_UNREADABLE": "It cannot be opened; check that it is a file and that you may read it.",
    "IMG_NOT_A_FILE": "It is a pipe, socket or device; give an ordinary file.",
    "IMG_EMPTY": "It holds no bytes; copy it again from its source.",
    "IMG_FILE_TOO_LARGE": "It holds more bytes than allowed; save it without metadata, or raise max_file_bytes.",
    "IMG_NOT_AN_IMAGE": "Its content is not an image, whatever its name says; remove it.",
    "IMG_FORMAT_NOT_ALLOWED": "This format is not read here; convert it to PNG or TIFF.",
    "IMG_TRUNCATED": "It ends before its image does; copy it again from its source.",
    "IMG_CORRUPT": "Its content is damaged; copy it again from its source.",
    "IMG_MULTIFRAME": "It holds several frames or pages; save each as a file of its own.",
    "IMG_TOO_LARGE": "It has more pixels than allowed; raise max_pixels or max_side if it is trusted.",
    "IMG_TOO_LONG": "Its long side exceeds its short side too far to be a picture; remove or crop it.",
    "IMG_TOO_SMALL": "It has too few pixels to be a picture; remove it.",
    "IMG_DEPTH_UNSUPPORTED": "Its samples cannot be read without loss; save it as 8- or 16-bit grey PNG.",
    "IMG_CONSTANT": "All its pixels are equal, so it shows nothing; remove it.",
    "IMG_NONFINITE": "It holds NaN or infinite values; replace them by real ones.",
    "IMG_MEMORY": "Decoding it needs more memory than allowed; raise max_memory_bytes or shrink it.",
    "IMG_TIMEOUT": "Decoding it took longer than allowed; raise max_seconds if it is trusted.",
    "IMG_DECODER_DIED": "The decoder crashed on it; save it anew with another program.",
}
"""Every code an image can be refused with, and its sentence."""


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What one image may cost; checked against its header before a pixel is decoded.

    Attributes:
        max_pixels: Width times height.
        max_side: Pixels of the longer side.
        min_side: Pixels of the shorter side.
        max_aspect: Longer side over shorter side.
        max_file_bytes: Bytes of the file, or of one encoded image inside a parquet file.
        max_seconds: Time for one image. Held by `workers.decode_images` alone: it can end a decoder.
        max_memory_bytes: What decoding one image may take; one npz array or parquet row group too.
    """

    max_pixels: int = 50_000_000
    max_side: int = 30_000
    min_side: int = 8
    max_aspect: float = 50.0
    max_file_bytes: int = 512 * 2**20
    max_seconds: float = 20.0
    max_memory_bytes: int = 2 * 2**30


@dataclass(frozen=True)
class ImageRef:
    """Where the bytes of one image are.

    Attributes:
        path: An image file; or a parquet or npz file when `member` is given.
        member: A parquet column (of bytes, or of structs `{bytes, path}`), or the name of an npz array.
        row: Row of that column or array; None reads the whole array as one image.
    """

    path: Path
    member: str | None = None
    row: int | None = None


@dataclass(frozen=True)
class DecodeRecord:
    """How one image was stored, and what was done to make it one grey channel.

    Attributes:
        format: `PNG`, `JPEG`, `TIFF`, `BMP`, `WEBP`, or `ARRAY` for a row of an npz array.
        mode: Pillow's name of the stored layout (`;16` added for 16-bit colour); an array's dtype.
        bits: Significant bits of the stored samples: 1, 8, 12, 16 or 32. A 16-bit image without a value
            above 4095 counts as 12; over a data set, take the largest. 2- and 4-bit samples are widened to 8.
        channels: Stored channels, alpha included; 1 for a palette.
        width: Pixels, after orientation.
        height: Pixels, after orientation.
        file_bytes: Size of the encoded image (of the row, for an array).
        file_sha256: Hash of those bytes.
        pixel_sha256: Hash of dtype, shape and the grey pixels, in little-endian order.
        notes: Each conversion that was applied, as short stable words.
    """

    format: Literal["PNG", "JPEG", "TIFF", "BMP", "WEBP", "ARRAY"]
    mode: str
    bits: int
    channels: int
    width: int
    height: int
    file_bytes: int
    file_sha256: str
    pixel_sha256: str
    notes: tuple[str, ...] = ()


def read_image(source: Path | bytes | ImageRef, *, limits: ImageLimits | None = None) -> tuple[Pixels, DecodeRecord]:
    """Decode one image to one grey channel, at its full depth.

    Colour becomes grey: three equal channels give that channel exactly, others ITU-R 601-2 luma
    (0.299 R + 0.587 G + 0.114 B). Transparency is laid over black. EXIF orientation is applied.
    WhiteIsZero samples are inverted within their significant bits (floats are negated): bright is high.
    One-bit images become 0 and 255.

    Args:
        source: A file, its bytes, or a place inside a parquet or npz file.
        limits: Refuses what exceeds them; `max_seconds` is not held here.

    Returns:
        `(height, width)`, contiguous: uint8, uint16, or float32 (from floats, signed and 32-bit
        integers); and the record.

    Raises:
        ImageError: With a code of `REASONS`; the message names no folder.
    """
    limits = limits or ImageLimits()
    with _one_error():
        found = _fetch(source, limits)
        if isinstance(found, np.ndarray):
            return _read_array(found, limits)
        return _read_encoded(found, limits, suffix=_suffix(source))


def _refuse(code: str, detail: str) -> NoReturn:
    raise ImageError(f"{detail} {REASONS[code]}", code=code)


@contextmanager
def _one_error() -> Iterator[None]:
    """Let nothing but `ImageError` out of a decode.

    Decoders fail on hostile bytes in every way there is (SyntaxError, struct.error, KeyError, warnings
    made errors, ...); that the bytes are damaged is all those exceptions can tell.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        _refuse("IMG_MEMORY", "Memory ran out.")
    except Exception as error:
        code = "IMG_TRUNCATED" if "truncated" in str(error).lower() else "IMG_CORRUPT"
        raise ImageError(f"It cannot be decoded ({type(error).__name__}). {REASONS[code]}", code=code) from error


def _suffix(source: Path | bytes | ImageRef) -> str:
    if isinstance(source, ImageRef):
        return "" if source.member is not None else source.path.suffix.lower()
    return source.suffix.lower() if isinstance(source, Path) else ""


# --- Fetching ---------------------------------------------------------------------------------------------


def _fetch(source: Path | bytes | ImageRef, limits: ImageLimits) -> bytes | Pixels:
    """The encoded bytes of one image, or its array."""
    if isinstance(source, ImageRef) and source.member is not None:
        found = _fetch_member(source.path, source.member, source.row, limits)
        if isinstance(found, np.ndarray):
            return found
    elif isinstance(source, bytes):
        found = source
    else:
        return _file_bytes(source.path if isinstance(source, ImageRef) else source, limits)
    _check_bytes(len(found), limits)
    return found


def _check_bytes(count: int, limits: ImageLimits) -> None:
    if count > limits.max_file_bytes:
        _refuse("IMG_FILE_TOO_LARGE", f"{count:,} bytes; the limit is {limits.max_file_bytes:,}.")


def _file_bytes(path: Path, limits: ImageLimits) -> bytes:
    size = _check_regular(path).st_size
    _check_bytes(size, limits)
    try:
        # Not blocking: the file may have become a pipe since it was looked at.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            return file.read(size)  # not up to the limit: `read` takes memory for all it is asked for
    except OSError as error:
        _refuse("IMG_UNREADABLE", f"{error.strerror or 'It cannot be opened'}.")


def _check_regular(path: Path) -> os.stat_result:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        _refuse("IMG_MISSING", "No such file.")
    except OSError as error:
        code = "IMG_MISSING" if error.errno == errno.ENAMETOOLONG else "IMG_UNREADABLE"
        _refuse(code, f"{error.strerror or 'It cannot be opened'}.")
    if stat.S_ISDIR(found.st_mode):
        _refuse("IMG_UNREADABLE", "It is a folder.")
    if not stat.S_ISREG(found.st_mode):
        _refuse("IMG_NOT_A_FILE", "It is not an ordinary file.")
    return found


def _fetch_member(path: Path, member: str, row: int | None, limits: ImageLimits) -> bytes | Pixels:
    found = _check_regular(path)
    with open(path, "rb") as file:
        magic = file.read(4)
    stamp = (found.st_mtime_ns, found.st_size)
    if magic == b"PAR1" and row is not None:
        return _parquet_cell(path, stamp, member, row, limits.max_memory_bytes)
    if magic == b"PK\x03\x04":
        array = _npz_array(path, stamp, member, limits.max_memory_bytes)
        if row is None:
            return array
        n_rows = array.shape[0] if array.ndim else 0
        if not 0 <= row < n_rows:
            _refuse("IMG_MISSING", f"Array '{member}' has {n_rows} rows, not row {row}.")
        return np.asarray(array[row])
    _refuse("IMG_FORMAT_NOT_ALLOWED", "It is neither a parquet file with a row given nor an npz file.")


Stamp = tuple[int, int]  # modification time and size: a changed file is read anew


def _parquet_cell(path: Path, stamp: Stamp, column: str, row: int, max_bytes: int) -> bytes:
    group, start = _row_group_of(path, stamp, row)
    cell = _row_group(path, stamp, column, group, max_bytes)[row - start].as_py()
    if isinstance(cell, dict):
        cell = cell.get("bytes")
    if not isinstance(cell, bytes):
        _refuse("IMG_MISSING", f"Column '{column}' holds no bytes in row {row}.")
    return cell


def _row_group_of(path: Path, stamp: Stamp, row: int) -> tuple[int, int]:
    """The row group a row lies in, and the number of the group's first row."""
    starts = _row_group_starts(path, stamp)
    if not 0 <= row < starts[-1]:
        _refuse("IMG_MISSING", f"The file has {starts[-1]} rows, not row {row}.")
    group = int(np.searchsorted(starts, row, side="right")) - 1
    return group, starts[group]


@lru_cache(maxsize=1)
def _row_group_starts(path: Path, _stamp: Stamp) -> list[int]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        counts = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    return [0, *np.cumsum(counts, dtype=np.int64).tolist()]


@lru_cache(maxsize=1)
def _row_group(path: Path, _stamp: Stamp, column: str, group: int, max_bytes: int) -> Any:
    """One column of one row group; rows are mostly asked for in order, so the last group is kept."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if column not in file.schema_arrow.names:
            _refuse("IMG_MISSING", f"The file has no column '{column}'.")
        parts = file.metadata.row_group(group)
        leaves = [parts.column(i) for i in range(parts.num_columns)]
        size = sum(x.total_uncompressed_size for x in leaves if x.path_in_schema.split(".")[0] == column)
        if size > max_bytes:
            _refuse("IMG_MEMORY", f"Row group {group} unpacks to {size:,} bytes.")
        return file.read_row_group(group, columns=[column], use_threads=False).column(column)


@lru_cache(maxsize=1)
def _npz_array(path: Path, _stamp: Stamp, name: str, max_bytes: int) -> Pixels:
    """One array of an npz file; its own header is checked before anything is unpacked."""
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            _refuse("IMG_MISSING", f"The file has no array '{name}'.")
        with archive.open(f"{name}.npy") as member:
            shape, dtype = _npy_header(member)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.kind not in "biuf":
            _refuse("IMG_DEPTH_UNSUPPORTED", f"Array '{name}' holds {dtype} values.")
        if size > max_bytes:
            _refuse("IMG_MEMORY", f"Array '{name}' unpacks to {size:,} bytes.")
        with archive.open(f"{name}.npy") as member:
            array: Pixels = np.lib.format.read_array(member, allow_pickle=False)
            member.read(1)  # reaching the end makes zipfile compare the checksum
    array.flags.writeable = False
    return array


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


# --- Recognising ------------------------------------------------------------------------------------------

Format = Literal["PNG", "JPEG", "TIFF", "BMP", "WEBP"]

_MAGIC: dict[bytes, Format] = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}

_OTHER_FORMATS = {
    b"GIF8": "GIF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"\x01\x00\x09\x00\x00\x03": "WMF",
    b"8BPS": "PSD",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x01\x00": "ICO",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"SIMPLE  =": "FITS",
    b"qoif": "QOI",
    b"gimp xcf": "XCF",
    b"DDS ": "DDS",
    b"\x8aMNG": "MNG",
    b"P5\n": "PGM",
    b"P6\n": "PPM",
    b"P2\n": "PGM",
    b"P3\n": "PPM",
}

_SUFFIXES: dict[Format, tuple[str, ...]] = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
}

_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)


def _recognise(data: bytes) -> Format:
    """The format the first bytes prove; anything not on the allow-list is refused."""
    if not data:
        _refuse("IMG_EMPTY", "Zero bytes.")
    if data[128:132] == b"DICM":  # first: its preamble may pose as TIFF, or as a program
        _refuse("IMG_FORMAT_NOT_ALLOWED", "DICOM.")
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
        if len(data) < len(magic) and magic.startswith(data):
            _refuse("IMG_TRUNCATED", f"Only {len(data)} bytes of a {name} file.")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and len(data) >= 18 and _unpack("<I", data, 14)[0] in _BMP_HEADER_SIZES:
        return "BMP"
    return _refuse_foreign(data)


def _refuse_foreign(data: bytes) -> NoReturn:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        _refuse("IMG_FORMAT_NOT_ALLOWED", "SVG.")
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis"):
        _refuse("IMG_FORMAT_NOT_ALLOWED", "HEIC or AVIF.")
    for magic, name in _OTHER_FORMATS.items():
        if data.startswith(magic):
            _refuse("IMG_FORMAT_NOT_ALLOWED", f"{name}.")
    looks = "HTML" if head.startswith((b"<!doctype html", b"<html")) else "XML" if head[:1] == b"<" else ""
    looks = looks or ("text" if head.isascii() and b"\0" not in head else "unknown content")
    _refuse("IMG_NOT_AN_IMAGE", f"{looks[0].upper()}{looks[1:]}.")


def _unpack(form: str, data: bytes, offset: int) -> tuple[Any, ...]:
    """`struct.unpack_from`, where running past the end means a truncated file."""
    if offset + struct.calcsize(form) > len(data):
        _refuse("IMG_TRUNCATED", "A header runs past the end of the file.")
    return struct.unpack_from(form, data, offset)


# --- Headers ----------------------------------------------------------------------------------------------

_MAX_BLOCKS = 200_000  # chunks, segments, or values of one tag: bounds our own walks
_MAX_METADATA_BYTES = 4 * 2**20  # one text, profile or other chunk that holds no pixels
_MAX_SCANS = 100  # of a progressive JPEG; each costs a pass over the whole image, and 20 are many
_MAX_TILE_PIXELS = 2**26  # of one TIFF tile, which is unpacked whole however small the image is


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What the walk over a file found, before any pixel is decoded.

    `data` is the file cut down to what its pixels need: Pillow never sees EXIF blocks, colour profiles
    or texts, where most decoder trouble starts. `packing` says how to get all 16 bits of colour samples,
    which Pillow cuts to 8: decode twice, once for each byte (`halves`), or pretend that each sample is
    two 8-bit channels (`pairs`).
    """

    format: Format
    data: bytes
    width: int
    height: int
    channels: int = 1
    depth: int = 8
    orientation: int = 1  # 0 when the EXIF block cannot be read
    packing: Literal["plain", "halves", "pairs"] = "plain"
    transparent: tuple[int, ...] | None = None  # the colour a PNG declares see-through
    white_is_zero: bool = False
    unsigned: bool = True
    notes: tuple[str, ...] = ()


class _Block(NamedTuple):
    """One chunk or segment: its kind, and where it lies in the file."""

    kind: int | bytes
    start: int
    end: int


def _trailing(data: bytes, end: int) -> tuple[str, ...]:
    return ("trailing-bytes",) if end < len(data) else ()


# PNG: https://www.w3.org/TR/png-3/

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def _png_header(data: bytes) -> _Header:
    """Walk the chunks and compare their checksums."""
    blocks = list(_png_blocks(data))
    bodies = {x.kind: data[x.start + 8 : x.end - 4] for x in blocks if x.kind in (b"IHDR", b"tRNS", b"eXIf")}
    if blocks[0].kind != b"IHDR" or len(bodies[b"IHDR"]) != 13:
        _refuse("IMG_CORRUPT", "A PNG that does not start with its IHDR chunk.")
    width, height, depth, colour = _unpack(">IIBB", bodies[b"IHDR"], 0)
    if colour not in _PNG_CHANNELS:
        _refuse("IMG_CORRUPT", f"A PNG of colour type {colour}.")
    # A see-through grey (type 0) or RGB (type 2) value is applied by us, at full depth.
    ours = b"tRNS" if colour in (0, 2) else None
    kept = [data[x.start : x.end] for x in blocks if x.kind in _PNG_NEEDED and x.kind != ours]
    header = _Header(
        format="PNG",
        data=b"".join([_PNG_SIGNATURE, *kept]),
        width=width,
        height=height,
        channels=_PNG_CHANNELS[colour],
        depth=depth,
        orientation=_exif_orientation(bodies.get(b"eXIf")),
        transparent=_png_transparent(bodies[b"tRNS"], colour, depth) if ours in bodies else None,
        notes=_trailing(data, blocks[-1].end),
    )
    if depth == 16 and colour == 4:
        return replace(header, packing="pairs", data=_png_retyped(header.data))
    return replace(header, packing="halves") if depth == 16 and colour in (2, 6) else header


def _png_blocks(data: bytes) -> Iterator[_Block]:
    """The chunks up to IEND, which must come."""
    view, start = memoryview(data), len(_PNG_SIGNATURE)
    for _ in range(_MAX_BLOCKS):
        length, kind = _unpack(">I4s", data, start)
        name = kind.decode("ascii") if kind.isalpha() else "damaged"
        end = start + 12 + length
        if end > len(data):
            _refuse("IMG_TRUNCATED", f"The {name} chunk runs past the end of the file.")
        if zlib.crc32(view[start + 4 : end - 4]) != _unpack(">I", data, end - 4)[0]:
            _refuse("IMG_CORRUPT", f"The checksum of the {name} chunk is wrong.")
        if kind == b"acTL":
            _refuse("IMG_MULTIFRAME", "An animated PNG.")
        if kind not in _PNG_NEEDED and length > _MAX_METADATA_BYTES:
            _refuse("IMG_FILE_TOO_LARGE", f"Its {name} chunk, without pixels, has {length:,} bytes.")
        yield _Block(kind, start, end)
        if kind == b"IEND":
            return
        start = end
    _refuse("IMG_CORRUPT", f"More than {_MAX_BLOCKS:,} chunks.")


def _png_transparent(body: bytes, colour: int, depth: int) -> tuple[int, ...]:
    """The see-through value on the scale of the decoded samples, whose 1, 2 or 4 bits are widened to 8."""
    values = _unpack(">H" if colour == 0 else ">HHH", body, 0)
    widening = 255 // (2**depth - 1) if depth < 8 else 1
    return tuple(value * widening for value in values)


def _png_retyped(data: bytes) -> bytes:
    """Call 16-bit grey + alpha 8-bit RGBA: both take 4 bytes a pixel, so the filters undo alike."""
    start = len(_PNG_SIGNATURE) + 4
    fields = bytearray(data[start : start + 17])  # "IHDR", width, height, depth, colour type, ...
    fields[12:14] = (8, 6)
    return data[:start] + fields + struct.pack(">I", zlib.crc32(fields)) + data[start + 21 :]


# JPEG: ITU-T T.81, annex B

_JPEG_MARKER = re.compile(rb"\xff++([^\xff])", re.DOTALL)
_JPEG_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\xff\x00\xd0-\xd7]", re.DOTALL)
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_METADATA = frozenset((*range(0xE1, 0xEE), 0xEF, 0xFE))  # application data but JFIF, Adobe; comments
_SOF55, _EOI, _SOS, _APP1 = 0xF7, 0xD9, 0xDA, 0xE1


def _jpeg_header(data: bytes) -> _Header:
    """Walk the segments; their order and the end marker are checked, their pixels are not."""
    blocks = list(_jpeg_blocks(data))
    frames = [x for x in blocks if x.kind in _JPEG_FRAMES]
    scans = sum(x.kind == _SOS for x in blocks)
    if len(frames) != 1 or not 1 <= scans <= _MAX_SCANS:
        _refuse("IMG_CORRUPT", f"A JPEG with {len(frames)} frames and {scans} scans.")
    depth, height, width, channels = _unpack(">BHHB", data, frames[0].start + 4)
    if depth != 8:
        _refuse("IMG_DEPTH_UNSUPPORTED", f"A JPEG of {depth} bits.")
    exif = [x for x in blocks if x.kind == _APP1 and data[x.start + 4 : x.start + 10] == b"Exif\0\0"]
    kept = [data[x.start : x.end] for x in blocks if x.kind not in _JPEG_METADATA]
    return _Header(
        format="JPEG",
        data=b"".join([data[:2], *kept]),
        width=width,
        height=height,
        channels=channels,
        orientation=_exif_orientation(data[exif[0].start + 10 : exif[0].end] if exif else None),
        notes=_trailing(data, blocks[-1].end),
    )


def _jpeg_blocks(data: bytes) -> Iterator[_Block]:
    """The segments up to the end marker, which must come; a scan's pixels belong to its segment."""
    position, pattern = 2, _JPEG_MARKER
    for _ in range(_MAX_BLOCKS):
        found = pattern.match(data, position)
        if found is None:
            code = "IMG_TRUNCATED" if position >= len(data) - 1 else "IMG_CORRUPT"
            _refuse(code, "A JPEG without an end marker.")
        marker, start = found[1][0], found.end() - 2
        if marker == _EOI:
            yield _Block(marker, start, start + 2)
            return
        if marker == _SOF55:
            _refuse("IMG_FORMAT_NOT_ALLOWED", "JPEG-LS.")
        position = start + 2 + _unpack(">H", data, start + 2)[0]
        if position > len(data):
            _refuse("IMG_TRUNCATED", "A segment runs past the end of the file.")
        if marker == _SOS:
            following = _JPEG_MARKER_AFTER_SCAN.search(data, position)
            position = following.start() if following else len(data)
        yield _Block(marker, start, position)
    _refuse("IMG_CORRUPT", f"More than {_MAX_BLOCKS:,} segments.")


# TIFF 6.0 and BigTIFF; an EXIF block is a TIFF directory too

_TIFF_BYTES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1)) | {16: 8, 17: 8, 18: 8}
_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 259, 262, 274
_STRIPS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING = 338, 339, 530
# Besides those: fill order, fax options, predictor, colour map, JPEG tables, YCbCr position and range.
_TIFF_NEEDED = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES}
    | {_PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING}
    | {266, 292, 293, 317, 320, 347, 531, 532}
)


@dataclass(frozen=True)
class _TiffForm:
    """Byte order (`<` or `>`) and the sizes that differ between TIFF and BigTIFF."""

    order: str
    big: bool

    def count(self, data: bytes, offset: int) -> int:
        return int(_unpack(self.order + ("Q" if self.big else "H"), data, offset)[0])

    def pointer(self, data: bytes, offset: int) -> int:
        return int(_unpack(self.order + ("Q" if self.big else "I"), data, offset)[0])

    @property
    def count_size(self) -> int:
        return 8 if self.big else 2

    @property
    def pointer_size(self) -> int:
        return 8 if self.big else 4

    @property
    def entry_size(self) -> int:
        return 4 + 2 * self.pointer_size


class _TiffEntry(NamedTuple):
    """One tag: the entry as it stands in the file, and its values where they are integers."""

    raw: bytes
    values: tuple[int, ...]


_TiffTags = dict[int, _TiffEntry]


def _tiff_start(data: bytes) -> tuple[_TiffForm, int]:
    """The form of the file, and where its first directory starts."""
    form = _TiffForm("<" if data[:2] == b"II" else ">", big=b"+" in data[2:4])
    return form, form.pointer(data, 8 if form.big else 4)


def _tiff_following(data: bytes, start: int, form: _TiffForm) -> int:
    """Where the directory after this one starts; 0 after the last."""
    return form.pointer(data, start + form.count_size + form.count(data, start) * form.entry_size)


def _tiff_tags(data: bytes, start: int, form: _TiffForm) -> _TiffTags:
    """The tags that matter for pixels or orientation; values past the end of the file are refused."""
    tags: _TiffTags = {}
    first, n_entries = start + form.count_size, form.count(data, start)
    if n_entries > 65_535:
        _refuse("IMG_CORRUPT", f"A TIFF directory of {n_entries:,} tags.")
    for number in range(n_entries):
        offset = first + number * form.entry_size
        tag, kind = _unpack(form.order + "HH", data, offset)
        count = form.pointer(data, offset + 4)
        wanted = tag in _TIFF_NEEDED or tag == _ORIENTATION
        if not wanted or tag in tags or kind not in _TIFF_BYTES:
            continue
        if count > _MAX_BLOCKS:
            _refuse("IMG_CORRUPT", f"Tag {tag} has {count:,} values.")
        place = offset + 4 + form.pointer_size
        if count * _TIFF_BYTES[kind] > form.pointer_size:
            place = form.pointer(data, place)
        if place + count * _TIFF_BYTES[kind] > len(data):
            _refuse("IMG_TRUNCATED", f"The values of tag {tag} lie past the end of the file.")
        code = _TIFF_INTEGERS.get(kind)
        values = _unpack(f"{form.order}{count}{code}", data, place) if code else ()
        tags[tag] = _TiffEntry(data[offset : offset + form.entry_size], values)
    return tags


def _exif_orientation(exif: bytes | None) -> int:
    """1 to 8; 1 when nothing is said, 0 when the block cannot be read."""
    if exif is None:
        return 1
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return 0
    try:
        form, start = _tiff_start(exif)
        return _orientation(_tiff_tags(exif, start, form))
    except ImageError:
        return 0


def _orientation(tags: _TiffTags) -> int:
    value = _tiff_value(tags, _ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _tiff_value(tags: _TiffTags, tag: int, default: int) -> int:
    values = tags[tag].values if tag in tags else ()
    return values[0] if values else default


def _tiff_header(data: bytes) -> _Header:
    """Read the one directory; check its layout and that all its strips or tiles are there."""
    form, start = _tiff_start(data)
    _refuse_pages(data, start, form)
    tags = _tiff_tags(data, start, form)
    layout = _TiffLayout.of(tags)
    layout.refuse_lossy()
    layout.refuse_incomplete(tags, len(data))
    grey, unsigned = layout.photometric in (0, 1), layout.sample_format == 1
    changed: dict[int, int] = {}
    if grey:
        changed[_PHOTOMETRIC] = 1  # Pillow inverts WhiteIsZero at 8 bits but not at 16: we do it, for both
    if grey and unsigned and layout.depth == 32:
        changed[_SAMPLE_FORMAT] = 2  # Pillow reads 32 bits as signed; the sign is undone after decoding
    if layout.premultiplied:
        changed[_EXTRA_SAMPLES] = 0  # colour times alpha is what lies over black: alpha is done with
    return _Header(
        format="TIFF",
        data=_tiff_rewritten(data, tags, changed, form),
        width=layout.width,
        height=layout.height,
        channels=layout.samples,
        depth=layout.depth,
        orientation=_orientation(tags),
        packing="halves" if layout.depth == 16 and layout.photometric == 2 else "plain",
        white_is_zero=layout.photometric == 0,
        unsigned=unsigned,
        notes=("alpha-over-black",) if layout.premultiplied else (),
    )


def _refuse_pages(data: bytes, start: int, form: _TiffForm) -> None:
    seen, following = {start}, _tiff_following(data, start, form)
    while following:
        if following in seen:
            _refuse("IMG_CORRUPT", "A TIFF whose list of pages runs in a circle.")
        seen.add(following)
        if len(seen) > 100:
            break
        following = _tiff_following(data, following, form)
    if len(seen) > 1:
        _refuse("IMG_MULTIFRAME", f"A TIFF of {'over 100' if len(seen) > 100 else len(seen)} pages.")


@dataclass(frozen=True, kw_only=True)
class _TiffLayout:
    """How the samples lie in a TIFF, in the words of its specification."""

    width: int
    height: int
    samples: int
    depth: int
    sample_format: int  # 1 unsigned, 2 signed, 3 float
    photometric: int  # 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr
    planar: int
    compression: int
    extra_samples: tuple[int, ...]
    subsampled: bool

    @classmethod
    def of(cls, tags: _TiffTags) -> _TiffLayout:
        depths = set(tags[_BITS].values) if _BITS in tags else {1}
        if len(depths) != 1:
            _refuse("IMG_DEPTH_UNSUPPORTED", "A TIFF whose channels differ in depth.")
        return cls(
            width=_tiff_value(tags, _WIDTH, 0),
            height=_tiff_value(tags, _HEIGHT, 0),
            samples=_tiff_value(tags, _SAMPLES, 1),
            depth=depths.pop(),
            sample_format=_tiff_value(tags, _SAMPLE_FORMAT, 1),
            photometric=_tiff_value(tags, _PHOTOMETRIC, 1),
            planar=_tiff_value(tags, _PLANAR, 1),
            compression=_tiff_value(tags, _COMPRESSION, 1),
            extra_samples=tags[_EXTRA_SAMPLES].values if _EXTRA_SAMPLES in tags else (),
            subsampled=tags[_SUBSAMPLING].values != (1, 1) if _SUBSAMPLING in tags else True,
        )

    @property
    def premultiplied(self) -> bool:
        return self.extra_samples == (1,)

    def refuse_lossy(self) -> None:
        """Refuse what Pillow would read wrongly without a word."""
        if self.compression not in COMPRESSION_INFO:
            _refuse("IMG_FORMAT_NOT_ALLOWED", f"TIFF compression {self.compression}.")
        if self.photometric not in (0, 1, 2, 3, 5, 6):
            _refuse("IMG_DEPTH_UNSUPPORTED", f"TIFF photometric interpretation {self.photometric}.")
        deep_colour = self.depth > 8 and self.photometric not in (0, 1)
        whole_rgb = (self.depth, self.photometric, self.planar, self.sample_format) == (16, 2, 1, 1)
        signed_bytes = self.depth <= 8 and self.sample_format != 1
        raw_subsampled = self.photometric == 6 and self.compression == 1 and self.subsampled
        if (deep_colour and not whole_rgb) or signed_bytes or raw_subsampled:
            kind = {2: "signed ", 3: "float "}.get(self.sample_format, "")
            _refuse("IMG_DEPTH_UNSUPPORTED", f"A TIFF of {self.samples} {kind}{self.depth}-bit channels.")

    def refuse_incomplete(self, tags: _TiffTags, file_bytes: int) -> None:
        """Compare strips or tiles with the size of the image: Pillow leaves what is missing black."""
        tiled = _TILES in tags
        offsets = tags[_TILES].values if tiled else tags[_STRIPS].values if _STRIPS in tags else ()
        counts = tags[_TILE_BYTES if tiled else _STRIP_BYTES].values if tiled or _STRIP_BYTES in tags else ()
        width = _tiff_value(tags, _TILE_WIDTH, 0) if tiled else self.width
        rows = _tiff_value(tags, _TILE_HEIGHT if tiled else _ROWS_PER_STRIP, self.height)
        if not tiled:
            rows = min(rows, self.height)
        if width < 1 or rows < 1:
            _refuse("IMG_CORRUPT", "A TIFF of empty strips or tiles.")
        if width * rows > max(_MAX_TILE_PIXELS, self.width * self.height):
            _refuse("IMG_TOO_LARGE", f"TIFF tiles of {width} x {rows} pixels.")
        planes = self.samples if self.planar == 2 else 1
        across, down = -(-self.width // width), -(-self.height // rows)
        if len(offsets) != across * down * planes or len(counts) not in (0, len(offsets)):
            _refuse(
                "IMG_CORRUPT",
                f"A TIFF of {len(offsets)} strips or tiles, where {across * down * planes} belong.",
            )
        if self.compression == 1:
            line = -(-width * self.depth * (self.samples // planes) // 8)
            last_rows = rows if tiled else self.height - (down - 1) * rows
            heights = ([rows] * (down - 1) * across + [last_rows] * across) * planes
            counts = tuple(line * height for height in heights)
        if any(offset + count > file_bytes for offset, count in zip(offsets, counts, strict=False)):
            _refuse("IMG_TRUNCATED", "A strip or tile lies past the end of the file.")


def _tiff_rewritten(data: bytes, tags: _TiffTags, changed: dict[int, int], form: _TiffForm) -> bytes:
    """The file with a new directory at its end: the tags pixels need, `changed` ones as one SHORT."""
    entries = {tag: entry.raw for tag, entry in tags.items() if tag in _TIFF_NEEDED}
    pointer = form.order + ("Q" if form.big else "I")
    for tag, value in changed.items():
        inline = struct.pack(form.order + "H", value).ljust(form.pointer_size, b"\0")
        entries[tag] = struct.pack(form.order + "HH", tag, 3) + struct.pack(pointer, 1) + inline
    padding = b"\0" * (-len(data) % 8)
    count = struct.pack(form.order + ("Q" if form.big else "H"), len(entries))
    directory = count + b"".join(entries[tag] for tag in sorted(entries)) + struct.pack(pointer, 0)
    place = 8 if form.big else 4
    start = struct.pack(pointer, len(data) + len(padding))
    return b"".join([data[:place], start, data[place + len(start) :], padding, directory])


# BMP and WebP


def _bmp_header(data: bytes) -> _Header:
    (first_pixel,) = _unpack("<I", data, 10)
    if _unpack("<I", data, 14)[0] in (12, 16):
        width, height, _, depth = _unpack("<HHHH", data, 18) if data[14] == 12 else _unpack("<IIHH", data, 18)
        compression = 0
    else:
        width, height, _, depth, compression = _unpack("<iiHHI", data, 18)
    line = (abs(width) * depth + 31) // 32 * 4
    if compression in (0, 3) and first_pixel + line * abs(height) > len(data):  # the others are run lengths
        _refuse("IMG_TRUNCATED", "The pixels run past the end of the file.")
    return _Header(
        format="BMP",
        data=data,
        width=width,
        height=abs(height),  # negative when the rows run downwards
        channels={24: 3, 32: 4}.get(depth, 1),
        depth=min(depth, 8),
    )


def _webp_header(data: bytes) -> _Header:
    """Walk the RIFF chunks: Pillow's decoder takes memory for the whole canvas as soon as it opens one."""
    end = 8 + int(_unpack("<I", data, 4)[0])
    if end > len(data):
        _refuse("IMG_TRUNCATED", "The RIFF block runs past the end of the file.")
    size, channels, exif, start = (0, 0), 3, None, 12
    for _ in range(_MAX_BLOCKS):
        if start + 8 > end:
            break
        kind, length = _unpack("<4sI", data, start)
        body = data[start + 8 : min(start + 8 + length, end)]
        if kind in (b"VP8 ", b"VP8L", b"VP8X") and size == (0, 0):
            size, channels = _webp_canvas(kind, body)
        elif kind == b"EXIF":
            exif = body.removeprefix(b"Exif\0\0")
        start += 8 + length + length % 2
    return _Header(
        format="WEBP",
        data=data[:end],
        width=size[0],
        height=size[1],
        channels=channels,
        orientation=_exif_orientation(exif),
        notes=_trailing(data, end),
    )


def _webp_canvas(kind: bytes, body: bytes) -> tuple[tuple[int, int], int]:
    """Size and number of channels, from the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    if kind == b"VP8 ":
        width, height = _unpack("<HH", body, 6)
        return (width & 0x3FFF, height & 0x3FFF), 3
    if kind == b"VP8L":
        (fields,) = _unpack("<I", body, 1)
        return ((fields & 0x3FFF) + 1, (fields >> 14 & 0x3FFF) + 1), 4 if fields >> 28 & 1 else 3
    flags, width, height_low, height_high = _unpack("<B3xIHB", body[:7] + b"\0" + body[7:], 0)
    if flags & 0x02:
        _refuse("IMG_MULTIFRAME", "An animated WebP.")
    return (width + 1, (height_high << 16 | height_low) + 1), 4 if flags & 0x10 else 3


_HEADERS: dict[Format, Callable[[bytes], _Header]] = {
    "PNG": _png_header,
    "JPEG": _jpeg_header,
    "TIFF": _tiff_header,
    "BMP": _bmp_header,
    "WEBP": _webp_header,
}


def _check_size(width: int, height: int, limits: ImageLimits, *, bytes_per_pixel: int) -> None:
    """Hold the declared size against the limits; `bytes_per_pixel` is what decoding takes at its peak."""
    size = f"{width} x {height} pixels"
    if width < 1 or height < 1:
        _refuse("IMG_CORRUPT", f"{size}.")
    short, long = sorted((width, height))
    if width * height > limits.max_pixels or long > limits.max_side:
        _refuse(
            "IMG_TOO_LARGE",
            f"{size}; the limits are {limits.max_pixels:,} in all, {limits.max_side:,} a side.",
        )
    if long > limits.max_aspect * short:
        _refuse("IMG_TOO_LONG", f"{size}; the limit is {limits.max_aspect:g} to 1.")
    if short < limits.min_side:
        _refuse("IMG_TOO_SMALL", f"{size}; the limit is {limits.min_side} a side.")
    if width * height * bytes_per_pixel > limits.max_memory_bytes:
        _refuse(
            "IMG_MEMORY",
            f"{size} of {bytes_per_pixel} bytes; the limit is {limits.max_memory_bytes:,} bytes.",
        )


# --- Decoding ---------------------------------------------------------------------------------------------

_PLUGINS: dict[Format, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "WEBP": WebPImageFile,
}

_WARNING_FILTERS = threading.Lock()  # they belong to the whole process


@contextmanager
def _warnings_refuse() -> Iterator[None]:
    """Make each Pillow warning (a bomb, a bad tag) an error."""
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        yield


class _Samples(NamedTuple):
    """Decoded samples: `(height, width)` or `(height, width, 3)`, and alpha `(height, width)` if any."""

    mode: str
    colour: Pixels
    alpha: Pixels | None
    notes: tuple[str, ...]


def _read_encoded(data: bytes, limits: ImageLimits, *, suffix: str) -> tuple[Pixels, DecodeRecord]:
    name = _recognise(data)
    header = _HEADERS[name](data)
    sample_bytes = -(-header.depth // 8) * header.channels
    _check_size(header.width, header.height, limits, bytes_per_pixel=4 + 4 * sample_bytes)
    with _warnings_refuse():
        samples = _decode(header)
    wrong_name = suffix not in ("", *_SUFFIXES[name])
    notes = (*(("wrong-extension",) if wrong_name else ()), *header.notes, *samples.notes)
    return _finish(
        samples._replace(notes=notes),
        data,
        format=name,
        channels=header.channels,
        stored_bits=1 if samples.mode == "1" else header.depth,
        white_is_zero=header.white_is_zero,
        orientation=header.orientation,
    )


def _read_array(array: Pixels, limits: ImageLimits) -> tuple[Pixels, DecodeRecord]:
    """One image of an npz array: `(height, width)`, or with 1 or 3 channels last."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        _refuse(
            "IMG_DEPTH_UNSUPPORTED",
            f"An array of shape {array.shape}; (height, width) or (height, width, 3) is read.",
        )
    channels = array.shape[2] if array.ndim == 3 else 1
    _check_size(array.shape[1], array.shape[0], limits, bytes_per_pixel=(array.itemsize + 8) * channels)
    notes = ("one-bit",) if array.dtype == bool else ()
    colour = array * np.uint8(255) if array.dtype == bool else array
    return _finish(
        _Samples(str(array.dtype), colour if channels == 3 else colour.reshape(array.shape[:2]), None, notes),
        array.tobytes(),
        format="ARRAY",
        channels=channels,
        stored_bits=1 if array.dtype == bool else 8 * array.itemsize,
    )


def _decode(header: _Header) -> _Samples:
    plugin = _PLUGINS[header.format]
    notes: tuple[str, ...] = ()
    try:
        image: Image.Image = plugin(io.BytesIO(header.data))
    except SyntaxError:
        if header.format != "TIFF":
            raise
        _refuse("IMG_DEPTH_UNSUPPORTED", f"A TIFF of {header.channels} {header.depth}-bit channels.")
    stored_mode = f"{_STORED_MODES[header.channels]};16" if header.packing != "plain" else image.mode
    if header.packing == "halves":
        samples = _both_halves(plugin, header.data)
    elif header.packing == "pairs":
        samples = np.asarray(image).view(">u2").astype(np.uint16)
    else:
        image, notes = _grey_or_rgb(image)
        samples = np.asarray(image)
    if samples.shape[:2] != (header.height, header.width):
        _refuse("IMG_CORRUPT", "The image is not of the size its header says.")
    if image.mode == "I" and header.depth == 32 and header.unsigned:
        samples = samples.view(np.uint32)
    return _Samples(stored_mode, *_split_alpha(samples, header.transparent), notes)


_STORED_MODES = {2: "LA", 3: "RGB", 4: "RGBA"}


def _both_halves(plugin: Callable[[io.BytesIO], ImageFile.ImageFile], data: bytes) -> Pixels:
    """All 16 bits of colour samples: Pillow keeps the high byte, so swap the bytes and ask again."""
    high = np.asarray(plugin(io.BytesIO(data))).astype(np.uint16)
    image = plugin(io.BytesIO(data))
    image.tile = [tile._replace(args=_bytes_swapped(tile.args)) for tile in image.tile]
    return np.asarray(high << 8 | np.asarray(image))


def _bytes_swapped(args: Any) -> Any:
    """The arguments of a Pillow decoder with the byte order of its raw mode reversed."""
    if isinstance(args, tuple):
        return (_bytes_swapped(args[0]), *args[1:])
    native = "L" if sys.byteorder == "little" else "B"
    order = native if args[-1] == "N" else args[-1]
    return args[:-1] + {"L": "B", "B": "L"}[order]


def _grey_or_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in a mode of grey or RGB samples, and what was done for it."""
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB"), ("palette",)
    if image.mode == "CMYK":
        return image.convert("RGB"), ("cmyk",)
    if image.mode == "YCbCr":
        return image.convert("RGB"), ("ycbcr",)
    if image.mode == "1":
        return image.convert("L"), ("one-bit",)
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16B", "I;16L"):
        _refuse("IMG_DEPTH_UNSUPPORTED", f"An image of Pillow mode {image.mode}.")
    return image, ()


def _split_alpha(samples: Pixels, transparent: tuple[int, ...] | None) -> tuple[Pixels, Pixels | None]:
    """Colour and alpha; a colour declared see-through counts as alpha 0."""
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        colour = samples[..., 0] if samples.shape[2] == 2 else samples[..., :3]
        return colour, samples[..., -1]
    if transparent is None:
        return samples, None
    hidden = samples == np.array(transparent, dtype=samples.dtype)
    hidden = hidden.all(axis=-1) if samples.ndim == 3 else hidden
    return samples, np.where(hidden, 0, np.iinfo(samples.dtype).max).astype(samples.dtype)


# --- One grey channel -------------------------------------------------------------------------------------


def _finish(
    samples: _Samples,
    encoded: bytes,
    *,
    format: Format | Literal["ARRAY"],
    channels: int,
    stored_bits: int,
    white_is_zero: bool = False,
    orientation: int = 1,
) -> tuple[Pixels, DecodeRecord]:
    """Samples to grey pixels, checked, with their record."""
    notes = list(samples.notes)
    pixels = _exact(samples.colour, notes)
    if white_is_zero:
        pixels = _inverted(pixels)
        notes.append("white-is-zero")
    pixels = _grey(pixels, notes)
    if samples.alpha is not None:
        pixels = _over_black(pixels, samples.alpha, notes)
    if orientation != 1:
        notes.append(f"exif-orientation-{orientation}" if orientation else "exif-unreadable")
    pixels = np.ascontiguousarray(_upright(pixels, orientation))
    _refuse_empty(pixels)
    return pixels, DecodeRecord(
        format=format,
        mode=samples.mode,
        bits=_significant_bits(pixels, stored_bits),
        channels=channels,
        width=pixels.shape[1],
        height=pixels.shape[0],
        file_bytes=len(encoded),
        file_sha256=hashlib.sha256(encoded).hexdigest(),
        pixel_sha256=_pixel_sha256(pixels),
        notes=tuple(dict.fromkeys(notes)),
    )


def _exact(samples: Pixels, notes: list[str]) -> Pixels:
    """As uint8 or uint16 unchanged, else as float32, which must hold each integer exactly."""
    if samples.dtype.kind == "u" and samples.itemsize <= 2:
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused as such
        floats = samples.astype(np.float32)
    if samples.dtype.kind == "f":
        if samples.itemsize > 4:
            notes.append("rounded-to-float32")
    elif not np.array_equal(floats, samples):
        _refuse("IMG_DEPTH_UNSUPPORTED", "Integers above 16,777,216 that float32 cannot hold.")
    return floats


def _inverted(pixels: Pixels) -> Pixels:
    """Bright for dark: within the significant bits of integers, by sign for floats."""
    if pixels.dtype.kind == "f":
        return -pixels
    brightest = 2 ** _significant_bits(pixels, 8 * pixels.itemsize) - 1
    return np.asarray(pixels.dtype.type(brightest) - pixels)


def _grey(colour: Pixels, notes: list[str]) -> Pixels:
    if colour.ndim == 2:
        return colour
    red, green, blue = colour[..., 0], colour[..., 1], colour[..., 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        notes.append("equal-channels")
        return red
    notes.append("rgb-to-grey")
    if colour.dtype.kind == "f":
        return np.asarray(np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue)
    # ITU-R 601-2 in 16-bit fixed point, as Pillow has it; the sum of 16-bit samples just fits 32 bits.
    luma = red * np.uint32(19595)
    luma += green * np.uint32(38470)
    luma += blue * np.uint32(7471)
    luma += np.uint32(1 << 15)
    luma >>= np.uint32(16)
    return luma.astype(colour.dtype)


def _over_black(pixels: Pixels, alpha: Pixels, notes: list[str]) -> Pixels:
    opaque = np.iinfo(alpha.dtype).max
    if (alpha == opaque).all():
        notes.append("opaque-alpha")
        return pixels
    notes.append("alpha-over-black")
    product = pixels * alpha.astype(np.uint32)
    product += np.uint32(opaque // 2)
    product //= np.uint32(opaque)
    return product.astype(pixels.dtype)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation: 5 to 8 lie on their side, the even ones but 6 and 8 are mirrored."""
    upright: dict[int, Callable[[], Pixels]] = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: lambda: pixels.T,
        6: lambda: pixels[::-1].T,
        7: lambda: pixels[::-1, ::-1].T,
        8: lambda: pixels[:, ::-1].T,
    }
    return upright[orientation]() if orientation in upright else pixels


def _refuse_empty(pixels: Pixels) -> None:
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        _refuse("IMG_NONFINITE", f"{np.count_nonzero(~np.isfinite(pixels)):,} of {pixels.size:,} pixels.")
    lowest = pixels.min()
    if lowest == pixels.max():
        _refuse("IMG_CONSTANT", f"Each of {pixels.size:,} pixels is {lowest}.")


def _significant_bits(pixels: Pixels, stored_bits: int) -> int:
    if pixels.dtype == np.uint16:
        return 12 if pixels.max() < 2**12 else 16
    if pixels.dtype == np.uint8:
        return 1 if stored_bits == 1 else 8
    return min(stored_bits, 32)


def _pixel_sha256(pixels: Pixels) -> str:
    height, width = pixels.shape
    digest = hashlib.sha256(f"{pixels.dtype.name} {height}x{width} ".encode())
    digest.update(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()
