"""What the two sides of a decoder tell each other: JSON and raw bytes with their lengths before them, over pipes.

Nothing is pickled.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from plainfilm.data.images import REASONS, DecodeRecord

PIPE_BYTES = 64 << 10  # what a pipe of Linux holds: a small image crosses in one piece, and wakes its reader once
_LENGTHS = struct.Struct(">IQ")  # bytes of JSON, bytes of pixels


@dataclass(frozen=True, eq=False)
class Decoded:
    """What became of one image.

    Attributes:
        index: Its place in the sequence given.
        record: How it was stored; None if it was refused.
        pixels: `(height, width)`, fitted; None if it was refused or no size was given.
        code: Why it was refused (a key of `images.REASONS`), or None.
        detail: The same in a sentence, without a path; empty if it was read.
        view: `(height, width)`, reduced to what a screen shows; only where it was asked for.
    """

    index: int
    record: DecodeRecord | None = None
    pixels: NDArray[Any] | None = None
    code: str | None = None
    detail: str = ""
    view: NDArray[Any] | None = None


def refused(index: int, code: str) -> Decoded:
    """An image that was refused for a reason that its code alone tells."""
    return Decoded(index, code=code, detail=REASONS[code])


def send(stream: IO[bytes], message: dict[str, Any], *payload: NDArray[Any] | bytes) -> None:
    """Write a message, and what goes with it as raw bytes."""
    text = json.dumps(message).encode()  # ASCII: names that are not valid Unicode survive as escapes
    parts = [part if isinstance(part, bytes) else np.ascontiguousarray(part).data.cast("B") for part in payload]
    n_bytes = sum(len(part) for part in parts)
    pieces = [_LENGTHS.pack(len(text), n_bytes) + text, *parts]
    for piece in [b"".join(pieces)] if n_bytes <= PIPE_BYTES else pieces:  # a large image is not copied for it
        stream.write(piece)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytearray]:
    """The next message and its raw bytes; EOFError if the other side is gone."""
    text_bytes, raw_bytes = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    message: dict[str, Any] = json.loads(_exactly(stream, text_bytes))
    return message, _exactly(stream, raw_bytes)


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    data = bytearray(count)
    if stream.readinto(data) != count:  # type: ignore[attr-defined]
        raise EOFError
    return data


def send_decoded(stream: IO[bytes], decoded: Decoded) -> None:
    """Tell what became of an image."""
    message: dict[str, Any] = {"index": decoded.index, "code": decoded.code, "detail": decoded.detail}
    if decoded.record is not None:
        message["record"] = vars(decoded.record)
    arrays = {name: value for name in ("pixels", "view") if (value := getattr(decoded, name)) is not None}
    message["arrays"] = {name: (value.dtype.name, value.shape) for name, value in arrays.items()}
    send(stream, message, *arrays.values())


def receive_decoded(stream: IO[bytes]) -> Decoded:
    """What `send_decoded` told; EOFError if the other side is gone."""
    message, data = receive(stream)
    record = None
    if "record" in message:
        record = DecodeRecord(**{**message["record"], "notes": tuple(message["record"]["notes"])})
    arrays, start = {}, 0
    for name, (dtype, shape) in message["arrays"].items():
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(data, dtype=dtype, count=count, offset=start).reshape(shape)
        start += arrays[name].nbytes
    return Decoded(
        message["index"], record, arrays.get("pixels"), message["code"], message["detail"], arrays.get("view")
    )
