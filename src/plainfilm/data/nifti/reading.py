"""One slice of a NIfTI volume, upright as a radiologist looks at it, whatever way it is stored."""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plainfilm.data.dicom.greyscale import FULL, Ramp
from plainfilm.data.fetching import fetch_file
from plainfilm.data.nifti.header import VolumeHeader, looks_like_nifti, read_volume_header
from plainfilm.data.refusals import refuse
from plainfilm.data.windows import Window

Axis = Literal["axial", "coronal", "sagittal"]
AXES: dict[Axis, int] = {"sagittal": 0, "coronal": 1, "axial": 2}  # of an array that runs to the right, front and top
SHARE = 4  # a volume may take this part of the memory
_MORE = 1 << 20  # bytes after the voxels that are put up with


class Volume(NamedTuple):
    """A volume of which slices are taken: `(right, front, top)`, or the same with colour last."""

    voxels: Any
    header: VolumeHeader
    data: bytes
    notes: tuple[str, ...]


def is_axis(member: str | None) -> bool:
    """Whether a member of an `ImageRef` names slices of a volume."""
    return member in AXES


@lru_cache(maxsize=1)
def open_volume(path: Path, _stamp: tuple[int, int], max_file_bytes: int, max_memory_bytes: int) -> Volume:
    """The volume in a file; the last one is kept, because slices are asked for one after the other.

    Raises:
        ImageError: With an `NII_` code, `IMG_MEMORY` or `IMG_FILE_TOO_LARGE`.
    """
    data = fetch_file(path, max_bytes=max_file_bytes)
    if not looks_like_nifti(data):
        refuse("NII_HEADER", "It is no NIfTI file.")
    return volume_of(data, path, max_file_bytes=max_file_bytes, max_memory_bytes=max_memory_bytes)


def volume_of(data: bytes, path: Path | None, *, max_file_bytes: int, max_memory_bytes: int) -> Volume:
    """The volume in these bytes; `path` is where a pair's other half is looked for."""
    import nibabel

    header = read_volume_header(data)
    if header.data_bytes > max_memory_bytes // SHARE:
        refuse("IMG_MEMORY", f"Its voxels take {header.data_bytes:,} bytes.")
    encoded = data
    head = _unpacked(data, 1 << 20 if header.is_pair else header.offset + header.data_bytes)
    if header.is_pair:
        encoded = _other_half(path, max_file_bytes)
        body = _unpacked(encoded, header.offset + header.data_bytes)
    else:
        body = head
    if len(body) < header.offset + header.data_bytes:
        refuse("NII_TRUNCATED", f"{header.data_bytes:,} bytes of voxels were to be there.")
    second = head[4:7] in (b"n+2", b"ni2")
    single = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    pair = nibabel.Nifti2Pair if second else nibabel.Nifti1Pair
    holders = {"image": nibabel.FileHolder(fileobj=io.BytesIO(body))}
    if header.is_pair:
        holders["header"] = nibabel.FileHolder(fileobj=io.BytesIO(head))
    with np.errstate(all="ignore"), _unheard():
        image: Any = (pair if header.is_pair else single).from_file_map(holders)
        stored = np.asanyarray(image.dataobj)  # scl_slope and scl_inter applied
    stored = stored.reshape(*header.shape, header.volumes)
    turned = nibabel.orientations.apply_orientation(stored, nibabel.orientations.io_orientation(header.affine))
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    notes = () if (slope, intercept) == (1.0, 0.0) else ("rescale",)
    return Volume(turned, header, encoded if not header.is_pair else data + encoded, notes)


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep from the log what nibabel mends in a header; all that matters here was checked before."""
    from nibabel.imageglobals import logger

    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def read_slice(volume: Volume, axis: Axis | None, number: int | None, window: Window) -> tuple[NDArray[Any], list[str]]:
    """One slice, counted from 0 from the patient's left, back or bottom.

    The patient's right is on the left, front or top of the picture above. None for both is the only slice of a volume
    that has no other. Of a file of several volumes, the first.

    Returns:
        `(height, width)` or `(height, width, 3)`; uint16 over its full range where a window was given.

    Raises:
        ImageError: `IMG_MULTIFRAME` where a slice has to be named; `NII_SLICE` if it is not there.
    """
    notes = list(volume.notes)
    voxels = volume.voxels[..., 0]
    if axis is None:
        single = [place for place, length in enumerate(voxels.shape[:3]) if length == 1]
        if not single:
            refuse("IMG_MULTIFRAME", f"A volume of {' x '.join(map(str, voxels.shape[:3]))} voxels.")
        place, number = single[-1], 0
    else:
        place = AXES[axis]
    if number is None or not 0 <= number < voxels.shape[place]:
        refuse("NII_SLICE", f"It has {voxels.shape[place]} slices that way.")
    plane = np.take(voxels, number, axis=place)
    # Rows from the top or front, columns from the patient's right or front.
    picture = plane[::-1, ::-1].T
    if volume.header.is_colour:
        return np.stack([picture[name] for name in "RGB"], axis=-1), notes
    if window.kind == "given":
        shown = Ramp(window.center, window.width).apply(picture.astype(np.float64))
        return np.round(shown * FULL).astype(np.uint16), [*notes, "given-window"]
    if picture.dtype == np.int8:
        picture = picture.astype(np.int16)
    return np.ascontiguousarray(picture), notes


def count_slices(header: VolumeHeader, axis: Axis) -> int:
    """How many slices a volume has that way, once it is upright."""
    return _upright_shape(header)[AXES[axis]]


def _upright_shape(header: VolumeHeader) -> tuple[int, ...]:
    from nibabel.orientations import io_orientation

    order = io_orientation(header.affine)[:, 0].astype(int)
    shape = [0, 0, 0]
    for stored, upright in enumerate(order):
        shape[upright] = header.shape[stored]
    return tuple(shape)


def slice_size(header: VolumeHeader, axis: Axis | None) -> tuple[int, int]:
    """Width and height of a slice."""
    shape = _upright_shape(header)
    gone = AXES[axis] if axis is not None else next((place for place in (2, 1, 0) if shape[place] == 1), 2)
    width, height = (length for place, length in enumerate(shape) if place != gone)
    return width, height


def _unpacked(data: bytes, most: int) -> bytes:
    """The bytes, unpacked if they are packed, and never more than are needed."""
    if data[:2] != b"\x1f\x8b":
        return data
    packer = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        found = packer.decompress(data, most)
        packer.decompress(packer.unconsumed_tail, _MORE)  # reaching the end compares the checksum
    except zlib.error:
        refuse("NII_CORRUPT", "It does not unpack.")
    if not packer.eof:
        if len(packer.unconsumed_tail):
            refuse("NII_CORRUPT", "It unpacks to more than its header says.")
        refuse("NII_TRUNCATED", "The packed file is not all there.")
    return found


def _other_half(path: Path | None, max_file_bytes: int) -> bytes:
    """The file of voxels beside a header."""
    if path is not None:
        stem = path.with_suffix("") if path.suffix != ".gz" else path.with_suffix("").with_suffix("")
        for other in (stem.with_name(stem.name + ".img"), stem.with_name(stem.name + ".img.gz")):
            if other.is_file():
                return fetch_file(other, max_bytes=max_file_bytes)
    return refuse("NII_PAIR", "The file of voxels (.img) is not beside the header.")
