"""Errors as every client gets them: JSON with a stable code and a sentence."""

from __future__ import annotations

import json
from typing import Final

from plainfilm.errors import DataError, PlainfilmError, ResourceError, UsageError

_STATUS: Final = {UsageError: 400, DataError: 422, ResourceError: 503}


def error_body(code: str, detail: str) -> bytes:
    """`{"code": ..., "detail": ...}`; text is escaped, so that nothing in it can be markup or leave its line."""
    return json.dumps({"code": code, "detail": detail}).encode("ascii")


def status_of(error: PlainfilmError) -> int:
    """The HTTP status of one of the library's own errors."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
