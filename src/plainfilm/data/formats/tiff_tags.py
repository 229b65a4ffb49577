"""The directories of TIFF 6.0 and BigTIFF: tags and their values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from plainfilm.data.formats.header import MAX_BLOCKS, unpack
from plainfilm.data.refusals import refuse

_VALUE_BYTES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1)) | {16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


class Tag(IntEnum):
    """The tags that say how the pixels lie, and which way up; named as in the specification."""

    IMAGE_WIDTH = 256
    IMAGE_LENGTH = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    PLANAR_CONFIGURATION = 284
    T4_OPTIONS = 292
    T6_OPTIONS = 293
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_SUBSAMPLING = 530
    YCBCR_POSITIONING = 531
    REFERENCE_BLACK_WHITE = 532


_WANTED = frozenset(map(int, Tag))


@dataclass(frozen=True)
class TiffForm:
    """Byte order (`<` or `>`) and the sizes that differ between TIFF and BigTIFF."""

    order: str
    big: bool

    def count(self, data: bytes, offset: int) -> int:
        """The number of entries of the directory that starts at `offset`."""
        return int(unpack(self.order + ("Q" if self.big else "H"), data, offset)[0])

    def pointer(self, data: bytes, offset: int) -> int:
        """The number at `offset`, as wide as a place in the file is written."""
        return int(unpack(self.order + ("Q" if self.big else "I"), data, offset)[0])

    @property
    def count_size(self) -> int:
        """Bytes of the number of entries."""
        return 8 if self.big else 2

    @property
    def pointer_size(self) -> int:
        """Bytes of a place in the file, and of a value kept within its entry."""
        return 8 if self.big else 4

    @property
    def entry_size(self) -> int:
        """Bytes of one entry: tag, type, count, value or its place."""
        return 4 + 2 * self.pointer_size


class TiffEntry(NamedTuple):
    """One tag: the entry as it stands in the file, and its values where they are integers."""

    raw: bytes
    values: tuple[int, ...]


TiffTags = dict[int, TiffEntry]
"""A directory, by tag."""


def start_of(data: bytes) -> tuple[TiffForm, int]:
    """The form of the file, and where its first directory starts."""
    form = TiffForm("<" if data[:2] == b"II" else ">", big=b"+" in data[2:4])
    return form, form.pointer(data, 8 if form.big else 4)


def following_directory(data: bytes, start: int, form: TiffForm) -> int:
    """Where the directory after this one starts; 0 after the last."""
    return form.pointer(data, start + form.count_size + form.count(data, start) * form.entry_size)


def read_tags(data: bytes, start: int, form: TiffForm) -> TiffTags:
    """The tags that matter for pixels or orientation; values past the end of the file are refused."""
    tags: TiffTags = {}
    first, n_entries = start + form.count_size, form.count(data, start)
    if n_entries > 65_535:
        refuse("IMG_CORRUPT", f"A TIFF directory of {n_entries:,} tags.")
    for number in range(n_entries):
        offset = first + number * form.entry_size
        tag, kind = unpack(form.order + "HH", data, offset)
        count = form.pointer(data, offset + 4)
        if tag not in _WANTED or tag in tags or kind not in _VALUE_BYTES:
            continue
        if count > MAX_BLOCKS:
            refuse("IMG_CORRUPT", f"Tag {tag} has {count:,} values.")
        place = offset + 4 + form.pointer_size
        if count * _VALUE_BYTES[kind] > form.pointer_size:
            place = form.pointer(data, place)
        if place + count * _VALUE_BYTES[kind] > len(data):
            refuse("IMG_TRUNCATED", f"The values of tag {tag} lie past the end of the file.")
        code = _INTEGERS.get(kind)
        values = unpack(f"{form.order}{count}{code}", data, place) if code else ()
        tags[tag] = TiffEntry(data[offset : offset + form.entry_size], values)
    return tags


def orientation_of(tags: TiffTags) -> int:
    """1 to 8; 1 when the directory says nothing, or nonsense."""
    value = first_value(tags, Tag.ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def first_value(tags: TiffTags, tag: int, default: int) -> int:
    """The only or first value of a tag; `default` where it is absent or no integer."""
    values = values_of(tags, tag)
    return values[0] if values else default


def values_of(tags: TiffTags, tag: int) -> tuple[int, ...]:
    """All values of a tag; none where it is absent or no integer."""
    return tags[tag].values if tag in tags else ()
