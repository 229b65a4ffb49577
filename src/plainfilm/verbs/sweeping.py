"""Models under several seeds, compared on validation images; the test images stay sealed but for the one chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from plainfilm.config import RunOptions, read_options
from plainfilm.data.pixels import PixelStore
from plainfilm.data.splits import SplitPlan
from plainfilm.data.table import Table
from plainfilm.errors import DataError, PlainfilmError, TrainingError, UsageError
from plainfilm.prediction import safe_csv
from plainfilm.progress import Progress, Silent
from plainfilm.reporting.history import LiveHistory, write_history
from plainfilm.runs import Run
from plainfilm.storage import check_output, delete, locked, make_folder, read_json, write_json, write_text
from plainfilm.team import Team
from plainfilm.trials import JOURNAL, Trial, Trials, check_optuna
from plainfilm.verbs.fitting import learn_fold
from plainfilm.verbs.helping import working_together
from plainfilm.verbs.training import prepare, train

if TYPE_CHECKING:
    from plainfilm.training.loop import Row

ASKED, OPTIONS, TABLE, CHOSEN, TRIALS, RUN = "sweep.json", "options.toml", "trials.csv", "chosen.toml", "trials", "run"
_OWN: Final = {ASKED, OPTIONS, TABLE, CHOSEN, TRIALS, RUN, JOURNAL}


@dataclass(frozen=True)
class Sweep:
    """Trials of models under several seeds.

    Attributes:
        folder: Where everything lies.
        table: One row for each trial, the best first: `model`, `seed`, `state` (`finished`, `pruned`, `failed`),
            `value` on validation images, `epochs`, `chosen_epoch`, `seconds`, `code` of what failed.
        measure: What `value` is.
        chosen: The model with the best mean over its seeds, and the first seed; None where every model has a seed that
            was pruned or failed.
        run: The chosen one trained and tested; None unless that was asked for.
    """

    folder: Path
    table: pd.DataFrame
    measure: str
    chosen: tuple[str, int] | None
    run: Run | None


def sweep(
    data: str | Path | None,
    options: RunOptions | Mapping[str, Any] | None = None,
    *,
    models: Sequence[str] = (),
    seeds: int = 3,
    prune: bool = True,
    test: bool = False,
    output: str | Path = "sweep",
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Sweep:
    """Train each model under each seed, and choose a model by what they come to on validation images.

    No test image is scored, whatever the trials come to. With `test`, the chosen model alone is trained once more and
    tested, once, as `train` does.

    Args:
        data: Anything `list_images` understands.
        options: Of every trial, but for `model` and `seed`.
        models: Names; two or more are compared.
        seeds: How many of each model; the first is `seed` of the options.
        prune: End trials that are worse, at the same epoch, than the median of those before them.
        test: Train and test the chosen model in the folder `run`.
        output: Folder of the sweep.
        overwrite: Replace the sweep in `output`.
        resume: Go on with the stopped sweep in `output`, with what it began with; `data` may then be None.
        progress: Told of every step.

    Raises:
        UsageError: `MISSING_EXTRA`, `OPT_INVALID`, `OPT_RESUME`, `OUT_EXISTS`, `OUT_STRANGE`.
        DataError: `RUN_DATA_CHANGED` if the images are not those that the sweep began with.
    """
    check_optuna()
    progress, folder = progress or Silent(), Path(output)
    if resume:
        data, options, asked = _begun(folder)
    else:
        options = options if isinstance(options, RunOptions) else RunOptions.from_flat(options or {})
        asked = {"models": list(dict.fromkeys(models)), "seeds": seeds, "prune": prune}
        _check_asked(data, options, asked)
        check_output(folder, "a sweep", _OWN, mark=ASKED, overwrite=overwrite)
    with working_together(options.training.devices, options.training.device) as team:
        make_folder(folder)
        with locked(folder):
            if not resume:
                for name in _OWN:
                    delete(folder / name)
                write_text(folder / OPTIONS, options.to_toml(data=str(data)))
                write_json(folder / ASKED, asked)
            trials = _Sweeping(folder, Path(str(data)), options, asked, team, progress).finish()
    chosen, run = trials.chosen(), None
    if chosen is not None:
        own = _options_of(options, *chosen)
        write_text(folder / CHOSEN, own.to_toml(data=str(data)))
        if test:
            run = _tested(Path(str(data)), own, Run(folder / RUN), progress)
    return Sweep(folder, trials.table(), _measure(options), chosen, run)


def _check_asked(data: str | Path | None, options: RunOptions, asked: Mapping[str, Any]) -> None:
    faults = []
    if data is None:
        faults.append("name the images: plainfilm sweep DATA")
    if not asked["models"]:
        faults.append("name models: --model resnet1d --model resnet18")
    if asked["seeds"] < 1:
        faults.append("--seeds must be at least 1")
    if options.split.folds is not None or options.split.split == "site":
        faults.append("a sweep divides the images once: leave --folds and --split site out")
    if faults:
        raise UsageError(f"{'; '.join(faults)}.", code="OPT_INVALID")


def _begun(folder: Path) -> tuple[str, RunOptions, dict[str, Any]]:
    """What a stopped sweep began with."""
    if not (folder / ASKED).is_file():
        raise UsageError(f"'{folder}' is not a stopped sweep.", code="OPT_RESUME")
    values = read_options(folder / OPTIONS)
    return str(values.pop("data")), RunOptions.from_flat(values), read_json(folder / ASKED)


def _measure(options: RunOptions) -> str:
    """What trials are compared by: what their epochs are chosen by."""
    by_accuracy = options.training.choose == "balanced-accuracy"
    return "validation_balanced_accuracy" if by_accuracy else "validation_loss"


def _options_of(options: RunOptions, model: str, seed: int) -> RunOptions:
    return RunOptions.from_flat({**options.flat(), "model": model, "seed": seed})


def _tested(data: Path, options: RunOptions, run: Run, progress: Progress) -> Run:
    """The chosen model, trained and tested once; a run that is finished is not tested again."""
    if run.is_finished:
        return run
    return train(data, options, output=run.folder, resume=run.options.is_file(), progress=progress)


class _Sweeping:
    """The trials of a sweep, one after the other."""

    def __init__(
        self,
        folder: Path,
        data: Path,
        options: RunOptions,
        asked: Mapping[str, Any],
        team: Team,
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._data = data
        self._options = options
        self._team = team
        self._progress = progress
        self._measure = _measure(options)
        first = options.training.seed
        self._trials = Trials(
            folder,
            models=asked["models"],
            seeds=range(first, first + asked["seeds"]),
            rises=self._measure != "validation_loss",
            prune=asked["prune"],
            warm_up=options.training.epochs // 4,
        )
        self._side = 0
        self._read: tuple[Table, PixelStore, SplitPlan] | None = None

    def finish(self) -> Trials:
        """Do what is left."""
        for model, seed in self._trials.waiting():
            self._progress.say(f"{model}, seed {seed}")
            self._try_out(model, seed)
            write_text(self._folder / TABLE, safe_csv(self._trials.table()))
        return self._trials

    def _try_out(self, model: str, seed: int) -> None:
        """One training, on the training images, judged on the validation images."""
        options = _options_of(self._options, model, seed)
        table, pixels, plan = self._images(options)
        place = self._folder / TRIALS / f"{model.replace(':', '-')}-seed-{seed}"
        make_folder(place)
        trial, drawn, pruned = self._trials.begin(model, seed), LiveHistory(place), False

        def judge(history: list[Row]) -> bool:
            nonlocal pruned
            drawn(history)
            pruned = trial.is_hopeless([row[self._measure] for row in history])
            return pruned

        try:
            learnt = learn_fold(
                1,
                plan.folds[0],
                table,
                pixels,
                options,
                place,
                resume=True,
                on_epoch=judge,
                team=self._team,
                progress=self._progress,
            )
        except TrainingError as error:
            self._failed(trial, error)
            return
        history, chosen = learnt.result.history, learnt.result.chosen_epoch
        if not pruned:  # one that was cut off after its last epoch has told the others nothing of it yet
            trial.is_hopeless([row[self._measure] for row in history])
        write_history(place, history, chosen_epoch=chosen)
        trial.end(
            "pruned" if pruned else "finished",
            value=history[chosen - 1][self._measure],
            epochs=len(history),
            chosen_epoch=chosen,
            seconds=history[-1]["seconds"],
        )
        delete(place / "checkpoints")

    def _failed(self, trial: Trial, error: PlainfilmError) -> None:
        """Note it and go on with the next; others of a team do not survive it."""
        trial.end("failed", code=error.code)
        if self._team.size > 1:
            raise error
        self._progress.warn(f"this trial failed: {error}")

    def _images(self, options: RunOptions) -> tuple[Table, PixelStore, SplitPlan]:
        """The images at the size of a model, divided as the options say; read again only for another size."""
        from plainfilm.models import describe_model

        side = options.model.image_size or describe_model(options.model.model, measure=False).input_size
        if self._read is None or side != self._side:
            table, pixels, plan, _ = prepare(self._data, options, self._progress, team=self._team)
            self._read, self._side = (table, pixels, plan), side
            self._check_same(table, plan)
        return self._read

    def _check_same(self, table: Table, plan: SplitPlan) -> None:
        """Refuse to go on with other images, labels or splits than the first trial had."""
        digest = hashlib.sha256()
        rows = table.rows
        for facts in zip(rows["pixel_sha256"], rows["label"], strict=True):
            digest.update(repr(facts).encode())
        for part in (plan.folds[0].train, plan.folds[0].validation):
            digest.update(part.astype("<i8").tobytes())
        asked = read_json(self._folder / ASKED)
        if asked.setdefault("images", digest.hexdigest()) != digest.hexdigest():
            raise DataError(
                "The images, labels or splits are not those this sweep began with, so it cannot be resumed. Start a "
                "new one.",
                code="RUN_DATA_CHANGED",
            )
        write_json(self._folder / ASKED, asked)
