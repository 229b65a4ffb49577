"""A walk over the elements of a DICOM file: where each lies, without decoding or allocating anything.

Every length is held against what is left of the file, nesting and number of elements are bounded, and nothing
recurses: a file cannot make this walk run long, deep or past its end. What the walk has passed may be given to pydicom.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

from plainfilm.data.dicom.syntaxes import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Syntax, find_syntax
from plainfilm.data.formats.header import MAX_BLOCKS
from plainfilm.data.refusals import refuse

MAX_DEPTH = 32  # sequences within sequences; real files stay below ten

PIXELS = 0x7FE00010
FLOAT_PIXELS = 0x7FE00008
DOUBLE_PIXELS = 0x7FE00009
PIXEL_TAGS = (PIXELS, FLOAT_PIXELS, DOUBLE_PIXELS)
TRANSFER_SYNTAX = 0x00020010
MEDIA_CLASS = 0x00020002
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF

_SHORT = {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
}  # fmt: skip
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}


class Element(NamedTuple):
    """Where one element lies.

    `vr` is empty where the file does not say it; `fragments` are the places of compressed pixels, the offset table
    first.
    """

    tag: int
    vr: str
    start: int
    value: int
    end: int
    fragments: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Walk:
    """What a file holds at its top level.

    Attributes:
        data: The bytes that the elements lie in; of a deflated file, what it unpacked to.
        syntax: How they are written.
        elements: By tag.
        media_class: SOP class of the file's own header; empty without one.
        notes: What was not as it should be, and did no harm.
        reached_pixels: Whether the walk ended at the pixels, as it was told to.
    """

    data: bytes
    syntax: Syntax
    elements: dict[int, Element]
    media_class: str = ""
    notes: tuple[str, ...] = ()
    reached_pixels: bool = False

    def raw(self, element: Element) -> bytes:
        """The bytes of a value."""
        return self.data[element.value : element.end]


def looks_like_dicom(data: bytes) -> bool:
    """Whether the bytes are DICOM: by the mark after the preamble, or by first elements that only DICOM has."""
    if data[128:132] == b"DICM" or data[:4] == b"DICM":
        return True
    place, last = 0, 0
    for _ in range(3):
        element = _plain_element(data, place)
        if element is None or element.tag <= last:
            return False
        place, last = element.end, element.tag
    return True


def _plain_element(data: bytes, place: int) -> Element | None:
    """An element at `place` as a data set begins with: of group 2 or 8, and short. None if there is none."""
    if len(data) < place + 12:
        return None
    implicit, order = _written_as(data, place)
    element = _element(data, place, implicit=implicit, order=order)
    is_short = 0 <= element.end - element.value <= 4096 and element.end <= len(data)
    return element if element.tag >> 16 in (0x0002, 0x0008) and is_short else None


def walk_file(data: bytes, *, max_inflated: int, stop_at_pixels: bool = False) -> Walk:
    """Walk a whole file.

    Args:
        data: Its bytes; where the pixels are not wanted, they may end after its header.
        max_inflated: What a deflated data set may unpack to.
        stop_at_pixels: Leave out the pixels and all after them.

    Raises:
        ImageError: `DCM_TRUNCATED`, `DCM_CORRUPT`, `DCM_NESTED`, `DCM_SYNTAX_WRONG` or `IMG_MEMORY`.
    """
    start = 132 if data[128:132] == b"DICM" else 4 if data[:4] == b"DICM" else 0
    meta, start = _file_header(data, start)
    uid = _text(data, meta.get(TRANSFER_SYNTAX))
    media_class = _text(data, meta.get(MEDIA_CLASS))
    notes = () if start > 132 else ("no-preamble",)
    if uid == DEFLATED:
        data, start = _inflated(data, start, max_inflated), 0
    syntax, more = _settle_syntax(uid, data, start)
    walker = _Walker(data, syntax, stop_at_pixels=stop_at_pixels)
    walker.run(start)
    return Walk(data, syntax, walker.found, media_class, (*notes, *more, *walker.notes), walker.reached_pixels)


def _text(data: bytes, element: Element | None) -> str:
    return "" if element is None else data[element.value : element.end].strip(b"\0 ").decode("ascii", "replace")


def _file_header(data: bytes, start: int) -> tuple[dict[int, Element], int]:
    """The elements of group 2, always explicit and little-endian, and where they end."""
    found: dict[int, Element] = {}
    place = start
    while len(data) >= place + 8 and data[place : place + 2] == b"\x02\x00" and len(found) < 64:
        vr = data[place + 4 : place + 6]
        if vr not in _SHORT | _LONG:
            break  # an implicit header: it is read with the data set
        element = _element(data, place, implicit=False, order="<")
        if element.end < element.value:
            refuse("DCM_CORRUPT", "An element of the file's own header has no length.")
        if element.end > len(data):
            refuse("DCM_TRUNCATED", "The file's own header runs past its end.")
        found[element.tag] = element
        place = element.end
    return found, place


def _written_as(data: bytes, place: int) -> tuple[bool, Literal["<", ">"]]:
    """Whether the element at `place` is implicit, and its byte order; groups are small numbers in the right one."""
    little, big = struct.unpack_from("<H", data, place), struct.unpack_from(">H", data, place)
    explicit = data[place + 4 : place + 6] in _SHORT | _LONG
    return not explicit, "<" if little <= big else ">"


def _settle_syntax(uid: str, data: bytes, start: int) -> tuple[Syntax, tuple[str, ...]]:
    """The syntax that the file names, held against its first element; found out where it names none."""
    if len(data) < start + 8:
        return find_syntax(uid or EXPLICIT_LITTLE), ()
    implicit, order = _written_as(data, start)
    if not uid:
        uid = EXPLICIT_BIG if order == ">" else IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE
        return find_syntax(uid), ("syntax-guessed",)
    syntax = find_syntax(uid)
    (group,) = struct.unpack_from(f"{syntax.order}H", data, start)
    if order != syntax.order and group in (0x0800, 0x1000, 0x1800, 0x2000, 0x2800):  # usual groups, turned round
        refuse("DCM_SYNTAX_WRONG", "Its elements are not in the byte order that its transfer syntax says.")
    if implicit != syntax.implicit and syntax.order == "<":
        return Syntax(uid, implicit, "<", syntax.codec), ("vr-encoding-corrected",)
    return syntax, ()


def _inflated(data: bytes, start: int, limit: int) -> bytes:
    packer = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = packer.decompress(memoryview(data)[start:], limit + 1)
    except zlib.error:
        refuse("DCM_CORRUPT", "Its deflated elements do not unpack.")
    if len(found) > limit:
        refuse("IMG_MEMORY", f"Its deflated elements unpack to more than {limit:,} bytes.")
    if not packer.eof:
        refuse("DCM_TRUNCATED", "Its deflated elements are not all there.")
    return found


class _Level(NamedTuple):
    """A data set or sequence that the walk is inside of."""

    is_sequence: bool
    end: int  # never beyond the level above
    is_undefined: bool
    implicit: bool
    owner: Element | None  # of the top level, that it is the value of


class _Walker:
    """The walk itself, with the levels it is inside of."""

    def __init__(self, data: bytes, syntax: Syntax, *, stop_at_pixels: bool) -> None:
        self.data = data
        self.order = syntax.order
        self.stop_at_pixels = stop_at_pixels
        self.found: dict[int, Element] = {}
        self.notes: tuple[str, ...] = ()
        self.reached_pixels = False
        self.levels = [_Level(False, len(data), False, syntax.implicit, None)]

    def run(self, place: int) -> None:
        """Walk from `place` to the end, or to the pixels."""
        for _ in range(MAX_BLOCKS):
            level = self.levels[-1]
            if place >= level.end and (not level.is_undefined or len(self.levels) == 1):
                self._leave(place)
                if not self.levels:
                    return
            elif level.end - place < 8:
                if len(self.levels) > 1:
                    refuse("DCM_TRUNCATED", "A sequence is not closed.")
                self.notes = ("trailing-bytes",)
                return
            elif level.is_sequence:
                place = self._pass_item(place)
            elif len(self.levels) == 1 and self._is_end(place):
                return
            else:
                place = self._pass_element(place)
        refuse("DCM_CORRUPT", f"It has more than {MAX_BLOCKS:,} elements.")

    def _tag(self, place: int) -> int:
        group, number = struct.unpack_from(f"{self.order}HH", self.data, place)
        return int(group << 16 | number)

    def _is_end(self, place: int) -> bool:
        """Whether the pixels, if they are not wanted, or zeros up to the end stand at `place` of the top level."""
        tag = self._tag(place)
        if tag == 0 and not any(self.data[place : place + 4096]):
            self.notes = ("trailing-bytes",)
            return True
        self.reached_pixels = self.stop_at_pixels and tag >= FLOAT_PIXELS
        return self.reached_pixels

    def _pass_item(self, place: int) -> int:
        """Into the next item of a sequence, or out of it."""
        tag, (length,) = self._tag(place), struct.unpack_from(f"{self.order}I", self.data, place + 4)
        if tag == _SEQUENCE_END:
            self._leave(place + 8)
        elif tag == _ITEM:
            self._enter(place + 8, length, is_sequence=False, implicit=self.levels[-1].implicit)
        else:
            refuse("DCM_CORRUPT", "A sequence holds something other than items.")
        return place + 8

    def _pass_element(self, place: int) -> int:
        """Over the next element of a data set, or into it if it is a sequence, or out of the data set."""
        level, at_top = self.levels[-1], len(self.levels) == 1
        if not at_top and self._tag(place) == _ITEM_END:
            self._leave(place + 8)
            return place + 8
        element = _element(self.data, place, implicit=level.implicit, order=self.order)
        is_undefined = element.end < 0
        if not is_undefined and element.end > level.end:
            what = "The pixels run" if element.tag in PIXEL_TAGS else "An element runs"
            refuse("DCM_TRUNCATED", f"{what} past the end of the {'file' if at_top else 'sequence'}.")
        if is_undefined and element.tag == PIXELS and at_top:
            self.found[PIXELS] = element = _with_fragments(self.data, element, self.order)
            return element.end
        if is_undefined or element.vr == "SQ":
            # What is unknown and of no stated length is a sequence written implicitly.
            implicit = level.implicit or element.vr == "UN"
            length = _UNDEFINED if is_undefined else element.end - element.value
            self._enter(element.value, length, is_sequence=True, implicit=implicit, owner=element if at_top else None)
            return element.value
        if at_top:
            self.found[element.tag] = element
        return element.end

    def _enter(
        self, place: int, length: int, *, is_sequence: bool, implicit: bool, owner: Element | None = None
    ) -> None:
        """Open a level at `place`; one of no stated length may reach as far as the one above."""
        if len(self.levels) >= 2 * MAX_DEPTH:
            refuse("DCM_NESTED", f"Sequences lie more than {MAX_DEPTH} deep in one another.")
        above = self.levels[-1].end
        if length != _UNDEFINED and place + length > above:
            refuse("DCM_TRUNCATED", "A sequence runs past the end of what it lies in.")
        end = above if length == _UNDEFINED else place + length
        self.levels.append(_Level(is_sequence, end, length == _UNDEFINED, implicit, owner))

    def _leave(self, place: int) -> None:
        owner = self.levels.pop().owner
        if owner is not None:
            self.found[owner.tag] = owner._replace(end=place)


def _element(data: bytes, place: int, *, implicit: bool, order: str) -> Element:
    """The element whose header is at `place`; its `end` is -1 where it states no length."""
    group, number = struct.unpack_from(f"{order}HH", data, place)
    vr = b"" if implicit else data[place + 4 : place + 6]
    if implicit:
        value, (length,) = place + 8, struct.unpack_from(f"{order}I", data, place + 4)
    elif vr in _LONG:
        if len(data) < place + 12:
            refuse("DCM_TRUNCATED", "An element runs past the end of the file.")
        value, (length,) = place + 12, struct.unpack_from(f"{order}I", data, place + 8)
    elif vr in _SHORT or (vr.isalpha() and vr.isupper()):
        value, (length,) = place + 8, struct.unpack_from(f"{order}H", data, place + 6)
    else:
        refuse("DCM_CORRUPT", "Something stands where an element should begin.")
    tag = group << 16 | number
    end = -1 if length == _UNDEFINED else value + length
    return Element(tag, vr.decode("ascii"), place, value, end)


def _with_fragments(data: bytes, element: Element, order: str) -> Element:
    """The pixel element with the place of each fragment."""
    fragments: list[tuple[int, int]] = []
    place = element.value
    while True:
        if place + 8 > len(data):
            refuse("DCM_TRUNCATED", "The compressed pixels are not closed.")
        group, number, length = struct.unpack_from(f"{order}HHI", data, place)
        place += 8
        tag = group << 16 | number
        if tag == _SEQUENCE_END:
            return element._replace(end=place, fragments=tuple(fragments))
        if tag != _ITEM or length == _UNDEFINED:
            refuse("DCM_CORRUPT", "Something stands where compressed pixels should begin.")
        if place + length > len(data):
            refuse("DCM_TRUNCATED", "The compressed pixels run past the end of the file.")
        if len(fragments) > MAX_BLOCKS:
            refuse("DCM_CORRUPT", f"Its pixels are in more than {MAX_BLOCKS:,} pieces.")
        fragments.append((place, place + length))
        place += length
