"""Do the intervals hold the truth as often as they say? Simulated test sets of patients with several images each.

    python -m benchmarks.coverage                        500 sets each of 40, 100 and 200 patients
    python -m benchmarks.coverage --patients 40 --simulations 100

An image's evidence is its class, an error that all images of the patient share, and one of its own. The truth of a
figure is its value over so many patients that its own chance does not count. Wanted: 93 to 97 of 100 intervals at 95 %.
All takes about seven minutes of one core.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.evaluation import samples_of
from plainfilm.measures import EvaluationOptions, Measure, Unit
from plainfilm.metrics import wilson_interval
from plainfilm.prediction import Predictions
from plainfilm.sampling import figures_of, readings_of, rows_of

CLASSES = ("healthy", "ill")
LOOKED_AT = (("accuracy", None), ("balanced_accuracy", None), ("recall", "ill"), ("roc_auc", "ill"), ("log_loss", None))
MANY = 300_000  # patients whose figures are the truth
IMAGES = 6  # of one patient
PREVALENCE = 0.4


@dataclass(frozen=True)
class World:
    """A model and its patients.

    Attributes:
        skill: Distance of the classes, in units of an image's own error.
        shared: Spread of the error that all images of a patient share, in the same units.
    """

    skill: float
    shared: float

    def test_set(self, n_patients: int, seed: int) -> Predictions:
        """Patients drawn anew; as many of each class in every set, as a stratified split has them."""
        rng = np.random.default_rng([seed, n_patients])
        y = (np.arange(n_patients) < round(PREVALENCE * n_patients)).astype(np.intp)
        patient = np.repeat(np.arange(n_patients), IMAGES)
        evidence = self.skill * (y - 0.5)[patient] + self.shared * rng.normal(size=n_patients)[patient]
        score = 1 / (1 + np.exp(-(evidence + rng.normal(size=len(patient)))))
        table = pd.DataFrame(
            {
                "path": [f"{index}.png" for index in range(len(patient))],
                "label": np.array(CLASSES, dtype=object)[y[patient]],
                "patient_id": [f"p{index}" for index in patient],
                "split": "test",
            },
            dtype=object,
        )
        return Predictions(CLASSES, table, np.column_stack([1 - score, score]))


WORLDS = {"fair": World(skill=1.0, shared=1.0), "good": World(skill=2.0, shared=1.0)}


def measured(world: World, n_patients: int, seed: int, *, draws: int) -> dict[tuple[str, str | None, Unit], Measure]:
    """The looked-at figures of one test set."""
    units: tuple[Unit, ...] = ("image", "patient")
    samples = samples_of(
        world.test_set(n_patients, seed),
        patients="documented",
        units=units,
        options=EvaluationOptions(draws=draws, draw_seed=seed),
    )
    return {
        (measure.name, measure.of, measure.unit): measure
        for sample in samples
        for measure in sample.measures()
        if (measure.name, measure.of) in LOOKED_AT
    }


def true_figures(world: World) -> dict[tuple[str, str | None, Unit], float]:
    """The looked-at figures of very many patients, without draws."""
    many = world.test_set(MANY, seed=10**6)
    (reading,) = readings_of(many, EvaluationOptions())
    units: tuple[Unit, ...] = ("image", "patient")
    found = {}
    for unit in units:
        rows = rows_of(reading, np.repeat(np.arange(MANY), IMAGES), unit=unit, patients_known=True)
        figures = figures_of(rows)
        figures["balanced_accuracy"] = figures["recall"].mean(axis=-1)
        for name, of in LOOKED_AT:
            figure = figures[name]
            found[name, of, unit] = float(figure if of is None else figure[CLASSES.index(of)])
    return found


def coverage(
    world: World, n_patients: int, *, simulations: int, draws: int, first_seed: int = 0
) -> dict[tuple[str, str | None, Unit], float]:
    """The share of intervals that hold the truth, by figure."""
    truth = true_figures(world)
    held: Counter[tuple[str, str | None, Unit]] = Counter()
    for seed in range(first_seed, first_seed + simulations):
        for name, measure in measured(world, n_patients, seed, draws=draws).items():
            assert measure.low is not None
            assert measure.high is not None
            held[name] += measure.low <= truth[name] <= measure.high
    return {name: held[name] / simulations for name in sorted(truth, key=str)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[40, 100, 200])
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--world", choices=[*WORLDS, "all"], default="all")
    asked = parser.parse_args()
    worlds = WORLDS if asked.world == "all" else {asked.world: WORLDS[asked.world]}
    print(f"{asked.simulations} sets from seed {asked.first_seed}, {IMAGES} images a patient, {asked.draws} draws")
    for name, world in worlds.items():
        for n_patients in asked.patients:
            started = time.monotonic()
            found = coverage(
                world,
                n_patients,
                simulations=asked.simulations,
                draws=asked.draws,
                first_seed=asked.first_seed,
            )
            print(f"\n{name} model, {n_patients} patients ({time.monotonic() - started:.0f} s)")
            for (measure, of, unit), share in found.items():
                low, high = (float(end) for end in ends(share, asked.simulations))
                what = f"{measure} of {of}" if of else measure
                print(f"  {what + ' by ' + unit:<32} {share:.1%} ({low:.1%} to {high:.1%})", flush=True)


def ends(share: float, n: int) -> tuple[npt.ArrayLike, npt.ArrayLike]:
    """Wilson's interval of a share of simulations."""
    return wilson_interval(share, n)


if __name__ == "__main__":
    main()
