"""Values of single elements, read strictly: a number is of the kind it must be, a text is plain and short."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plainfilm.data.dicom.elements import Element, Walk
from plainfilm.data.refusals import refuse

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_TEXT = 1 << 16
_FORMS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}


def has_value(walk: Walk, tag: int) -> bool:
    """Whether the element is there and not empty."""
    element = walk.elements.get(tag)
    return element is not None and element.end > element.value


def number(walk: Walk, tag: int, name: str, code: str) -> int | None:
    """One unsigned 16-bit number (US); None where the element is absent or empty.

    Raises:
        ImageError: `code` if it is of another kind or length.
    """
    element = walk.elements.get(tag)
    if element is None or element.end == element.value:
        return None
    if element.vr not in ("US", "", "UN") or element.end - element.value != 2:
        refuse(code, f"{name} is not one 16-bit number.")
    return int(struct.unpack_from(f"{walk.syntax.order}H", walk.data, element.value)[0])


def text(walk: Walk, tag: int) -> str:
    """A text without its padding; bytes that are not UTF-8 count as Latin-1. Empty where there is none."""
    element = walk.elements.get(tag)
    return "" if element is None else decoded(walk.data[element.value : min(element.end, element.value + MAX_TEXT)])


def decoded(raw: bytes) -> str:
    """Bytes of a text element as text."""
    try:
        return raw.decode("utf-8").strip("\0 \t\r\n")
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip("\0 \t\r\n")


def decimals(walk: Walk, tag: int, name: str, code: str) -> list[float]:
    """The numbers of a decimal string (DS, IS); empty where there is none.

    Raises:
        ImageError: `code` if one of them is no finite number.
    """
    return parse_decimals(text(walk, tag), name, code)


def parse_decimals(value: str, name: str, code: str) -> list[float]:
    r"""The numbers in `a\b\c`."""
    found = []
    for part in value.split("\\") if value else []:
        try:
            found.append(float(part.strip().replace(",", ".")))
        except ValueError:
            refuse(code, f"{name} is not a number.")
        if not math.isfinite(found[-1]):
            refuse(code, f"{name} is not a finite number.")
    return found


def spoken(walk: Walk, element: Element, vr: str) -> str:
    r"""The value of an element of a known kind as text, several parted by `\`."""
    kind = element.vr if element.vr not in ("", "UN") else vr
    raw = walk.data[element.value : min(element.end, element.value + MAX_TEXT)]
    if kind not in _FORMS:
        return decoded(raw)
    form = _FORMS[kind]
    count = len(raw) // struct.calcsize(form)
    values = struct.unpack_from(f"{walk.syntax.order}{count}{form}", raw)
    return "\\".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values)


def parsed(walk: Walk, tags: Sequence[int]) -> Dataset:
    """These elements alone, read by pydicom: it never sees a name, a private element or a character set.

    The walk has bounded their nesting and their lengths.
    """
    from pydicom.dataset import Dataset
    from pydicom.filereader import read_dataset

    found = Dataset()
    for tag in tags:
        element = walk.elements.get(tag)
        if element is None:
            continue
        part = io.BytesIO(walk.data[element.start : element.end])
        found.update(read_dataset(part, walk.syntax.implicit, walk.syntax.order == "<"))
    return found


def first_item(dataset: Any, keyword: str) -> Any:
    """The first item of a sequence; None where there is none."""
    sequence = dataset.get(keyword) if dataset is not None else None
    return sequence[0] if sequence else None
