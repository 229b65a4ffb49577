"""Reading one image: bytes in, one grey channel out, or one error with a stable code.

Every entry point reads its pictures here. A file goes through four steps, and each may refuse it:

1. its bytes are fetched (`ImageRef` says from where) and recognised by content, never by name;
2. its header is walked by our own short readers: size, checksums, pages, orientation;
3. Pillow decodes what is left after everything but pixels was cut away;
4. the samples become one grey channel without losing depth, and are checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from plainfilm.data.dicom.reading import open_dicom, read_frame
from plainfilm.data.fetching import check_bytes, fetch_file, fetch_member
from plainfilm.data.formats.bmp import bmp_header
from plainfilm.data.formats.decoding import Samples, decode
from plainfilm.data.formats.header import Format, Header
from plainfilm.data.formats.jpeg import jpeg_header
from plainfilm.data.formats.png import png_header
from plainfilm.data.formats.recognising import is_misnamed, recognise
from plainfilm.data.formats.tiff import tiff_header
from plainfilm.data.formats.webp import webp_header
from plainfilm.data.grey import Channel, grey_channel, significant_bits
from plainfilm.data.nifti.reading import Axis, Volume, is_axis, open_volume, read_slice, slice_size, volume_of
from plainfilm.data.refusals import REASONS, refuse
from plainfilm.data.windows import FILE, Window, parse_window
from plainfilm.errors import ImageError

__all__ = ["REASONS", "DecodeRecord", "ImageLimits", "ImageRef", "read_image"]

Pixels = NDArray[Any]


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
        member: A parquet column (of bytes, or of structs `{bytes, path}`), the name of an npz array, or `axial`,
            `coronal` or `sagittal` for slices of a NIfTI volume.
        row: Row of that column or array; None reads the whole array as one image. Of a DICOM file of several
            frames: which frame, of a volume: which slice, counted from 0.
        window: Window of grey values, where the format has any: `file`, `file:2`, `none` or `CENTRE/WIDTH`; see
            `windows.parse_window`.
    """

    path: Path
    member: str | None = None
    row: int | None = None
    window: str = FILE


@dataclass(frozen=True)
class DecodeRecord:
    """How one image was stored, and what was done to make it one grey channel.

    Attributes:
        format: `PNG`, `JPEG`, `TIFF`, `BMP`, `WEBP`, `DICOM`, `NIFTI`, or `ARRAY` for a row of an
            npz array.
        mode: Pillow's name of the stored layout (`;16` added for 16-bit colour); an array's dtype; the photometric
            interpretation of DICOM.
        bits: Significant bits of the stored samples: 1, 8, 12, 16 or 32; of DICOM, the bits stored. A 16-bit image
            without a value above 4095 counts as 12; over a data set, take the largest. 2- and 4-bit samples are
            widened to 8.
        channels: Stored channels, alpha included; 1 for a palette.
        width: Pixels, after orientation.
        height: Pixels, after orientation.
        file_bytes: Size of the encoded image (of the row, for an array).
        file_sha256: Hash of those bytes.
        pixel_sha256: Hash of dtype, shape and the grey pixels, in little-endian order.
        notes: Each conversion that was applied, as short stable words.
    """

    format: Literal["PNG", "JPEG", "TIFF", "BMP", "WEBP", "DICOM", "NIFTI", "ARRAY"]
    mode: str
    bits: int
    channels: int
    width: int
    height: int
    file_bytes: int
    file_sha256: str
    pixel_sha256: str
    notes: tuple[str, ...] = ()


