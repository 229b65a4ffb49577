"""Commands that ask or prepare: models, doctor, config, phantoms."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table as Grid

from plainfilm.commands.flags import TrainFlags, asked, show
from plainfilm.config import RunOptions, options_schema, read_options
from plainfilm.data.phantoms.options import Faults, PhantomOptions
from plainfilm.errors import UsageError


def phantoms(
    folder: Path,
    /,
    *,
    options: Annotated[PhantomOptions | None, Parameter(name="*", group="Phantoms")] = None,
    faults: Annotated[Faults | None, Parameter(name="*", group="Faults")] = None,
) -> None:
    """Write synthetic images with known patients, as class folders beside manifest.csv and truth.json.

    Args:
        folder: Where to; must not exist or be empty.
    """
    from plainfilm.data.phantoms import write_phantoms

    written = write_phantoms(folder, options or PhantomOptions(), faults)
    print(f"{len(written.manifest)} images of {written.manifest['patient_id'].nunique()} patients -> {folder}")
    for kind, count in Counter(fault.kind for fault in written.planted).items():
        print(f"  planted: {count} {kind}")


def models(pattern: str | None = None, /, *, json_: Annotated[bool, Parameter("--json", negative=())] = False) -> None:
    """List models with parameters, FLOPs, input size, weights and their licence.

    Args:
        pattern: Part of a name, or a pattern such as 'timm:resnet*'; by default plainfilm's own.
        json_: Print JSON.
    """
    from dataclasses import asdict

    from plainfilm.models import list_models

    found = list_models(pattern)
    if not found:
        raise UsageError(
            f"No model matches '{pattern}'. See 'plainfilm models', or try a pattern such as 'timm:*{pattern}*'.",
            code="UNKNOWN_MODEL",
        )
    if json_:
        print(json.dumps([asdict(model) for model in found], indent=2))
        return
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "parameters", "GFLOPs", "input", "pretrained weights", "licence"):
        grid.add_column(heading, justify="right" if heading in ("parameters", "GFLOPs") else "left", overflow="fold")
    for model in found:
        grid.add_row(
            model.name,
            f"{model.parameters:,}" if model.parameters is not None else "",
            f"{model.flops / 1e9:.2f}" if model.flops is not None else "",
            f"{model.input_size}x{model.input_size}",
            model.weights,
            model.licence,
        )
    show(grid)
    if pattern is None:
        print("Also any timm:NAME and torchvision:NAME; see: plainfilm models 'timm:resnet*'")


def doctor() -> None:
    """What this machine has, and what to change."""
    from plainfilm.machine import examine

    grid = Grid(box=None, pad_edge=False, show_header=False)
    for name, value, advice in examine():
        grid.add_row(name, value, advice)
    show(grid)


def config(
    *,
    options: Path | None = None,
    schema: Annotated[bool, Parameter(negative=())] = False,
    audit_limits: Annotated[bool, Parameter(negative=())] = False,
    flags: Annotated[TrainFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Print every option as it would be used, as a TOML file to start from.

    Args:
        options: TOML file to read first.
        schema: Print the JSON schema of such a file instead.
        audit_limits: Print the limits of the audit's checks instead, as a file for --limits.
    """
    if audit_limits:
        from plainfilm.auditing.limits import AuditLimits

        print(AuditLimits().to_toml())
        return
    if schema:
        print(options_schema())
        return
    values = (read_options(options) if options is not None else {}) | asked(flags)
    values.pop("data", None)
    print(RunOptions.from_flat(values).to_toml(), end="")
