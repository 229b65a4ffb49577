"""Start the service and keep it until it is stopped."""

from __future__ import annotations

import logging
import os
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plainfilm.errors import ResourceError, UsageError
from plainfilm.web.limits import MIB, ServiceLimits, check_address, is_loopback

if TYPE_CHECKING:
    import uvicorn

    from plainfilm.web.bounds import Load

EXTRA: Final = ("fastapi", "uvicorn", "python_multipart")
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8000
DEFAULT_UPLOAD_MB: Final = 64


class Service:
    """A run's model behind an address, bound but not yet answering.

    Args:
        run: A run's folder, or a bundle's.
        host: Address to bind.
        port: Of it; 0 takes a free one.
        token: What clients must know; needed for any address but loopback.
        max_upload_mb: MiB that one request may hold.
        allow_hosts: Further names under which the service may be asked, such as that of a proxy in front of it.
        device: Where to compute.
        decoders: Decoding processes; by default one per processor.
        limits: All further limits.

    Raises:
        UsageError: `SRV_TOKEN`, `OPT_INVALID`, or `MISSING_EXTRA` without the libraries.
        ResourceError: `SRV_ADDRESS` if the address cannot be had.
        BundleError: If the run is not what was written.
    """

    def __init__(
        self,
        run: str | Path,
        *,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        token: str | None = None,
        max_upload_mb: int = DEFAULT_UPLOAD_MB,
        allow_hosts: tuple[str, ...] = (),
        device: str = "auto",
        decoders: int | None = None,
        limits: ServiceLimits | None = None,
    ) -> None:
        check_address(host, token)
        if not 1 <= max_upload_mb <= 4096 or not 0 <= port <= 65535 or (decoders is not None and decoders < 1):
            raise UsageError(
                "--max-upload-mb is 1 to 4096, --port is 0 to 65535, --decoders at least 1.", code="OPT_INVALID"
            )
        _check_extra()
        from plainfilm.web.app import create_app
        from plainfilm.web.asking import Desk
        from plainfilm.web.bounds import Door, Load
        from plainfilm.web.counters import Counters
        from plainfilm.web.model import Served

        self.limits = replace(
            limits or ServiceLimits(),
            max_body_bytes=max_upload_mb * MIB,
            max_held_bytes=max(4 * max_upload_mb, 256) * MIB,
        )
        counters, self._load = Counters(), Load()
        served = Served(Path(run), device=device)
        desk = Desk(served, self.limits, counters, decoders=decoders or os.cpu_count() or 1)
        app = create_app(desk, self.limits, counters, self._load)
        self._socket = _bound(host, port)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"
        self.door = Door(
            app=app,
            limits=self.limits,
            names=_names(host, self.port, allow_hosts),
            any_address=host in ("0.0.0.0", "::"),
            port=self.port,
            token=token,
            counters=counters,
            load=self._load,
        )
        self._server: uvicorn.Server | None = None

    def run(self, *, on_ready: Callable[[], None] | None = None) -> None:
        """Answer until SIGINT or SIGTERM, or until `stop`; requests under way are finished first.

        Args:
            on_ready: Called once images are answered.
        """
        import uvicorn

        from plainfilm.web.sockets import BoundedProtocol

        protocol = type("ServiceProtocol", (BoundedProtocol,), {"limits": self.limits})
        config = uvicorn.Config(
            self.door,
            http=protocol,
            ws="none",
            loop="asyncio",
            interface="asgi3",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=self.limits.max_head_bytes,
            timeout_graceful_shutdown=self.limits.stop_seconds,
        )
        for name in ("uvicorn.error", "uvicorn.asgi", "python_multipart"):  # they may quote what a client wrote
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._server = _make_server(config, self._load, on_ready)
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Stop from another thread."""
        self._load.stopping = True
        if self._server is not None:
            self._server.should_exit = True


def _make_server(config: uvicorn.Config, load: Load, on_ready: Callable[[], None] | None) -> uvicorn.Server:
    """A server that says when it is ready, and lets nobody in once it stops."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and on_ready is not None:
                on_ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            load.stopping = True
            await super().shutdown(sockets)

    return Server(config)


def serve(
    run: str | Path,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    token: str | None = None,
    max_upload_mb: int = DEFAULT_UPLOAD_MB,
    allow_hosts: tuple[str, ...] = (),
    device: str = "auto",
    decoders: int | None = None,
    open_browser: bool = False,
    say: Callable[[str], None] | None = None,
) -> None:
    """Answer images over HTTP and show a page for them, on this machine, until stopped.

    Args:
        run: A run's folder, or a bundle's.
        host: Address to bind; any other than this machine's own needs a token.
        port: Of it; 0 takes a free one.
        token: What clients must send as `Authorization: Bearer TOKEN`.
        max_upload_mb: MiB that one request may hold.
        allow_hosts: Further names under which the service may be asked.
        device: Where to compute.
        decoders: Decoding processes; by default one per processor.
        open_browser: Open the page once it is there.
        say: Told the address.

    Raises:
        UsageError: `SRV_TOKEN`, `OPT_INVALID` or `MISSING_EXTRA`; ResourceError: `SRV_ADDRESS`; `BundleError` for a
            damaged run.
    """
    service = Service(
        run,
        host=host,
        port=port,
        token=token,
        max_upload_mb=max_upload_mb,
        allow_hosts=allow_hosts,
        device=device,
        decoders=decoders,
    )

    def ready() -> None:
        if say is not None:
            say(f"serving at {service.url} until Ctrl-C")
        if open_browser:
            webbrowser.open(service.url if token is None else f"{service.url}#token={token}")

    service.run(on_ready=ready)


def _check_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"Serving needs {', '.join(missing)}. Install with: pip install 'plainfilm[serve]'", code="MISSING_EXTRA"
        )


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        raise ResourceError(f"'{host}' is not an address of this machine.", code="SRV_ADDRESS") from None
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ResourceError(
            f"Port {port} of '{host}' cannot be had ({error.strerror}). Choose another --port.", code="SRV_ADDRESS"
        ) from None
    return bound


def _names(host: str, port: int, allow_hosts: tuple[str, ...]) -> frozenset[str]:
    """The host headers that mean this service."""
    own = {f"[{host}]" if ":" in host else host}
    if is_loopback(host):
        own |= {"127.0.0.1", "localhost", "[::1]"}
    named = {f"{name.casefold()}:{port}" for name in own} | {name.casefold() for name in allow_hosts}
    return frozenset(named | ({name.casefold() for name in own} if port == 80 else set()))
