"""Telling a format by the first bytes, never by the name of the file."""

from __future__ import annotations

from typing import NoReturn

from plainfilm.data.dicom.elements import looks_like_dicom
from plainfilm.data.formats.header import Format, unpack
from plainfilm.data.nifti.header import looks_like_nifti
from plainfilm.data.refusals import refuse

_MAGIC: dict[bytes, Format] = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}

_OTHER_FORMATS = {
    b"GIF8": "GIF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"\x01\x00\x09\x00\x00\x03": "WMF",
    b"8BPS": "PSD",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x01\x00": "ICO",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"SIMPLE  =": "FITS",
    b"qoif": "QOI",
    b"gimp xcf": "XCF",
    b"DDS ": "DDS",
    b"\x8aMNG": "MNG",
    b"P5\n": "PGM",
    b"P6\n": "PPM",
    b"P2\n": "PGM",
    b"P3\n": "PPM",
}

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "DICOM": (".dcm", ".dicom", ".ima"),
    "NIFTI": (".nii", ".gz", ".hdr"),
}

_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)


def recognise(data: bytes) -> Format:
    """The format the first bytes prove; anything not on the allow-list is refused."""
    if not data:
        refuse("IMG_EMPTY", "Zero bytes.")
    if data[128:132] == b"DICM":  # first: its preamble may pose as TIFF, or as a program
        return "DICOM"
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
        if len(data) < len(magic) and magic.startswith(data):
            refuse("IMG_TRUNCATED", f"Only {len(data)} bytes of a {name} file.")
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if is_webp or looks_like_nifti(data):
        return "WEBP" if is_webp else "NIFTI"
    if data[:2] == b"BM" and len(data) >= 18 and unpack("<I", data, 14)[0] in _BMP_HEADER_SIZES:
        return "BMP"
    return "DICOM" if looks_like_dicom(data) else _refuse_foreign(data)


def is_misnamed(name: Format, suffix: str) -> bool:
    """Whether a file's ending is that of another format; DICOM files may end in anything, as in `1.2.840.3`."""
    if name == "DICOM":
        return any(suffix in others for other, others in SUFFIXES.items() if other != name)
    return suffix not in ("", *SUFFIXES[name])


def _refuse_foreign(data: bytes) -> NoReturn:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        refuse("IMG_FORMAT_NOT_ALLOWED", "SVG.")
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis"):
        refuse("IMG_FORMAT_NOT_ALLOWED", "HEIC or AVIF.")
    for magic, name in _OTHER_FORMATS.items():
        if data.startswith(magic):
            refuse("IMG_FORMAT_NOT_ALLOWED", f"{name}.")
    looks = "HTML" if head.startswith((b"<!doctype html", b"<html")) else "XML" if head[:1] == b"<" else ""
    looks = looks or ("text" if head.isascii() and b"\0" not in head else "unknown content")
    refuse("IMG_NOT_AN_IMAGE", f"{looks[0].upper()}{looks[1:]}.")
