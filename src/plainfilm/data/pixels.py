"""Decoded images at the model's size, in their own depth, held once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from plainfilm.errors import ResourceError

DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
FULL_RANGE = (255.0, 65535.0, 1.0)  # of each dtype; float images stay in their own units
IN_MEMORY_BYTES = 2 << 30

Array = npt.NDArray[np.generic]


class PixelStore:
    """`(n, height, width)` one-channel images; 8-bit, 16-bit and float images side by side.

    Each depth has an array of its own, allocated when first needed and only touched where it holds something.
    Beyond `IN_MEMORY_BYTES` the arrays are files that vanish with the store.
    """

    def __init__(self, n_images: int, height: int, width: int) -> None:
        self.shape = (n_images, height, width)
        self._depth = np.full(n_images, -1, dtype=np.int8)
        self._arrays: dict[int, Array] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def put(self, index: int, image: Array) -> None:
        """Store one `(height, width)` image of dtype uint8, uint16 or float32."""
        depth = DTYPES.index(image.dtype)
        if depth not in self._arrays:
            self._arrays[depth] = _allocate(self.shape, DTYPES[depth])
        self._arrays[depth][index] = image
        self._depth[index] = depth

    def take(self, indices: Sequence[int] | npt.NDArray[np.intp]) -> PixelStore:
        """A store of its own with copies of these images: nothing else can be reached through it."""
        chosen = np.asarray(indices, dtype=np.intp)
        taken = PixelStore(len(chosen), *self.shape[1:])
        taken._depth = self._depth[chosen].copy()
        for depth, array in self._arrays.items():
            rows = np.flatnonzero(taken._depth == depth)
            if rows.size:
                own = taken._arrays[depth] = _allocate(taken.shape, DTYPES[depth])
                for start in range(0, len(rows), 1024):
                    part = rows[start : start + 1024]
                    own[part] = array[chosen[part]]
        return taken

    def stored(self, indices: npt.NDArray[np.intp]) -> tuple[Array, float]:
        """Images as they are kept, and the full range of their depth (1.0 for float images).

        Mixed depths come back as float32 in units of their own full range (then the range given is 1.0).
        """
        depths = np.unique(self._depth[indices])
        if depths.size == 1:
            depth = int(depths[0])
            return self._arrays[depth][indices], FULL_RANGE[depth]
        mixed = np.empty((len(indices), *self.shape[1:]), dtype=np.float32)
        for depth in depths.tolist():
            rows = self._depth[indices] == depth
            mixed[rows] = self._arrays[depth][indices[rows]] / np.float32(FULL_RANGE[depth])
        return mixed, 1.0

    def values(self, indices: Sequence[int] | npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Images as float32: integers divided by their full range (255, 65535), float images as they are."""
        stored, full_range = self.stored(np.asarray(indices, dtype=np.intp))
        return stored.astype(np.float32) / np.float32(full_range)

    @property
    def is_eight_bit(self) -> bool:
        """Whether every image has 8 bits or fewer."""
        return bool((self._depth == 0).all())


def _allocate(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if n_bytes <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype=dtype)
    with tempfile.TemporaryFile(prefix="plainfilm-pixels-") as file:  # the map keeps it alive after closing
        try:
            if hasattr(os, "posix_fallocate"):  # a disk that fills up later would end the process, not the call
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
        except OSError as error:
            raise ResourceError(
                f"{n_bytes / 2**30:.1f} GiB for decoded images cannot be had in '{tempfile.gettempdir()}' "
                f"({error.strerror}). Free space there, set TMPDIR, or use a smaller --image-size.",
                code="RES_DISK_FULL",
            ) from None
