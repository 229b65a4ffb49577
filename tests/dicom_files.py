"""DICOM files written on demand, one element at a time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CT, DX = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1"


def dicom(pixels: NDArray[Any], *, syntax: str = ExplicitVRLittleEndian, seed: str = "0", **elements: Any) -> Dataset:
    """An image as a data set: `(rows, columns)`, `(frames, rows, columns)` or `(rows, columns, 3)`; not compressed.

    Args:
        pixels: Unsigned or signed integers, as they are to be stored.
        syntax: Transfer syntax of the file.
        seed: Where the UIDs come from.
        elements: By keyword; they replace those that are made here, and None leaves one out.
    """
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    frames = pixels.shape[0] if pixels.ndim == 3 and not colour else None
    rows, columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    standard: dict[str, Any] = {
        "SOPClassUID": DX,
        "SOPInstanceUID": generate_uid(entropy_srcs=[seed, "instance"]),
        "StudyInstanceUID": generate_uid(entropy_srcs=[seed, "study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=[seed, "series"]),
        "Modality": "DX",
        "PatientID": "007",
        "PatientName": "Nobody^Known",
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "NumberOfFrames": frames,
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 8 * pixels.itemsize,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PlanarConfiguration": 0 if colour else None,
        "PixelData": data + b"\0" * (len(data) % 2),
    }
    dataset = Dataset()
    for keyword, value in (standard | elements).items():
        if value is not None:
            setattr(dataset, keyword, value)
    if "HighBit" not in elements and "BitsStored" in dataset:
        dataset.HighBit = dataset.BitsStored - 1
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", DX)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", generate_uid())
    return dataset


def as_bytes(dataset: Dataset, *, preamble: bool = True) -> bytes:
    """The file as bytes; without preamble also without the file's own header."""
    stream = io.BytesIO()
    if preamble:
        dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue()
    syntax = dataset.file_meta.TransferSyntaxUID
    bare = Dataset()
    bare.update(dataset)
    bare.save_as(
        stream,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=False,
    )
    return stream.getvalue()


def item(**elements: Any) -> Dataset:
    """One item of a sequence."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def sequence(*items: Dataset) -> Sequence:
    """A sequence."""
    return Sequence(items)


def lut(values: NDArray[Any], *, first: int = 0, bits: int = 16) -> Dataset:
    """An item of a modality or VOI LUT sequence."""
    made = item(LUTDescriptor=[len(values) % (1 << 16), first, bits])
    made.add_new(0x00283006, "OW", values.astype("<u2").tobytes())
    return made


def save(dataset: Dataset, path: Path) -> Path:
    """Write the file; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_bytes(dataset))
    return path


def ramp(dtype: str = "u2", brightest: int = 4095, side: int = 64) -> NDArray[Any]:
    """Every value up to `brightest`, as evenly as they fit."""
    return np.linspace(0, brightest, side * side).round().astype(dtype).reshape(side, side)
