"""Orientation from an EXIF block, which is a TIFF directory too."""

from __future__ import annotations

from plainfilm.data.formats.tiff_tags import orientation_of, read_tags, start_of
from plainfilm.errors import ImageError


def exif_orientation(exif: bytes | None) -> int:
    """1 to 8; 1 when nothing is said, 0 when the block cannot be read."""
    if exif is None:
        return 1
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return 0
    try:
        form, start = start_of(exif)
        return orientation_of(read_tags(exif, start, form))
    except ImageError:
        return 0
