"""What a walk over a file finds, and the means to walk without running past its end."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from plainfilm.data.refusals import refuse

Format = Literal["PNG", "JPEG", "TIFF", "BMP", "WEBP", "DICOM", "NIFTI"]

MAX_BLOCKS = 200_000  # chunks, segments, or values of one tag: bounds our own walks


@dataclass(frozen=True, kw_only=True)
class Header:
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


class Block(NamedTuple):
    """One chunk or segment: its kind, and where it lies in the file."""

    kind: int | bytes
    start: int
    end: int


def trailing(data: bytes, end: int) -> tuple[str, ...]:
    """The note on bytes after the `end` of the image, if there are any."""
    return ("trailing-bytes",) if end < len(data) else ()


def unpack(form: str, data: bytes, offset: int) -> tuple[Any, ...]:
    """`struct.unpack_from`, where running past the end means a truncated file."""
    if offset + struct.calcsize(form) > len(data):
        refuse("IMG_TRUNCATED", "A header runs past the end of the file.")
    return struct.unpack_from(form, data, offset)
