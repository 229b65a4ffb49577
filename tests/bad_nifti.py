"""NIfTI files that must be refused, written on demand, each with the code it must be refused with."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np

from bad_images import BadImage

SHAPE = (16, 18, 20)


def volume(dtype: str = "int16", shape: tuple[int, ...] = SHAPE, **how) -> bytes:
    """A small volume in which no two voxels of a slice are alike."""
    values = np.arange(np.prod(shape)).reshape(shape) % 30_000
    return nibabel.Nifti1Image(values.astype(dtype), how.get("affine", np.eye(4))).to_bytes()


def patched(data: bytes, offset: int, form: str, *values: float) -> bytes:
    """The same bytes with some replaced."""
    return data[:offset] + struct.pack(form, *values) + data[offset + struct.calcsize(form) :]


def bad_nifti(folder: Path) -> list[BadImage]:
    """Write all bad volumes into `folder`, about 1 MB, and list them."""
    folder.mkdir(parents=True, exist_ok=True)
    good = volume()
    second = nibabel.Nifti2Image(np.arange(4096, dtype=np.int16).reshape(16, 16, 16), np.eye(4)).to_bytes()
    packed = gzip.compress(good)
    bomb = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    header = patched(good, 42, "<3h", 1024, 1024, 1024)[:352]
    bombed = bomb.compress(header) + b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush()
    cases = {
        "gz_bomb.nii.gz": (bombed, "IMG_MEMORY"),
        "gz_cut.nii.gz": (packed[: len(packed) // 2], "NII_TRUNCATED"),
        "gz_flipped.nii.gz": (packed[:600] + bytes([packed[600] ^ 0xFF]) + packed[601:], "NII_CORRUPT"),
        "gz_of_text.nii.gz": (gzip.compress(b"a shopping list" * 100), "IMG_NOT_AN_IMAGE"),
        "cut.nii": (good[:-100], "NII_TRUNCATED"),
        "header_only.nii": (good[:352], "NII_TRUNCATED"),
        "half_a_header.nii": (good[:200], "IMG_NOT_AN_IMAGE"),
        "no_length_of_header.nii": (patched(good, 0, "<i", 1234), "NII_HEADER"),
        "zero_dimension.nii": (patched(good, 44, "<h", 0), "NII_DIMENSIONS"),
        "negative_dimension.nii": (patched(good, 44, "<h", -16), "NII_DIMENSIONS"),
        "no_dimensions.nii": (patched(good, 40, "<h", 0), "NII_DIMENSIONS"),
        "nine_dimensions.nii": (patched(good, 40, "<h", 9), "NII_DIMENSIONS"),
        "dimension_overflow.nii": (patched(good, 42, "<3h", 32767, 32767, 32767), "IMG_MEMORY"),
        "more_voxels_than_data.nii": (patched(good, 46, "<h", 200), "NII_TRUNCATED"),
        "five_dimensions.nii": (volume(shape=(8, 8, 8, 1, 3)), "NII_DIMENSIONS"),
        "complex_voxels.nii": (patched(good, 70, "<h", 32), "NII_DATATYPE"),
        "long_double_voxels.nii": (patched(good, 70, "<h", 1536), "NII_DATATYPE"),
        "unknown_voxels.nii": (patched(good, 70, "<h", 7), "NII_DATATYPE"),
        "nan_affine.nii": (patched(patched(good, 254, "<h", 1), 280, "<4f", np.nan, 0, 0, 0), "NII_AFFINE"),
        "infinite_affine.nii": (patched(patched(good, 254, "<h", 1), 280, "<4f", np.inf, 0, 0, 0), "NII_AFFINE"),
        "flat_affine.nii": (patched(patched(good, 254, "<h", 1), 312, "<4f", 0, 0, 0, 0), "NII_AFFINE"),
        # Third row of the sform in NIfTI-2: squares past what a float holds, and rows that name no axis.
        "affine_past_floats.nii": (patched(second, 400, "<12d", *np.diag([1e200] * 3).ravel(), 0, 0, 0), "NII_AFFINE"),
        "affine_of_tiny_axes.nii": (
            patched(patched(good, 254, "<h", 1), 280, "<12f", 1e30, 0, 0, 0, 0, 1e-30, 0, 0, 0, 0, 1e-30, 0),
            "NII_AFFINE",
        ),
        "nan_offset.nii": (patched(good, 108, "<f", np.nan), "NII_HEADER"),
        "negative_offset.nii": (patched(good, 108, "<f", -5), "NII_HEADER"),
        "offset_past_end.nii": (patched(good, 108, "<f", 1e6), "NII_TRUNCATED"),
        "header_without_voxels.hdr": (patched(good, 344, "4s", b"ni1\0")[:348], "NII_PAIR"),
        "several_slices.nii": (good, "IMG_MULTIFRAME"),
        "one_slice_constant.nii": (volume(shape=(16, 16, 1))[:352] + bytes(512), "IMG_CONSTANT"),
        "one_slice_nan.nii": (
            nibabel.Nifti1Image(np.full((16, 16, 1), np.nan, np.float32), np.eye(4)).to_bytes(),
            "IMG_NONFINITE",
        ),
        "nifti2_cut.nii": (second[:-9], "NII_TRUNCATED"),
    }
    listed = []
    for name, (data, code) in cases.items():
        (folder / name).write_bytes(data)
        listed.append(BadImage(name, folder / name, code))
    return listed
