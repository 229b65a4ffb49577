"""DICOM images for the tests, and the validators of the packages that judge what plainfilm makes of them."""

import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from plainfilm.dicom_results.sources import SourceImage, read_source
from plainfilm.dicom_results.unheard import unheard


def picture(side: int = 64, *, seed: int = 0) -> np.ndarray:
    """Twelve-bit pixels that are not constant."""
    return np.random.default_rng(seed).integers(0, 4096, (side, side), dtype=np.uint16)


def dicom_dataset(pixels: np.ndarray | None = None, **elements) -> Dataset:
    """A grey image of one or several frames; `elements` replace what it says, None takes an element away."""
    pixels = picture() if pixels is None else pixels
    said = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "PatientName": "Doe^Jane",
        "PatientID": "000123",
        "PatientBirthDate": "19500101",
        "PatientSex": "F",
        "StudyDate": "20240102",
        "StudyTime": "101112",
        "StudyID": "7",
        "StudyDescription": "Abdomen",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "Roe^Richard",
        "Modality": "CT",
        "SeriesNumber": 3,
        "InstanceNumber": 1,
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 12 if pixels.itemsize == 2 else 8,
        "HighBit": 11 if pixels.itemsize == 2 else 7,
        "PixelRepresentation": 0,
        "NumberOfFrames": len(pixels) if pixels.ndim == 3 else None,
        "PixelData": pixels.tobytes(),
    } | elements
    dataset = Dataset()
    with unheard():  # tests write what no standard allows
        for name, value in said.items():
            if value is not None:
                setattr(dataset, name, value)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = said["SOPClassUID"] or CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = said["SOPInstanceUID"] or generate_uid()
    return dataset


def dicom_bytes(pixels: np.ndarray | None = None, **elements) -> bytes:
    """The same as a file's bytes."""
    buffer = BytesIO()
    dataset = dicom_dataset(pixels, **elements)
    with unheard():
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def source_image(frame: int | None = None, **elements) -> SourceImage:
    """Its header, as results know it."""
    return read_source(dicom_bytes(**elements), frame=frame)


def faults_of(path: Path) -> list[str]:
    """The lines of `dciodvfy` that say Error."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not on the path")
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False, timeout=60)
    lines = (done.stdout + done.stderr).splitlines()
    assert any(line.strip() in ("EnhancedSR", "SCImage") for line in lines), lines  # it was recognised at all
    return [line for line in lines if line.startswith("Error")]


def dumped(path: Path) -> str:
    """A report as `dsrdump` prints it, having found nothing wrong with its content tree."""
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump (dcmtk) is not on the path")
    done = subprocess.run(["dsrdump", "+Pl", "+Pu", path], capture_output=True, check=False, timeout=60)
    said = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0
    assert "E: " not in done.stderr.decode("utf-8", "replace")
    return said
