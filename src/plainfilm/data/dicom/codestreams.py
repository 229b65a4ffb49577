"""The size that a compressed frame itself declares: it must be that of the header, or a decoder could be misled."""

from __future__ import annotations

import struct
from typing import NamedTuple

from plainfilm.data.dicom.syntaxes import Codec
from plainfilm.data.refusals import refuse


class Declared(NamedTuple):
    """What a codestream says of itself."""

    rows: int
    columns: int
    samples: int
    precision: int


_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # JPEG's, and that of JPEG-LS


def read_declared(frame: bytes, codec: Codec) -> Declared | None:
    """What the frame declares; None for codecs that declare nothing.

    Raises:
        ImageError: `DCM_SYNTAX_WRONG` if it is not of this codec, `DCM_CORRUPT` if it is damaged.
    """
    if codec in ("jpeg", "jpeg-ls"):
        return _jpeg(frame)
    if codec == "jpeg-2000":
        return _jpeg_2000(frame)
    return None


def _jpeg(frame: bytes) -> Declared:
    if frame[:2] != b"\xff\xd8":
        refuse("DCM_SYNTAX_WRONG", "Its pixels are not the JPEG that its transfer syntax says.")
    place = 2
    while place + 10 <= len(frame):
        if frame[place] != 0xFF:
            break
        marker = frame[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        (length,) = struct.unpack_from(">H", frame, place + 2)
        if marker in _FRAME_HEADERS:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, place + 4)
            return Declared(rows, columns, samples, precision)
        if marker in (0xD9, 0xDA) or length < 2:
            break
        place += 2 + length
    return refuse("DCM_CORRUPT", "The JPEG of its pixels has no frame header.")


def _jpeg_2000(frame: bytes) -> Declared:
    place = frame.find(b"jp2c", 0, 1 << 16) + 4 if frame[4:8] == b"jP  " else 0
    if frame[place : place + 4] != b"\xff\x4f\xff\x51":
        refuse("DCM_SYNTAX_WRONG", "Its pixels are not the JPEG 2000 that its transfer syntax says.")
    if len(frame) < place + 43:
        refuse("DCM_TRUNCATED", "The JPEG 2000 of its pixels ends within its header.")
    columns, rows, left, top = struct.unpack_from(">IIII", frame, place + 8)
    samples, depth = struct.unpack_from(">HB", frame, place + 40)
    return Declared(rows - top, columns - left, samples, (depth & 0x7F) + 1)
