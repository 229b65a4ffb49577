"""Palette colours: the three lookup tables, segmented ones too (PS3.3, C.7.9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from plainfilm.data.dicom.elements import Walk
from plainfilm.data.dicom.header import ImageHeader
from plainfilm.data.refusals import refuse

_ALL = 1 << 16
_DESCRIPTORS = (0x00281101, 0x00281102, 0x00281103)
_TABLES = (0x00281201, 0x00281202, 0x00281203)
_SEGMENTED = (0x00281221, 0x00281222, 0x00281223)


def to_rgb(samples: npt.NDArray[Any], walk: Walk, header: ImageHeader) -> npt.NDArray[Any]:
    """`(rows, columns, 3)`, uint8 or uint16, for indices `(rows, columns)`.

    Raises:
        ImageError: `DCM_PALETTE` if a table is missing or short, or an index lies beyond it.
    """
    planes = [_table(walk, header, channel) for channel in range(3)]
    first, length, bits = planes[0][1]
    if any(facts != planes[0][1] for _, facts in planes):
        refuse("DCM_PALETTE", "Its three tables differ in length, first index or depth.")
    # Indices below the first are shown as the first (C.7.6.3.1.5); one beyond the last is damage, or an attack.
    place = np.maximum(samples.astype(np.int64) - first, 0)
    if place.max() >= length:
        refuse("DCM_PALETTE", f"Index {int(place.max())} into a table of {length:,}.")
    colour = np.stack([table[place] for table, _ in planes], axis=-1)
    return colour.astype(np.uint8 if bits == 8 else np.uint16)


def _table(walk: Walk, header: ImageHeader, channel: int) -> tuple[npt.NDArray[np.int64], tuple[int, int, int]]:
    """The values of one channel, and first index, length and bits."""
    element = walk.elements.get(_DESCRIPTORS[channel])
    if element is None or element.end - element.value != 6:
        refuse("DCM_PALETTE", "A palette does not say how long it is.")
    length, first, bits = np.frombuffer(walk.raw(element), f"{walk.syntax.order}u2").astype(int).tolist()
    length = length or _ALL
    first = first - (1 << 16) if header.is_signed and first >= 1 << 15 else first
    if bits not in (8, 16):
        refuse("DCM_PALETTE", f"A palette of {bits} bits.")
    plain, segmented = walk.elements.get(_TABLES[channel]), walk.elements.get(_SEGMENTED[channel])
    if plain is not None:
        raw = walk.raw(plain)
        wide = len(raw) >= 2 * length  # tables of 8 bits are found with and without a byte between
        values = np.frombuffer(raw[: len(raw) // 2 * 2], f"{walk.syntax.order}u2") if wide else np.frombuffer(raw, "u1")
        if wide and bits == 8 and values.max(initial=0) > 255:
            values = values >> 8
    elif segmented is not None:
        raw = walk.raw(segmented)
        kind = f"{walk.syntax.order}u2" if bits == 16 else "u1"
        size = np.dtype(kind).itemsize
        data = np.frombuffer(raw[: len(raw) // size * size], kind).astype(int).tolist()
        values = np.array(_expanded(data, length, size=size), dtype=np.int64)
    else:
        refuse("DCM_PALETTE", "A palette is missing.")
    if len(values) < length:
        refuse("DCM_PALETTE", f"A palette of {len(values):,} colours says it has {length:,}.")
    return values[:length].astype(np.int64), (first, length, bits)


def _expanded(data: list[int], length: int, *, size: int) -> list[int]:
    """The values of a segmented table of `size` bytes a value, which may not run beyond `length`."""
    found: list[int] = []
    starts: list[int] = []  # of the segments passed: others may repeat them
    place = 0
    while place + 1 < len(data) and len(found) < length:
        starts.append(place)
        if data[place] == 2:
            place = _repeat(data, place, found, starts, length, size=size)
        else:
            place = _segment(data, place, found, length)
    return found


def _segment(data: list[int], place: int, found: list[int], length: int) -> int:
    """Add what the segment at `place` stands for; gives where the next begins."""
    kind, count = data[place], data[place + 1]
    place += 2
    if len(found) + count > length:
        refuse("DCM_PALETTE", "A segmented palette has more colours than it says.")
    if kind == 0:
        part = data[place : place + count]
        if len(part) < count:
            refuse("DCM_PALETTE", "A segmented palette ends within a segment.")
        found += part
        return place + count
    if kind == 1:
        if not found or place >= len(data) or count == 0:
            refuse("DCM_PALETTE", "A segmented palette begins with a slope, or has one without length.")
        start, end = found[-1], data[place]
        found += [round(start + (end - start) * number / count) for number in range(1, count + 1)]
        return place + 1
    return refuse("DCM_PALETTE", "A segmented palette has a segment of an unknown kind.")


def _repeat(data: list[int], place: int, found: list[int], starts: list[int], length: int, *, size: int) -> int:
    """Add segments that stand earlier in the table; those may not repeat others in their turn."""
    count, width = data[place + 1], 4 // size
    parts = data[place + 2 : place + 2 + width]
    if len(parts) < width:
        refuse("DCM_PALETTE", "A segmented palette ends within a segment.")
    offset = sum(part << (8 * size * number) for number, part in enumerate(parts))
    # The standard counts bytes; some writers count values.
    there = next((at for at in (offset // size, offset) if at in starts), None)
    if there is None:
        refuse("DCM_PALETTE", "A segmented palette repeats what is not there.")
    for _ in range(count):
        if there >= place or data[there] == 2:
            refuse("DCM_PALETTE", "A segmented palette repeats what is not there.")
        there = _segment(data, there, found, length)
    return place + 2 + width
