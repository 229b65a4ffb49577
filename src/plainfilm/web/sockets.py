"""HTTP on a socket: uvicorn's protocol, with a time for the head of a request and a patient way to hang up."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from plainfilm.web.limits import Refusal, ServiceLimits, busy
from plainfilm.web.replies import error_body

READ_BYTES: Final = 16 << 10  # at once: little is in memory that nobody has counted yet
LINGER_SECONDS: Final = 2.0  # for a client to read why it is refused while it still sends


class BoundedProtocol(H11Protocol):
    """One connection, with limits of its own.

    Beyond what uvicorn does:

    - a head that is not there after `head_seconds` ends the connection, also after the first request;
    - there are at most `max_connections`;
    - what is no HTTP, or has too large a head, is told so as JSON;
    - a client that is refused while it sends is left to send for a moment, since one that is cut off at once may never
      read the answer. What it sends then is thrown away.
    """

    limits = ServiceLimits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._lingers = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        if hasattr(transport, "max_size"):  # of asyncio's own transports
            transport.max_size = READ_BYTES
        super().connection_made(cast("asyncio.Transport", _Lingering(transport, self)))
        if len(self.connections) > self.limits.max_connections:
            self._answer(busy(f"{self.limits.max_connections} connections are open."))
            return
        self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """It has sent something."""
        if self._lingers or self.transport.is_closing():
            return
        super().data_received(data)
        self._time_head()

    def on_response_complete(self) -> None:
        """It has its answer."""
        super().on_response_complete()
        self._time_head()

    def send_400_response(self, msg: str) -> None:
        """Answer what h11 refuses; called while its error is handled."""
        del msg
        error = sys.exc_info()[1]
        status = getattr(error, "error_status_hint", 400)
        if status == 431:
            told = f"The head of a request may hold {self.limits.max_head_bytes} bytes."
            self._answer(Refusal(431, "REQ_HEAD_TOO_LARGE", told))
        else:
            self._answer(Refusal(400, "REQ_INVALID", "This is not a valid HTTP request."))

    def linger(self, transport: asyncio.Transport) -> None:
        """Hang up: at once if the request was read, else after a moment in which its rest is thrown away."""
        is_sending = self.conn.their_state in (h11.SEND_BODY, h11.ERROR) and transport.can_write_eof()
        if not is_sending:
            transport.close()
            return
        self._lingers = True
        self._stop_head_timer()
        transport.write_eof()
        transport.resume_reading()
        self.loop.call_later(LINGER_SECONDS, transport.close)

    def _time_head(self) -> None:
        """Start the clock where a request is awaited, stop it where one is under way."""
        is_awaited = self.cycle is None or self.cycle.response_complete
        if not is_awaited or self._lingers or self.transport.is_closing():
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_seconds, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._answer(Refusal(408, "REQ_SLOW", "The head of the request comes too slowly."))

    def _answer(self, refusal: Refusal) -> None:
        """Say no without the application, and hang up."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            content = error_body(refusal.code, str(refusal))
            headers = {
                "content-type": "application/json",
                "content-length": str(len(content)),
                "connection": "close",
                **refusal.headers,
            }
            head = h11.Response(
                status_code=refusal.status, headers=list(headers.items()), reason=STATUS_PHRASES[refusal.status]
            )
            is_asked = self.conn.our_state is h11.SEND_RESPONSE  # else its head could not be read
            has_body = not (is_asked and self.scope and self.scope["method"] == "HEAD")
            for event in (head, *([h11.Data(data=content)] if has_body else []), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class _Lingering:
    """A transport whose `close` asks the protocol first; all else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, protocol: BoundedProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        if self._closing or self._transport.is_closing():
            return
        self._closing = True
        self._protocol.linger(self._transport)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()
