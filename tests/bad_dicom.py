"""DICOM files that must be refused, written on demand, each with the code it must be refused with."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from bad_images import BadImage, encoded, noise
from dicom_files import as_bytes, dicom, item, lut, sequence

MPEG4 = "1.2.840.10008.1.2.4.102"


def bad_dicom(folder: Path) -> list[BadImage]:
    """Write all bad files into `folder`, about 1 MB, and list them."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom says what is wrong with them
        for name, data, code in _all():
            path = folder / f"{name}.dcm"
            path.write_bytes(data)
            listed.append(BadImage(path.name, path, code))
    return listed


def _all() -> Iterator[tuple[str, bytes, str]]:
    yield from _syntaxes()
    yield from _pixels()
    yield from _depths_and_tables()
    yield from _colours()
    yield from _streams()


def image(**elements: object) -> Dataset:
    return dicom(noise(dtype=np.uint16), **elements)


def compressed(syntax: str, frame: bytes, **elements: object) -> bytes:
    """An 8-bit image whose only frame is `frame`."""
    made = dicom(noise(), syntax=syntax, **elements)
    made.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2)])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return as_bytes(made)


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """The same bytes with the one place of `old` overwritten."""
    assert data.count(old) == 1
    place = data.index(old)
    return data[:place] + new + data[place + len(old) :]


def _syntaxes() -> Iterator[tuple[str, bytes, str]]:
    jpeg = encoded(noise(), "JPEG")
    other = encoded(noise(128, 128), "JPEG")
    good = as_bytes(image())
    uid = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
    big = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.2\x00"
    rle = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.5\x00"
    yield "claims_big_endian", replaced(good, uid, big), "DCM_SYNTAX_WRONG"
    yield "claims_rle", replaced(good, uid, rle), "DCM_SYNTAX_WRONG"
    endless = b"\x02\x00\x02\x01OB\0\0" + b"\xff" * 4
    yield "own_header_without_length", good[:132] + endless + good[132:], "DCM_CORRUPT"
    yield "rle_without_header", compressed(RLELossless, b"no segments at all"), "DCM_SYNTAX_WRONG"
    yield "rle_damaged", compressed(RLELossless, struct.pack("<16I", 1, *[64] * 15) + b"\x81\0"), "DCM_CORRUPT"
    yield "claims_jpeg_2000", compressed(JPEG2000Lossless, jpeg), "DCM_SYNTAX_WRONG"
    yield "claims_jpeg", compressed(JPEGBaseline8Bit, b"\xff\x4f\xff\x51" + bytes(60)), "DCM_SYNTAX_WRONG"
    yield "claims_jpeg_ls", compressed(JPEGLSLossless, bytes(100)), "DCM_SYNTAX_WRONG"
    yield (
        "compressed_but_says_not",
        compressed(JPEGBaseline8Bit, jpeg).replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1".ljust(22, b"\0")),
        "DCM_SYNTAX_WRONG",
    )
    yield "video", compressed(MPEG4, bytes(64)), "DCM_SYNTAX"
    yield (
        "private_syntax",
        as_bytes(dicom(noise(), syntax="1.2.840.10008.1.2.1")).replace(
            b"1.2.840.10008.1.2.1\0", b"1.2.826.0.1.3680043\0"[:20]
        ),
        "DCM_SYNTAX",
    )
    yield "jpeg_12_bit", compressed(JPEGExtended12Bit, jpeg_of_12_bits(), BitsAllocated=16, BitsStored=12,
                                    PixelData=bytes(8192)), "DCM_SYNTAX_GPL"  # fmt: skip
    yield "jpeg_of_another_size", compressed(JPEGBaseline8Bit, other), "DCM_DIMENSIONS"
    yield "jpeg_cut", compressed(JPEGBaseline8Bit, jpeg[:100]), "DCM_CORRUPT"
    yield "jpeg_2000_cut", compressed(JPEG2000Lossless, b"\xff\x4f\xff\x51" + bytes(20)), "DCM_TRUNCATED"
    yield "jpeg_2000_bomb", compressed(JPEG2000Lossless, jpeg_2000_of(60_000)), "DCM_DIMENSIONS"
    yield (
        "jpeg_without_fragments",
        compressed(JPEGBaseline8Bit, b"ab")[:-18] + b"\xfe\xff\xdd\xe0\0\0\0\0",
        "DCM_TRUNCATED",
    )
    yield "deflated_bomb", deflated(bytes(600 << 20)), "IMG_MEMORY"
    yield "deflated_cut", as_bytes(image(syntax=DeflatedExplicitVRLittleEndian))[:-500], "DCM_TRUNCATED"
    yield "deflated_text", deflated_head() + b"this is not deflated at all", "DCM_CORRUPT"


def jpeg_of_12_bits() -> bytes:
    data = encoded(noise(), "JPEG")
    place = data.index(b"\xff\xc0")
    return data[:place] + b"\xff\xc1" + data[place + 2 : place + 4] + b"\x0c" + data[place + 5 :]


