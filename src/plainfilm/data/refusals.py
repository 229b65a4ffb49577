"""Why an image is refused: each code, and the sentence that says how to mend it."""

from __future__ import annotations

from typing import NoReturn

from plainfilm.errors import ImageError

REASONS: dict[str, str] = {
    "IMG_MISSING": "There is nothing at this place; correct the path, column, name or row.",
    "IMG_UNREADABLE": "It cannot be opened; check that it is a file and that you may read it.",
    "IMG_NOT_A_FILE": "It is a pipe, socket or device; give an ordinary file.",
    "IMG_EMPTY": "It holds no bytes; copy it again from its source.",
    "IMG_FILE_TOO_LARGE": "It holds more bytes than allowed; save it without metadata, or raise max_file_bytes.",
    "IMG_NOT_AN_IMAGE": "Its content is not an image, whatever its name says; remove it.",
    "IMG_FORMAT_NOT_ALLOWED": "This format is not read here; convert it to PNG or TIFF.",
    "IMG_TRUNCATED": "It ends before its image does; copy it again from its source.",
    "IMG_CORRUPT": "Its content is damaged; copy it again from its source.",
    "IMG_MULTIFRAME": "It holds several frames or pages; save each as a file of its own.",
    "IMG_TOO_LARGE": "It has more pixels than allowed; raise max_pixels or max_side if it is trusted.",
    "IMG_TOO_LONG": "Its long side exceeds its short side too far to be a picture; remove or crop it.",
    "IMG_TOO_SMALL": "It has too few pixels to be a picture; remove it.",
    "IMG_DEPTH_UNSUPPORTED": "Its samples cannot be read without loss; save it as 8- or 16-bit grey PNG.",
    "IMG_CONSTANT": "All its pixels are equal, so it shows nothing; remove it.",
    "IMG_NONFINITE": "It holds NaN or infinite values; replace them by real ones.",
    "IMG_MEMORY": "Decoding it needs more memory than allowed; raise max_memory_bytes or shrink it.",
    "IMG_TIMEOUT": "Decoding it took longer than allowed; raise max_seconds if it is trusted.",
    "IMG_DECODER_DIED": "The decoder crashed on it; save it anew with another program.",
    "DCM_NO_PIXELS": "It is no picture (a report, an index, a plan, ...); remove it.",
    "DCM_TRUNCATED": "It ends before its data do; fetch it again from its source.",
    "DCM_CORRUPT": "Its content is damaged; fetch it again from its source.",
    "DCM_NESTED": "No real object is like this; remove it.",
    "DCM_SYNTAX": "Its pixels cannot be decoded here; convert it to Explicit VR Little Endian (gdcmconv, dcmdjpeg).",
    "DCM_SYNTAX_WRONG": "Its header contradicts its content; export it again.",
    "DCM_SYNTAX_GPL": "The only decoder is under the GPL and does not come with plainfilm; run dcmdjpeg on the file, "
    "or add that decoder yourself: pip install 'pydicom[gpl-license]'.",
    "DCM_DIMENSIONS": "Rows or columns are missing or contradict the pixels; export it again.",
    "DCM_FRAMES": "Its frames are not as its header says; export it again, or name a frame that is there.",
    "DCM_DEPTH": "Its bits are laid out in no way that can be read without guessing; export it again.",
    "DCM_COLOUR": "Its colours are stored in a way that is not read here; export it as MONOCHROME2 or RGB.",
    "DCM_PALETTE": "Its palette does not fit its pixels; export it again.",
    "DCM_LUT": "Its rescale or lookup table cannot be applied; export it again.",
    "DCM_WINDOW": "Its window cannot be applied; give one (--window 40/400), or use none (--window none).",
    "NII_HEADER": "Its header is not that of a NIfTI file; convert it again.",
    "NII_DIMENSIONS": "Its size cannot be; convert it again, one volume a file.",
    "NII_DATATYPE": "Its voxels are of a type that is not read; save it as 16-bit integers or 32-bit floats.",
    "NII_AFFINE": "Nobody can tell which way is up; convert it again.",
    "NII_TRUNCATED": "It ends before its voxels do; fetch it again from its source.",
    "NII_CORRUPT": "Its content is damaged; fetch it again from its source.",
    "NII_PAIR": "A header (.hdr) and its voxels (.img) belong side by side; copy both, or save it as .nii.",
    "NII_SLICE": "There is no such slice.",
}
"""Every code an image can be refused with, and its sentence."""


def refuse(code: str, detail: str) -> NoReturn:
    """Raise the `ImageError` of a code of `REASONS`; `detail` is the fact, and goes before its sentence."""
    raise ImageError(f"{detail} {REASONS[code]}", code=code)
