"""The main job as commands: scan, train, evaluate, predict, report, and the demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from plainfilm.commands.flags import EvaluateFlags, PredictFlags, ScanFlags, TrainFlags, asked, section_of, show
from plainfilm.config import SECTION_OF, RunOptions, read_options
from plainfilm.dicom_results.options import DicomResultOptions
from plainfilm.errors import UsageError
from plainfilm.prediction import BATCH, ScoringPrecision
from plainfilm.team import leads_here
from plainfilm.terminal import Terminal


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

    table = verbs.scan(data, options=RunOptions.from_flat(asked(flags)), output=output, progress=Terminal(quiet=quiet))
    if json_:
        print(json.dumps(scan_counts(table), indent=2, ensure_ascii=False))
        return
    show(scan_summary(table))
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

    given = asked(flags)
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
    if dry_run and not leads_here():
        return
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
    show(run_summary(run))


def evaluate(
    run: Path,
    data: Path | None = None,
    /,
    *,
    patients: Literal["column", "recovered"] = "column",
    other_site: Annotated[bool, Parameter(negative=())] = False,
    json_: Annotated[bool, Parameter("--json", negative=())] = False,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    flags: Annotated[EvaluateFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Measure a run again, for instance with --positive classes; or its model on other data.

    Args:
        run: Folder of a finished run; with DATA also a bundle, an export, or hf:OWNER/NAME.
        data: Labelled images from elsewhere; by default the run's own test images, already scored.
        patients: Where those of DATA are known from: its column of ids, or recovered from its pixels.
        other_site: You declare that DATA come from another hospital or device than what trained the model, with ids
            of its own. Not needed where a column such as 'site' of both tables says so.
        json_: Print every number as JSON.
        output: Write every number as JSON to this file.
        quiet: No progress.
    """
    from plainfilm import verbs
    from plainfilm.storage import write_json
    from plainfilm.summaries import evaluation_summary

    given = asked(flags)
    measured = {name: value for name, value in given.items() if SECTION_OF[name] in ("evaluation", "operating")}
    evaluation = verbs.evaluate(
        run,
        data,
        overrides=measured,
        subgroups=section_of(given, "subgroups"),
        source=section_of(given, "source"),
        patients=patients,
        other_site=other_site,
        progress=Terminal(quiet=quiet),
    )
    if output is not None:
        write_json(output, evaluation.to_json())
    if json_:
        print(json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False))
    else:
        show(evaluation_summary(evaluation))


def predict(
    run: Path,
    images: Path,
    /,
    *,
    output: Annotated[Path, Parameter(["--output", "-o"])] = Path("predictions.csv"),
    batch_size: int = BATCH,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    devices: int = 1,
    engine: Literal["torch", "onnx"] = "torch",
    precision: ScoringPrecision = "32-true",
    workers: int | None = None,
    dicom_output: Path | None = None,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    dicom: Annotated[DicomResultOptions | None, Parameter(name="*", group="DICOM results")] = None,
    flags: Annotated[PredictFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Score images with a trained model, from its bundle alone.

    Args:
        run: Folder of a run, of a bundle or of an export; a .onnx file of export; or hf:OWNER/NAME.
        images: A folder, an image, a table, parquet or .npz; labels are not needed.
        output: CSV or JSON file to write, by its ending.
        batch_size: Images at once.
        device: Where to compute.
        devices: Processes on this machine that share the images, one for each GPU.
        engine: What computes; onnx takes the model.onnx that export wrote.
        precision: What in. bf16-mixed is quicker where the processor has bfloat16, and changes scores: on 1,280 brain
            slices by 0.0015 on average and 0.017 at most, and 5 answers. auto takes it where the processor has it.
        workers: Decoding processes; by default one per processor.
        dicom_output: New folder for a DICOM report of each series of DICOM images.
        quiet: No progress.
    """
    from plainfilm import verbs
    from plainfilm.summaries import prediction_summary

    if batch_size < 1 or devices < 1:
        raise UsageError("--batch-size and --devices must be at least 1.", code="OPT_INVALID")
    predictions, table = verbs.predict(
        run,
        images,
        source=section_of(asked(flags), "source"),
        output=output,
        dicom_output=dicom_output,
        dicom=dicom,
        batch_size=batch_size,
        device=device,
        devices=devices,
        engine=engine,
        precision=precision,
        workers=workers,
        progress=Terminal(quiet=quiet),
    )
    show(prediction_summary(predictions, table))
    print(f"{len(predictions)} images -> {output}")
    if dicom_output is not None:
        print(f"DICOM results (research, preliminary) -> {dicom_output}")


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

    show(demonstrate(output, overwrite=overwrite, progress=Terminal(quiet=quiet)))
