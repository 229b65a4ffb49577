"""From stored grey samples to what is shown, in the standard's order: modality LUT, VOI LUT or window, inversion.

References:
    DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT and windows), C.11.6 (presentation LUT shape), C.7.5.1.1.2
    (pixel padding), C.7.6.16.2 (functional groups).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from plainfilm.data.dicom.attributes import first_item, parsed, text
from plainfilm.data.dicom.elements import Walk
from plainfilm.data.dicom.header import ImageHeader
from plainfilm.data.refusals import refuse
from plainfilm.data.windows import Window

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[Any]
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

_TAGS = (
    0x00280120, 0x00280121,  # padding
    0x00281050, 0x00281051, 0x00281056,  # window
    0x00281052, 0x00281053,  # rescale
    0x00283000, 0x00283010,  # modality and VOI LUT sequences
    0x52009229, 0x52009230,  # shared and per-frame functional groups
)  # fmt: skip
_PRESENTATION_SHAPE = 0x20500020
FULL = 65535.0


@dataclass(frozen=True)
class Lut:
    """A lookup table: its values, the input of the first, and the bits of its output."""

    values: Floats
    first: int
    bits: int

    def apply(self, values: Floats) -> Floats:
        """Inputs outside the table give its first or last value."""
        place = np.clip(np.floor(values) - self.first, 0, len(self.values) - 1).astype(np.intp)
        return np.asarray(self.values[place])


@dataclass(frozen=True)
class Linear:
    """Rescale slope and intercept."""

    slope: float
    intercept: float

    def apply(self, values: Floats) -> Floats:
        """Into the units of the modality."""
        return np.asarray(values * self.slope + self.intercept)


@dataclass(frozen=True)
class Ramp:
    """A window and its function, to [0, 1]."""

    center: float
    width: float
    function: Function = "LINEAR"

    def apply(self, values: Floats) -> Floats:
        """See C.11.2.1.2 and C.11.2.1.3."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4.0 * (values - self.center) / self.width, -700.0, 700.0)
            return np.asarray(1.0 / (1.0 + np.exp(exponent)))
        if self.function == "LINEAR_EXACT":
            return np.asarray(np.clip((values - self.center) / self.width + 0.5, 0.0, 1.0))
        if self.width == 1:  # a threshold
            return np.asarray((values > self.center - 0.5).astype(np.float64))
        return np.asarray(np.clip((values - (self.center - 0.5)) / (self.width - 1.0) + 0.5, 0.0, 1.0))


@dataclass(frozen=True)
class Padding:
    """Stored values that are no image (C.7.5.1.1.2)."""

    low: int
    high: int


def display(samples: Pixels, walk: Walk, header: ImageHeader, frame: int, window: Window) -> tuple[Pixels, list[str]]:
    """Grey samples as they are meant to be seen: bright is high.

    Args:
        samples: `(rows, columns)` as stored.
        walk: Where the tables are.
        header: Its header.
        frame: Counted from 0; functional groups may give each its own rescale and window.
        window: Which window.

    Returns:
        uint8 or uint16 over its full range, where the image was windowed or is plain unsigned samples; else float32 in
        the units of the modality. With `none`, unsigned samples keep their values. And notes, in the order of steps.

    Raises:
        ImageError: `DCM_LUT` or `DCM_WINDOW`.
    """
    notes: list[str] = []
    tables = _tables(walk)
    modality = _modality(tables, walk, header, frame, notes)
    voi = _voi(tables, walk, header, frame, window, notes)
    inverted = _is_inverted(walk, header, notes)
    padding = _padding(walk, header)
    padded = None
    if padding is not None:
        padded = (samples >= padding.low) & (samples <= padding.high)
        if not padded.any() or padded.all():
            padded = None
    if header.bits_allocated == 1:
        shown = samples * np.uint8(255)
        shown = 255 - shown if inverted else shown
        notes.append("one-bit")
    elif voi is not None or isinstance(modality, Lut):
        shown = _to_full_range(samples, header, modality, voi, inverted=inverted)
    elif modality is None and not header.is_signed and not header.is_float and header.bits_stored <= 16:
        shown = _plain(samples, header, stretched=window.kind != "none", inverted=inverted, notes=notes)
    else:
        shown = _in_units(samples, modality, inverted=inverted)
    if padded is not None:
        shown = np.where(padded, shown[~padded].min() if shown.dtype.kind == "f" else 0, shown).astype(shown.dtype)
        notes.append("pixel-padding")
    return shown, notes


# --- what the file says -------------------------------------------------------------------------------------


