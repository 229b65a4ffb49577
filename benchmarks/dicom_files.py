"""The DICOM files that ship with pydicom: how many are read, refused with which code, and equal to another reader's.

The other readers are highdicom (rescale, window, inversion, to [0, 1]) for grey files with a window, and pydicom's own
pixel array for the rest. `python -m benchmarks.dicom_files [FOLDER]`: any folder of DICOM files may be given.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pydicom.data

from plainfilm.data.dicom.elements import looks_like_dicom
from plainfilm.data.grey import grey_channel
from plainfilm.data.images import ImageLimits, ImageRef, read_image
from plainfilm.data.workers import decode_images
from plainfilm.errors import ImageError

LIMITS = ImageLimits(max_seconds=5, max_memory_bytes=512 * 2**20, min_side=1)


def main() -> None:
    """Print the counts."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(pydicom.data.__file__).parent / "test_files"
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and looks_like_dicom(path.read_bytes())]
    refs = [ImageRef(path, row=frame_of(path)) for path in paths]
    started = time.monotonic()
    results = {one.index: one for one in decode_images(refs, limits=LIMITS, workers=1)}
    seconds = time.monotonic() - started
    codes = Counter(one.code for one in results.values() if one.code)
    compared: Counter[str] = Counter()
    for index, one in sorted(results.items()):
        if one.record is not None:
            outcome = compare(refs[index])
            compared[outcome] += 1
            if outcome.startswith("differs"):
                print(f"  {paths[index].name}: {outcome}")
    n_read = sum(one.code is None for one in results.values())
    print(f"{len(paths)} DICOM files in {folder.name}, one worker, 5 s and 512 MiB each: {seconds:.1f} s in all")
    print(f"read: {n_read}")
    for code, count in codes.most_common():
        names = [paths[index].name for index, one in results.items() if one.code == code]
        print(f"refused, {code}: {count} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})")
    for outcome, count in compared.most_common():
        print(f"compared: {count} {outcome}")


def frame_of(path: Path) -> int | None:
    """The first frame of a file that has several."""
    try:
        read_image(path, limits=LIMITS)
    except ImageError as error:
        return 0 if error.code == "IMG_MULTIFRAME" else None
    return None


def compare(ref: ImageRef) -> str:
    """What another reader makes of the same frame."""
    shown, record = read_image(ref, limits=LIMITS)
    if {"window", "voi-lut", "window-exact", "window-sigmoid"} & set(record.notes):
        try:
            image = highdicom.imread(ref.path)
            other = image.get_frame((ref.row or 0) + 1, apply_voi_transform=True, apply_presentation_lut=True)
        except Exception as error:
            return f"not read by highdicom ({type(error).__name__})"
        difference = np.abs(shown / 65535.0 - other)
        if "pixel-padding" in record.notes:
            difference = difference[shown > 0]
        far = float(difference.max())
        return "equal to highdicom to 1/65535" if far <= 1 / 65535 else f"differs from highdicom by {far:.3g}"
    dataset = pydicom.dcmread(ref.path, force=True)
    try:
        other = pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset)
        other = other[ref.row] if ref.row is not None else other
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            other = pydicom.pixels.apply_color_lut(other, dataset)
    except Exception as error:
        return f"not read by pydicom ({type(error).__name__})"
    if record.bits == 1:
        other = other * np.uint8(255)
    grey, _ = grey_channel(np.asarray(other), alpha=None, white_is_zero=False, orientation=1)
    same = np.array_equal(shown, grey.astype(shown.dtype))
    return "equal to pydicom" if same else f"differs from pydicom by {np.abs(shown.astype(float) - grey).max():.3g}"


if __name__ == "__main__":
    main()
