"""The door of the service: whatever comes in is bounded here, before any route sees it.

It stands around the application as ASGI middleware. Nothing that passes it can be larger, slower or more at once than
`ServiceLimits` say, comes under another name than the service's own, or from a page of another origin.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import h11

from plainfilm.web.counters import Counters
from plainfilm.web.limits import Refusal, ServiceLimits, busy
from plainfilm.web.replies import error_body

logger = logging.getLogger("plainfilm.web")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ALWAYS: Final = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
OPEN: Final = ("/", "/health", "/ready", "/docs", "/openapi.json")  # what needs no token: nothing of the model
OPEN_FOLDER: Final = "/static/"


@dataclass(frozen=True, kw_only=True)
class Door:
    """Middleware around `app`.

    Attributes:
        app: What is behind it.
        limits: What may pass.
        names: Hosts, in lower case and with their port, under which the service is asked.
        any_address: Whether any IP address with the right port is such a name (bound to all addresses).
        port: Of the service.
        token: That a client must know; None on loopback.
        counters: Told of every request.
        load: How much is inside.
    """

    app: App
    limits: ServiceLimits
    names: frozenset[str]
    port: int
    token: str | None
    counters: Counters
    load: Load
    any_address: bool = False

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        body = Body(receive, self.limits, self.load)
        reply = Reply(send, body)
        try:
            try:
                head = Head.of(scope)
                body.is_complete = not head.has_body
                self._check(scope, head)
                with self.load.entered(self.limits, head) as held:
                    body.held = held
                    await self.app(scope, body.receive, reply.send)
            except Refusal as refusal:
                await reply.refuse(refusal)
            except (Disconnected, asyncio.CancelledError):
                raise
            except Exception as error:  # never a traceback, and never the words of data in a log
                if isinstance(error.__cause__, Disconnected):  # starlette's word for it, once an answer had begun
                    raise error.__cause__ from None
                is_asked = bool(os.environ.get("PLAINFILM_TRACEBACK"))
                logger.error("an error of plainfilm's own (%s)", type(error).__name__, exc_info=is_asked)
                await reply.refuse(Refusal(500, "INTERNAL", "An error of plainfilm's own. Please report it."))
        except Disconnected:
            reply.status = reply.status or 499
        finally:
            self._note(scope, reply.status, time.monotonic() - began)

    def _note(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        """Count a request; what is logged of it is the route's own name, never what the client wrote."""
        route = getattr(scope.get("route"), "path", "-")
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "-"
        self.counters.requests[route, status] += 1
        self.counters.seconds.add(seconds)
        logger.info("%s %s %d %.0f ms", method, route, status, 1000 * seconds)

    def _check(self, scope: MutableMapping[str, Any], head: Head) -> None:
        """Refuse by what the head of a request says alone."""
        self._check_host(head)
        self._check_origin(scope["method"], head)
        self._check_token(scope["path"], head)
        if head.encoding not in ("", "identity"):
            raise Refusal(415, "REQ_ENCODED", "Send the body as it is: content encodings such as gzip are refused.")
        if head.has_body and scope["method"] != "POST":
            raise Refusal(400, "REQ_BODY", "This request takes no body.")
        if head.length is not None and head.length > self.limits.max_body_bytes:
            raise too_large(self.limits)

    def _check_host(self, head: Head) -> None:
        """Under a name that is not ours, somebody else's page asks (DNS rebinding)."""
        host = head.host
        if host in self.names or (self.any_address and is_address(host, self.port)):
            return
        raise Refusal(421, "REQ_HOST", "The service is not known under this name; use the address it prints.")

    def _check_origin(self, method: str, head: Head) -> None:
        """A browser tells from whose page a request comes; other clients say nothing, and carry no one's session."""
        if method in ("GET", "HEAD"):
            return
        own = {f"http://{head.host}", f"https://{head.host}"}
        if (head.origin and head.origin not in own) or head.fetch_site in ("cross-site", "same-site"):
            raise Refusal(403, "REQ_ORIGIN", "Requests from pages of another origin are refused.")

    def _check_token(self, path: str, head: Head) -> None:
        if self.token is None or path in OPEN or path.startswith(OPEN_FOLDER):
            return
        kind, _, given = head.authorization.partition(" ")
        if kind.casefold() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            raise Refusal(401, "REQ_TOKEN", "Give the token of this service: Authorization: Bearer TOKEN.")