def _tables(walk: Walk) -> Any:
    """The elements of the grey-scale pipeline, read by pydicom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parsed(walk, _TAGS)


def _groups(tables: Any, frame: int, keyword: str) -> Any:
    """The functional group of a frame: its own, or that which all frames share."""
    per_frame = tables.get("PerFrameFunctionalGroupsSequence")
    if per_frame is not None and frame < len(per_frame):
        own = first_item(per_frame[frame], keyword)
        if own is not None:
            return own
    return first_item(first_item(tables, "SharedFunctionalGroupsSequence"), keyword)


def _modality(tables: Any, walk: Walk, header: ImageHeader, frame: int, notes: list[str]) -> Lut | Linear | None:
    sequence = first_item(tables, "ModalityLUTSequence")
    if sequence is not None and not header.is_float:
        notes.append("modality-lut")
        return _read_lut(sequence, walk, signed=header.is_signed)
    source = _groups(tables, frame, "PixelValueTransformationSequence")
    source = tables if source is None else source
    slope, intercept = _one(source, "RescaleSlope", "DCM_LUT"), _one(source, "RescaleIntercept", "DCM_LUT")
    if slope is None and intercept is None:
        return None
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope == 0:
        refuse("DCM_LUT", "Rescale Slope is 0, which makes all pixels equal.")
    if (slope, intercept) == (1.0, 0.0):
        return None
    notes.append("rescale")
    return Linear(slope, intercept)


def _voi(
    tables: Any, walk: Walk, header: ImageHeader, frame: int, window: Window, notes: list[str]
) -> Lut | Ramp | None:
    if window.kind == "none" or header.bits_allocated == 1:
        return None
    if window.kind == "given":
        notes.append("given-window")
        return Ramp(window.center, window.width)
    source = _groups(tables, frame, "FrameVOILUTSequence")
    source = tables if source is None else source
    luts = source.get("VOILUTSequence") or tables.get("VOILUTSequence")
    if luts:
        notes.append("voi-lut")
        return _read_lut(luts[min(window.number, len(luts) - 1)], walk, signed=_is_below_zero(tables, header))
    centers, widths = _numbers(source, "WindowCenter"), _numbers(source, "WindowWidth")
    if not centers or not widths:
        return None
    if window.number >= min(len(centers), len(widths)):
        refuse("DCM_WINDOW", f"It has {min(len(centers), len(widths))} windows, not window {window.number + 1}.")
    function = str(source.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        refuse("DCM_WINDOW", "Its VOI LUT function is not one of the standard's.")
    width = widths[window.number]
    if width <= 0 or (function == "LINEAR" and width < 1):
        refuse("DCM_WINDOW", f"Window Width is {width:g}.")
    notes.append({"LINEAR": "window", "LINEAR_EXACT": "window-exact", "SIGMOID": "window-sigmoid"}[function])
    return Ramp(centers[window.number], width, function)  # type: ignore[arg-type]


def _is_inverted(walk: Walk, header: ImageHeader, notes: list[str]) -> bool:
    if header.photometric_interpretation == "MONOCHROME1":
        notes.append("monochrome1")
        return True
    if text(walk, _PRESENTATION_SHAPE).upper() == "INVERSE":
        notes.append("presentation-inverse")
        return True
    return False


def _padding(walk: Walk, header: ImageHeader) -> Padding | None:
    ends = [_padding_value(walk, tag, header) for tag in (0x00280120, 0x00280121)]
    if header.is_float or ends[0] is None:
        return None
    low, high = sorted((ends[0], ends[0] if ends[1] is None else ends[1]))
    return Padding(low, high)


def _padding_value(walk: Walk, tag: int, header: ImageHeader) -> int | None:
    """A padding value in the kind of the samples, whatever kind the element says."""
    element = walk.elements.get(tag)
    if element is None or element.end - element.value != 2:
        return None
    order: Literal["little", "big"] = "little" if walk.syntax.order == "<" else "big"
    return int.from_bytes(walk.raw(element), order, signed=header.is_signed)


def _read_lut(item: Any, walk: Walk, *, signed: bool) -> Lut:
    """A table out of a sequence item; what it says of its own length must hold."""
    descriptor = [int(value) for value in np.atleast_1d(_raw_values(item, "LUTDescriptor"))]
    if len(descriptor) != 3:
        refuse("DCM_LUT", "A lookup table does not say how long it is.")
    count, first, bits = (value & 0xFFFF for value in descriptor)
    count = count or 1 << 16
    first = first - (1 << 16) if signed and first >= 1 << 15 else first
    data = _raw_values(item, "LUTData")
    if isinstance(data, bytes):
        wide = len(data) >= 2 * count
        data = (
            np.frombuffer(data[: len(data) // 2 * 2], f"{walk.syntax.order}u2") if wide else np.frombuffer(data, "u1")
        )
    values = np.asarray(data, dtype=np.float64).ravel()
    if not 1 <= bits <= 16 or len(values) < count:
        refuse("DCM_LUT", f"A lookup table of {len(values):,} values says it has {count:,} of {bits} bits.")
    values = np.where(values < 0, values + (1 << 16), values)[:count]  # written as signed by mistake
    return Lut(np.minimum(values, (1 << bits) - 1), first, bits)


def _raw_values(item: Any, keyword: str) -> Any:
    try:
        value = item.get(keyword)
    except Exception:
        value = None
    if value is None:
        refuse("DCM_LUT", "A lookup table is not complete.")
    return value


def _is_below_zero(tables: Any, header: ImageHeader) -> bool:
    """Whether the input of a VOI LUT may be negative, which decides how its first value is read."""
    intercept = tables.get("RescaleIntercept")
    return header.is_signed or (intercept is not None and float(intercept) < 0)


def _numbers(source: Any, keyword: str) -> list[float]:
    try:
        value = source.get(keyword)
        values = [] if value is None or value == "" else [float(one) for one in np.atleast_1d(value)]
    except (TypeError, ValueError, OverflowError):
        refuse("DCM_WINDOW" if "Window" in keyword else "DCM_LUT", f"{keyword} is not a number.")
    if not np.isfinite(values).all():
        refuse("DCM_WINDOW" if "Window" in keyword else "DCM_LUT", f"{keyword} is not a finite number.")
    return values


def _one(source: Any, keyword: str, code: str) -> float | None:
    values = _numbers(source, keyword)
    if len(values) > 1:
        refuse(code, f"{keyword} has {len(values)} values.")
    return values[0] if values else None


# --- what becomes of the samples ----------------------------------------------------------------------------


def _to_full_range(
    samples: Pixels, header: ImageHeader, modality: Lut | Linear | None, voi: Lut | Ramp | None, *, inverted: bool
) -> Pixels:
    """Through the tables to uint16 over its full range; to uint8 unchanged where that is what they say."""

    def shown(values: Floats) -> Floats:
        values = values if modality is None else modality.apply(values)
        last = voi if voi is not None else modality
        values = values if voi is None else voi.apply(values)
        values = values / ((1 << last.bits) - 1) if isinstance(last, Lut) else values
        return np.asarray(1.0 - values if inverted else values)

    if header.is_float or header.bits_stored > 16:
        return np.concatenate(
            [np.round(shown(rows.astype(np.float64)) * FULL).astype(np.uint16) for rows in _in_blocks(samples)]
        )
    # Every sample that can occur, once: then each pixel is looked up.
    least = -(1 << (header.bits_stored - 1)) if header.is_signed else 0
    every = np.arange(least, least + (1 << header.bits_stored), dtype=np.float64)
    table = shown(every)
    if header.bits_stored == 8 and not header.is_signed and not inverted and np.allclose(table * 255.0, every):
        return samples
    return np.round(table * FULL).astype(np.uint16)[samples.astype(np.intp) - least]


def _plain(samples: Pixels, header: ImageHeader, *, stretched: bool, inverted: bool, notes: list[str]) -> Pixels:
    """Unsigned samples without tables, within their bits or over the full range of uint8 or uint16."""
    brightest = (1 << header.bits_stored) - 1
    dtype = np.uint8 if header.bits_stored <= 8 else np.uint16
    full = int(np.iinfo(dtype).max)
    values = samples.astype(np.uint32)
    if inverted:
        values = np.uint32(brightest) - values
    if stretched and brightest != full:
        notes.append("full-range")
        values = (values * np.uint32(full) + np.uint32(brightest // 2)) // np.uint32(brightest)
    return values.astype(dtype)


def _in_units(samples: Pixels, modality: Lut | Linear | None, *, inverted: bool) -> Pixels:
    """In the units of the modality as float32, which must hold integers exactly."""
    if modality is None and samples.dtype.kind in "iu":
        floats = samples.astype(np.float32)
        if samples.itemsize > 2 and not np.array_equal(floats, samples):
            refuse("IMG_DEPTH_UNSUPPORTED", "Integers above 16,777,216 that float32 cannot hold.")
        return -floats if inverted else floats
    parts = []
    with np.errstate(over="ignore"):
        for rows in _in_blocks(samples):
            values = rows.astype(np.float64)
            parts.append((values if modality is None else modality.apply(values)).astype(np.float32))
    floats = np.concatenate(parts)
    return -floats if inverted else floats


def _in_blocks(samples: Pixels, size: int = 1 << 20) -> list[Pixels]:
    """A few rows at a time: doubles of the whole image would take eight bytes a pixel."""
    step = max(1, size // max(1, samples.shape[1]))
    return [samples[start : start + step] for start in range(0, len(samples), step)]
