"""What a DICOM file says of its pixels, checked before one of them is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plainfilm.data.dicom.attributes import has_value, number, text
from plainfilm.data.dicom.elements import DOUBLE_PIXELS, FLOAT_PIXELS, PIXEL_TAGS, PIXELS, Element, Walk
from plainfilm.data.refusals import refuse

MAX_FRAMES = 100_000
_DIRECTORY = "1.2.840.10008.1.3.10"
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")

PixelKeyword = Literal["PixelData", "FloatPixelData", "DoubleFloatPixelData"]
_KEYWORDS: dict[int, PixelKeyword] = {
    PIXELS: "PixelData",
    FLOAT_PIXELS: "FloatPixelData",
    DOUBLE_PIXELS: "DoubleFloatPixelData",
}


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """The Image Pixel module (PS3.3, C.7.6.3) of one file."""

    rows: int
    columns: int
    frames: int
    samples: int
    photometric_interpretation: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    planar_configuration: int
    keyword: PixelKeyword
    pixels: Element

    @property
    def is_grey(self) -> bool:
        """Whether the grey-scale pipeline (rescale, window, inversion) applies."""
        return self.photometric_interpretation in _GREY

    @property
    def is_float(self) -> bool:
        """Whether pixels are stored as floats."""
        return self.keyword != "PixelData"

    @property
    def frame_bits(self) -> int:
        """Bits of one uncompressed frame."""
        per_pixel = 2 if self.photometric_interpretation == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * per_pixel * self.bits_allocated


def read_header(walk: Walk) -> ImageHeader:
    """The header, or the reason why it describes no image.

    Raises:
        ImageError: `DCM_NO_PIXELS`, `DCM_SYNTAX`, `DCM_DIMENSIONS`, `DCM_FRAMES`, `DCM_DEPTH` or `DCM_COLOUR`.
    """
    held = [tag for tag in PIXEL_TAGS if has_value(walk, tag)]
    if walk.media_class == _DIRECTORY:
        refuse("DCM_NO_PIXELS", "An index of other files (DICOMDIR).")
    if not held:
        refuse("DCM_NO_PIXELS", "A DICOM object without pixels.")
    if len(held) > 1:
        refuse("DCM_CORRUPT", "It holds pixels of two kinds.")
    tag = held[0]
    walk.syntax.require_codec()
    rows, columns = describe_size(walk)
    samples = number(walk, 0x00280002, "Samples per Pixel", "DCM_COLOUR")
    photometric = text(walk, 0x00280004).upper()
    allocated, stored, high = _depth(walk, tag)
    header = ImageHeader(
        rows=rows,
        columns=columns,
        frames=count_frames(walk),
        samples=1 if samples is None else samples,
        photometric_interpretation=photometric or "MONOCHROME2",
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        is_signed=number(walk, 0x00280103, "Pixel Representation", "DCM_DEPTH") == 1 and tag == PIXELS,
        planar_configuration=number(walk, 0x00280006, "Planar Configuration", "DCM_COLOUR") or 0,
        keyword=_KEYWORDS[tag],
        pixels=walk.elements[tag],
    )
    _check_colour(header)
    return header


def describe_size(walk: Walk) -> tuple[int, int]:
    """Rows and columns, both above 0."""
    rows = number(walk, 0x00280010, "Rows", "DCM_DIMENSIONS")
    columns = number(walk, 0x00280011, "Columns", "DCM_DIMENSIONS")
    if not rows or not columns:
        refuse("DCM_DIMENSIONS", f"{rows or 0} rows of {columns or 0} columns.")
    return rows, columns


def count_frames(walk: Walk) -> int:
    """How many frames the header says there are; 1 where it says nothing."""
    said = text(walk, 0x00280008)
    if not said:
        return 1
    if not said.isascii() or not said.removeprefix("+").isdigit() or not 1 <= int(said) <= MAX_FRAMES:
        refuse("DCM_FRAMES", f"Number of Frames is no whole number from 1 to {MAX_FRAMES:,}.")
    return int(said)


def _depth(walk: Walk, tag: int) -> tuple[int, int, int]:
    """Bits allocated, bits stored and high bit, fit for each other."""
    if tag != PIXELS:
        bits = 32 if tag == FLOAT_PIXELS else 64
        return bits, bits, bits - 1
    allocated = number(walk, 0x00280100, "Bits Allocated", "DCM_DEPTH")
    if allocated not in (1, 8, 16, 32):
        refuse("DCM_DEPTH", f"{allocated or 'No'} bits are allocated for a sample; 1, 8, 16 and 32 are read.")
    stored = number(walk, 0x00280101, "Bits Stored", "DCM_DEPTH") or allocated
    said = number(walk, 0x00280102, "High Bit", "DCM_DEPTH")
    high = stored - 1 if said is None else said
    if not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        refuse("DCM_DEPTH", f"{stored} of {allocated} bits are stored, the highest of them bit {high}.")
    return allocated, stored, high


def _check_colour(header: ImageHeader) -> None:
    photometric, samples = header.photometric_interpretation, header.samples
    known = {1: (*_GREY, "PALETTE COLOR"), 3: _COLOUR}.get(samples, ())
    if photometric not in known:
        shown = photometric if photometric.replace("_", "").replace(" ", "").isalnum() else "unknown"
        refuse("DCM_COLOUR", f"{samples} samples per pixel with photometric interpretation {shown[:16]}.")
    if samples == 3 and (header.planar_configuration > 1 or header.bits_allocated == 1 or header.is_float):
        refuse("DCM_COLOUR", "Its colour samples are laid out in no way that the standard knows.")
