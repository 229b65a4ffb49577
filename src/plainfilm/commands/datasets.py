"""Public image sets as commands: list them, get one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table as Grid

from plainfilm.commands.flags import show
from plainfilm.terminal import Terminal


def list_datasets(*, json_: Annotated[bool, Parameter("--json", negative=())] = False) -> None:
    """List public image sets: images, classes, whether patients are named, licence, and what to beware of.

    Args:
        json_: Print JSON, with hashes and how to get each.
    """
    from plainfilm.catalogue import list_data_sets

    found = list_data_sets()
    if json_:
        print(json.dumps([{**entry.model_dump(mode="json"), "how": entry.how} for entry in found], indent=2))
        return
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column("set", no_wrap=True)
    for heading in ("images", "classes", "MB"):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("patients", no_wrap=True)
    grid.add_column("licence")
    grid.add_column("hash", no_wrap=True)
    grid.add_column("got by", no_wrap=True)
    for entry in found:
        hashed = {kind for file in entry.files for kind in ("sha256", "md5") if getattr(file, kind) is not None}
        grid.add_row(
            entry.name,
            f"{entry.images:,}" if entry.images is not None else "",
            str(len(entry.classes)),
            f"{entry.megabytes:g}" if entry.megabytes is not None else "",
            entry.patients,
            entry.licence,
            "/".join(sorted(hashed)),
            entry.how,
        )
    show(grid)
    print("\nBefore you believe a score on one of them:")
    for entry in found:
        show(f"  {entry.name}: {entry.caution}")
    print("\nMedMNIST sets also in 64, 128 and 224 pixels: pneumoniamnist_128. Get one: plainfilm data get NAME")


def get_dataset(
    name: str,
    /,
    *,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
) -> None:
    """Download a public image set, compare its hash with the published one, and note the hash of every file.

    Args:
        name: See: plainfilm data list.
        output: Folder; by default data/NAME.
        quiet: No progress.
    """
    from plainfilm.catalogue import find_data_set, get_data_set

    data_set, _ = find_data_set(name)
    fetched = get_data_set(name, output, progress=Terminal(quiet=quiet))
    for file, digest in sorted(fetched.sha256.items()):
        compared = "as published" if file in fetched.checked else "no published hash to compare with"
        show(f"{file}  sha256 {digest}  ({compared})")
    show(f"licence: {data_set.licence}; {data_set.home}")
    show(f"beware: {data_set.caution}")
    print(f"{name} -> {fetched.folder}")
