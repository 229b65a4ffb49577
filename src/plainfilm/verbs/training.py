"""From images to a number: table, split, fit, evaluate, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plainfilm.auditing.limits import read_limits
from plainfilm.auditing.patients import RecoveredPatients
from plainfilm.auditing.results import Audit
from plainfilm.bundle import load_bundle
from plainfilm.config import RunOptions, read_options
from plainfilm.data.augment import make_augmentation
from plainfilm.data.pixels import PixelStore
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.data.splits import Fold, SplitPlan, split_table
from plainfilm.data.table import Table
from plainfilm.errors import DataError, TableError, UsageError
from plainfilm.evaluation import evaluate_predictions
from plainfilm.measures import Evaluation
from plainfilm.plots import contact_sheet
from plainfilm.prediction import Predictions
from plainfilm.progress import Progress, Silent
from plainfilm.reporting.assembly import assemble_report, describe_run, save_examples
from plainfilm.reporting.content import Explainer
from plainfilm.reporting.html import write_report
from plainfilm.reporting.paper import PAPER_FILES, paper_files
from plainfilm.runs import Run, check_free, check_resumable, new_run, open_run
from plainfilm.sitewise import at_held_out_sites
from plainfilm.storage import locked, make_folder, sweep, write_bytes, write_json, write_text
from plainfilm.team import ALONE, Team
from plainfilm.tracking import begin_tracking, check_tracker
from plainfilm.verbs.auditing import write_audit
from plainfilm.verbs.choosing import keep_thresholds, with_own_threshold
from plainfilm.verbs.examining import (
    FirstLook,
    check_declaration,
    subject_of_plan,
    take_first_look,
    take_second_look,
)
from plainfilm.verbs.folds import score_fold, train_fold
from plainfilm.verbs.frozen import frozen_backbone
from plainfilm.verbs.gallery import example_explainer, heat_facts
from plainfilm.verbs.helping import working_together
from plainfilm.verbs.recovering import recovery_note, with_recovered_patients
from plainfilm.verbs.twice import plan_by_patient, train_by_patient

AUGMENTED_IMAGES = 4  # on the sheet that shows them
AUGMENTED_VIEWS = 5


def train(
    data: str | Path,
    options: RunOptions | Mapping[str, Any] | None = None,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Table, split, fit, evaluate, report: from images to a number.

    Args:
        data: Anything `list_images` understands.
        options: Or a mapping of option names to values, such as `{"epochs": 5}`.
        output: The run's folder; by default a new one under `runs/`.
        overwrite: Replace a run in `output`.
        resume: Go on with the stopped run in `output`, which must hold the same images.
        progress: Told of every step.

    Returns:
        The finished run.

    Raises:
        PlainfilmError: With a stable code; see the reference.
    """
    progress = progress or Silent()
    if not isinstance(options, RunOptions):
        options = RunOptions.from_flat(options or {})
    if resume and output is None:
        raise UsageError("name the folder of the stopped run to resume.", code="OPT_RESUME")
    check_tracker(options.tracking)
    with working_together(options.training.devices, options.training.device) as team:
        return _trained(
            Path(data), options, output=output, overwrite=overwrite, resume=resume, team=team, progress=progress
        )


def _trained(
    data: Path,
    options: RunOptions,
    *,
    output: str | Path | None,
    overwrite: bool,
    resume: bool,
    team: Team,
    progress: Progress,
) -> Run:
    """The training, in a folder that may be used for it and is held meanwhile."""
    if resume:
        run = Run(Path(str(output)))
        check_resumable(run)
        _check_same_options(run, options)
    else:
        run = new_run(None if output is None else Path(output), name=options.model.model.replace(":", "-"))
        check_free(run, overwrite=overwrite)
    with locked(run.folder):
        if not resume:
            check_free(run, overwrite=overwrite)  # again: now nobody else can put anything there
        _lead(run, data, options, resume=resume, team=team, progress=progress)
    return run


