"""Trials of a sweep: which are done, what each came to on validation images, and which are not worth going on with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from plainfilm.errors import UsageError

State = Literal["finished", "pruned", "failed"]
JOURNAL = "study.log"
COLUMNS = ("model", "seed", "state", "value", "epochs", "chosen_epoch", "seconds", "code")
_ENDED = "ended"  # what an attempt's own notes say of it; one without was cut off, and is made again


def check_optuna() -> None:
    """Refuse a sweep without the library that keeps and prunes trials.

    Raises:
        UsageError: `MISSING_EXTRA`.
    """
    if find_spec("optuna") is None:
        raise UsageError("A sweep needs optuna. Install it with: pip install 'plainfilm[sweep]'", code="MISSING_EXTRA")


class Trials:
    """The trials of one sweep, kept in a journal that a killed process cannot spoil; Optuna's own tools read it.

    Args:
        folder: Of the sweep.
        models: Names.
        seeds: Of each model.
        rises: Whether higher is better.
        prune: Whether a trial ends that is worse, at the same epoch, than the median of those before it.
        warm_up: Epochs that every trial is given.
    """

    def __init__(
        self, folder: Path, *, models: Sequence[str], seeds: Sequence[int], rises: bool, prune: bool, warm_up: int
    ) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._models, self._seeds, self._rises = list(models), list(seeds), rises
        median = optuna.pruners.MedianPruner(n_startup_trials=max(2, len(seeds)), n_warmup_steps=warm_up + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna leaves the closing of its journal to the collector
            self._study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
                study_name="plainfilm",
                direction="maximize" if rises else "minimize",
                pruner=median if prune else optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
        self._running = optuna.trial.TrialState.RUNNING
        self._states = {
            "finished": optuna.trial.TrialState.COMPLETE,
            "pruned": optuna.trial.TrialState.PRUNED,
            "failed": optuna.trial.TrialState.FAIL,
        }
        for cut_off in self._study.get_trials(states=(self._running,)):
            self._study.tell(cut_off.number, state=self._states["failed"])

    def waiting(self) -> list[tuple[str, int]]:
        """Models and seeds that no trial has come to an end with, all seeds of a model in a row."""
        ended = {(row["model"], row["seed"]) for row in self._rows()}
        return [(model, seed) for model in self._models for seed in self._seeds if (model, seed) not in ended]

    def begin(self, model: str, seed: int) -> Trial:
        """A new attempt."""
        self._study.enqueue_trial({"model": model, "seed": seed})
        asked = self._study.ask()
        asked.suggest_categorical("model", self._models)
        asked.suggest_categorical("seed", self._seeds)
        return Trial(asked, self._study, self._states)

    def table(self) -> pd.DataFrame:
        """One row for each trial that came to an end, the best first."""
        rows = pd.DataFrame(self._rows(), columns=list(COLUMNS))
        order = pd.Categorical(rows["state"], ["finished", "pruned", "failed"], ordered=True)
        by = rows.assign(order=order, worth=rows["value"] * (-1 if self._rises else 1))
        return rows.loc[by.sort_values(["order", "worth", "model", "seed"], kind="stable").index].reset_index(drop=True)

    def chosen(self) -> tuple[str, int] | None:
        """The model with the best mean over its seeds, none of them pruned or failed, and the first seed.

        A seed is not chosen: it is luck, and would look like skill.
        """
        table = self.table()
        whole = table.groupby("model")["state"].agg(lambda states: bool((states == "finished").all()))
        means = table[table["model"].map(whole).astype(bool)].groupby("model")["value"].mean()
        if means.empty:
            return None
        return str(means.idxmax() if self._rises else means.idxmin()), self._seeds[0]

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"model": trial.params["model"], "seed": trial.params["seed"], **trial.user_attrs[_ENDED]}
            for trial in self._study.get_trials(deepcopy=False)
            if _ENDED in trial.user_attrs
        ]


class Trial:
    """One training of a sweep."""

    def __init__(self, trial: Any, study: Any, states: Mapping[str, Any]) -> None:
        self._trial = trial
        self._study = study
        self._states = states
        self._n_told = 0

    def is_hopeless(self, values: Sequence[float]) -> bool:
        """Whether to end it here, by its values on validation images after each epoch so far."""
        for epoch in range(self._n_told + 1, len(values) + 1):
            self._trial.report(values[epoch - 1], epoch)
        self._n_told = len(values)
        return bool(self._trial.should_prune())

    def end(self, state: State, *, value: float | None = None, **facts: Any) -> None:
        """It is over; `facts` are the other columns of the table."""
        noted = {"state": state, "value": value, **{name: facts.get(name) for name in COLUMNS[4:]}}
        self._trial.set_user_attr(_ENDED, noted)
        self._study.tell(self._trial, value if state == "finished" else None, state=self._states[state])