def read_image(
    source: Path | bytes | ImageRef,
    *,
    limits: ImageLimits | None = None,
    channel: Channel = "grey",
    window: str = FILE,
) -> tuple[Pixels, DecodeRecord]:
    """Decode one image to one grey channel, at its full depth.

    Colour becomes grey: three equal channels give that channel exactly, others ITU-R 601-2 luma
    (0.299 R + 0.587 G + 0.114 B). Transparency is laid over black. EXIF orientation is applied.
    WhiteIsZero samples are inverted within their significant bits (floats are negated): bright is high.
    One-bit images become 0 and 255. DICOM is shown as the standard has it (see `dicom.greyscale`).

    Args:
        source: A file, its bytes, or a place inside a parquet, npz or DICOM file.
        limits: Refuses what exceeds them; `max_seconds` is not held here.
        channel: `grey`, or one channel of a colour image by itself; a grey image has but the one.
        window: Window of grey values of DICOM and NIfTI; an `ImageRef` has its own.

    Returns:
        `(height, width)`, contiguous: uint8, uint16, or float32 (from floats, signed and 32-bit
        integers); and the record.

    Raises:
        ImageError: With a code of `REASONS`; the message names no folder.
    """
    limits = limits or ImageLimits()
    seen_through = parse_window(source.window if isinstance(source, ImageRef) else window)
    with _one_error():
        if isinstance(source, ImageRef) and is_axis(source.member):
            return _read_nifti(_volume(source.path, limits), source, limits, channel, seen_through)
        found = _fetch(source, limits)
        if isinstance(found, np.ndarray):
            return _read_array(found, limits, channel)
        name = recognise(found)
        if name == "DICOM":
            return _read_dicom(found, source, limits, channel, seen_through)
        if name == "NIFTI":
            path = None if isinstance(source, bytes) else source.path if isinstance(source, ImageRef) else source
            volume = volume_of(
                found, path, max_file_bytes=limits.max_file_bytes, max_memory_bytes=limits.max_memory_bytes
            )
            return _read_nifti(volume, ImageRef(path or Path()), limits, channel, seen_through)
        return _read_encoded(found, limits, channel, suffix=_suffix(source))


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
        refuse("IMG_MEMORY", "Memory ran out.")
    except BaseException as error:
        # A decoder written in Rust panics with what is no `Exception`; that of RLE is one.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        code = "IMG_TRUNCATED" if "truncated" in str(error).lower() else "IMG_CORRUPT"
        detail = f"It cannot be decoded ({type(error).__name__})."
        raise ImageError(f"{detail} {REASONS[code]}", code=code) from error


def _suffix(source: Path | bytes | ImageRef) -> str:
    if isinstance(source, ImageRef):
        return "" if source.member is not None else source.path.suffix.lower()
    return source.suffix.lower() if isinstance(source, Path) else ""


def _fetch(source: Path | bytes | ImageRef, limits: ImageLimits) -> bytes | Pixels:
    """The encoded bytes of one image, or its array."""
    if isinstance(source, ImageRef) and source.member is not None:
        found = fetch_member(source.path, source.member, source.row, max_bytes=limits.max_memory_bytes)
    elif isinstance(source, bytes):
        found = source
    else:
        path = source.path if isinstance(source, ImageRef) else source
        return fetch_file(path, max_bytes=limits.max_file_bytes)
    if isinstance(found, bytes):
        check_bytes(len(found), max_bytes=limits.max_file_bytes)
    return found


_HEADERS: dict[Format, Callable[[bytes], Header]] = {
    "PNG": png_header,
    "JPEG": jpeg_header,
    "TIFF": tiff_header,
    "BMP": bmp_header,
    "WEBP": webp_header,
}