def jpeg_2000_of(side: int) -> bytes:
    size = struct.pack(">HHIIIIIIIIH", 41, 0, side, side, 0, 0, side, side, 0, 0, 1) + b"\x07\1\1"
    return b"\xff\x4f\xff\x51" + size + b"\xff\xd9"


def deflated_head() -> bytes:
    whole = as_bytes(image(syntax=DeflatedExplicitVRLittleEndian))
    (length,) = struct.unpack_from("<I", whole, 140)
    return whole[: 144 + length]


def deflated(elements: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    step = 1 << 20
    parts = (packer.compress(elements[start : start + step]) for start in range(0, len(elements), step))
    return deflated_head() + b"".join(parts) + packer.flush()


def _pixels() -> Iterator[tuple[str, bytes, str]]:
    good = as_bytes(image())
    rows = b"\x28\x00\x10\x00US\x02\x00\x40\x00"
    yield "without_pixels", as_bytes(image(PixelData=None)), "DCM_NO_PIXELS"
    yield "empty_pixels", as_bytes(image(PixelData=b"")), "DCM_NO_PIXELS"
    yield "pixels_too_short", as_bytes(image(PixelData=bytes(100))), "DCM_TRUNCATED"
    yield "cut_in_pixels", good[:-1000], "DCM_TRUNCATED"
    yield "cut_in_header", good[:400], "DCM_TRUNCATED"
    yield "rows_65535", as_bytes(image(Rows=65535, Columns=65535)), "IMG_TOO_LARGE"
    yield "rows_as_long", replaced(good, rows, b"\x28\x00\x10\x00UL\x04\x00\x40\x00\0\0"), "DCM_DIMENSIONS"
    yield "rows_as_text", replaced(good, rows, b"\x28\x00\x10\x00IS\x02\x0064"), "DCM_DIMENSIONS"
    yield "zero_rows", as_bytes(image(Rows=0)), "DCM_DIMENSIONS"
    yield "no_columns", as_bytes(image(Columns=None)), "DCM_DIMENSIONS"
    yield "one_pixel", as_bytes(dicom(noise(1, 2))), "IMG_TOO_SMALL"
    yield "frames_two_values", as_bytes(image(NumberOfFrames=[1, 2])), "DCM_FRAMES"
    yield "frames_zero", as_bytes(image(NumberOfFrames=0)), "DCM_FRAMES"
    yield "frames_a_million", as_bytes(image(NumberOfFrames=1_000_000)), "DCM_FRAMES"
    yield (
        "frames_a_word",
        replaced(as_bytes(image(NumberOfFrames="10")), b"IS\x02\x0010", b"IS\x02\x00xx"),
        "DCM_FRAMES",
    )
    yield "several_frames", as_bytes(dicom(np.stack([noise()] * 3))), "IMG_MULTIFRAME"
    yield "two_kinds_of_pixels", as_bytes(image(FloatPixelData=bytes(64 * 64 * 4))), "DCM_CORRUPT"
    yield "constant", as_bytes(dicom(np.full((64, 64), 7, np.uint16))), "IMG_CONSTANT"
    nan = image(PixelData=None, BitsAllocated=32)
    nan.FloatPixelData = np.full((64, 64), np.nan, "<f4").tobytes()
    yield "nan_pixels", as_bytes(nan), "IMG_NONFINITE"


def _depths_and_tables() -> Iterator[tuple[str, bytes, str]]:
    yield "bits_allocated_12", as_bytes(image(BitsAllocated=12, BitsStored=12)), "DCM_DEPTH"
    yield "no_bits_allocated", as_bytes(image(BitsAllocated=None)), "DCM_DEPTH"
    yield "more_stored_than_allocated", as_bytes(image(BitsStored=17)), "DCM_DEPTH"
    yield "high_bit_beyond", as_bytes(image(BitsStored=12, HighBit=16)), "DCM_DEPTH"
    yield "high_bit_contradicts", as_bytes(image(BitsStored=12, HighBit=15)), "DCM_DEPTH"
    yield "window_width_zero", as_bytes(image(WindowCenter=40, WindowWidth=0)), "DCM_WINDOW"
    yield "window_width_negative", as_bytes(image(WindowCenter=40, WindowWidth=-400)), "DCM_WINDOW"
    yield "window_of_unknown_kind", as_bytes(image(WindowCenter=4, WindowWidth=4, VOILUTFunction="CURVE")), "DCM_WINDOW"
    yield "rescale_slope_zero", as_bytes(image(RescaleSlope=0, RescaleIntercept=0)), "DCM_LUT"
    yield (
        "rescale_slope_a_word",
        replaced(as_bytes(image(RescaleSlope="1.25", RescaleIntercept=0)), b"DS\x04\x001.25", b"DS\x04\x00abcd"),
        "DCM_LUT",
    )
    yield "voi_table_too_short", as_bytes(image(VOILUTSequence=sequence(_short_table()))), "DCM_LUT"
    yield "voi_table_empty", as_bytes(image(VOILUTSequence=sequence(item(LUTExplanation="none")))), "DCM_LUT"


def _short_table() -> Dataset:
    made = lut(np.arange(16, dtype="<u2"))
    made.LUTDescriptor = [4096, 0, 16]
    return made


def _colours() -> Iterator[tuple[str, bytes, str]]:
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    yield "unknown_colours", as_bytes(dicom(colour, PhotometricInterpretation="CMYK")), "DCM_COLOUR"
    yield "three_samples_of_grey", as_bytes(dicom(colour, PhotometricInterpretation="MONOCHROME2")), "DCM_COLOUR"
    yield "one_sample_of_rgb", as_bytes(dicom(noise(), PhotometricInterpretation="RGB")), "DCM_COLOUR"
    yield "two_samples", as_bytes(dicom(noise(), SamplesPerPixel=2)), "DCM_COLOUR"
    yield "planes_of_a_third_kind", as_bytes(dicom(colour, PlanarConfiguration=2)), "DCM_COLOUR"
    yield "palette_missing", as_bytes(dicom(noise(), PhotometricInterpretation="PALETTE COLOR")), "DCM_PALETTE"
    yield "palette_index_out_of_range", as_bytes(_palette(128)), "DCM_PALETTE"
    yield "palette_shorter_than_said", as_bytes(_palette(256, held=100)), "DCM_PALETTE"
    for name, segments in {
        "of_unknown_kind": [0, 1, 0, 7, 9, 9],
        "that_begins_with_a_slope": [1, 255, 9],
        "that_overflows": [0, 1, 0, 1, 65535, 9],
        "that_repeats_itself": [0, 1, 0, 2, 50, 3, 0],
    }.items():
        yield f"segmented_palette_{name}", as_bytes(_palette(256, segments=segments)), "DCM_PALETTE"


def _palette(length: int, *, held: int | None = None, segments: list[int] | None = None) -> Dataset:
    made = dicom(noise(), PhotometricInterpretation="PALETTE COLOR")
    for number, name in enumerate(("Red", "Green", "Blue")):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [length, 0, 16])
        if segments is not None:
            made.add_new(0x00281221 + number, "OW", np.array(segments, "<u2").tobytes())
        else:
            made.add_new(0x00281201 + number, "OW", np.arange(held or length, dtype="<u2").tobytes())
    return made


