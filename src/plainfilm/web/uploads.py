"""The images of a multipart request, in memory and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from plainfilm.web.limits import Refusal

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD: Final = "image"  # the name of every part
MAX_HEADER_BYTES: Final = 8 << 10  # of one part; a file name may be long


async def read_images(content_type: str, stream: AsyncIterator[bytes], *, most: int) -> list[bytes]:
    """The parts named `image`, in their order. File names are not read, let alone kept.

    Args:
        content_type: Of the request.
        stream: Its body.
        most: Parts that it may have.

    Raises:
        Refusal: 415 for another kind of body, 413 for too many parts, 400 for what is not well-formed.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Refusal(415, "REQ_TYPE", f"Send multipart/form-data, each image as a part named '{FIELD}'.")
    reader = _Reader(most)
    try:
        parser = MultipartParser(
            boundary, callbacks=reader.callbacks(), max_header_count=8, max_header_size=MAX_HEADER_BYTES
        )
        async for part in stream:
            parser.write(part)
    except (FormParserError, UnicodeError, ValueError):
        raise Refusal(400, "REQ_INVALID", "The multipart body is not well-formed.") from None
    if not reader.is_complete:
        raise Refusal(400, "REQ_INVALID", "The multipart body ends before its last boundary.")
    if not reader.images:
        raise Refusal(400, "REQ_NO_IMAGE", f"There is no part named '{FIELD}'.")
    return [bytes(image) for image in reader.images]


class _Reader:
    """What the parser tells, part by part."""

    def __init__(self, most: int) -> None:
        self.images: list[bytearray] = []
        self.is_complete = False
        self._most = most
        self._name = bytearray()
        self._value = bytearray()
        self._is_named = False

    def callbacks(self) -> MultipartCallbacks:
        """By the parser's own names."""
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header,
            "on_headers_finished": self._headers,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.images) >= self._most:
            raise Refusal(413, "REQ_TOO_MANY", f"A request may hold {self._most} images; send fewer at once.")
        self.images.append(bytearray())
        self._is_named = False

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        name, value = bytes(self._name).lower(), bytes(self._value)
        self._name.clear()
        self._value.clear()
        if name == b"content-disposition":
            kind, options = parse_options_header(value)
            self._is_named = kind == b"form-data" and options.get(b"name") == FIELD.encode()
        elif name == b"content-transfer-encoding" and value.strip().lower() not in (b"binary", b"8bit", b"7bit"):
            raise Refusal(415, "REQ_ENCODED", "Send each part as it is: transfer encodings are refused.")

    def _headers(self) -> None:
        if not self._is_named:
            raise Refusal(400, "REQ_FIELD", f"Every part must be named '{FIELD}'.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.images[-1] += data[start:end]

    def _end(self) -> None:
        if not self._is_named:
            raise Refusal(400, "REQ_FIELD", f"Every part must be named '{FIELD}'.")

    def _finish(self) -> None:
        self.is_complete = True
