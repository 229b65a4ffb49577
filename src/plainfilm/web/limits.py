"""What the service takes, from whom, and how it says no."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from plainfilm.errors import PlainfilmError, UsageError

MIB: Final = 1 << 20
MIN_TOKEN: Final = 16  # characters


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """What one client, and all together, may ask for.

    Attributes:
        max_body_bytes: Of one request.
        max_held_bytes: Of all request bodies in memory at the same time.
        max_images: In one request.
        max_requests: With a body, at the same time.
        max_waiting: Images that wait for the model at the same time.
        max_connections: Open at the same time.
        max_head_bytes: Request line and headers.
        head_seconds: Until the head of a request is there.
        body_seconds: How far a body may lag behind `body_bytes_per_second`.
        body_bytes_per_second: As slow as a body may come.
        batch_wait_seconds: How long an image waits for others to share a pass with.
        stop_seconds: Until requests under way are given up when the service stops.
    """

    max_body_bytes: int = 64 * MIB
    max_held_bytes: int = 256 * MIB
    max_images: int = 64
    max_requests: int = 64
    max_waiting: int = 512
    max_connections: int = 256
    max_head_bytes: int = 32 << 10
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    body_bytes_per_second: float = 16 << 10
    batch_wait_seconds: float = 0.004
    stop_seconds: int = 10


class Refusal(PlainfilmError):  # noqa: N818 - nothing is wrong with the service
    """A request that is not served, with its HTTP status.

    Attributes:
        status: HTTP status code.
        retry_after: Seconds after which it is worth asking again; None where it is not.
    """

    def __init__(self, status: int, code: str, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail, code=code)
        self.status = status
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """What belongs into the head of the answer."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return headers | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def busy(detail: str) -> Refusal:
    """The refusal of what could be served a moment later."""
    return Refusal(503, "SRV_BUSY", f"{detail} Try again in a second.", retry_after=1)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a bound address."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_address(host: str, token: str | None) -> None:
    """Refuse to be reached from elsewhere without a token.

    Raises:
        UsageError: `SRV_TOKEN`.
    """
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise UsageError(
            f"A token has at least {MIN_TOKEN} printable ASCII characters, no space, and cannot be guessed.",
            code="SRV_TOKEN",
        )
    if token is None and not is_loopback(host):
        raise UsageError(
            f"'{host}' can be reached from other machines. Give a token (--token, or PLAINFILM_TOKEN), or use "
            "--host 127.0.0.1.",
            code="SRV_TOKEN",
        )
