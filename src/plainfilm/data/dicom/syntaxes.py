"""Transfer syntaxes: how the elements are written, and how the pixels are compressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plainfilm.data.refusals import refuse

Codec = Literal["native", "rle", "jpeg", "jpeg-ls", "jpeg-2000", "encapsulated"]

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"

_CODECS: dict[str, Codec] = {
    IMPLICIT_LITTLE: "native",
    EXPLICIT_LITTLE: "native",
    DEFLATED: "native",
    EXPLICIT_BIG: "native",
    "1.2.840.10008.1.2.1.98": "encapsulated",
    "1.2.840.10008.1.2.4.50": "jpeg",
    JPEG_EXTENDED: "jpeg",
    "1.2.840.10008.1.2.4.57": "jpeg",
    "1.2.840.10008.1.2.4.70": "jpeg",
    "1.2.840.10008.1.2.4.80": "jpeg-ls",
    "1.2.840.10008.1.2.4.81": "jpeg-ls",
    "1.2.840.10008.1.2.4.90": "jpeg-2000",
    "1.2.840.10008.1.2.4.91": "jpeg-2000",
    "1.2.840.10008.1.2.4.201": "jpeg-2000",
    "1.2.840.10008.1.2.4.202": "jpeg-2000",
    "1.2.840.10008.1.2.4.203": "jpeg-2000",
    "1.2.840.10008.1.2.5": "rle",
}


@dataclass(frozen=True)
class Syntax:
    """One transfer syntax.

    Attributes:
        uid: As the file names it, or as it was found out where the file does not.
        implicit: Whether elements carry no value representation.
        order: `<` or `>`, as `struct` has it.
        codec: How pixels are compressed; None where nothing here can decode them.
    """

    uid: str
    implicit: bool
    order: Literal["<", ">"]
    codec: Codec | None

    @property
    def is_encapsulated(self) -> bool:
        """Whether pixels lie in fragments."""
        return self.codec != "native"

    def require_codec(self) -> Codec:
        """The codec, or a refusal where nothing here can decode the pixels."""
        if self.codec is None:
            known = self.uid.startswith("1.2.840.10008.1.2.")
            refuse("DCM_SYNTAX", f"Transfer syntax {self.uid}." if known else "An unknown or private transfer syntax.")
        return self.codec


def find_syntax(uid: str) -> Syntax:
    """The syntax of a UID; all but three are written explicit and little-endian."""
    order: Literal["<", ">"] = ">" if uid == EXPLICIT_BIG else "<"
    return Syntax(uid, uid == IMPLICIT_LITTLE, order, _CODECS.get(uid))
