"""Images a second from files, by format: plainfilm's reader, and the library under it alone.

    python -m benchmarks.decoding_speed --images 200 --side 512

Phantom chest films, written once in each format. plainfilm walks headers, checks, hashes and makes one grey channel of
full depth; Pillow and pydicom alone only decode. Both in one process; the last column is plainfilm's scan with one
decoding process for each core, their start included.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from benchmarks.turns import clock, machine, ratio, spread, table
from plainfilm.data.images import ImageRef, read_image
from plainfilm.data.workers import decode_images

Pixels = npt.NDArray[Any]
DIFFERENT = 8


def _pillow(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image)


def _pydicom(path: Path) -> Pixels:
    return pydicom.dcmread(path).pixel_array


def _save(**how: Any) -> Callable[[Path, Pixels], None]:
    return lambda path, pixels: Image.fromarray((pixels >> 4).astype(np.uint8)).save(path, **how)


def _save_16(path: Path, pixels: Pixels) -> None:
    Image.fromarray(pixels).save(path)


def _save_dicom(path: Path, pixels: Pixels) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.PixelData = pixels.tobytes()
    file.save_as(path, enforce_file_format=True)


FORMATS: Mapping[str, tuple[str, Callable[[Path, Pixels], None], Callable[[Path], Pixels]]] = {
    "PNG, 8 bits": ("png", _save(), _pillow),
    "PNG, 16 bits": ("png", _save_16, _pillow),
    "JPEG": ("jpg", _save(quality=90), _pillow),
    "TIFF, 16 bits": ("tif", _save_16, _pillow),
    "BMP": ("bmp", _save(), _pillow),
    "WebP, lossless": ("webp", _save(lossless=True), _pillow),
    "DICOM, 12 bits": ("dcm", _save_dicom, _pydicom),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(f"{machine()}, {asked.images} files of {asked.side}x{asked.side}\n")
    films = [_film(asked.side, seed) for seed in range(DIFFERENT)]
    rows = []
    for name, (suffix, save, alone) in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{number}.{suffix}" for number in range(asked.images)]
            for number, path in enumerate(paths):
                save(path, films[number % DIFFERENT])
            ours, theirs, scans = [], [], []
            for _ in range(asked.rounds):
                ours.append(_rate(_one_by_one(read_image), paths))
                theirs.append(_rate(_one_by_one(alone), paths))
                scans.append(_rate(_scan, paths))
            kib = sum(path.stat().st_size for path in paths) / len(paths) / 1024
            rows.append([name, f"{kib:,.0f}", spread(ours), spread(theirs), ratio(ours, theirs), spread(scans)])
    heading = ["format", "KiB a file", "plainfilm, images/s", "library alone, images/s", "plainfilm / alone"]
    table([*heading, "scan, images/s"], rows)


def _film(side: int, seed: int) -> npt.NDArray[np.uint16]:
    """Twelve bits: smooth shapes and noise, so that it packs as films do."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    lungs = sum(np.exp(-(((columns - x) / 0.16) ** 2 + ((rows - 0.5) / 0.3) ** 2)) for x in (0.3, 0.7))
    return np.clip(3000 - 1800 * lungs + rng.normal(0, 40, (side, side)), 0, 4095).astype(np.uint16)


def _scan(paths: list[Path]) -> None:
    found = list(decode_images([ImageRef(path) for path in paths], size=(128, 128)))
    assert all(decoded.code is None for decoded in found), found[0].detail


def _one_by_one(read: Callable[[Path], object]) -> Callable[[list[Path]], None]:
    def work(paths: list[Path]) -> None:
        for path in paths:
            read(path)

    return work


def _rate(work: Callable[[list[Path]], None], paths: list[Path]) -> float:
    """Images a second."""
    started = clock()
    work(paths)
    return len(paths) / (clock() - started)


if __name__ == "__main__":
    main()
