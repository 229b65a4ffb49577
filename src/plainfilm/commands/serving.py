"""The service and the page as a command."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def serve(
    run: Path,
    /,
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    token: str | None = None,
    max_upload_mb: int = 64,
    allow_host: tuple[str, ...] = (),
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    decoders: int | None = None,
    open_: Annotated[bool, Parameter("--open", negative="--no-open")] = False,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
) -> None:
    """Answer images over HTTP, and show a page for them, on this machine.

    Args:
        run: Folder of a finished run, or of a bundle.
        port: Port to listen on; 0 takes a free one.
        host: Address to listen on. Any other than this machine's own needs a token.
        token: What clients must know, at least 16 characters; PLAINFILM_TOKEN says it where no list of processes shows
            it.
        max_upload_mb: MiB that one request may hold.
        allow_host: Further name under which the service may be asked, as in the Host header; may be repeated.
        device: Where to compute.
        decoders: Decoding processes; by default one per processor.
        open_: Open the page in a browser.
        quiet: Log no requests.
    """
    from plainfilm.web.serving import serve as serve_run

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("plainfilm.web").setLevel(logging.WARNING if quiet else logging.INFO)
    serve_run(
        run,
        host=host,
        port=port,
        token=token or os.environ.get("PLAINFILM_TOKEN") or None,
        max_upload_mb=max_upload_mb,
        allow_hosts=allow_host,
        device=device,
        decoders=decoders,
        open_browser=open_,
        say=lambda sentence: print(sentence, flush=True),
    )
