"""Names for patients, studies and files that say nothing to anybody without the key.

A keyed hash (HMAC-SHA-256): the same id gives the same name on every run with the same key, and without the key a list
of all hospital numbers does not lead back from one. The key lies with its user, never with the results.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from plainfilm.errors import DataError

_KEY_BYTES = 32
_NAME_DIGITS = 16  # 64 bits: two of a million ids meet once in 37 million data sets
_LETTERS = {"patient": "P", "study": "T", "series": "S", "instance": "I", "file": "F"}


@dataclass(frozen=True)
class Pseudonyms:
    """Names by one key; without a key ids stay as they are."""

    key: bytes | None
    is_lasting: bool = True

    @property
    def are_hashed(self) -> bool:
        """Whether ids are replaced."""
        return self.key is not None

    def name(self, kind: str, value: str) -> str:
        """What stands for `value`, an id of this kind; begins with a letter, so that no program makes it a number."""
        if self.key is None:
            return value
        digest = hmac.new(self.key, f"{kind}\0{value}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"{_LETTERS.get(kind, 'X')}{digest[:_NAME_DIGITS]}"


def key_file() -> Path:
    """Where the key is kept: `id-key` under `plainfilm` in the user's configuration folder."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "plainfilm" / "id-key"


def read_pseudonyms(*, hashed: bool, key: Path | None) -> Pseudonyms:
    """The names to use.

    Args:
        hashed: Whether ids are replaced at all.
        key: File with the key; by default the user's own. It is made where there is none.

    Raises:
        DataError: `DCM_ID_KEY` if a given key file holds too little to be one, or cannot be read or made.
    """
    if not hashed:
        return Pseudonyms(None)
    path = key_file() if key is None else key
    try:
        return Pseudonyms(_read_or_make(path))
    except OSError as error:
        if key is not None:
            raise DataError(f"The key file '{key}' cannot be used: {error.strerror}.", code="DCM_ID_KEY") from None
        return Pseudonyms(secrets.token_bytes(_KEY_BYTES), is_lasting=False)


def _read_or_make(path: Path) -> bytes:
    """The key in a file; a new one, for its owner alone, where there is no file."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        text = path.read_bytes()[:4096].strip()
        if len(text) < _KEY_BYTES:
            raise DataError(
                f"'{path.name}' holds too little for a key: {_KEY_BYTES} characters or more.", code="DCM_ID_KEY"
            ) from None
        return text
    with os.fdopen(made, "wb") as file:
        key = secrets.token_hex(_KEY_BYTES).encode()
        file.write(key + b"\n")
    return key
