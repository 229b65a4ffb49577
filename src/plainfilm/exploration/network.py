"""The X-ray paper's network on principal components: its own way, with labels shuffled, and done right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from plainfilm.exploration.columns import patients_of
from plainfilm.exploration.neighbours import share_of
from plainfilm.exploration.projection import Axes, Seen, Values, fit_axes
from plainfilm.exploration.results import Ints, NetworkScore
from plainfilm.metrics import wilson_interval
from plainfilm.progress import Advance, Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor, nn

EPOCHS = 20
BATCH_SIZE = 5
LEARNING_RATE = 1e-4

SHUFFLED = "The labels were shuffled: there is nothing to learn, and what is scored is memory."
BY_IMAGE = "Patients are not known, so images of one patient may have been trained on and scored."


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """What the networks learn from.

    Attributes:
        seen: What is looked at.
        rows: The images taken, all with a label.
        y_true: Class of each, from 0.
        patients: Number of each one's patient.
        splits: The table's own split of each; shuffling stays within it.
        patients_known: Whether all have a patient id, or one image per patient was declared.
    """

    seen: Seen
    rows: Ints
    y_true: Ints
    patients: Ints
    splits: Ints
    patients_known: bool

    @property
    def n_classes(self) -> int:
        """Different labels."""
        return int(self.y_true.max()) + 1


def labelled_rows(seen: Seen, rows: pd.DataFrame, *, most: int, single_images: bool, seed: int) -> Labelled | None:
    """The images with a label, whole patients drawn at random where there are more than `most`; None with one class.

    Args:
        seen: What is looked at.
        rows: The table of images.
        most: Images, at most; the first patient drawn is taken in any case.
        single_images: Whether one image per patient was declared.
        seed: Of the draw.
    """
    chosen = np.flatnonzero(rows["label"].notna())
    if len(chosen) > most:
        patients = patients_of(rows.iloc[chosen])
        turn = np.random.default_rng(seed).permutation(patients.max() + 1)[patients]
        within = np.cumsum(np.bincount(turn)) <= most
        chosen = chosen[within[turn] | (turn == 0)]
    own = rows.iloc[chosen]
    y_true = np.unique(own["label"].astype(str), return_inverse=True)[1].astype(np.intp)
    if len(np.unique(y_true)) < 2:
        return None
    return Labelled(
        seen=seen,
        rows=chosen,
        y_true=y_true,
        patients=patients_of(own),
        splits=np.unique(own["split"].fillna("").astype(str), return_inverse=True)[1].astype(np.intp),
        patients_known=bool(own["patient_id"].notna().all()) or single_images,
    )


def train_networks(
    images: Labelled,
    *,
    variance: float,
    most_components: int,
    folds: int,
    seed: int,
    progress: Progress | None = None,
) -> tuple[NetworkScore, ...]:
    """The paper's way, the same with labels shuffled, and cross-validation.

    The paper fits components and network on all images and scores them on the same. Its labels come from a second
    pass of a generator that shuffles anew ("not matching up correctly", says its own comment). The second network
    shows what a score got in this way is worth.

    Args:
        images: With at least two classes.
        variance: Share of the variance the components keep; they are whitened, as the paper's were.
        most_components: See `fit_axes`.
        folds: Parts of the cross-validation; fewer where a class has fewer patients, none where it has one.
        seed: Of weights, order, dropout, shuffling and folds.
        progress: Told after every epoch.
    """
    parts = list(_divide(images, folds, seed))
    with _one_thread(), (progress or Silent()).task("PCA network", (2 + len(parts)) * EPOCHS) as advance:
        trainer = Trainer(variance=variance, most_components=most_components, seed=seed, advance=advance)
        shuffled = _shuffled(images, seed)
        memory = _score_itself("paper, labels shuffled", images, shuffled, trainer, SHUFFLED)
        same_rows = (
            "Components and network were fitted on the very images they are scored on; scored so, shuffled labels "
            f"come out right in {memory.accuracy:.1%} of images."
        )
        paper = _score_itself("paper", images, images.y_true, trainer, same_rows)
        return paper, memory, *([_cross_validate(images, parts, trainer)] if parts else [])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Batches of five are too small to be shared out: threads would mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- one network --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Fits components and network, always alike."""

    variance: float
    most_components: int
    seed: int
    advance: Advance

    def fit(self, values: Values, y_true: Ints, n_classes: int) -> Fitted:
        """Components and network of the same images, and of no others."""
        import torch

        axes = fit_axes(values, variance=self.variance, most_components=self.most_components, seed=self.seed)
        with torch.random.fork_rng(devices=[]):  # whoever calls keeps his own random numbers
            torch.manual_seed(self.seed)
            network = build_network(axes.n_components, n_classes)
            fitted = Fitted(axes, network, pd.DataFrame())
            history = self._train(network, fitted.inputs(values), torch.from_numpy(y_true))
        return Fitted(axes, network, history)

    def _train(self, network: nn.Module, inputs: Tensor, y_true: Tensor) -> pd.DataFrame:
        """The paper's training; each row of the history is the mean of its batches, as Keras logs it."""
        import torch

        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, eps=1e-8, fused=True)
        generator = np.random.default_rng(self.seed)
        history = []
        network.train()
        for epoch in range(1, EPOCHS + 1):
            totals = np.zeros(3)
            for batch in _batches(generator.permutation(len(y_true))):
                logits = _all_logits(network(inputs[batch]))
                loss = torch.nn.functional.cross_entropy(logits, y_true[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                totals += len(batch) * np.array(_measure(logits.detach(), y_true[batch]))
            loss_mean, accuracy, mae = totals / len(y_true)
            history.append({"epoch": epoch, "train_loss": loss_mean, "train_accuracy": accuracy, "train_mae": mae})
            self.advance(1)
        return pd.DataFrame(history)


@dataclass(frozen=True)
class Fitted:
    """Components and the network on them."""

    axes: Axes
    network: nn.Module
    history: pd.DataFrame

    def inputs(self, values: Values) -> Tensor:
        """Whitened components of some images."""
        import torch

        kept = self.axes.n_components
        scores = self.axes.scores(values)[:, :kept] / self.axes.deviations[:kept]
        return torch.from_numpy(scores.astype(np.float32))

    def logits(self, values: Values) -> Tensor:
        """`(n, n_classes)`, with running averages and without dropout."""
        import torch

        self.network.eval()
        with torch.inference_mode():
            return _all_logits(self.network(self.inputs(values)))


def build_network(n_components: int, n_classes: int) -> nn.Sequential:
    """The appendix's `modelPCA`, with the initial weights of Keras; one output for two classes."""
    from torch import nn

    def normalized(n_in: int, n_out: int) -> list[nn.Module]:
        # Keras counts what is kept (0.99), PyTorch what is new; the variance kept is that of n - 1 in both (Keras 2.2).
        return [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(0.25), nn.BatchNorm1d(n_out, eps=1e-3, momentum=0.01)]

    network = nn.Sequential(
        *normalized(n_components, 1024),
        *normalized(1024, 1024),
        nn.Linear(1024, 512),
        nn.ReLU(),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, 1 if n_classes == 2 else n_classes),
    )
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


def _all_logits(logits: Tensor) -> Tensor:
    """One logit per class: a single sigmoid output is a softmax against 0."""
    import torch

    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def _batches(order: Ints) -> Iterator[Ints]:
    """The paper's batches; a single image left over joins the last, since its variance would be 0."""
    starts = range(0, len(order) - (len(order) % BATCH_SIZE == 1), BATCH_SIZE)
    for start in starts:
        yield order[start:] if start == starts[-1] else order[start : start + BATCH_SIZE]


def _measure(logits: Tensor, y_true: Tensor) -> tuple[float, float, float]:
    """Mean cross-entropy, accuracy, and mean absolute error of the score of the true class."""
    import torch

    loss = torch.nn.functional.cross_entropy(logits, y_true)
    own = logits.softmax(dim=1).gather(1, y_true[:, None])
    return float(loss), float((logits.argmax(dim=1) == y_true).double().mean()), float((1 - own).mean())


# --- scores -------------------------------------------------------------------------------------------------


def _shuffled(images: Labelled, seed: int) -> Ints:
    """The labels in another order, within each split: as the appendix shuffles its training and validation images."""
    generator = np.random.default_rng(seed)
    shuffled = images.y_true.copy()
    for split in np.unique(images.splits):
        own = np.flatnonzero(images.splits == split)
        shuffled[own] = generator.permutation(shuffled[own])
    return shuffled


def _score_itself(name: str, images: Labelled, y_true: Ints, trainer: Trainer, struck: str) -> NetworkScore:
    """Fit on all images and score the same."""
    import torch

    started = time.monotonic()
    values = images.seen.values(images.rows)
    fitted = trainer.fit(values, y_true, images.n_classes)
    loss, accuracy, mae = _measure(fitted.logits(values), torch.from_numpy(y_true))
    low, high = wilson_interval(accuracy, len(y_true))
    return NetworkScore(
        name=name,
        accuracy=accuracy,
        low=float(low),
        high=float(high),
        n_images=len(y_true),
        loss=loss,
        mae=mae,
        struck=struck,
        history=fitted.history,
        seconds=time.monotonic() - started,
    )


def _divide(images: Labelled, folds: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Training and held-out places of each fold: whole patients, classes spread evenly."""
    from sklearn.model_selection import StratifiedGroupKFold

    n = images.n_classes
    labels_of_patient = np.bincount(images.patients * n + images.y_true, minlength=n * (images.patients.max() + 1))
    per_class = np.bincount(labels_of_patient.reshape(-1, n).argmax(axis=1), minlength=n)
    parts = min(folds, int(per_class.min()))
    if parts >= 2:
        splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        yield from splitter.split(np.zeros(len(images.rows)), images.y_true, images.patients)


def _cross_validate(images: Labelled, parts: list[tuple[Ints, Ints]], trainer: Trainer) -> NetworkScore:
    """Every image scored by components and network that never saw its patient."""
    import torch

    started = time.monotonic()
    logits = torch.empty(len(images.rows), images.n_classes)
    for train, held_out in parts:
        values = images.seen.values(images.rows[train])
        fitted = trainer.fit(values, images.y_true[train], images.n_classes)
        logits[held_out] = fitted.logits(images.seen.values(images.rows[held_out]))
    loss, _, mae = _measure(logits, torch.from_numpy(images.y_true))
    right = logits.argmax(dim=1).numpy() == images.y_true
    share = share_of(right, images.patients, seed=trainer.seed)
    return NetworkScore(
        name="cross-validation",
        accuracy=share.value,
        low=share.low,
        high=share.high,
        n_images=len(right),
        loss=loss,
        mae=mae,
        struck=None if images.patients_known else BY_IMAGE,
        history=pd.DataFrame(columns=["epoch", "train_loss", "train_accuracy", "train_mae"]),
        seconds=time.monotonic() - started,
    )
