"""Phantoms as DICOM files: films of either photometric interpretation, CT with a rescale and a window, stacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plainfilm.data.phantoms.options import FileFormat

_CLASSES = {
    "dicom-ct": "1.2.840.10008.5.1.4.1.1.2",
    "dicom-multiframe": "1.2.840.10008.5.1.4.1.1.7.3",  # grey words; bytes are the class before it
}
_BYTES = "1.2.840.10008.5.1.4.1.1.7.2"
_FILM = "1.2.840.10008.5.1.4.1.1.1.1"
_INTERCEPT = -1024  # of CT


def save_dicom(pixels: npt.NDArray[Any], path: Path, *, bits: int, format: FileFormat, patient_id: str) -> None:
    """Write one image, or one stack; the same gives the same bytes.

    Args:
        pixels: `(height, width)`, or `(frames, height, width)` of a stack; uint8 or uint16.
        path: Where to.
        bits: Bits that are stored.
        format: Which kind of DICOM. The window of a CT covers its whole range, so nothing is cut off.
        patient_id: For the header.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    image = Dataset()
    image.SOPClassUID = _CLASSES.get(format, _FILM)
    image.SOPInstanceUID = generate_uid(entropy_srcs=["phantom", path.parent.name, path.name])
    image.StudyInstanceUID = generate_uid(entropy_srcs=["phantom study", patient_id])
    image.SeriesInstanceUID = generate_uid(entropy_srcs=["phantom series", patient_id])
    image.Modality = "CT" if format == "dicom-ct" else "DX"
    image.PatientID, image.PatientName = patient_id, "Phantom"
    image.Rows, image.Columns = pixels.shape[-2:]
    if format == "dicom-multiframe":
        image.NumberOfFrames = len(pixels)
        image.SOPClassUID = _BYTES if pixels.itemsize == 1 else image.SOPClassUID
    image.SamplesPerPixel, image.PixelRepresentation = 1, 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 8 * pixels.itemsize, bits, bits - 1
    image.PhotometricInterpretation = "MONOCHROME1" if format == "dicom-monochrome1" else "MONOCHROME2"
    if format == "dicom-monochrome1":
        pixels = ((1 << bits) - 1 - pixels).astype(pixels.dtype)
    if format == "dicom-ct":
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, _INTERCEPT, "HU"
        image.WindowCenter, image.WindowWidth = (1 << (bits - 1)) + _INTERCEPT, 1 << bits
    data = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)
    image["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(path, enforce_file_format=True)
