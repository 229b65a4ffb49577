"""What a model looks at, as a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table as Grid
from rich.text import Text

from plainfilm.commands.flags import PredictFlags, asked, section_of, show
from plainfilm.explanation.options import ExplainOptions
from plainfilm.terminal import Terminal

if TYPE_CHECKING:
    from plainfilm.explanation.page import Explanation
    from plainfilm.measures import Measure


def explain(
    run: str,
    images: Path,
    /,
    *,
    output: Annotated[Path, Parameter(["--output", "-o"])] = Path("explanation"),
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    weights: str | None = None,
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    options: Annotated[ExplainOptions | None, Parameter(name="*", group="Explain")] = None,
    flags: Annotated[PredictFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Heat maps of a model's reasons, tested on networks with random weights; feature maps; marks painted out and in.

    Args:
        run: Folder of a run or of a bundle, or hf:OWNER/NAME; or model:NAME with --maps, for a model by its name.
        images: A folder, an image, a table, parquet or .npz; labels are not needed.
        output: Folder for the page, the numbers and the pictures.
        overwrite: Replace the explanation in --output.
        weights: For model:NAME: a .safetensors file, or 'pretrained'; by default random.
        workers: Decoding processes; by default one per processor.
        device: Where to compute.
        quiet: No progress.
    """
    from plainfilm.explanation.page import PAGE
    from plainfilm.verbs.explaining import explain as explain_images

    if options is not None and options.methods == ("list",):
        show(_methods())
        return
    found = explain_images(
        run,
        images,
        options,
        source=section_of(asked(flags), "source"),
        output=output,
        overwrite=overwrite,
        weights=weights,
        workers=workers,
        device=device,
        progress=Terminal(quiet=quiet),
    )
    show(_headline(found))
    for check in found.checks:
        print(f"{check.method}: {check.in_words()}")
    if found.effects:
        show(_effects(found))
    for note in found.notes:
        print(f"note: {note}")
    print(f"page: {output / PAGE}")


def _headline(found: Explanation) -> str:
    """What was explained, in a line or two."""
    lines = [f"{found.model}: {len(found.images):,} images explained" if found.images else found.model]
    if found.images:
        lines[0] += f", heat maps by {', '.join(found.shown)}" if found.shown else ", no heat map shown: none passed"
    if found.layer:
        lines.append(f"layer: {found.layer}")
    if found.maps is not None:
        channels, height, width = found.maps.maps.shape
        lines.append(f"{found.maps.layer}: {channels} maps of {height}x{width}, weights: {found.maps.weights}")
    return "\n".join(lines)


def _effects(found: Explanation) -> Grid:
    """How far scores moved when marks were painted out or in."""
    grid = _grid("what was done", "images", "change of score (95% CI)", "control", "now another class")
    for effect in found.effects:
        grid.add_row(
            effect.name,
            f"{effect.n_touched} of {effect.n_images}",
            _shown(effect.change),
            _shown(effect.control),
            _shown(effect.flipped),
        )
    return grid


def _shown(measure: Measure | None) -> str:
    if measure is None or measure.value is None:
        return "-"
    ends = f" ({measure.low:.3f} to {measure.high:.3f})" if measure.low is not None else ""
    return f"{measure.value:.3f}{ends}"


def _methods() -> Grid:
    from plainfilm.explanation.saliency import METHODS

    grid = _grid("method", "cost for each image", "source")
    for name, method in METHODS.items():
        grid.add_row(name, method.cost, Text(method.source))
    return grid


def _grid(*headings: str) -> Grid:
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        grid.add_column(heading, overflow="fold")
    return grid
