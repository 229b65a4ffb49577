"""BMP headers, those of OS/2 among them."""

from __future__ import annotations

from plainfilm.data.formats.header import Header, unpack
from plainfilm.data.refusals import refuse


def bmp_header(data: bytes) -> Header:
    """Read the size; check that uncompressed rows are all there."""
    (first_pixel,) = unpack("<I", data, 10)
    if unpack("<I", data, 14)[0] in (12, 16):
        width, height, _, depth = unpack("<HHHH", data, 18) if data[14] == 12 else unpack("<IIHH", data, 18)
        compression = 0
    else:
        width, height, _, depth, compression = unpack("<iiHHI", data, 18)
    line = (abs(width) * depth + 31) // 32 * 4
    if compression in (0, 3) and first_pixel + line * abs(height) > len(data):  # the others are run lengths
        refuse("IMG_TRUNCATED", "The pixels run past the end of the file.")
    return Header(
        format="BMP",
        data=data,
        width=width,
        height=abs(height),  # negative when the rows run downwards
        channels={24: 3, 32: 4}.get(depth, 1),
        depth=min(depth, 8),
    )