def _lead(run: Run, data: Path, options: RunOptions, *, resume: bool, team: Team, progress: Progress) -> None:
    """All of a training, in a folder that is held."""
    table, pixels, plan, recovered = prepare(data, options, progress, team=team)
    look = _first_look(table, pixels, plan, recovered, options, progress) if options.audit.audit else None
    again = plan_by_patient(table, plan, look, options)
    assigned = table.rows.assign(**_assignment(plan, len(table)))
    if resume and run.has_begun:
        _check_same_images(run, assigned)
    elif not resume:
        run.clear()
    sweep(run.folder)
    write_text(run.options, options.to_toml(data=str(data)))
    run.write_table(assigned)
    _show_augmentation(run, plan.folds[0], pixels, options, progress)
    tracker = begin_tracking(
        options.tracking,
        options.model_dump(mode="json"),
        folder=run.folder,
        n_folds=len(plan.folds),
        progress=progress,
    )
    trained = [
        train_fold(
            number,
            fold,
            plan,
            table,
            pixels,
            options,
            run,
            resume=resume,
            tracker=tracker,
            team=team,
            progress=progress,
        )
        for number, fold in enumerate(plan.folds, start=1)
    ]
    openings = run.open_test("train")
    predictions = Predictions.join(
        [
            score_fold(
                run.fold(number, len(plan.folds)), fold, plan, table, pixels, options, team=team, progress=progress
            )
            for number, fold in enumerate(plan.folds, start=1)
        ]
    )
    predictions.save(run.predictions)
    by_patient = (
        None
        if again is None
        else train_by_patient(run, again, table, pixels, options, resume=resume, team=team, progress=progress)
    )
    scored = Predictions.load(run.predictions)
    evaluation = _evaluated(run, scored, plan, table, options)
    keep_thresholds(evaluation, run, n_folds=len(plan.folds))
    audit = None
    if look is not None:
        audit = _second_look(
            run,
            look,
            plan,
            predictions,
            by_patient,
            source=data.name,
            evaluation=evaluation,
            openings=openings,
            options=options,
            progress=progress,
        )
        write_audit(audit, run.folder)
        evaluation = replace(evaluation, evidence_level=audit.evidence_level or evaluation.evidence_level)
    write_json(run.evaluation, evaluation.to_json())
    tracker.finish(evaluation.headline, struck=evaluation.struck)
    save_examples(
        run,
        predictions.tested(plan.tested_on),
        table,
        pixels,
        explain=_explainer(run, plan, table, pixels, audit) if options.report.gallery else None,
    )
    facts = describe_run(data=data, table=table, plan=plan, options=options, folds=trained)
    write_json(
        run.facts,
        facts
        | {
            "finished": datetime.now().isoformat(timespec="seconds"),
            "openings": openings,
            "notes": [*facts["notes"], *_mirrored(options)],
        },
    )
    _write_report(run)
    run.finish()
    if options.training.keep_checkpoints == "needed":
        run.drop_checkpoints()  # the bundle has the chosen weights


def plan(data: str | Path, options: RunOptions | None = None, *, progress: Progress | None = None) -> dict[str, Any]:
    """What `train` would do: images and patients per split and class, without training.

    Args:
        data: Anything `list_images` understands.
        options: As for `train`.
        progress: Told after every image.
    """
    options, progress = options or RunOptions(), progress or Silent()
    if options.split.patients == "recovered":
        table, _, divided, _ = prepare(Path(data), options, progress)  # as large as a training sees them
    else:
        table, _ = scan_listing(
            list_images(Path(data), options.source),
            workers=options.reading.workers,
            keeping=options.reading.keeping,
            progress=progress,
        )
        _check_bad(table, options.reading.max_bad)
        divided = split_table(table.rows, options.split)
    facts = describe_run(data=Path(data), table=table, plan=divided, options=options, folds=[])
    return {
        name: facts[name]
        for name in ("model", "counts", "left_out", "patients", "split_unit", "sites", "tested_on", "notes")
    }


def prepare(
    data: Path, options: RunOptions, progress: Progress, *, team: Team = ALONE
) -> tuple[Table, PixelStore, SplitPlan, RecoveredPatients | None]:
    """Read the images and divide them, with their patients if they had to be recovered; nothing is written."""
    from plainfilm.models import describe_model

    described = describe_model(options.model.model, weights=options.model.first_weights, measure=False)
    side = options.model.image_size or described.input_size
    listing = list_images(data, options.source)
    table, pixels = scan_listing(
        listing,
        size=(side, side),
        fit=options.fitting.fit,
        resample=options.fitting.resample,
        workers=options.reading.workers,
        keeping=options.reading.keeping,
        team=team,
        progress=progress,
    )
    assert pixels is not None
    _check_bad(table, options.reading.max_bad)
    recovered = None
    if options.split.patients == "recovered":
        recovery = read_limits(options.audit.limits).recovery
        table, recovered = with_recovered_patients(table, pixels, recovery, progress=progress)
    plan = split_table(table.rows, options.split)
    if recovered is not None:
        plan = replace(plan, notes=(recovery_note(recovered), *plan.notes))
    for note in plan.notes:
        progress.warn(note)
    return table, pixels, plan, recovered


