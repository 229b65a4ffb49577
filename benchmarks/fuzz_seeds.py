"""Sound small files of every format that is read, for the fuzzer to spoil."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

SIDE = 24
SUFFIXES = {
    "png": ".png",
    "jpeg": ".jpg",
    "tiff": ".tif",
    "bmp": ".bmp",
    "webp": ".webp",
    "npz": ".npz",
    "parquet": ".parquet",
    "csv": ".csv",
    "dicom": ".dcm",
    "nifti": ".nii",
}
"""Each format that is fuzzed, and what its files are called."""


def seeds(kind: str) -> list[bytes]:
    """Sound files of one format, of all the layouts that are read."""
    return list(_SEEDS[kind]())


def pixels(dtype: Any = np.uint8, side: int = SIDE) -> NDArray[Any]:
    """A disc on a ramp with a little noise, over the whole range of `dtype`."""
    y, x = np.mgrid[:side, :side] / side
    picture = 0.3 * x + 0.5 * (np.hypot(x - 0.5, y - 0.4) < 0.25)
    picture += 0.1 * np.random.default_rng(side).random((side, side))
    return (picture * np.iinfo(dtype).max).astype(dtype)


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def _modes(*names: str) -> Iterator[Image.Image]:
    grey = Image.fromarray(pixels())
    colour = Image.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])
    for name in names:
        if name == "I;16":
            yield Image.fromarray(pixels(np.uint16))
        elif name == "F":
            yield Image.fromarray(pixels(np.uint16).astype(np.float32) / 7)
        else:
            image = (colour if name in ("RGB", "RGBA", "P", "CMYK") else grey).convert(name)
            if name in ("LA", "RGBA"):
                image.putalpha(grey.rotate(90))
            yield image


def _png() -> Iterator[bytes]:
    for image in _modes("L", "I;16", "1", "P", "LA", "RGB", "RGBA"):
        yield _saved(image, "PNG")
    (palette,) = _modes("P")
    yield _saved(palette, "PNG", transparency=3)
    (grey,) = _modes("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    yield _saved(grey, "PNG", exif=exif, dpi=(300, 300))


def _jpeg() -> Iterator[bytes]:
    for image in _modes("L", "RGB", "CMYK"):
        yield _saved(image, "JPEG")
    grey, colour = _modes("L", "RGB")
    yield _saved(grey, "JPEG", progressive=True)
    yield _saved(colour, "JPEG", progressive=True, subsampling=2, optimize=True)
    yield _saved(grey, "JPEG", restart_marker_blocks=2)
    exif = Image.Exif()
    exif[0x0112] = 8
    yield _saved(colour, "JPEG", exif=exif, comment="a note")


def _tiff() -> Iterator[bytes]:
    for image in _modes("L", "I;16", "1", "P", "RGB", "RGBA", "CMYK", "F"):
        yield _saved(image, "TIFF")
    grey, colour, deep = _modes("L", "RGB", "I;16")
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield _saved(grey, "TIFF", compression=compression)
    yield _saved(deep, "TIFF", compression="tiff_adobe_deflate")
    yield _saved(colour, "TIFF", compression="jpeg")
    (bilevel,) = _modes("1")
    yield _saved(bilevel, "TIFF", compression="group4")
    yield _saved(grey, "TIFF", tiffinfo={274: 5})
    yield _saved(Image.fromarray(pixels(np.uint16).astype(">u2")), "TIFF")  # big endian
    yield _saved(deep, "TIFF", big_tiff=True)


def _bmp() -> Iterator[bytes]:
    for image in _modes("1", "L", "P", "RGB", "RGBA"):
        yield _saved(image, "BMP")


def _webp() -> Iterator[bytes]:
    grey, colour, clear = _modes("L", "RGB", "RGBA")
    yield _saved(grey, "WEBP")
    yield _saved(colour, "WEBP", lossless=True)
    yield _saved(clear, "WEBP")
    exif = Image.Exif()
    exif[0x0112] = 3
    yield _saved(clear, "WEBP", lossless=True, exif=exif)


def _stack(dtype: Any = np.uint8) -> NDArray[Any]:
    return np.stack([np.roll(pixels(dtype), 2 * n, axis=1) for n in range(4)])


def _npz() -> Iterator[bytes]:
    labels = np.array([[0], [1], [0], [1]])
    for images in (_stack(), _stack(np.uint16), _stack().astype(np.float32), np.stack([_stack()] * 3, axis=-1)):
        for save in (np.savez, np.savez_compressed):
            stream = io.BytesIO()
            save(stream, train_images=images, train_labels=labels, test_images=images[:2], test_labels=labels[:2])
            yield stream.getvalue()


def _parquet() -> Iterator[bytes]:
    cells = [{"bytes": _saved(Image.fromarray(image), "PNG"), "path": f"{n}.png"} for n, image in enumerate(_stack())]
    labels, patients = ["ill", "well"] * 2, ["001", "001", "002", "002"]
    bare = pa.table({"image": [cell["bytes"] for cell in cells], "label": [0, 1, 0, 1]})
    named = pa.table({"image": cells, "label": labels, "patient_id": patients})
    listed = pa.table({"path": [f"images/{n}.png" for n in range(4)], "label": labels, "split": ["train"] * 4})
    for table in (named, bare, listed):
        for options in (
            {"compression": "none"},
            {"compression": "snappy"},
            {"compression": "zstd", "row_group_size": 2},
        ):
            stream = io.BytesIO()
            pq.write_table(table, stream, **options)
            yield stream.getvalue()


def _csv() -> Iterator[bytes]:
    head = "path,label,patient_id,split,age,note"
    rows = [
        f'images/{n}.png,{("ill", "well")[n % 2]},{n // 2:03},train,{40 + n},"two\nlines, ""{n}"""' for n in range(12)
    ]
    text = "\n".join([head, *rows]) + "\n"
    yield text.encode()
    yield text.replace("\n", "\r\n").encode("utf-8-sig")
    yield text.replace(",", ";").encode("utf-16")
    yield text.replace(",", "\t").replace("ill", "krank – Übel").encode()


