"""PNG headers: https://www.w3.org/TR/png-3/."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

from plainfilm.data.formats.exif import exif_orientation
from plainfilm.data.formats.header import MAX_BLOCKS, Block, Header, trailing, unpack
from plainfilm.data.refusals import refuse

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_MAX_METADATA_BYTES = 4 * 2**20  # one text, profile or other chunk that holds no pixels


def png_header(data: bytes) -> Header:
    """Walk the chunks and compare their checksums."""
    blocks = list(_chunks(data))
    bodies = {x.kind: data[x.start + 8 : x.end - 4] for x in blocks if x.kind in (b"IHDR", b"tRNS", b"eXIf")}
    if blocks[0].kind != b"IHDR" or len(bodies[b"IHDR"]) != 13:
        refuse("IMG_CORRUPT", "A PNG that does not start with its IHDR chunk.")
    width, height, depth, colour = unpack(">IIBB", bodies[b"IHDR"], 0)
    if colour not in _CHANNELS:
        refuse("IMG_CORRUPT", f"A PNG of colour type {colour}.")
    # A see-through grey (type 0) or RGB (type 2) value is applied by us, at full depth.
    ours = b"tRNS" if colour in (0, 2) else None
    kept = [data[x.start : x.end] for x in blocks if x.kind in _NEEDED and x.kind != ours]
    header = Header(
        format="PNG",
        data=b"".join([_SIGNATURE, *kept]),
        width=width,
        height=height,
        channels=_CHANNELS[colour],
        depth=depth,
        orientation=exif_orientation(bodies.get(b"eXIf")),
        transparent=_transparent(bodies[b"tRNS"], colour, depth) if ours in bodies else None,
        notes=trailing(data, blocks[-1].end),
    )
    if depth == 16 and colour == 4:
        return replace(header, packing="pairs", data=_retyped(header.data))
    return replace(header, packing="halves") if depth == 16 and colour in (2, 6) else header


def _chunks(data: bytes) -> Iterator[Block]:
    """The chunks up to IEND, which must come."""
    view, start = memoryview(data), len(_SIGNATURE)
    for _ in range(MAX_BLOCKS):
        length, kind = unpack(">I4s", data, start)
        name = kind.decode("ascii") if kind.isalpha() else "damaged"
        end = start + 12 + length
        if end > len(data):
            refuse("IMG_TRUNCATED", f"The {name} chunk runs past the end of the file.")
        if zlib.crc32(view[start + 4 : end - 4]) != unpack(">I", data, end - 4)[0]:
            refuse("IMG_CORRUPT", f"The checksum of the {name} chunk is wrong.")
        if kind == b"acTL":
            refuse("IMG_MULTIFRAME", "An animated PNG.")
        if kind not in _NEEDED and length > _MAX_METADATA_BYTES:
            refuse("IMG_FILE_TOO_LARGE", f"Its {name} chunk, without pixels, has {length:,} bytes.")
        yield Block(kind, start, end)
        if kind == b"IEND":
            return
        start = end
    refuse("IMG_CORRUPT", f"More than {MAX_BLOCKS:,} chunks.")


def _transparent(body: bytes, colour: int, depth: int) -> tuple[int, ...]:
    """The see-through value on the scale of the decoded samples, whose 1, 2 or 4 bits are widened to 8."""
    values = unpack(">H" if colour == 0 else ">HHH", body, 0)
    widening = 255 // (2**depth - 1) if depth < 8 else 1
    return tuple(value * widening for value in values)


def _retyped(data: bytes) -> bytes:
    """Call 16-bit grey + alpha 8-bit RGBA: both take 4 bytes a pixel, so the filters undo alike."""
    start = len(_SIGNATURE) + 4
    fields = bytearray(data[start : start + 17])  # "IHDR", width, height, depth, colour type, ...
    fields[12:14] = (8, 6)
    return data[:start] + fields + struct.pack(">I", zlib.crc32(fields)) + data[start + 21 :]
