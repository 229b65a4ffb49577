"""WebP headers: RFC 9649."""

from __future__ import annotations

from plainfilm.data.formats.exif import exif_orientation
from plainfilm.data.formats.header import MAX_BLOCKS, Header, trailing, unpack
from plainfilm.data.refusals import refuse


def webp_header(data: bytes) -> Header:
    """Walk the RIFF chunks: Pillow's decoder takes memory for the whole canvas as soon as it opens one."""
    end = 8 + int(unpack("<I", data, 4)[0])
    if end > len(data):
        refuse("IMG_TRUNCATED", "The RIFF block runs past the end of the file.")
    size, channels, exif, start = (0, 0), 3, None, 12
    for _ in range(MAX_BLOCKS):
        if start + 8 > end:
            break
        kind, length = unpack("<4sI", data, start)
        body = data[start + 8 : min(start + 8 + length, end)]
        if kind in (b"VP8 ", b"VP8L", b"VP8X") and size == (0, 0):
            size, channels = _canvas(kind, body)
        elif kind == b"EXIF":
            exif = body.removeprefix(b"Exif\0\0")
        start += 8 + length + length % 2
    return Header(
        format="WEBP",
        data=data[:end],
        width=size[0],
        height=size[1],
        channels=channels,
        orientation=exif_orientation(exif),
        notes=trailing(data, end),
    )


def _canvas(kind: bytes, body: bytes) -> tuple[tuple[int, int], int]:
    """Size and number of channels, from the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    if kind == b"VP8 ":
        width, height = unpack("<HH", body, 6)
        return (width & 0x3FFF, height & 0x3FFF), 3
    if kind == b"VP8L":
        (fields,) = unpack("<I", body, 1)
        return ((fields & 0x3FFF) + 1, (fields >> 14 & 0x3FFF) + 1), 4 if fields >> 28 & 1 else 3
    flags, width, height_low, height_high = unpack("<B3xIHB", body[:7] + b"\0" + body[7:], 0)
    if flags & 0x02:
        refuse("IMG_MULTIFRAME", "An animated WebP.")
    return (width + 1, (height_high << 16 | height_low) + 1), 4 if flags & 0x10 else 3
