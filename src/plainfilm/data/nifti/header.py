"""What a NIfTI header says, checked before a voxel is read."""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from plainfilm.data.refusals import refuse

HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
_GZIP = b"\x1f\x8b"
# Codes of voxel types that are read, and their bytes; 128 is RGB, 2304 RGBA.
_BYTES = {
    2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8, 128: 3, 2304: 4,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VolumeHeader:
    """One file.

    Attributes:
        shape: Voxels along each axis as stored; three of them.
        volumes: How many such boxes: a fourth axis of time or direction.
        voxel_bytes: Bytes of one voxel.
        is_colour: Whether voxels are RGB or RGBA.
        is_pair: Whether voxels are in a file of their own, `.img`.
        offset: Where they begin.
        affine: `(4, 4)`, voxels to millimetres.
        spacing_mm: Distance of voxels along the stored axes.
    """

    shape: tuple[int, int, int]
    volumes: int
    voxel_bytes: int
    is_colour: bool
    is_pair: bool
    offset: int
    affine: Any
    spacing_mm: tuple[float, float, float]

    @property
    def data_bytes(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.shape) * self.volumes * self.voxel_bytes


def first_bytes(data: bytes, count: int = HEADER_BYTES) -> bytes:
    """The first bytes of the volume, unpacked if they are packed; fewer if that cannot be."""
    if data[:2] != _GZIP:
        return data[:count]
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data[: 1 << 16], count)
    except zlib.error:
        return b""


def looks_like_nifti(data: bytes) -> bool:
    """Whether the content is a NIfTI header, packed or not."""
    head = first_bytes(data)
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def read_volume_header(data: bytes) -> VolumeHeader:
    """The header of a file, of which the first bytes are enough.

    Raises:
        ImageError: `NII_HEADER`, `NII_DIMENSIONS`, `NII_DATATYPE` or `NII_AFFINE`.
    """
    head = first_bytes(data)
    is_second = head[4:8] in (b"n+2\0", b"ni2\0")
    magic = head[4:8] if is_second else head[344:348]
    if magic not in (b"n+1\0", b"ni1\0", b"n+2\0", b"ni2\0") or len(head) < (540 if is_second else 348):
        refuse("NII_HEADER", "It has no whole NIfTI header.")
    size = 540 if is_second else 348
    order = next((sign for sign in "<>" if struct.unpack_from(f"{sign}i", head)[0] == size), None)
    if order is None:
        refuse("NII_HEADER", "Its header does not say its own length.")
    if is_second:
        dimensions, (kind,) = struct.unpack_from(f"{order}8q", head, 16), struct.unpack_from(f"{order}h", head, 12)
        (offset,) = struct.unpack_from(f"{order}q", head, 168)
    else:
        dimensions, (kind,) = struct.unpack_from(f"{order}8h", head, 40), struct.unpack_from(f"{order}h", head, 70)
        (offset,) = struct.unpack_from(f"{order}f", head, 108)
    shape, volumes = _shape(dimensions)
    if kind not in _BYTES:
        refuse("NII_DATATYPE", f"Voxels of type {kind}.")
    is_pair = magic[:2] == b"ni"
    if not math.isfinite(offset) or not (0 if is_pair else size) <= offset < 1 << 40:
        refuse("NII_HEADER", "It does not say where its voxels begin.")
    affine, spacing = _geometry(head[:size])
    return VolumeHeader(
        shape=shape,
        volumes=volumes,
        voxel_bytes=_BYTES[kind],
        is_colour=kind in (128, 2304),
        is_pair=is_pair,
        offset=int(offset),
        affine=affine,
        spacing_mm=spacing,
    )


def _shape(dimensions: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
    count, sizes = dimensions[0], dimensions[1:]
    if not 2 <= count <= 7:
        refuse("NII_DIMENSIONS", f"It says it has {count} dimensions.")
    used = [*sizes[:count], *([1] * (7 - count))]
    if min(used) < 1:
        refuse("NII_DIMENSIONS", f"It is {' x '.join(map(str, sizes[:count]))} voxels large.")
    if math.prod(used[4:]) > 1:
        refuse("NII_DIMENSIONS", f"It has {count} dimensions; at most 4 are read.")
    return (used[0], used[1], used[2]), used[3]


def _geometry(head: bytes) -> tuple[Any, tuple[float, float, float]]:
    """The affine that nibabel finds best, and the spacing."""
    import nibabel
    from nibabel.orientations import io_orientation

    kind = nibabel.Nifti2Header if len(head) == 540 else nibabel.Nifti1Header
    try:
        with np.errstate(all="ignore"):
            header = kind.from_fileobj(io.BytesIO(head), check=False)
            affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except Exception as error:
        refuse("NII_AFFINE", f"Its orientation cannot be read ({type(error).__name__}).")
    with np.errstate(all="ignore"):
        volume = np.linalg.det(affine[:3, :3])
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        axes = io_orientation(affine) if np.isfinite(affine).all() else np.full((3, 2), np.nan)
    if not (np.isfinite([*axes.ravel(), *spacing, volume]).all() and abs(volume) >= 1e-12):
        refuse("NII_AFFINE", "Its affine is not finite, or flat.")
    return affine, (float(spacing[0]), float(spacing[1]), float(spacing[2]))
