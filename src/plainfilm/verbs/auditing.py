"""Does the number hold on new patients? Every check, on images, on a finished run, on the scores of another program."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from plainfilm.auditing.foreign import read_predictions
from plainfilm.auditing.limits import read_limits
from plainfilm.auditing.reports import check_printed_report, read_printed_report
from plainfilm.auditing.results import EXHIBITS, NUMBERS, Audit, save_audit
from plainfilm.auditing.subject import Subject
from plainfilm.bundle import Bundle, find_bundles, load_bundle
from plainfilm.config import RunOptions, read_options
from plainfilm.data.patients import known_patients
from plainfilm.data.pixels import PixelStore
from plainfilm.data.scanning import readable_pixels, scan_as_prepared, scan_listing
from plainfilm.data.sources import list_images
from plainfilm.data.table import Table
from plainfilm.errors import DataError, UsageError
from plainfilm.evaluation import evaluate_predictions
from plainfilm.measures import Evaluation
from plainfilm.prediction import Predictions
from plainfilm.progress import Progress, Silent
from plainfilm.reporting.findings import audit_page
from plainfilm.runs import Run, open_run
from plainfilm.sitewise import as_other_site
from plainfilm.storage import check_output, locked, read_json, write_text
from plainfilm.verbs.examining import FOLD, patient_codes, take_first_look, take_second_look
from plainfilm.verbs.frozen import frozen_backbone
from plainfilm.verbs.repeating import trainings_of
from plainfilm.verbs.twice import scores_by_patient

PAGE = "audit.html"
SIDE = 128  # pixels at which images are compared


def audit(
    data: str | Path | None = None,
    options: RunOptions | None = None,
    *,
    run: str | Path | None = None,
    predictions: str | Path | None = None,
    seeds: Sequence[str | Path] = (),
    output: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """Leakage, hidden patients, duplicates, shortcuts, controls, precision, labels: one finding for each check.

    Args:
        data: Anything `list_images` understands; not needed with `run` unless its images have moved, nor with
            `predictions`.
        options: How data are read, how patients are known, which failures are accepted, and the limits of the checks.
        run: Audit the score of this finished run as well.
        predictions: Audit the scores that another program wrote, see `read_predictions`; with `data`, matched to
            images by path.
        seeds: Further finished runs, the same training as `run` under other seeds; one under the same seed is compared
            bit for bit.
        output: Folder for `audit.html`, `audit.json`, pictures and lists; nothing is written without it. The folder of
            `run` is that run's own.
        overwrite: Replace an audit in `output`.
        progress: Told of every check.

    Raises:
        UsageError: `OPT_NO_DATA`, `OUT_EXISTS`, `OUT_STRANGE`, `AUD_ACCEPT`, `AUD_LIMITS`, `AUD_OTHER_TRAINING`.
        DataError: `AUD_OTHER_IMAGES` if `data` are not the images of `run` or of `predictions`.
    """
    options, progress = options or RunOptions(), progress or Silent()
    if data is None and run is None and predictions is None:
        raise UsageError("name what to audit: images, --run RUN or --predictions CSV.", code="OPT_NO_DATA")
    if seeds and run is None:
        raise UsageError("--seeds names further trainings of one run: name that too, --run RUN.", code="OPT_NO_DATA")
    folder = None if output is None else Path(output)
    into_run = folder is not None and run is not None and folder.resolve() == Path(run).resolve()
    if folder is not None and not into_run:
        check_output(folder, "an audit", {PAGE, NUMBERS, EXHIBITS}, mark=NUMBERS, overwrite=overwrite)
    limits = read_limits(options.audit.limits)
    if run is not None:
        opened = open_run(Path(run), unchecked=_of_an_audit(Path(run)))
        trainings = trainings_of(opened, seeds)
        case = _case_of_run(opened, data, options, progress)
    else:
        trainings = []
        case = _case_of_data(data, predictions, options, progress)
    look = take_first_look(case.subject, limits, own_run=run is not None, progress=progress)
    result = take_second_look(
        look,
        source=case.source,
        evaluation=case.evaluation,
        level=case.level,
        predictions=case.subject.predictions,
        bundle=case.bundle,
        openings=case.openings,
        by_patient=None if run is None else scores_by_patient(Path(run)),
        trainings=trainings,
        frozen=frozen_backbone(
            options, case.trained, case.bundle, case.subject.pixels, device=case.device, progress=progress
        ),
        device=case.device,
        progress=progress,
    ).accepting(options.audit.accepted)
    if into_run:
        with locked(opened.folder):
            write_audit(result, opened.folder)
            opened.finish()
    elif folder is not None:
        write_audit(result, folder)
    return result


def audit_printed_report(
    report: str | Path,
    data: str | Path | None = None,
    options: RunOptions | None = None,
    *,
    true_counts: Mapping[str, int] | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """Whether a classification report, as a paper prints it, has truth and prediction the right way round.

    Args:
        report: CSV of class, precision, recall, f1 and support; see `read_printed_report`.
        data: The images that it is about: those of their test split, or all where they have none.
        options: How data are read.
        true_counts: Images of each class, in place of `data`.
        output: As for `audit`.
        overwrite: As for `audit`.
        progress: Told after every image.

    Raises:
        UsageError: `OPT_NO_DATA` without true counts and images; TableError: for what is not such a report.
    """
    began = time.monotonic()
    folder = None if output is None else Path(output)
    if folder is not None:
        check_output(folder, "an audit", {PAGE, NUMBERS, EXHIBITS}, mark=NUMBERS, overwrite=overwrite)
    options, counts = options or RunOptions(), dict(true_counts or {})
    if not counts:
        if data is None:
            raise UsageError(
                "say how many images of each class there were: --true-count CLASS=COUNT, or name the images.",
                code="OPT_NO_DATA",
            )
        table, _ = scan_listing(
            list_images(Path(data), options.source),
            workers=options.reading.workers,
            keeping=options.reading.keeping,
            progress=progress,
        )
        tested = table.rows["split"] == "test"
        counts = dict(Counter(table.rows.loc[tested if tested.any() else slice(None), "label"].dropna()))
    result = Audit(
        source=Path(report).name,
        n_images=sum(counts.values()),
        n_patients=None,
        patients="unknown",
        findings=(check_printed_report(read_printed_report(Path(report)), counts),),
        seconds=time.monotonic() - began,
    ).accepting(options.audit.accepted)
    if folder is not None:
        write_audit(result, folder)
    return result


def write_audit(audit: Audit, folder: Path) -> None:
    """The numbers, the pictures and the page of an audit."""
    save_audit(audit, folder)
    write_text(folder / PAGE, audit_page(audit))


def _of_an_audit(folder: Path) -> list[str]:
    """Files of an earlier audit, which are about to be written again."""
    exhibits = [path.relative_to(folder).as_posix() for path in (folder / EXHIBITS).rglob("*") if path.is_file()]
    return [PAGE, NUMBERS, *exhibits]


# --- what is audited ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Case:
    """Images or scores, with what is known of the score.

    Attributes:
        subject: What the checks look at.
        source: What the user called it.
        evaluation: Of the score; None where there is none.
        level: What split and patients alone give the score; None where that is not known.
        openings: How often the test set was scored; None where nobody counted.
        bundle: The model.
        trained: Options of its training.
        device: Where it computes.
    """

    subject: Subject
    source: str
    evaluation: Evaluation | None = None
    level: int | None = None
    openings: int | None = None
    bundle: Bundle | None = None
    trained: RunOptions | None = None
    device: str = "auto"


def _case_of_run(run: Run, data: str | Path | None, options: RunOptions, progress: Progress) -> _Case:
    """A finished run with its images, read again; they must be the same, pixel for pixel."""
    facts, rows = read_json(run.facts), run.read_table()
    before = RunOptions.from_flat({name: v for name, v in read_options(run.options).items() if name != "data"})
    source = Path(data if data is not None else read_options(run.options)["data"])
    if not source.exists():
        raise DataError(
            f"The images of this run are not at '{source}' any more; say where: plainfilm audit DATA --run RUN.",
            code="AUD_OTHER_IMAGES",
        )
    bundle = load_bundle(find_bundles(run.folder)[0])
    listing = list_images(source, before.source)
    table, pixels = scan_as_prepared(
        listing, bundle.config.preprocessing, workers=options.reading.workers, progress=progress
    )
    if sorted(table.rows["pixel_sha256"]) != sorted(rows["pixel_sha256"]):
        raise DataError(f"'{source.name}' does not hold the images of this run.", code="AUD_OTHER_IMAGES")
    if list(table.rows["pixel_sha256"]) != list(rows["pixel_sha256"]):
        order = table.rows.reset_index().set_index("path")["index"].reindex(rows["path"])
        if order.isna().any():
            raise DataError(f"'{source.name}' names its images otherwise than this run did.", code="AUD_OTHER_IMAGES")
        table, pixels = table.take(order.to_numpy(dtype=int)), pixels.take(order.to_numpy(dtype=np.intp))
    groups, known = known_patients(rows, before.split)
    split = rows["split"].to_numpy(dtype=object)
    if "fold" in rows.columns:
        split = np.array([FOLD.format(number) if number else None for number in rows["fold"]], dtype=object)
    tested = Predictions.load(run.predictions).tested(facts["tested_on"])
    evaluation = evaluate_predictions(
        tested, patients=facts["patients"], split_unit=facts["split_unit"], options=before.evaluation
    )
    if facts.get("sites"):
        evaluation = as_other_site(evaluation, facts["sites"]["words"])
    return _Case(
        subject=Subject(
            rows=table.rows,
            pixels=pixels,
            patients=facts["patients"],
            group=patient_codes(groups, known=known != "unknown"),
            split=split,
            split_unit=facts["split_unit"],
            predictions=tested,
        ),
        source=f"{run.folder.name} on {facts['source']}",
        evaluation=evaluation,
        level=evaluation.evidence_level,
        openings=facts.get("openings"),
        bundle=bundle,
        trained=before,
        device=before.training.device,
    )


def _case_of_data(
    data: str | Path | None, predictions: str | Path | None, options: RunOptions, progress: Progress
) -> _Case:
    """Images, the scores of another program, or both."""
    positive = options.evaluation.positive
    foreign = None
    if predictions is not None:
        foreign = read_predictions(Path(predictions), positive=positive[0] if len(positive) == 1 else None)
    if data is None:
        assert foreign is not None
        rows, pixels, source = foreign.table, None, Path(str(predictions)).name
    else:
        table, pixels = _scanned(Path(data), options, progress)
        rows, source = table.rows, Path(data).name or str(data)
        if foreign is not None:
            foreign = _matched(foreign, rows)
    groups, known = known_patients(rows, options.split)
    given = rows["split"].to_numpy(dtype=object)
    subject = Subject(
        rows=rows,
        pixels=pixels,
        patients=known,
        group=patient_codes(groups, known=known != "unknown"),
        split=given if any(split is not None for split in given) else None,
        split_unit=None,
        predictions=foreign,
    )
    if foreign is None:
        return _Case(subject=subject, source=source)
    keeps_together = _keeps_together(subject)
    evaluation = evaluate_predictions(
        foreign,
        patients=known,
        split_unit="image" if keeps_together is False else "patient",
        options=options.evaluation,
    )
    level = None if keeps_together is None else evaluation.evidence_level
    return _Case(subject=subject, source=source, evaluation=evaluation, level=level)


def _keeps_together(subject: Subject) -> bool | None:
    """Whether the split of a table keeps each patient together; None where it does not show."""
    if subject.split is None or not subject.knows_patients or len({*subject.split} - {None}) < 2:
        return None
    frame = pd.DataFrame({"patient": subject.group, "split": subject.split}).dropna()
    return bool((frame.groupby("patient")["split"].nunique() <= 1).all())


def _scanned(data: Path, options: RunOptions, progress: Progress) -> tuple[Table, PixelStore]:
    listing = list_images(data, options.source)
    table, pixels = scan_listing(
        listing,
        size=(SIDE, SIDE),
        fit=options.fitting.fit,
        resample=options.fitting.resample,
        workers=options.reading.workers,
        keeping=options.reading.keeping,
        progress=progress,
    )
    return table, readable_pixels(table, pixels)


def _matched(foreign: Predictions, rows: pd.DataFrame) -> Predictions:
    """The predictions under the paths, patients and labels of the images; matched by path, or by file name alone."""
    for name_of in (str, _file_name):
        place = {name_of(path): index for index, path in enumerate(rows["path"])}
        named = [place.get(name_of(path)) for path in foreign.table["path"]]
        if len(place) == len(rows) and None not in named:
            own = rows.iloc[[index for index in named if index is not None]]
            table = foreign.table.assign(path=own["path"].to_numpy())
            if table["patient_id"].isna().all():
                table = table.assign(patient_id=own["patient_id"].to_numpy(dtype=object))
            return replace(foreign, table=table)
    raise DataError(
        "The predictions name images that the data do not hold, or name them by something that is not unique. Give "
        "both the same column 'path'.",
        code="AUD_OTHER_IMAGES",
    )


def _file_name(path: object) -> str:
    return str(path).replace("\\", "/").rpartition("/")[2]
