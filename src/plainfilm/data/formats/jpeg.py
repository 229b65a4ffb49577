"""JPEG headers: ITU-T T.81, annex B."""

from __future__ import annotations

import re
from collections.abc import Iterator

from plainfilm.data.formats.exif import exif_orientation
from plainfilm.data.formats.header import MAX_BLOCKS, Block, Header, trailing, unpack
from plainfilm.data.refusals import refuse

_MARKER = re.compile(rb"\xff++([^\xff])", re.DOTALL)
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\xff\x00\xd0-\xd7]", re.DOTALL)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_METADATA = frozenset((*range(0xE1, 0xEE), 0xEF, 0xFE))  # application data but JFIF, Adobe; comments
_SOF55, _EOI, _SOS, _APP1 = 0xF7, 0xD9, 0xDA, 0xE1
_MAX_SCANS = 100  # of a progressive JPEG; each costs a pass over the whole image, and 20 are many


def jpeg_header(data: bytes) -> Header:
    """Walk the segments; their order and the end marker are checked, their pixels are not."""
    blocks = list(_segments(data))
    frames = [x for x in blocks if x.kind in _FRAMES]
    scans = sum(x.kind == _SOS for x in blocks)
    if len(frames) != 1 or not 1 <= scans <= _MAX_SCANS:
        refuse("IMG_CORRUPT", f"A JPEG with {len(frames)} frames and {scans} scans.")
    depth, height, width, channels = unpack(">BHHB", data, frames[0].start + 4)
    if depth != 8:
        refuse("IMG_DEPTH_UNSUPPORTED", f"A JPEG of {depth} bits.")
    exif = [x for x in blocks if x.kind == _APP1 and data[x.start + 4 : x.start + 10] == b"Exif\0\0"]
    kept = [data[x.start : x.end] for x in blocks if x.kind not in _METADATA]
    return Header(
        format="JPEG",
        data=b"".join([data[:2], *kept]),
        width=width,
        height=height,
        channels=channels,
        orientation=exif_orientation(data[exif[0].start + 10 : exif[0].end] if exif else None),
        notes=trailing(data, blocks[-1].end),
    )


def _segments(data: bytes) -> Iterator[Block]:
    """The segments up to the end marker, which must come; a scan's pixels belong to its segment."""
    position, pattern = 2, _MARKER
    for _ in range(MAX_BLOCKS):
        found = pattern.match(data, position)
        if found is None:
            code = "IMG_TRUNCATED" if position >= len(data) - 1 else "IMG_CORRUPT"
            refuse(code, "A JPEG without an end marker.")
        marker, start = found[1][0], found.end() - 2
        if marker == _EOI:
            yield Block(marker, start, start + 2)
            return
        if marker == _SOF55:
            refuse("IMG_FORMAT_NOT_ALLOWED", "JPEG-LS.")
        position = start + 2 + unpack(">H", data, start + 2)[0]
        if position > len(data):
            refuse("IMG_TRUNCATED", "A segment runs past the end of the file.")
        if marker == _SOS:
            following = _MARKER_AFTER_SCAN.search(data, position)
            position = following.start() if following else len(data)
        yield Block(marker, start, position)
    refuse("IMG_CORRUPT", f"More than {MAX_BLOCKS:,} segments.")