def _first_look(
    table: Table,
    pixels: PixelStore,
    plan: SplitPlan,
    recovered: RecoveredPatients | None,
    options: RunOptions,
    progress: Progress,
) -> FirstLook:
    """What the audit says before there is a model; it stops a training whose score could not hold."""
    look = take_first_look(
        subject_of_plan(table, pixels, plan),
        read_limits(options.audit.limits),
        recovered=recovered,
        own_run=True,
        progress=progress,
    )
    if options.split.split != "image":
        check_declaration(look)
    for finding in (*look.leakage.findings, *look.shortcuts.findings()):
        if finding.verdict in ("WARN", "FAIL"):
            progress.warn(f"audit: {finding.check} {finding.verdict}: {finding.sentence}")
    return look


def _second_look(
    run: Run,
    look: FirstLook,
    plan: SplitPlan,
    predictions: Predictions,
    by_patient: Predictions | None,
    *,
    source: str,
    evaluation: Evaluation,
    openings: int,
    options: RunOptions,
    progress: Progress,
) -> Audit:
    """What the audit says of the score."""
    bundle = load_bundle(run.fold(1, len(plan.folds)) / "bundle")
    device = options.training.device
    audit = take_second_look(
        look,
        source=source,
        evaluation=evaluation,
        level=evaluation.evidence_level,
        predictions=predictions.tested(plan.tested_on),
        bundle=bundle,
        openings=openings,
        by_patient=by_patient,
        frozen=frozen_backbone(options, options, bundle, look.subject.pixels, device=device, progress=progress),
        heat_maps=options.report.gallery,
        device=device,
        progress=progress,
    )
    # Hours of training do not end in an error: what does not fail needs no accepting.
    reasons = options.audit.accepted
    return audit.accepting(
        {finding.check: reasons[finding.check] for finding in audit.failures if finding.check in reasons}
    )


def _evaluated(run: Run, scored: Predictions, plan: SplitPlan, table: Table, options: RunOptions) -> Evaluation:
    """What the scores of the tested rows come to."""
    evaluation = evaluate_predictions(
        scored.tested(plan.tested_on),
        patients=plan.patients,
        split_unit=plan.unit,
        options=options.evaluation,
        attributes=table.rows,
        subgroups=options.subgroups,
    )
    if plan.sites is not None:
        evaluation = at_held_out_sites(
            evaluation, scored.tested(plan.tested_on), table.rows, column=plan.sites.column, why=plan.sites.in_words()
        )
    return with_own_threshold(
        evaluation,
        run,
        scored,
        tested_on=plan.tested_on,
        n_folds=len(plan.folds),
        patients=plan.patients,
        options=options.operating,
    )


