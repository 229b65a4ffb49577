"""TIFF headers: checked against what Pillow reads wrongly or leaves black, and rewritten without metadata."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from PIL.TiffImagePlugin import COMPRESSION_INFO

from plainfilm.data.formats.header import Header
from plainfilm.data.formats.tiff_tags import (
    Tag,
    TiffForm,
    TiffTags,
    first_value,
    following_directory,
    orientation_of,
    read_tags,
    start_of,
    values_of,
)
from plainfilm.data.refusals import refuse

_MAX_TILE_PIXELS = 2**26  # of one TIFF tile, which is unpacked whole however small the image is


def tiff_header(data: bytes) -> Header:
    """Read the one directory; check its layout and that all its strips or tiles are there."""
    form, start = start_of(data)
    _refuse_pages(data, start, form)
    tags = read_tags(data, start, form)
    layout = _Layout.of(tags)
    layout.refuse_lossy()
    layout.refuse_incomplete(tags, len(data))
    grey, unsigned = layout.photometric in (0, 1), layout.sample_format == 1
    changed: dict[int, int] = {}
    if grey:
        changed[Tag.PHOTOMETRIC] = 1  # Pillow inverts WhiteIsZero at 8 bits but not at 16: we do it, for both
    if grey and unsigned and layout.depth == 32:
        changed[Tag.SAMPLE_FORMAT] = 2  # Pillow reads 32 bits as signed; the sign is undone after decoding
    if layout.premultiplied:
        changed[Tag.EXTRA_SAMPLES] = 0  # colour times alpha is what lies over black: alpha is done with
    return Header(
        format="TIFF",
        data=_rewritten(data, tags, changed, form),
        width=layout.width,
        height=layout.height,
        channels=layout.samples,
        depth=layout.depth,
        orientation=orientation_of(tags),
        packing="halves" if layout.depth == 16 and layout.photometric == 2 else "plain",
        white_is_zero=layout.photometric == 0,
        unsigned=unsigned,
        notes=("alpha-over-black",) if layout.premultiplied else (),
    )


def _refuse_pages(data: bytes, start: int, form: TiffForm) -> None:
    seen, following = {start}, following_directory(data, start, form)
    while following:
        if following in seen:
            refuse("IMG_CORRUPT", "A TIFF whose list of pages runs in a circle.")
        seen.add(following)
        if len(seen) > 100:
            break
        following = following_directory(data, following, form)
    if len(seen) > 1:
        refuse("IMG_MULTIFRAME", f"A TIFF of {'over 100' if len(seen) > 100 else len(seen)} pages.")


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How the samples lie in a TIFF, in the words of its specification."""

    width: int
    height: int
    samples: int
    depth: int
    sample_format: int  # 1 unsigned, 2 signed, 3 float
    photometric: int  # 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr
    planar: int
    compression: int
    extra_samples: tuple[int, ...]
    subsampled: bool

    @classmethod
    def of(cls, tags: TiffTags) -> _Layout:
        depths = set(tags[Tag.BITS_PER_SAMPLE].values) if Tag.BITS_PER_SAMPLE in tags else {1}
        if len(depths) != 1:
            refuse("IMG_DEPTH_UNSUPPORTED", "A TIFF whose channels differ in depth.")
        return cls(
            width=first_value(tags, Tag.IMAGE_WIDTH, 0),
            height=first_value(tags, Tag.IMAGE_LENGTH, 0),
            samples=first_value(tags, Tag.SAMPLES_PER_PIXEL, 1),
            depth=depths.pop(),
            sample_format=first_value(tags, Tag.SAMPLE_FORMAT, 1),
            photometric=first_value(tags, Tag.PHOTOMETRIC, 1),
            planar=first_value(tags, Tag.PLANAR_CONFIGURATION, 1),
            compression=first_value(tags, Tag.COMPRESSION, 1),
            extra_samples=values_of(tags, Tag.EXTRA_SAMPLES),
            subsampled=values_of(tags, Tag.YCBCR_SUBSAMPLING) != (1, 1),
        )

    @property
    def premultiplied(self) -> bool:
        return self.extra_samples == (1,)

    def refuse_lossy(self) -> None:
        """Refuse what Pillow would read wrongly without a word."""
        if self.compression not in COMPRESSION_INFO:
            refuse("IMG_FORMAT_NOT_ALLOWED", f"TIFF compression {self.compression}.")
        if self.photometric not in (0, 1, 2, 3, 5, 6):
            refuse("IMG_DEPTH_UNSUPPORTED", f"TIFF photometric interpretation {self.photometric}.")
        deep_colour = self.depth > 8 and self.photometric not in (0, 1)
        whole_rgb = (self.depth, self.photometric, self.planar, self.sample_format) == (16, 2, 1, 1)
        signed_bytes = self.depth <= 8 and self.sample_format != 1
        raw_subsampled = self.photometric == 6 and self.compression == 1 and self.subsampled
        if (deep_colour and not whole_rgb) or signed_bytes or raw_subsampled:
            kind = {2: "signed ", 3: "float "}.get(self.sample_format, "")
            refuse("IMG_DEPTH_UNSUPPORTED", f"A TIFF of {self.samples} {kind}{self.depth}-bit channels.")

    def refuse_incomplete(self, tags: TiffTags, file_bytes: int) -> None:
        """Compare strips or tiles with the size of the image: Pillow leaves what is missing black."""
        tiled = Tag.TILE_OFFSETS in tags
        if tiled and Tag.TILE_BYTE_COUNTS not in tags:
            refuse("IMG_CORRUPT", "A TIFF that does not say how long its tiles are.")
        offsets = values_of(tags, Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS)
        counts = values_of(tags, Tag.TILE_BYTE_COUNTS if tiled else Tag.STRIP_BYTE_COUNTS)
        width = first_value(tags, Tag.TILE_WIDTH, 0) if tiled else self.width
        rows = first_value(tags, Tag.TILE_LENGTH if tiled else Tag.ROWS_PER_STRIP, self.height)
        if not tiled:
            rows = min(rows, self.height)
        if width < 1 or rows < 1:
            refuse("IMG_CORRUPT", "A TIFF of empty strips or tiles.")
        if width * rows > max(_MAX_TILE_PIXELS, self.width * self.height):
            refuse("IMG_TOO_LARGE", f"TIFF tiles of {width} x {rows} pixels.")
        planes = self.samples if self.planar == 2 else 1
        across, down = -(-self.width // width), -(-self.height // rows)
        if len(offsets) != across * down * planes or len(counts) not in (0, len(offsets)):
            refuse(
                "IMG_CORRUPT",
                f"A TIFF of {len(offsets)} strips or tiles, where {across * down * planes} belong.",
            )
        if self.compression == 1:
            line = -(-width * self.depth * (self.samples // planes) // 8)
            last_rows = rows if tiled else self.height - (down - 1) * rows
            heights = ([rows] * (down - 1) * across + [last_rows] * across) * planes
            counts = tuple(line * height for height in heights)
        if any(offset + count > file_bytes for offset, count in zip(offsets, counts, strict=False)):
            refuse("IMG_TRUNCATED", "A strip or tile lies past the end of the file.")


def _rewritten(data: bytes, tags: TiffTags, changed: dict[int, int], form: TiffForm) -> bytes:
    """The file with a new directory at its end: the tags pixels need, `changed` ones as one SHORT."""
    entries = {tag: entry.raw for tag, entry in tags.items() if tag != Tag.ORIENTATION}
    pointer = form.order + ("Q" if form.big else "I")
    for tag, value in changed.items():
        inline = struct.pack(form.order + "H", value).ljust(form.pointer_size, b"\0")
        entries[tag] = struct.pack(form.order + "HH", tag, 3) + struct.pack(pointer, 1) + inline
    padding = b"\0" * (-len(data) % 8)
    count = struct.pack(form.order + ("Q" if form.big else "H"), len(entries))
    directory = count + b"".join(entries[tag] for tag in sorted(entries)) + struct.pack(pointer, 0)
    place = 8 if form.big else 4
    start = struct.pack(pointer, len(data) + len(padding))
    return b"".join([data[:place], start, data[place + len(start) :], padding, directory])