def _streams() -> Iterator[tuple[str, bytes, str]]:
    good = as_bytes(image())
    place = good.index(b"\x28\x00\x02\x00US")  # before the elements of the pixels
    bomb = struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, 0x7FFFFFF0)
    huge = struct.pack("<HH2sHI", 0x0009, 0x1010, b"UN", 0, 0xFFFFFFF0)
    opened = struct.pack("<HH2sHI", 0x0009, 0x1010, b"SQ", 0, 0xFFFFFFFF)
    into = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    yield "declared_length_bomb", good[:place] + bomb + b"x" * 100, "DCM_TRUNCATED"
    yield "declared_length_bomb_of_4_gib", good[:place] + huge + b"x" * 100, "DCM_TRUNCATED"
    yield "pixels_declare_2_gib", good[: -8192 - 4] + struct.pack("<I", 0x7FFFFFF0) + good[-8192:], "DCM_TRUNCATED"
    yield "nested_500_deep", good[:place] + (opened + into) * 500 + good[place:], "DCM_NESTED"
    yield "nested_5000_deep", good[:place] + (opened + into) * 5000 + good[place:], "DCM_NESTED"
    yield "sequence_never_closed", good[:place] + opened + into, "DCM_TRUNCATED"
    yield "sequence_of_no_items", good[:place] + opened + b"this is no item at all", "DCM_CORRUPT"
    yield "compressed_pixels_never_closed", compressed(JPEGBaseline8Bit, encoded(noise(), "JPEG"))[:-8], "DCM_TRUNCATED"
    yield "junk_between_elements", good[:place] + b"\x28\x00\x02\x00\xff\xfe\x01\x02" + good[place:], "DCM_CORRUPT"
    yield "nothing_after_the_mark", bytes(128) + b"DICM", "DCM_NO_PIXELS"
    yield "half_a_file_header", good[:170], "DCM_TRUNCATED"
    yield "implicit_cut", as_bytes(image(syntax=ImplicitVRLittleEndian))[:-10], "DCM_TRUNCATED"
    yield "big_endian_cut", as_bytes(image(syntax=ExplicitVRBigEndian))[:-10], "DCM_TRUNCATED"
    yield "report", as_bytes(image(PixelData=None, Rows=None, Columns=None, Modality="SR")), "DCM_NO_PIXELS"
    index = image(PixelData=None, Rows=None, Columns=None, SOPClassUID="1.2.840.10008.1.3.10")
    index.DirectoryRecordSequence = sequence(item(ReferencedFileID=["..", "..", "etc", "passwd"]))
    yield "index_that_points_outside", as_bytes(index), "DCM_NO_PIXELS"
