"""The commands: each translates what was typed into one call of the library, and prints what came back."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import BaseModel, create_model
from rich.console import Console
from rich.table import Table as Grid

from plainfilm.config import SECTION_OF, SECTIONS, RunOptions, option_fields, options_schema, read_options
from plainfilm.data.phantoms.options import Faults, PhantomOptions
from plainfilm.errors import UsageError
from plainfilm.terminal import Terminal


def _flags(name: str, sections: list[str]) -> type[BaseModel]:
    """A class with a flag for every option of `sections`, all None until given on the command line."""
    fields: dict[str, Any] = {}
    for option, field in option_fields().items():
        if SECTION_OF[option] in sections:
            default = field.get_default(call_default_factory=True)
            shown = (
                ""
                if default in (None, ())
                else f" [default: {str(default).lower() if default in (True, False) else default}]"
            )
            text = Parameter(
                help=f"{field.description}{shown}", group=SECTION_OF[option].capitalize(), show_default=False
            )
            fields[option] = (Annotated[field.annotation | None, text], None)  # type: ignore[operator]
    return create_model(name, **fields)


TrainFlags = _flags("TrainFlags", list(SECTIONS))
ScanFlags = _flags("ScanFlags", ["source", "reading"])
EvaluateFlags = _flags("EvaluateFlags", ["evaluation", "source"])
PredictFlags = _flags("PredictFlags", ["source"])


def _given(flags: BaseModel | None) -> dict[str, Any]:
    return {} if flags is None else flags.model_dump(exclude_none=True)


def _section(values: dict[str, Any], section: str) -> Any:
    return getattr(
        RunOptions.from_flat({name: v for name, v in values.items() if SECTION_OF[name] == section}), section
    )


def scan(
    data: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    json_: Annotated[bool, Parameter("--json", negative=())] = False,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    flags: Annotated[ScanFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Read every file: used, skipped or refused, each with its reason.

    Args:
        data: Class folders, a CSV, TSV or parquet table, a folder of parquet shards, or a MedMNIST .npz.
        output: Write the account as CSV, one row per file.
        json_: Print the counts as JSON.
        quiet: No progress.
    """
    from plainfilm import verbs
    from plainfilm.summaries import scan_counts, scan_summary

    table = verbs.scan(data, options=RunOptions.from_flat(_given(flags)), output=output, progress=Terminal(quiet=quiet))
    if json_:
        print(json.dumps(scan_counts(table), indent=2, ensure_ascii=False))
        return
    _print(scan_summary(table))
    if output is not None:
        print(f"account of every file: {output}")


