"""What the weights inside plainfilm are worth on few and on many patients, beside random numbers and ImageNet's.

    python -m benchmarks.pretrained ../shared/data ../shared/weights              frozen features, then the tables
    python -m benchmarks.pretrained ../shared/data ../shared/weights --tune chest 20      all layers trained, one size
    python -m benchmarks.pretrained ../shared/data ../shared/weights --also ten=ten/model.safetensors --judged ten

Five divisions of the patients into five folds (seeds 0 to 4): every patient is tested once under each, by a model that
has seen some patients of each class (the size) from the other folds; which ones follows from seed, fold and size, and
is the same for every model. A patient is one row: the mean over their images. What is done is kept in --results, one
file for each model, size and seed, and not done again.

Frozen: features before the classifier, and a logistic regression on the patients' means. Features are centred and
scaled on the training images; the penalty is chosen by cross-validation among the training patients from 10 of a class
on, and is fixed below. Random numbers begin anew with every seed. SqueezeNet sees 224x224 and gives 512 features,
resnet1d sees 128x128 and gives 192.

Tuned: all layers of resnet1d, 64x64, 120 steps of 16 images, the same rate for both beginnings; 8 slices of a patient.

Intervals are those of `plainfilm compare`, patients drawn whole: they are about the patients, not about other draws of
the training patients than the 25 of each size.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

from plainfilm.comparison import ComparisonOptions, Contender, compare_predictions
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.data.splits import SplitOptions, split_table
from plainfilm.features import extract_features
from plainfilm.measures import EvaluationOptions
from plainfilm.models import create_model, describe_model
from plainfilm.models.options import PRETRAINED
from plainfilm.models.parts import pooled_features
from plainfilm.models.shipped import ShippedFile
from plainfilm.prediction import Predictions
from plainfilm.storage import sha256_of
from plainfilm.training.batches import LabelledImages
from plainfilm.training.loop import fit
from plainfilm.training.options import TrainingOptions

SEEDS = range(5)
SIZES = (1, 2, 5, 10, 20, None)  # patients of each class; None: all
CHOOSE_FROM = 10  # patients of each class from which the penalty is chosen
SQUEEZENET = "squeezenet1_0.imagenet1k.safetensors"
TUNED_SIDE, TUNED_STEPS, TUNED_BATCH, TUNED_SLICES = 64, 120, 16, 8

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Task:
    """One question to one set of images."""

    source: str
    positive: str
    labels: tuple[str, ...]  # that are positive
    split: Mapping[str, str]


TASKS = {
    "alzheimer": Task(
        "alzheimer-mri.csv", "demented", ("Mild_Demented", "Moderate_Demented", "Very_Mild_Demented"), {}
    ),
    "chest": Task("openi-chest-abdomen", "chest", ("openI_CXR",), {"patients": "image"}),
    "covid": Task("covid-chestxray/manifest.csv", "covid", ("covid",), {"missing_patients": "own"}),
}


@dataclass(frozen=True)
class Images:
    """The images of a task at one size.

    Attributes:
        rows: Their table, labels made two.
        pixels: Theirs.
        task: What is asked.
    """

    rows: pd.DataFrame
    pixels: PixelStore
    task: Task

    @classmethod
    def read(cls, task: Task, data: Path, side: int) -> Images:
        """Those with a label."""
        table, pixels = scan_listing(list_images(data / task.source), size=(side, side), workers=0)
        assert pixels is not None
        labelled = np.flatnonzero(table.rows["label"].notna())
        rows = table.rows.iloc[labelled].reset_index(drop=True)
        positive = rows["label"].isin(task.labels)
        assert positive.any(), f"no label of {task.source} is among {task.labels}"
        rows["label"], rows["split"] = np.where(positive, task.positive, "other"), None
        return cls(rows, pixels.take(labelled), task)

    @property
    def truth(self) -> npt.NDArray[np.int64]:
        """`(n,)` 1 for the positive class."""
        return (self.rows["label"] == self.task.positive).to_numpy().astype(np.int64)

    def examples(self, mean: float, std: float) -> LabelledImages:
        """As a network sees them that was trained on this mean and spread."""
        _, height, width = self.pixels.shape
        seen = Preprocessing(height=height, width=width, fit="pad", mean=mean, std=std)
        return LabelledImages(self.pixels, self.truth, seen)


@dataclass(frozen=True)
class Trial:
    """Who is learnt from, and who is tested, in one fold."""

    train: Indices  # rows
    test: Indices
    patients: npt.NDArray[np.object_]  # of every row


def trials(images: Images, size: int | None, seed: int) -> Iterator[Trial]:
    """The folds of one division; none where a class has fewer patients than `size` in one of them."""
    options = SplitOptions.model_validate(
        {"split": "patient", "folds": 5, "split_seed": seed, "calibration_fraction": 0, **images.task.split}
    )
    plan = split_table(images.rows, options)
    groups = plan.groups.astype(str).astype(object)
    for number, fold in enumerate(plan.folds):
        rows = np.sort(np.concatenate([fold.train, fold.validation]))
        draw = np.random.default_rng([seed, number, size or 0])
        drawn: list[str] = []
        for label in (0, 1):
            of_class = np.unique(groups[rows[images.truth[rows] == label]])
            if size is not None and len(of_class) < size:
                return
            drawn += list(draw.permutation(of_class)[:size])
        yield Trial(rows[np.isin(groups[rows], drawn)], fold.test, groups)


def by_patient(trial: Trial, rows: Indices, truth: npt.NDArray[np.int64]) -> pd.DataFrame:
    """One row for each patient and label, with the places of their images in `rows`."""
    frame = pd.DataFrame({"patient": trial.patients[rows], "label": truth[rows], "place": range(len(rows))})
    return frame.groupby(["patient", "label"], sort=True)["place"].apply(list).reset_index()


def frozen_scores(features: Floats, trial: Trial, truth: npt.NDArray[np.int64]) -> tuple[pd.DataFrame, Floats]:
    """Test patients, and how likely each is positive."""
    center, spread = features[trial.train].mean(axis=0), features[trial.train].std(axis=0)
    scaled = (features - center) / np.where(spread > 1e-6, spread, 1) / np.sqrt(features.shape[1])
    learnt, tested = by_patient(trial, trial.train, truth), by_patient(trial, trial.test, truth)
    X, X_test = (
        np.stack([scaled[rows[places]].mean(axis=0) for places in frame["place"]])
        for rows, frame in ((trial.train, learnt), (trial.test, tested))
    )
    y = learnt["label"].to_numpy()
    if np.bincount(y).min() >= CHOOSE_FROM:
        model = LogisticRegressionCV(
            Cs=[0.1, 1, 10, 100, 1000],
            cv=5,
            l1_ratios=(0,),
            scoring="neg_log_loss",
            max_iter=5000,
            use_legacy_attributes=False,
        )
    else:
        model = LogisticRegression(C=1.0, max_iter=5000)
    return tested, model.fit(X, y).predict_proba(X_test)[:, 1]


def tuned_scores(images: Images, trial: Trial, weights: str | None, seed: int) -> tuple[pd.DataFrame, Floats]:
    """The same of a resnet1d of which all layers were trained."""
    truth, info = images.truth, describe_model("resnet1d", measure=False)
    chosen = np.concatenate([trial.train[places] for places in _few(by_patient(trial, trial.train, truth))])
    often = np.resize(np.random.default_rng(seed).permutation(chosen), TUNED_STEPS * TUNED_BATCH)
    torch.manual_seed(seed)
    model = create_model("resnet1d", num_classes=2, weights=weights, image_size=TUNED_SIDE)
    seen = images.examples(info.mean, info.std)
    training = LabelledImages(images.pixels.take(often), truth[often], seen.preprocessing)
    options = TrainingOptions(
        epochs=1, batch_size=TUNED_BATCH, learning_rate=1e-3, choose="last", seed=seed, device="cpu"
    )
    with tempfile.TemporaryDirectory() as folder:
        shown = LabelledImages(images.pixels.take(often[:2]), truth[often[:2]], seen.preprocessing)  # decides nothing
        found = fit(model, training, shown, num_classes=2, options=options, folder=Path(folder))
    model.load_state_dict(found.weights)
    tested = by_patient(trial, trial.test, truth)
    tested["place"] = _few(tested)
    with torch.inference_mode():
        scores = [
            float(model.eval()(seen.load(trial.test[places], torch.device("cpu"))).softmax(1)[:, 1].mean())
            for places in tested["place"]
        ]
    return tested, np.array(scores)


def _few(patients: pd.DataFrame) -> list[list[int]]:
    """At most `TUNED_SLICES` images of each patient, evenly."""
    return [places[:: max(1, len(places) // TUNED_SLICES)][:TUNED_SLICES] for places in patients["place"]]


@dataclass(frozen=True)
class Bench:
    """Where things are."""

    data: Path
    weights: Path
    results: Path
    also: Mapping[str, Path]
    judged: str = "pretrained"  # whose differences from the others are shown

    def beginning(self, model: str) -> tuple[str, str | None]:
        """Name of the network, and its weights."""
        if model == "squeezenet":
            return "torchvision:squeezenet1_0", str(self.weights / SQUEEZENET)
        return "resnet1d", {"scratch": None, "pretrained": PRETRAINED}.get(model, str(self.also.get(model)))

    def path(self, how: str, task: str, model: str, size: int | None, seed: int) -> Path:
        """The file of one result."""
        name, weights = self.beginning(model)
        if weights == PRETRAINED:
            of = ShippedFile(name).recipe()["sha256"][:8]
        else:
            of = sha256_of(self.also[model])[:8] if model in self.also else "0"
        return self.results / how / f"{task}-{model}-{of}-{size or 'all'}-{seed}.csv"

    def features(self, images: Images, model: str, seed: int) -> Floats:
        """`(n, d)`, from the cache where they are there."""
        name, weights = self.beginning(model)
        torch.manual_seed(seed)
        network = create_model(name, num_classes=2, weights=weights, adapter="replicate")
        info = describe_model(name, measure=False)
        (found,) = extract_features(
            pooled_features(network),
            images.examples(info.mean, info.std),
            list(images.rows["pixel_sha256"]),
            cache=self.results / "cache",
            device="cpu",
        )
        return found.reshape(len(found), -1)

    def freeze(self, task: str, model: str) -> None:
        """All sizes and seeds of one model on frozen features."""
        wanted = [(size, seed) for seed in SEEDS for size in SIZES]
        if all(self.path("frozen", task, model, size, seed).exists() for size, seed in wanted):
            return
        name, _ = self.beginning(model)
        images = Images.read(TASKS[task], self.data, describe_model(name, measure=False).input_size)
        features = None
        for seed in SEEDS:
            if features is None or model == "scratch":
                features = self.features(images, model, seed)
            for size in SIZES:
                path = self.path("frozen", task, model, size, seed)
                if path.exists():
                    continue
                parts = [
                    _scored(trial, *frozen_scores(features, trial, images.truth), TASKS[task], seed)
                    for trial in trials(images, size, seed)
                ]
                _keep(parts, path)
            print(f"{task} {model} seed {seed}", flush=True)

    def tune(self, task: str, size: int | None) -> None:
        """All beginnings of resnet1d, turn by turn."""
        images = Images.read(TASKS[task], self.data, TUNED_SIDE)
        for seed in SEEDS:
            for model in ("scratch", "pretrained", *self.also):
                path = self.path("tuned", task, model, size, seed)
                if path.exists():
                    continue
                _, weights = self.beginning(model)
                parts = [
                    _scored(trial, *tuned_scores(images, trial, weights, seed), TASKS[task], seed)
                    for trial in trials(images, size, seed)
                ]
                _keep(parts, path)
                print(f"{task} {model} {size or 'all'} of a class, seed {seed}", flush=True)

    def report(self, how: str) -> None:
        """One line for each task and size that is complete: areas, and differences with their intervals."""
        models = ["scratch", *(["squeezenet"] if how == "frozen" else []), "pretrained", *self.also]
        others = [model for model in models if model != self.judged]
        print(f"\n{how}, ROC AUC over {len(SEEDS)} seeds; differences are those of {self.judged} from the others\n")
        print(f"| images | of each class | {' | '.join(models)} | {' | '.join(f'minus {m}' for m in others)} | count |")
        print("|---|---" + "|---" * (len(models) + len(others) + 1) + "|")
        for task, asked in TASKS.items():
            for size in SIZES:
                found = {model: self._all_seeds(how, task, model, size) for model in models}
                there = {model: kept for model, kept in found.items() if kept is not None}
                if self.judged not in there:
                    continue
                areas, differences = {}, {}
                for model in there:
                    if model == self.judged:
                        continue
                    pair = [
                        Contender(name=m, predictions=there[m], patients="documented") for m in (model, self.judged)
                    ]
                    compared = compare_predictions(
                        pair,
                        evaluation=EvaluationOptions(positive=(asked.positive,)),
                        options=ComparisonOptions(unit="image"),
                    )
                    areas |= {standing.name: f"{standing.measures[0].value:.3f}" for standing in compared.standings}
                    first = compared.headline[0]
                    assert first.measure == "roc_auc"
                    differences[model] = f"{first.value:+.3f} ({first.low:+.3f} to {first.high:+.3f})"
                cells = [*(areas.get(m, "") for m in models), *(differences.get(m, "") for m in others)]
                count = f"{there[self.judged].table['patient_id'].nunique()} patients"
                print(f"| {task} | {size or 'all'} | {' | '.join(cells)} | {count} |")

    def _all_seeds(self, how: str, task: str, model: str, size: int | None) -> Predictions | None:
        paths = [self.path(how, task, model, size, seed) for seed in SEEDS]
        if not all(path.exists() and path.stat().st_size for path in paths):
            return None
        return Predictions.join([Predictions.load(path) for path in paths])


def _scored(trial: Trial, tested: pd.DataFrame, scores: Floats, task: Task, seed: int) -> Predictions:
    """One row for each test patient; a path says the seed too, so that seeds can stand side by side."""
    names = np.array(["other", task.positive], dtype=object)[tested["label"].to_numpy()]
    paths = [f"{seed}/{patient}/{name}" for patient, name in zip(tested["patient"], names, strict=True)]
    table = pd.DataFrame(
        {"path": paths, "label": names, "patient_id": tested["patient"], "split": "test"}, dtype=object
    )
    return Predictions(("other", task.positive), table, np.column_stack([1 - scores, scores]))


def _keep(parts: list[Predictions], path: Path) -> None:
    """An empty file says that there are too few patients for this size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if parts:
        Predictions.join(parts).save(path)
    else:
        path.touch()


def main() -> None:
    """Do what is asked for, and print what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--results", type=Path, default=Path("build/pretrained"))
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FILE", help="other weights of resnet1d")
    parser.add_argument("--judged", default="pretrained", help="whose differences are shown")
    parser.add_argument("--only", choices=["scratch", "squeezenet", "pretrained"], help="one model, frozen")
    parser.add_argument(
        "--tune", nargs=2, metavar=("TASK", "SIZE"), help="train all layers: a task, and 1 to 20 or all"
    )
    parser.add_argument("--tables", action="store_true", help="only print what is there")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    also = {name: Path(file) for name, _, file in (text.partition("=") for text in asked.also)}
    bench = Bench(asked.data, asked.weights, asked.results, also, asked.judged)
    if asked.tune is not None:
        bench.tune(asked.tune[0], None if asked.tune[1] == "all" else int(asked.tune[1]))
    elif not asked.tables:
        for task in TASKS:
            for model in [asked.only] if asked.only else ["scratch", "squeezenet", "pretrained", *also]:
                bench.freeze(task, model)
    for how in ("frozen", "tuned"):
        bench.report(how)


if __name__ == "__main__":
    main()
