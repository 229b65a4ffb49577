"""One frame of a DICOM file as samples that `images` can finish: bright is high, at full depth."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plainfilm.data.dicom.elements import Walk, walk_file
from plainfilm.data.dicom.frames import decode_frame
from plainfilm.data.dicom.greyscale import display
from plainfilm.data.dicom.header import ImageHeader, read_header
from plainfilm.data.dicom.palette import to_rgb
from plainfilm.data.refusals import refuse
from plainfilm.data.windows import Window

_SHARE_INFLATED = 4  # a deflated data set may take this part of the memory


class DicomImage(NamedTuple):
    """A walked file and its header; its pixels are not decoded yet."""

    walk: Walk
    header: ImageHeader

    @property
    def bytes_per_pixel(self) -> int:
        """What decoding one pixel of one frame takes at its peak: encoded, stored, as index and as result."""
        sample = max(1, self.header.bits_allocated // 8)
        return 12 + 4 * sample * self.header.samples


class DicomSamples(NamedTuple):
    """Samples of one frame: `(rows, columns)` or `(rows, columns, 3)`."""

    colour: NDArray[Any]
    bits: int
    notes: tuple[str, ...]


def open_dicom(data: bytes, *, max_memory_bytes: int) -> DicomImage:
    """Walk a file and check its header.

    Raises:
        ImageError: With a `DCM_` code, or `IMG_MEMORY`.
    """
    walk = walk_file(data, max_inflated=max_memory_bytes // _SHARE_INFLATED)
    return DicomImage(walk, read_header(walk))


def read_frame(image: DicomImage, frame: int | None, window: Window) -> DicomSamples:
    """Decode one frame, counted from 0; None is the only frame of a file that has no other.

    Raises:
        ImageError: With a `DCM_` code; `IMG_MULTIFRAME` where a frame has to be named.
    """
    walk, header = image
    if frame is None:
        if header.frames > 1:
            refuse("IMG_MULTIFRAME", f"{header.frames:,} frames.")
        frame = 0
    stored, notes = decode_frame(walk, header, frame)
    notes = (*walk.notes, *notes)
    if header.is_grey:
        shown, steps = display(stored, walk, header, frame, window)
        return DicomSamples(shown, min(header.bits_stored, 32), (*notes, *steps))
    if header.photometric_interpretation == "PALETTE COLOR":
        colour = to_rgb(stored, walk, header)
        return DicomSamples(colour, 8 * colour.itemsize, (*notes, "palette"))
    colour, steps = _colour(stored, header)
    return DicomSamples(colour, min(header.bits_stored, 32), (*notes, *steps))


def _colour(samples: NDArray[Any], header: ImageHeader) -> tuple[NDArray[Any], list[str]]:
    """RGB over the full range of its type."""
    notes = [] if header.photometric_interpretation == "RGB" else ["ycbcr"]
    if header.is_signed:
        refuse("DCM_COLOUR", "Its colour samples are signed.")
    brightest = (1 << header.bits_stored) - 1
    if header.bits_stored in (8, 16, 32):
        return samples, notes
    if header.bits_stored > 16:
        return samples, notes
    dtype = np.uint8 if header.bits_stored < 8 else np.uint16
    full = int(np.iinfo(dtype).max)
    wide = (samples.astype(np.uint32) * np.uint32(full) + np.uint32(brightest // 2)) // np.uint32(brightest)
    return wide.astype(dtype), [*notes, "full-range"]