@dataclass(frozen=True)
class Head:
    """What of a request's headers the door reads; a header that may come once and comes twice is refused."""

    host: str
    origin: str
    fetch_site: str
    authorization: str
    encoding: str
    length: int | None
    chunked: bool

    @classmethod
    def of(cls, scope: MutableMapping[str, Any]) -> Head:
        """Read from an ASGI scope; names are in lower case there."""
        found: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1")
            if key in found and key in ("host", "origin", "authorization", "content-length", "content-type"):
                raise Refusal(400, "REQ_INVALID", f"The header '{key}' comes twice.")
            found[key] = value.decode("latin-1")
        length = found.get("content-length")
        return cls(
            host=found.get("host", "").casefold(),
            origin=found.get("origin", "").casefold(),
            fetch_site=found.get("sec-fetch-site", "").casefold(),
            authorization=found.get("authorization", ""),
            encoding=found.get("content-encoding", "").strip().casefold(),
            length=int(length) if length and length.isascii() and length.isdigit() else None,
            chunked="transfer-encoding" in found,
        )

    @property
    def has_body(self) -> bool:
        """Whether something follows the head."""
        return self.chunked or bool(self.length)


class Load:
    """How much is inside the service at one moment."""

    def __init__(self) -> None:
        self.requests = 0
        self.held_bytes = 0
        self.stopping = False

    def entered(self, limits: ServiceLimits, head: Head) -> Held:
        """Count a request in; it counts itself out.

        Raises:
            Refusal: 503 where there is no room.
        """
        if self.stopping:
            raise Refusal(503, "SRV_STOPPING", "The service is stopping.")
        if head.has_body and self.requests >= limits.max_requests:
            raise busy(f"{limits.max_requests} requests are under way.")
        return Held(self, limits, counts=head.has_body)


class Held:
    """One request's share of the load; a context manager."""

    def __init__(self, load: Load, limits: ServiceLimits, *, counts: bool) -> None:
        self._load = load
        self._limits = limits
        self._counts = counts
        self._n_bytes = 0

    def __enter__(self) -> Held:
        self._load.requests += self._counts
        return self

    def __exit__(self, *_: object) -> None:
        self._load.requests -= self._counts
        self._load.held_bytes -= self._n_bytes

    def add(self, n_bytes: int) -> None:
        """Count bytes that are kept.

        Raises:
            Refusal: 503 where all requests together hold too many.
        """
        if self._load.held_bytes + n_bytes > self._limits.max_held_bytes:
            raise busy("Too many bytes are being uploaded at the same time.")
        self._n_bytes += n_bytes
        self._load.held_bytes += n_bytes


class Body:
    """A request's body as it comes in: counted, and cut off where it is too long or too slow."""

    def __init__(self, receive: Receive, limits: ServiceLimits, load: Load) -> None:
        self._receive = receive
        self._limits = limits
        self._load = load
        self._began: float | None = None
        self.held: Held | None = None
        self.n_bytes = 0
        self.is_complete = False

    async def receive(self) -> Message:
        """The next message; raises `Refusal` 413, 408 or 503, or `Disconnected`."""
        if self.is_complete:  # an empty body, or word that the client is gone
            return await self._receive()
        now = time.monotonic()
        self._began = self._began or now
        allowed = self._limits.body_seconds + self.n_bytes / self._limits.body_bytes_per_second
        try:
            async with asyncio.timeout(max(0.0, self._began + allowed - now)):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, "REQ_SLOW", "The body comes too slowly.") from None
        if message["type"] != "http.request":
            raise Disconnected
        part = message.get("body", b"")
        self.n_bytes += len(part)
        self.is_complete = not message.get("more_body", False)
        if self.n_bytes > self._limits.max_body_bytes:
            raise too_large(self._limits)
        if self.held is not None:
            self.held.add(len(part))
        return message


class Reply:
    """What goes out, with the headers that every answer has; where a body was not read to its end, the last answer."""

    def __init__(self, send: Send, body: Body) -> None:
        self._send = send
        self._body = body
        self.status = 0

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name.decode("latin-1").lower() for name, _ in message["headers"]}
            extra = {name: value for name, value in ALWAYS.items() if name not in own}
            if not self._body.is_complete:
                extra["connection"] = "close"
            encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in extra.items()]
            message = {**message, "headers": [*message["headers"], *encoded]}
        try:
            await self._send(message)
        except h11.LocalProtocolError:  # the client broke the protocol meanwhile: there is no line to answer on
            raise Disconnected from None

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error, unless an answer has begun; the rest of the body is not read."""
        if self.status:
            raise Disconnected
        content = error_body(refusal.code, str(refusal))
        headers = {
            "content-type": "application/json",
            "content-length": str(len(content)),
            "connection": "close",
            **refusal.headers,
        }
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
        await self.send({"type": "http.response.body", "body": content})


class Disconnected(Exception):  # noqa: N818 - what happened is not an error
    """The client is gone, so there is nobody to answer."""


def too_large(limits: ServiceLimits) -> Refusal:
    """The refusal of a body over the limit."""
    return Refusal(
        413, "REQ_TOO_LARGE", f"A request may hold {limits.max_body_bytes / 2**20:g} MiB; send fewer images at once."
    )


def is_address(host: str, port: int) -> bool:
    """Whether a host header names an IP address and this port."""
    import ipaddress

    name, _, given = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return given == str(port) or (not given and port == 80)