def train(
    data: Path | None = None,
    /,
    *,
    options: Path | None = None,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    resume: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    no_progress: Annotated[bool, Parameter(negative=())] = False,
    flags: Annotated[TrainFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Split by patient, train, evaluate on sealed test images, write the report.

    Args:
        data: Class folders, a CSV, TSV or parquet table, a folder of parquet shards, or a MedMNIST .npz.
        options: TOML file of options, such as a run's own options.toml; flags come before it.
        output: Folder of the run; by default a new one under runs/.
        resume: Folder of a stopped run to go on with; its own options are used.
        overwrite: Replace the run in --output.
        dry_run: Read the images, divide them, say what would be done, and stop.
        quiet: Only warnings.
        no_progress: Lines instead of moving bars.
    """
    from plainfilm import verbs
    from plainfilm.summaries import run_summary

    given = _given(flags)
    if resume is not None:
        if options is not None or output is not None or overwrite or given:
            raise UsageError("--resume uses the options the run began with; give nothing else.", code="OPT_RESUME")
        options, output = resume / "options.toml", resume
    values = (read_options(options) if options is not None else {}) | given
    source = values.pop("data", None)
    if data is None and source is None:
        raise UsageError("name the images: plainfilm train DATA.", code="OPT_NO_DATA")
    chosen = RunOptions.from_flat(values)
    watcher = Terminal(quiet=quiet, bars=False if no_progress else None)
    if dry_run:
        print(json.dumps(verbs.plan(data or source, chosen, progress=watcher), indent=2, ensure_ascii=False))
        return
    run = verbs.train(
        data or source,
        chosen,
        output=output,
        overwrite=overwrite,
        resume=resume is not None,
        progress=watcher,
    )
    _print(run_summary(run))


def evaluate(
    run: Path,
    data: Path | None = None,
    /,
    *,
    json_: Annotated[bool, Parameter("--json", negative=())] = False,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    flags: Annotated[EvaluateFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Measure a run again, for instance with --positive classes; or its model on other data.

    Args:
        run: Folder of a finished run.
        data: Labelled images from elsewhere; by default the run's own test images, already scored.
        json_: Print every number as JSON.
        output: Write every number as JSON to this file.
        quiet: No progress.
    """
    from plainfilm import verbs
    from plainfilm.storage import write_json
    from plainfilm.summaries import evaluation_summary

    given = _given(flags)
    measured = {name: value for name, value in given.items() if SECTION_OF[name] == "evaluation"}
    evaluation = verbs.evaluate(
        run, data, overrides=measured, source=_section(given, "source"), progress=Terminal(quiet=quiet)
    )
    if output is not None:
        write_json(output, evaluation.to_json())
    if json_:
        print(json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False))
    else:
        _print(evaluation_summary(evaluation))


def predict(
    run: Path,
    images: Path,
    /,
    *,
    output: Annotated[Path, Parameter(["--output", "-o"])] = Path("predictions.csv"),
    batch_size: int = 64,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    workers: int | None = None,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    flags: Annotated[PredictFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Score images with a trained model, from its bundle alone.

    Args:
        run: Folder of a run, or of a bundle.
        images: A folder, an image, a table, parquet or .npz; labels are not needed.
        output: CSV or JSON file to write, by its ending.
        batch_size: Images at once.
        device: Where to compute.
        workers: Decoding processes; by default one per processor.
        quiet: No progress.
    """
    from plainfilm import verbs
    from plainfilm.summaries import prediction_summary

    if batch_size < 1:
        raise UsageError("--batch-size must be at least 1.", code="OPT_INVALID")
    predictions, table = verbs.predict(
        run,
        images,
        source=_section(_given(flags), "source"),
        output=output,
        batch_size=batch_size,
        device=device,
        workers=workers,
        progress=Terminal(quiet=quiet),
    )
    _print(prediction_summary(predictions, table))
    print(f"{len(predictions)} images -> {output}")


def report(run: Path, /) -> None:
    """Write a run's report again from its files.

    Args:
        run: Folder of a finished run.
    """
    from plainfilm import verbs

    print(verbs.report(run))


def demo(
    *,
    output: Annotated[Path, Parameter(["--output", "-o"])] = Path("demo"),
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
) -> None:
    """The whole story on synthetic images with known truth: scan, train, evaluate, report.

    Args:
        output: Folder for the images and the runs.
        overwrite: Replace what an earlier demo left there.
        quiet: Only the result.
    """
    from plainfilm.demonstration import demonstrate

    _print(demonstrate(output, overwrite=overwrite, progress=Terminal(quiet=quiet)))


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
    _print(grid)
    if pattern is None:
        print("Also any timm:NAME and torchvision:NAME; see: plainfilm models 'timm:resnet*'")


def doctor() -> None:
    """What this machine has, and what to change."""
    from plainfilm.machine import examine

    grid = Grid(box=None, pad_edge=False, show_header=False)
    for name, value, advice in examine():
        grid.add_row(name, value, advice)
    _print(grid)


def config(
    *,
    options: Path | None = None,
    schema: Annotated[bool, Parameter(negative=())] = False,
    flags: Annotated[TrainFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Print every option as it would be used, as a TOML file to start from.

    Args:
        options: TOML file to read first.
        schema: Print the JSON schema of such a file instead.
    """
    if schema:
        print(options_schema())
        return
    values = (read_options(options) if options is not None else {}) | _given(flags)
    values.pop("data", None)
    print(RunOptions.from_flat(values).to_toml(), end="")


def _print(renderable: object) -> None:
    """Results go to standard output; a table is not squeezed where nobody looks at a terminal."""
    console = Console(highlight=False, soft_wrap=not isinstance(renderable, Grid))
    if not console.is_terminal:
        console = Console(highlight=False, width=160, soft_wrap=not isinstance(renderable, Grid), file=sys.stdout)
    console.print(renderable, markup=False) if isinstance(renderable, str) else console.print(renderable)
