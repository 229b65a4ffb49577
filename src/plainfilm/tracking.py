"""A training told to TensorBoard or MLflow: epochs, options and the headline; never a file, a patient or a column."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plainfilm.errors import ResourceError, UsageError
from plainfilm.measures import Measure
from plainfilm.progress import Progress
from plainfilm.storage import make_folder, read_json, write_json

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

STATE = "tracking.json"  # in the run's folder: what was told already, so that a resumed run goes on and repeats nothing
DATABASE = "mlflow.db"
EXPERIMENT = "plainfilm"
EXTRAS = {"tensorboard": (("tensorboard",), "track"), "mlflow": (("mlflow", "sqlalchemy", "alembic"), "mlflow")}
# What a training is made of. Options about sources, splits, subgroups and the audit hold names of columns, folders and
# classes, and reasons in free text.
TOLD = ("fitting", "intensity", "model", "augment", "training")

Row = Mapping[str, Any]


class TrackingOptions(BaseModel):
    """Whether epochs and the headline are told to a tracker, and where it keeps them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    track: Literal["none", "tensorboard", "mlflow"] = Field(
        "none", description="Tell epochs, options and the headline to this tracker."
    )
    track_to: str = Field(
        "tracking", description="Folder it writes to; for mlflow also the http address of a server of yours."
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if "://" in self.track_to and not (self.track == "mlflow" and self.is_address):
            raise ValueError("track_to is a folder; an address of http or https can be given with track 'mlflow'")
        return self

    @property
    def is_address(self) -> bool:
        """Whether a server is told."""
        return re.match(r"https?://", self.track_to) is not None


class Tracker(Protocol):
    """What a run tells of itself; `Untracked` tells nobody."""

    def epochs(self, fold: int, history: Sequence[Row]) -> None:
        """The history of one of the run's trainings so far; what was told before is not told again."""

    def finish(self, headline: Measure, *, struck: str | None) -> None:
        """The number at the end, with its interval; under another name where it may not stand."""


class Untracked:
    """Tells nobody; what a run does unless asked."""

    def epochs(self, fold: int, history: Sequence[Row]) -> None:
        """See `Tracker.epochs`."""

    def finish(self, headline: Measure, *, struck: str | None) -> None:
        """See `Tracker.finish`."""


UNTRACKED = Untracked()


class Tracked:
    """Tells a logger of Fabric's kind. One that fails while training goes on is given up, with a warning.

    Args:
        logger: What is told.
        state: File that says what was told.
        told: What it says so far.
        n_folds: Trainings of the run; of several, names begin with their number.
        progress: Warned once if the tracker cannot be reached any more.
    """

    def __init__(self, logger: Logger, state: Path, told: dict[str, Any], *, n_folds: int, progress: Progress) -> None:
        self._logger: Logger | None = logger
        self._state = state
        self._told = told
        self._n_folds = n_folds
        self._progress = progress

    def epochs(self, fold: int, history: Sequence[Row]) -> None:
        """See `Tracker.epochs`."""
        done = self._told["epochs"].get(str(fold), 0)
        prefix = "" if self._n_folds == 1 else f"fold_{fold}/"
        for row in history[done:]:
            values = {f"{prefix}{name}": float(value) for name, value in row.items() if name != "epoch"}
            self._tell("log_metrics", values, step=int(row["epoch"]))
        self._tell("save")
        if self._logger is not None and len(history) > done:
            self._told["epochs"][str(fold)] = len(history)
            write_json(self._state, self._told)

    def finish(self, headline: Measure, *, struck: str | None) -> None:
        """See `Tracker.finish`."""
        name = "headline" if struck is None else "struck_headline"
        figures = {"": headline.value, "_low": headline.low, "_high": headline.high}
        values = {f"{name}{end}": float(value) for end, value in figures.items() if value is not None}
        facts = {f"{name}_is": f"{headline.name} by {headline.unit}", f"{name}_count": headline.counted}
        if struck is not None:
            facts["struck"] = "yes"  # why is for the report: the sentence may name what it is about
        self._tell("log_hyperparams", self._told["options"] | facts, values)
        self._tell("finalize", "success")

    def _tell(self, what: str, *arguments: Any, **named: Any) -> None:
        """Call a method of the logger."""
        if self._logger is None:
            return
        try:
            getattr(self._logger, what)(*arguments, **named)
        except Exception as error:  # a tracker that is down must not cost hours of training
            self._progress.warn(f"The tracker cannot be told any more ({type(error).__name__}); training goes on.")
            self._logger = None


def begin_tracking(
    options: TrackingOptions,
    asked: Mapping[str, Mapping[str, Any]],
    *,
    folder: Path,
    n_folds: int,
    progress: Progress,
) -> Tracker:
    """Start telling a tracker of a run, or go on where a stopped one left off.

    Args:
        options: Which tracker, and where.
        asked: All options of the run, by section; those of `TOLD` are told, but no path.
        folder: The run's; its last name is what the tracker calls it.
        n_folds: Trainings of the run.
        progress: Warned if the tracker fails later.

    Raises:
        UsageError: `MISSING_EXTRA` if its library is not installed.
        ResourceError: `TRK_UNREACHABLE` if it cannot be told that the run begins.
    """
    if options.track == "none":
        return UNTRACKED
    check_tracker(options)
    state = folder / STATE
    told: dict[str, Any] = (
        read_json(state) if state.is_file() else {"options": _told_options(asked), "epochs": {}, "name": None}
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries below the tracker's, to their authors
            maker = _tensorboard if options.track == "tensorboard" else _mlflow
            logger, told["name"] = maker(options, folder.name, told["name"], told["options"])
    except Exception as error:
        raise ResourceError(
            f"{options.track} cannot be told at '{options.track_to}' ({type(error).__name__}). Mend that, choose "
            "another --track-to, or leave --track out.",
            code="TRK_UNREACHABLE",
        ) from error
    write_json(state, told)
    return Tracked(logger, state, told, n_folds=n_folds, progress=progress)


def check_tracker(options: TrackingOptions) -> None:
    """Refuse a tracker whose library is not installed.

    Raises:
        UsageError: `MISSING_EXTRA`.
    """
    if options.track == "none":
        return
    names, extra = EXTRAS[options.track]
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--track {options.track} needs {', '.join(missing)}. Install it with: pip install 'plainfilm[{extra}]'",
            code="MISSING_EXTRA",
        )


def _told_options(asked: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Options by name; of a file of weights only that there was one."""
    from plainfilm import __version__

    told = {name: value for section in TOLD for name, value in asked[section].items() if value is not None}
    if told.get("weights") not in (None, "pretrained"):
        told["weights"] = "a file"
    return {"plainfilm": __version__, **told}


def _tensorboard(
    options: TrackingOptions, name: str, known: str | None, asked: Mapping[str, Any]
) -> tuple[Logger, str]:
    """Event files in a folder of the run's own below `track_to`."""
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    own = known or _free(Path(options.track_to), name)
    logger = TensorBoardLogger(options.track_to, name=own, version="", default_hp_metric=False)
    if known is None:
        logger.experiment.add_text("options", "\n".join(f"    {key} = {value}" for key, value in asked.items()))
    logger.save()
    return logger, own


def _free(root: Path, name: str) -> str:
    """The run's name, numbered where another run of that name was tracked here."""
    number, free = 1, name
    while (root / free).exists():
        number += 1
        free = f"{name}-{number}"
    return free


def _mlflow(options: TrackingOptions, name: str, known: str | None, asked: Mapping[str, Any]) -> tuple[Logger, str]:
    """A run of the experiment `plainfilm`, in a database in the folder `track_to` or on a server."""
    # Before the import, which reads them: MLflow would report its use to its makers, and wait minutes for a server.
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow.tracking import MlflowClient

    from plainfilm.mlflow_logger import MlflowLogger

    for talkative in ("mlflow", "alembic"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    if options.is_address:
        client, artifacts = MlflowClient(tracking_uri=options.track_to), None
    else:
        place = Path(options.track_to).absolute()
        make_folder(place)
        client, artifacts = MlflowClient(tracking_uri=f"sqlite:///{place / DATABASE}"), (place / "artifacts").as_uri()
    if known is not None:
        return MlflowLogger(client, known), known
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    run_id = client.create_run(experiment, run_name=name).info.run_id
    logger = MlflowLogger(client, run_id)
    logger.log_hyperparams(dict(asked))
    return logger, run_id
