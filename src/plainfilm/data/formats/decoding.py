"""Samples from a file cut down to its pixels, at their full depth, by Pillow."""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from plainfilm.data.formats.header import Format, Header
from plainfilm.data.refusals import refuse

_PLUGINS: dict[Format, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "WEBP": WebPImageFile,
}

_STORED_MODES = {2: "LA", 3: "RGB", 4: "RGBA"}

_WHOLE_PROCESS = threading.Lock()  # warning filters and standard error belong to it
_LIBTIFF_COMPLAINTS = re.compile(rb"^(?:Fax\w*|JPEG\w*|tempfile\.tif): .*\n?", re.MULTILINE)


class Samples(NamedTuple):
    """Decoded samples: `(height, width)` or `(height, width, 3)`, and alpha `(height, width)` if any."""

    mode: str
    colour: NDArray[Any]
    alpha: NDArray[Any] | None
    notes: tuple[str, ...]


def decode(header: Header) -> Samples:
    """Decode every pixel of a file whose header was walked and whose size was checked.

    Any warning of Pillow is raised as an error; what a decoder may raise is not narrowed down here.
    """
    with _WHOLE_PROCESS, _warnings_refuse():
        if header.format != "TIFF":
            return _decode(header)
        with _complaints_refuse():
            return _decode(header)


def _decode(header: Header) -> Samples:
    plugin = _PLUGINS[header.format]
    notes: tuple[str, ...] = ()
    try:
        image: Image.Image = plugin(io.BytesIO(header.data))
    except SyntaxError:
        if header.format != "TIFF":
            raise
        refuse("IMG_DEPTH_UNSUPPORTED", f"A TIFF of {header.channels} {header.depth}-bit channels.")
    stored_mode = f"{_STORED_MODES[header.channels]};16" if header.packing != "plain" else image.mode
    if header.packing == "halves":
        samples = _both_halves(plugin, header.data)
    elif header.packing == "pairs":
        samples = np.asarray(image).view(">u2").astype(np.uint16)
    else:
        image, notes = _grey_or_rgb(image)
        samples = np.asarray(image)
    if samples.shape[:2] != (header.height, header.width):
        refuse("IMG_CORRUPT", "The image is not of the size its header says.")
    if image.mode == "I" and header.depth == 32 and header.unsigned:
        samples = samples.view(np.uint32)
    return Samples(stored_mode, *_split_alpha(samples, header.transparent), notes)


@contextmanager
def _warnings_refuse() -> Iterator[None]:
    """Make each Pillow warning (a bomb, a bad tag) an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        yield


@contextmanager
def _complaints_refuse() -> Iterator[None]:
    """Refuse what libtiff fills up with a guess: of a damaged fax or JPEG it only prints that it could not go on.

    What anybody else prints on standard error meanwhile is passed on.
    """
    with tempfile.TemporaryFile() as caught:
        try:
            real = os.dup(2)
        except OSError:  # there is no standard error to print to
            yield
            return
        try:
            os.dup2(caught.fileno(), 2)
            yield
        finally:
            os.dup2(real, 2)
            caught.seek(0)
            said = caught.read()
            complaints, others = _LIBTIFF_COMPLAINTS.findall(said), _LIBTIFF_COMPLAINTS.sub(b"", said)
            if others:
                os.write(real, others)
            os.close(real)
    if complaints:
        refuse("IMG_CORRUPT", "Its compressed samples are damaged.")


def _both_halves(plugin: Callable[[io.BytesIO], ImageFile.ImageFile], data: bytes) -> NDArray[Any]:
    """All 16 bits of colour samples: Pillow keeps the high byte, so swap the bytes and ask again."""
    high = np.asarray(plugin(io.BytesIO(data))).astype(np.uint16)
    image = plugin(io.BytesIO(data))
    image.tile = [tile._replace(args=_bytes_swapped(tile.args)) for tile in image.tile]
    return np.asarray(high << 8 | np.asarray(image))


def _bytes_swapped(args: Any) -> Any:
    """The arguments of a Pillow decoder with the byte order of its raw mode reversed."""
    if isinstance(args, tuple):
        return (_bytes_swapped(args[0]), *args[1:])
    native = "L" if sys.byteorder == "little" else "B"
    order = native if args[-1] == "N" else args[-1]
    return args[:-1] + {"L": "B", "B": "L"}[order]


def _grey_or_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in a mode of grey or RGB samples, and what was done for it."""
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB"), ("palette",)
    if image.mode == "CMYK":
        return image.convert("RGB"), ("cmyk",)
    if image.mode == "YCbCr":
        return image.convert("RGB"), ("ycbcr",)
    if image.mode == "1":
        return image.convert("L"), ("one-bit",)
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16B", "I;16L"):
        refuse("IMG_DEPTH_UNSUPPORTED", f"An image of Pillow mode {image.mode}.")
    return image, ()


def _split_alpha(
    samples: NDArray[Any], transparent: tuple[int, ...] | None
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Colour and alpha; a colour declared see-through counts as alpha 0."""
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        colour = samples[..., 0] if samples.shape[2] == 2 else samples[..., :3]
        return colour, samples[..., -1]
    if transparent is None:
        return samples, None
    hidden = samples == np.array(transparent, dtype=samples.dtype)
    hidden = hidden.all(axis=-1) if samples.ndim == 3 else hidden
    return samples, np.where(hidden, 0, np.iinfo(samples.dtype).max).astype(samples.dtype)