def _dicom() -> Iterator[bytes]:
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

    deep = (pixels(np.uint16) >> 4).astype("<u2")
    yield dicom_bytes(deep, bits=12)
    yield dicom_bytes(deep, bits=12, syntax=ImplicitVRLittleEndian, photometric="MONOCHROME1")
    yield dicom_bytes(
        deep, bits=12, syntax=DeflatedExplicitVRLittleEndian, WindowCenter=[100, 900], WindowWidth=[50, 2000]
    )
    yield dicom_bytes((deep.astype("<i2") - 1024), bits=16, signed=True, RescaleSlope="1.5", RescaleIntercept="-1024")
    yield dicom_bytes(deep.astype(">u2"), bits=12, syntax=ExplicitVRBigEndian)
    yield dicom_bytes(_stack(), bits=8, NumberOfFrames=4)
    yield dicom_bytes(np.stack([pixels()] * 3, axis=-1), bits=8, photometric="RGB")
    yield dicom_bytes(deep, bits=12, compress=RLELossless)


def dicom_bytes(
    array: NDArray[Any],
    *,
    bits: int,
    syntax: Any = None,
    photometric: str = "MONOCHROME2",
    signed: bool = False,
    compress: Any = None,
    **tags: Any,
) -> bytes:
    """A secondary capture of these samples, with no patient in it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax or ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = "P1", "2.25.2", "2.25.3", "OT"
    colour = array.ndim == 3 and photometric == "RGB"
    data.Rows, data.Columns = array.shape[:2] if colour or array.ndim == 2 else array.shape[1:3]
    data.SamplesPerPixel, data.PhotometricInterpretation = 3 if colour else 1, photometric
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * array.itemsize, bits, bits - 1
    data.PixelRepresentation = int(signed)
    for name, value in tags.items():
        setattr(data, name, value)
    data["PixelData"] = _pixel_element(array)
    if compress is not None:
        data.compress(compress, generate_instance_uid=False)
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _pixel_element(array: NDArray[Any]) -> Any:
    from pydicom.dataelem import DataElement

    data = array.tobytes()
    return DataElement(0x7FE00010, "OW" if array.itemsize == 2 else "OB", data + b"\0" * (len(data) % 2))


def _nifti() -> Iterator[bytes]:
    import nibabel

    flat, volume = pixels(np.uint16).astype(np.int16), _stack(np.uint16).transpose(1, 2, 0)
    for array in (flat, volume, volume.astype(np.float32), _stack().transpose(1, 2, 0)):
        data = nibabel.Nifti1Image(array, np.eye(4)).to_bytes()
        yield data
        yield gzip.compress(data, 1, mtime=0)
    yield nibabel.Nifti2Image(volume, np.eye(4)).to_bytes()


_SEEDS = {
    "png": _png,
    "jpeg": _jpeg,
    "tiff": _tiff,
    "bmp": _bmp,
    "webp": _webp,
    "npz": _npz,
    "parquet": _parquet,
    "csv": _csv,
    "dicom": _dicom,
    "nifti": _nifti,
}
