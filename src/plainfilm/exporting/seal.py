"""The last bytes of an ONNX file of ours: a hash of all before them, so that a flipped bit is found before parsing.

The seal is itself an entry of the model's metadata: a protobuf message followed by another is both of them merged.
"""

from __future__ import annotations

import hashlib

from plainfilm.errors import BundleError

KEY = b"sha256"
_METADATA_FIELD = (14 << 3) | 2  # ModelProto.metadata_props, a message
_KEY_FIELD, _VALUE_FIELD = (1 << 3) | 2, (2 << 3) | 2  # StringStringEntryProto.key and .value


def sealed(model: bytes) -> bytes:
    """The serialised model with the hash of itself behind it."""
    return model + _seal(model)


def check_seal(data: bytes, *, shown: str) -> None:
    """Refuse bytes that are not, to the bit, what `sealed` made.

    Raises:
        BundleError: `BUN_FORMAT` if they bear no seal, `BUN_DAMAGED` if it is not theirs.
    """
    length = len(_seal(b""))
    model, seal = data[:-length], data[-length:]
    if seal == _seal(model):
        return
    if seal[:4] != _seal(b"")[:4] and KEY not in seal:
        raise BundleError(f"{shown}: not a model that plainfilm exported, or cut short.", code="BUN_FORMAT")
    raise BundleError(f"{shown}: not the file that was written: its hash differs.", code="BUN_DAMAGED")


def _digest(model: bytes) -> bytes:
    return hashlib.sha256(model).hexdigest().encode()


def _seal(model: bytes) -> bytes:
    digest = _digest(model)
    entry = bytes([_KEY_FIELD, len(KEY)]) + KEY + bytes([_VALUE_FIELD, len(digest)]) + digest
    return bytes([_METADATA_FIELD, len(entry)]) + entry
