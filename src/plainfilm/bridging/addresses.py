"""Names of DICOM nodes, and whether an address is this machine."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from plainfilm.errors import UsageError


class Peer(NamedTuple):
    """A DICOM node."""

    title: str
    host: str
    port: int


def check_title(title: str) -> str:
    r"""An AE title (PS3.5, VR AE): 1 to 16 printable ASCII characters, no `\`, not blank.

    Raises:
        UsageError: `BRG_TITLE`.
    """
    if not title.strip() or len(title) > 16 or "\\" in title or not (title.isascii() and title.isprintable()):
        raise UsageError("an AE title has 1 to 16 printable ASCII characters and no backslash.", code="BRG_TITLE")
    return title.strip()


def parse_peer(text: str) -> Peer:
    """`TITLE@HOST:PORT`.

    Raises:
        UsageError: `BRG_PEER` or `BRG_TITLE`.
    """
    found = re.fullmatch(r"([^@]+)@(\[[0-9a-fA-F:.]+\]|[^:@\s/]+):(\d{1,5})", text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise UsageError("a peer is TITLE@HOST:PORT, such as ARCHIVE@127.0.0.1:104.", code="BRG_PEER")
    return Peer(check_title(found[1]), found[2].strip("[]"), int(found[3]))


def is_this_machine(host: str) -> bool:
    """Whether an address cannot lead to another machine. Names other than localhost may, so they do not count."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_service(url: str) -> str:
    """The host of a DICOMweb service's address.

    Raises:
        UsageError: `BRG_STOW`.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(
            "a DICOMweb service is http://HOST[:PORT]/..., without a password or a query.", code="BRG_STOW"
        )
    return host