def _read_encoded(data: bytes, limits: ImageLimits, channel: Channel, *, suffix: str) -> tuple[Pixels, DecodeRecord]:
    name = recognise(data)
    header = _HEADERS[name](data)
    sample_bytes = -(-header.depth // 8) * header.channels
    _check_size(header.width, header.height, limits, bytes_per_pixel=4 + 4 * sample_bytes)
    samples = decode(header)
    notes = (*_misnamed(name, suffix), *header.notes, *samples.notes)
    return _finish(
        samples._replace(notes=notes),
        data,
        channel=channel,
        format=name,
        channels=header.channels,
        stored_bits=1 if samples.mode == "1" else header.depth,
        white_is_zero=header.white_is_zero,
        orientation=header.orientation,
    )


def _misnamed(name: Format, suffix: str) -> tuple[str, ...]:
    return ("wrong-extension",) if is_misnamed(name, suffix) else ()


def _read_dicom(
    data: bytes, source: Path | bytes | ImageRef, limits: ImageLimits, channel: Channel, window: Window
) -> tuple[Pixels, DecodeRecord]:
    """One frame of a DICOM file."""
    frame = source.row if isinstance(source, ImageRef) and source.member is None else None
    image = open_dicom(data, max_memory_bytes=limits.max_memory_bytes)
    header = image.header
    _check_size(header.columns, header.rows, limits, bytes_per_pixel=image.bytes_per_pixel)
    samples = read_frame(image, frame, window)
    return _finish(
        Samples(
            header.photometric_interpretation,
            samples.colour,
            None,
            (*_misnamed("DICOM", _suffix(source)), *samples.notes),
        ),
        data,
        channel=channel,
        format="DICOM",
        channels=header.samples,
        stored_bits=header.bits_stored,
        bits=samples.bits,
    )


def _volume(path: Path, limits: ImageLimits) -> Volume:
    try:
        found = path.stat()
    except OSError:
        refuse("IMG_MISSING", "No such file.")
    return open_volume(path, (found.st_mtime_ns, found.st_size), limits.max_file_bytes, limits.max_memory_bytes)


def _read_nifti(
    volume: Volume, ref: ImageRef, limits: ImageLimits, channel: Channel, window: Window
) -> tuple[Pixels, DecodeRecord]:
    """One slice of a NIfTI volume."""
    axis = cast("Axis | None", ref.member)
    width, height = slice_size(volume.header, axis)
    _check_size(width, height, limits, bytes_per_pixel=8 + 4 * volume.header.voxel_bytes)
    colour, notes = read_slice(volume, axis, ref.row, window)
    return _finish(
        Samples(str(volume.voxels.dtype) if colour.ndim == 2 else "RGB", colour, None, tuple(notes)),
        volume.data,
        channel=channel,
        format="NIFTI",
        channels=3 if colour.ndim == 3 else 1,
        stored_bits=min(32, 8 * volume.header.voxel_bytes if colour.ndim == 2 else 8),
    )


def _read_array(array: Pixels, limits: ImageLimits, channel: Channel) -> tuple[Pixels, DecodeRecord]:
    """One image of an npz array: `(height, width)`, or with 1 or 3 channels last."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        refuse(
            "IMG_DEPTH_UNSUPPORTED",
            f"An array of shape {array.shape}; (height, width) or (height, width, 3) is read.",
        )
    channels = array.shape[2] if array.ndim == 3 else 1
    _check_size(array.shape[1], array.shape[0], limits, bytes_per_pixel=(array.itemsize + 8) * channels)
    notes = ("one-bit",) if array.dtype == bool else ()
    colour = array * np.uint8(255) if array.dtype == bool else array
    return _finish(
        Samples(str(array.dtype), colour if channels == 3 else colour.reshape(array.shape[:2]), None, notes),
        array.tobytes(),
        channel=channel,
        format="ARRAY",
        channels=channels,
        stored_bits=1 if array.dtype == bool else 8 * array.itemsize,
    )


def _check_size(width: int, height: int, limits: ImageLimits, *, bytes_per_pixel: int) -> None:
    """Hold the declared size against the limits; `bytes_per_pixel` is what decoding takes at its peak."""
    size = f"{width} x {height} pixels"
    if width < 1 or height < 1:
        refuse("IMG_CORRUPT", f"{size}.")
    short, long = sorted((width, height))
    if width * height > limits.max_pixels or long > limits.max_side:
        refuse(
            "IMG_TOO_LARGE",
            f"{size}; the limits are {limits.max_pixels:,} in all, {limits.max_side:,} a side.",
        )
    if long > limits.max_aspect * short:
        refuse("IMG_TOO_LONG", f"{size}; the limit is {limits.max_aspect:g} to 1.")
    if short < limits.min_side:
        refuse("IMG_TOO_SMALL", f"{size}; the limit is {limits.min_side} a side.")
    if width * height * bytes_per_pixel > limits.max_memory_bytes:
        refuse(
            "IMG_MEMORY",
            f"{size} of {bytes_per_pixel} bytes; the limit is {limits.max_memory_bytes:,} bytes.",
        )


def _finish(
    samples: Samples,
    encoded: bytes,
    *,
    channel: Channel,
    format: Format | Literal["ARRAY"],
    channels: int,
    stored_bits: int,
    bits: int | None = None,
    white_is_zero: bool = False,
    orientation: int = 1,
) -> tuple[Pixels, DecodeRecord]:
    """Samples to grey pixels, checked, with their record; `bits` where they are known and not to be guessed."""
    pixels, grey_notes = grey_channel(
        samples.colour, alpha=samples.alpha, white_is_zero=white_is_zero, orientation=orientation, channel=channel
    )
    _refuse_empty(pixels)
    return pixels, DecodeRecord(
        format=format,
        mode=samples.mode,
        bits=significant_bits(pixels, stored_bits) if bits is None else bits,
        channels=channels,
        width=pixels.shape[1],
        height=pixels.shape[0],
        file_bytes=len(encoded),
        file_sha256=hashlib.sha256(encoded).hexdigest(),
        pixel_sha256=_pixel_sha256(pixels),
        notes=tuple(dict.fromkeys((*samples.notes, *grey_notes))),
    )


def _refuse_empty(pixels: Pixels) -> None:
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        refuse("IMG_NONFINITE", f"{np.count_nonzero(~np.isfinite(pixels)):,} of {pixels.size:,} pixels.")
    lowest = pixels.min()
    if lowest == pixels.max():
        refuse("IMG_CONSTANT", f"Each of {pixels.size:,} pixels is {lowest}.")


def _pixel_sha256(pixels: Pixels) -> str:
    height, width = pixels.shape
    digest = hashlib.sha256(f"{pixels.dtype.name} {height}x{width} ".encode())
    digest.update(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()