def _show_augmentation(run: Run, fold: Fold, pixels: PixelStore, options: RunOptions, progress: Progress) -> None:
    """Draw some training images beside what augmentation makes of them, before hours are spent on it."""
    augmentation = make_augmentation(options.augment)
    if augmentation is None:
        return
    import torch

    for warning in _mirrored(options):
        progress.warn(warning)
    shown = pixels.take(fold.train[:: max(1, len(fold.train) // AUGMENTED_IMAGES)][:AUGMENTED_IMAGES])
    images = torch.from_numpy(shown.values(np.arange(len(shown)))).unsqueeze(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.training.seed)
        views = [images, *(augmentation(images) for _ in range(AUGMENTED_VIEWS))]
    captions = ["as it is", *(f"view {number}" for number in range(1, AUGMENTED_VIEWS + 1))]
    pictures = [view[index, 0].numpy() for index in range(len(shown)) for view in views]
    sheet = contact_sheet(pictures, captions * len(shown), columns=len(views))
    write_bytes(run.augmentation, sheet.png(dpi=110))
    progress.say(f"what augmentation makes of training images: {run.augmentation}")


def _mirrored(options: RunOptions) -> list[str]:
    """What to know of augmentation that does not keep left and right, or up and down."""
    mirrored = options.augment.augment and options.augment.horizontal_flip
    upside_down = options.augment.augment and options.augment.vertical_flip
    return [
        said
        for said, holds in (
            (
                "Training images are mirrored: a flipped chest is another patient, its heart on the right.",
                mirrored,
            ),
            ("Training images are turned upside down, as no patient is taken.", upside_down),
        )
        if holds
    ]


def _check_same_options(run: Run, options: RunOptions) -> None:
    """Refuse to go on with other options than the run began with."""
    before = read_options(run.options)
    before.pop("data", None)
    then, now = RunOptions.from_flat(before).flat(), options.flat()
    changed = [name for name in now if now[name] != then[name]]
    if changed:
        raise UsageError(
            f"The run began with {changed[0]} = {then[changed[0]]}, not {now[changed[0]]}; a run is resumed with the "
            "options it began with.",
            code="OPT_RESUME",
        )


def _check_same_images(run: Run, rows: pd.DataFrame) -> None:
    """Refuse to go on with other images, labels, patients or splits than the run began with."""
    before = run.read_table()
    for name, what in (
        ("pixel_sha256", "images"),
        ("label", "labels"),
        ("patient_id", "patients"),
        ("split", "splits"),
        ("fold", "folds"),
    ):
        if name not in rows.columns:
            continue
        now = rows[name].astype(object).where(rows[name].notna(), None)
        if list(before[name]) != list(now):
            raise DataError(
                f"The {what} are not those this run began with, so it cannot be resumed. Start a new run.",
                code="RUN_DATA_CHANGED",
            )


def _check_bad(table: Table, max_bad: int) -> None:
    """Refuse to train when more labelled files are unusable than allowed."""
    bad = [item for item in table.left_out if item.status == "refused" and item.labelled]
    if len(bad) <= max_bad:
        return
    first = "; ".join(f"{item.path}: {item.code} ({item.detail.rstrip('.')})" for item in bad[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    raise TableError(
        f"{len(bad)} labelled files cannot be used: {first}{more}. Mend or remove them, or allow them with "
        f"--max-bad {len(bad)}; 'plainfilm scan' lists all.",
        code=bad[0].code,
    )


def _assignment(plan: SplitPlan, n_rows: int) -> dict[str, Any]:
    """Columns that say where each row went: `split` for a single training, `fold` for several."""
    if len(plan.folds) > 1:
        fold_of = np.zeros(n_rows, dtype=np.int64)
        for number, fold in enumerate(plan.folds, start=1):
            fold_of[fold.test] = number
        return {"fold": fold_of, "split": ["test" if number else None for number in fold_of]}
    split = np.full(n_rows, None, dtype=object)
    fold = plan.folds[0]
    if plan.tested_on == "test":
        split[fold.test] = "test"
    split[fold.train], split[fold.validation] = "train", "validation"
    split[fold.calibration] = "validation"
    return {"split": split}


def _explainer(run: Run, plan: SplitPlan, table: Table, pixels: PixelStore, audit: Audit | None) -> Explainer:
    """Heat maps of each row by the model that was tested on it."""
    fold_of = np.zeros(len(table), dtype=np.intp)
    for number, fold in enumerate(plan.folds):
        fold_of[fold.test] = number
    places = [run.fold(number, len(plan.folds)) / "bundle" for number in range(1, len(plan.folds) + 1)]
    return example_explainer(places, fold_of, pixels, checked=None if audit is None else heat_facts(audit))


def report(run: str | Path) -> Path:
    """Write `report.html` and the folder `paper` of a finished run again, from its files alone."""
    places = Run(Path(run))
    written_again = [places.report, *(places.paper / name for name in PAPER_FILES)]
    opened = open_run(places.folder, unchecked=[path.relative_to(places.folder).as_posix() for path in written_again])
    with locked(opened.folder):
        _write_report(opened)
        opened.finish()
    return opened.report


def _write_report(run: Run) -> None:
    shown = assemble_report(run)
    write_text(run.report, write_report(shown))
    make_folder(run.paper)
    for name, text in paper_files(shown).items():
        write_text(run.paper / name, text)
