"""One frame out of a DICOM file: its bytes found, its codestream checked, its samples decoded."""

from __future__ import annotations

import importlib.util
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainfilm.data.dicom.codestreams import read_declared
from plainfilm.data.dicom.elements import Walk
from plainfilm.data.dicom.header import ImageHeader
from plainfilm.data.dicom.syntaxes import JPEG_EXTENDED, Codec
from plainfilm.data.refusals import refuse

_EXTENDED_OFFSETS = 0x7FE00001
_LOGGING_AND_WARNINGS = threading.Lock()  # they belong to the whole process


def decode_frame(walk: Walk, header: ImageHeader, frame: int) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The stored samples of one frame, counted from 0.

    Returns:
        `(rows, columns)`, or `(rows, columns, 3)` in RGB; integers of the bits stored, signed where the header says so.
        And notes.

    Raises:
        ImageError: With a `DCM_` code.
    """
    if not 0 <= frame < header.frames:
        refuse("DCM_FRAMES", f"It has {header.frames:,} frames, not frame {frame + 1:,}.")
    codec = walk.syntax.require_codec()
    if codec == "native":
        samples = _native(walk, header, frame)
    elif header.is_float or header.pixels.fragments is None:
        refuse("DCM_SYNTAX_WRONG", "Its pixels are not compressed, as its transfer syntax says they are.")
    else:
        samples = _decompressed(_encoded(walk, header, frame), walk, header, codec)
    if header.is_float:
        return samples, ("float-pixels",)
    return _stored_bits(samples, header, is_native=codec in ("native", "rle", "encapsulated"))


# --- uncompressed -------------------------------------------------------------------------------------------


def _native(walk: Walk, header: ImageHeader, frame: int) -> NDArray[Any]:
    if header.pixels.fragments is not None:
        refuse("DCM_SYNTAX_WRONG", "Its pixels are compressed, though its transfer syntax says they are not.")
    held = 8 * (header.pixels.end - header.pixels.value)
    if header.frame_bits * header.frames > held:
        refuse(
            "DCM_TRUNCATED",
            f"It holds {held // 8:,} bytes of pixels, {-(-header.frame_bits * header.frames // 8):,} were to be there.",
        )
    first = header.frame_bits * frame
    start = header.pixels.value + first // 8
    end = header.pixels.value + -(-(first + header.frame_bits) // 8)
    raw = walk.data[start:end]
    shape = (header.rows, header.columns)
    if header.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[first % 8 :]
        return bits[: shape[0] * shape[1]].reshape(shape)
    kind = "f" if header.is_float else "i" if header.is_signed else "u"
    values = np.frombuffer(raw, np.dtype(f"{walk.syntax.order}{kind}{header.bits_allocated // 8}"))
    if header.bits_allocated == 8 and walk.syntax.order == ">" and header.pixels.vr == "OW":
        values = _swapped(values, walk, header, frame)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if header.samples == 1:
        return values.reshape(shape)
    if header.photometric_interpretation == "YBR_FULL_422":
        return _to_rgb(_all_chroma(values).reshape(*shape, 3), header)
    if header.planar_configuration == 1:
        return _to_rgb(np.moveaxis(values.reshape(3, *shape), 0, -1), header)
    return _to_rgb(values.reshape(*shape, 3), header)


def _swapped(values: NDArray[Any], walk: Walk, header: ImageHeader, frame: int) -> NDArray[Any]:
    """Bytes that a big-endian file keeps in pairs of two (OW), in their order."""
    whole = np.frombuffer(walk.data, np.uint8, header.pixels.end - header.pixels.value, header.pixels.value)
    turned = whole[: len(whole) // 2 * 2].reshape(-1, 2)[:, ::-1].reshape(-1)
    start = header.frame_bits // 8 * frame
    return turned[start : start + header.frame_bits // 8].view(values.dtype)


def _all_chroma(values: NDArray[Any]) -> NDArray[Any]:
    """Y1 Y2 Cb Cr as two whole pixels."""
    y1, y2, blue, red = values.reshape(-1, 4).T
    return np.stack([np.stack([y, blue, red], axis=-1) for y in (y1, y2)], axis=1).reshape(-1, 3)


def _to_rgb(samples: NDArray[Any], header: ImageHeader) -> NDArray[Any]:
    if not header.photometric_interpretation.startswith("YBR_FULL"):
        return samples
    if header.bits_stored != 8 or header.is_signed:
        refuse("DCM_COLOUR", f"YBR samples of {header.bits_stored} bits.")
    from pydicom.pixels.processing import convert_color_space

    return convert_color_space(np.ascontiguousarray(samples), "YBR_FULL", "RGB")


# --- compressed ---------------------------------------------------------------------------------------------


def _encoded(walk: Walk, header: ImageHeader, frame: int) -> bytes:
    """The bytes of one compressed frame."""
    assert header.pixels.fragments is not None
    if not header.pixels.fragments[1:]:
        refuse("DCM_TRUNCATED", "It holds no compressed frame.")
    table, *fragments = header.pixels.fragments
    if header.frames == 1:
        return _joined(walk, fragments)
    if len(fragments) == header.frames:
        return _joined(walk, fragments[frame : frame + 1])
    if len(fragments) < header.frames:
        refuse("DCM_FRAMES", f"{header.frames:,} frames are declared, {len(fragments):,} are there.")
    starts = _offsets(walk, table)
    if len(starts) == header.frames:
        origin = fragments[0][0] - 8
        end = starts[frame + 1] if frame + 1 < len(starts) else fragments[-1][1]
        chosen = [one for one in fragments if starts[frame] <= one[0] - 8 - origin < end]
        if chosen:
            return _joined(walk, chosen)
    groups: list[list[tuple[int, int]]] = [[]]
    for start, end in fragments:  # without a table: a frame ends where its codestream does
        groups[-1].append((start, end))
        if b"\xff\xd9" in walk.data[end - 10 : end]:
            groups.append([])
    groups = [group for group in groups if group]
    if len(groups) != header.frames:
        refuse("DCM_FRAMES", f"Its {len(fragments):,} pieces cannot be told apart into {header.frames:,} frames.")
    return _joined(walk, groups[frame])


def _offsets(walk: Walk, table: tuple[int, int]) -> tuple[int, ...]:
    """Where frames begin, by the basic or the extended offset table; empty without one."""
    extended = walk.elements.get(_EXTENDED_OFFSETS)
    start, end = (extended.value, extended.end) if extended is not None else table
    form, size = ("Q", 8) if extended is not None else ("I", 4)
    return struct.unpack_from(f"<{(end - start) // size}{form}", walk.data, start)


def _joined(walk: Walk, fragments: list[tuple[int, int]]) -> bytes:
    return b"".join(walk.data[start:end] for start, end in fragments)


def _decompressed(frame: bytes, walk: Walk, header: ImageHeader, codec: Codec) -> NDArray[Any]:
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder

    declared = read_declared(frame, codec)
    if declared is not None:
        _check_declared(declared, header, walk.syntax.uid)
    elif codec == "rle":
        _check_rle(frame, header)
    options: dict[str, Any] = {
        "rows": header.rows,
        "columns": header.columns,
        "number_of_frames": 1,
        "samples_per_pixel": header.samples,
        "bits_allocated": header.bits_allocated,
        "bits_stored": header.bits_stored,
        "pixel_representation": int(header.is_signed),
        "photometric_interpretation": header.photometric_interpretation,
        "planar_configuration": header.planar_configuration,
        "pixel_keyword": "PixelData",
        "correct_unused_bits": False,
        "allow_excess_frames": False,
    }
    whole = encapsulate([frame if len(frame) % 2 == 0 else frame + b"\0"], has_bot=False)
    with _quietly():
        try:
            samples, properties = get_decoder(walk.syntax.uid).as_array(whole, index=0, validate=False, **options)
        except MemoryError:
            raise
        except Exception as error:
            refuse("DCM_CORRUPT", f"Its compressed pixels cannot be decoded ({type(error).__name__}).")
    if samples.shape[:2] != (header.rows, header.columns):
        refuse("DCM_DIMENSIONS", "The decoded frame is not of the size that the header says.")
    if header.samples == 3 and str(properties["photometric_interpretation"]).startswith("YBR_FULL"):
        refuse("DCM_COLOUR", "Its colours cannot be brought to RGB.")
    return samples


def _check_declared(declared: Any, header: ImageHeader, syntax: str) -> None:
    if (declared.rows, declared.columns, declared.samples) != (header.rows, header.columns, header.samples):
        refuse(
            "DCM_DIMENSIONS",
            f"The header says {header.columns} x {header.rows} pixels of {header.samples} samples, the frame "
            f"{declared.columns} x {declared.rows} of {declared.samples}.",
        )
    if declared.precision > header.bits_allocated:
        refuse("DCM_DEPTH", f"{declared.precision} bits are compressed, {header.bits_allocated} are allocated.")
    if syntax == JPEG_EXTENDED and declared.precision > 8 and importlib.util.find_spec("libjpeg") is None:
        refuse("DCM_SYNTAX_GPL", "JPEG Extended of 12 bits.")


def _check_rle(frame: bytes, header: ImageHeader) -> None:
    segments = struct.unpack_from("<I", frame)[0] if len(frame) >= 64 else 0
    if segments != header.samples * header.bits_allocated // 8:
        refuse("DCM_SYNTAX_WRONG", "Its pixels are not the RLE that its transfer syntax says.")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep pydicom from warning and logging of what is answered by a code."""
    logger, mute = logging.getLogger("pydicom"), logging.NullHandler()
    with _LOGGING_AND_WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, logger.propagate = logger.propagate, False
        logger.addHandler(mute)
        try:
            yield
        finally:
            logger.removeHandler(mute)
            logger.propagate = before


# --- bits ---------------------------------------------------------------------------------------------------


def _stored_bits(
    samples: NDArray[Any], header: ImageHeader, *, is_native: bool
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The bits that count: those above are cleared, or made the sign; those below a shifted high bit are dropped."""
    notes: list[str] = []
    width = 8 * samples.itemsize
    shift = header.high_bit - header.bits_stored + 1
    if shift and is_native and header.bits_allocated > 1:
        if (samples & ((1 << shift) - 1)).any():
            refuse("DCM_DEPTH", f"The highest bit is said to be {header.high_bit}, but bits below its range are set.")
        samples = samples >> shift
        notes.append("high-bit")
    unused = width - header.bits_stored
    if header.bits_allocated == 1 or not unused:
        return samples, tuple(notes)
    kept = (samples << unused) >> unused if header.is_signed else samples & ((1 << header.bits_stored) - 1)
    if (kept != samples).any():
        notes.append("unused-bits")
    return kept.astype(samples.dtype), tuple(notes)
