"""The DICOM bridge, as a command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from plainfilm.bridging.options import BridgeOptions
from plainfilm.dicom_results.options import DicomResultOptions
from plainfilm.terminal import Terminal


def bridge(
    run: Path,
    /,
    *,
    workers: int = 1,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    options: Annotated[BridgeOptions | None, Parameter(name="*", group="Bridge")] = None,
    dicom: Annotated[DicomResultOptions | None, Parameter(name="*", group="DICOM results")] = None,
) -> None:
    """Listen for DICOM images (C-STORE), classify them, and send a report of each series to a DICOM node.

    Args:
        run: Folder of a run, or of a bundle.
        workers: Decoding processes.
        device: Where to compute.
        quiet: Say only where it listens.
    """
    from plainfilm.verbs.bridging import bridge as run_bridge

    chosen = options or BridgeOptions()

    def ready(host: str, port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        print(f"listening on {shown}:{port} as {chosen.ae_title}", flush=True)

    run_bridge(run, chosen, dicom=dicom, workers=workers, device=device, ready=ready, progress=Terminal(quiet=quiet))
