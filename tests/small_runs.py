"""Small real data and runs for the tests: phantoms of 32x32 pixels, two epochs of the smallest options."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from plainfilm import verbs
from plainfilm.bundle import Architecture, BundleConfig, save_bundle
from plainfilm.data.augment import make_augmentation
from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.models import create_model, describe_model, pooled_features
from plainfilm.novelty import Gate, Reference
from plainfilm.progress import Silent
from plainfilm.reporting.card import model_card
from plainfilm.runs import Run
from plainfilm.storage import sha256_of
from plainfilm.training.batches import LabelledImages
from plainfilm.training.loop import FitResult, fit
from plainfilm.training.options import TrainingOptions

SIZES = {"image_size": 32, "batch_size": 16, "epochs": 2, "workers": 0, "device": "cpu"}
SMALL = {**SIZES, "audit": False, "gallery": False}  # what both say has tests of its own
SMALL_FLAGS = [part for name, value in SIZES.items() for part in (f"--{name.replace('_', '-')}", str(value))]
SMALL_FLAGS += ["--no-audit"]


def write_small_data(folder: Path, **options) -> Path:
    """80 brains of 20 patients, 32x32, with the split in the manifest; gives the manifest."""
    sizes = {"patients": 20, "images_per_patient": 4, "size": 32, "effect": 2.0}
    return write_phantoms(folder, PhantomOptions(**{**sizes, **options})).folder / "manifest.csv"


def copy_data(manifest: Path, folder: Path) -> Path:
    """The same images elsewhere, to be spoilt."""
    return shutil.copytree(manifest.parent, folder) / manifest.name


def train_small(manifest: Path, output: Path, *, progress=None, resume=False, overwrite=False, **options) -> Run:
    """A whole training, in about three seconds."""
    return verbs.train(
        manifest, {**SMALL, **options}, output=output, progress=progress, resume=resume, overwrite=overwrite
    )


def weights_hash(run: Run) -> str:
    return sha256_of(run.folder / "bundle" / "model.safetensors")


def command(*arguments: object, **options) -> subprocess.CompletedProcess:
    """`plainfilm` in a process of its own."""
    return subprocess.run(typed(*arguments), capture_output=True, text=True, check=False, **settings(**options))


def start(*arguments: object, **options) -> subprocess.Popen:
    """The same, not waited for."""
    return subprocess.Popen(
        typed(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings(**options)
    )


def typed(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "plainfilm.cli", *map(str, arguments)]


def settings(**options) -> dict:
    """One thread in every process, as in this one: sums are then made in the same order."""
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), **options.pop("env", {})}
    return {"env": {name: value for name, value in env.items() if value is not None}, **options}


class Stopper(Silent):
    """Stops as Ctrl-C does, after the first step of an epoch or of another task."""

    def __init__(self, when: int | str) -> None:
        self._title = f"epoch {when}/" if isinstance(when, int) else when

    @contextmanager
    def task(self, title, total):
        def stop(steps=1, **facts):
            raise KeyboardInterrupt

        yield stop if title.startswith(self._title) else lambda steps=1, **facts: None


# --- a bundle that nobody trained ---------------------------------------------------------------------------


def write_bundle(folder: Path, *, model="lenet5", classes=("healthy", "ill"), seed=0, learnt=False, **changes) -> Path:
    """A sound bundle with random weights, 32x32; with `learnt` also the features of some training images."""
    torch.manual_seed(seed)
    network = create_model(model, num_classes=len(classes), image_size=32).eval()
    config = BundleConfig(
        architecture=Architecture(name=model, adapter="conv1x1", num_classes=len(classes), image_size=32),
        classes=classes,
        preprocessing=Preprocessing(height=32, width=32, fit="pad", mean=0.25 + seed / 10, std=0.125),
        data={"training_images": 3, "validation_images": 2},
    ).model_copy(update=changes)
    reference = None
    if learnt:
        features = pooled_features(network)(torch.randn(40, 1, 32, 32)).detach().numpy()
        reference = Reference.fit(features, np.arange(40) % 2, most=30, seed=0)
        near, away = np.median(reference.distances(features, neighbours=5), axis=0).tolist()
        gate = Gate(bits=(8,), smallest=32, largest=64, longest=1.0, neighbour_limit=near, class_limit=away, reason="")
        config = config.model_copy(update={"novelty": gate})
    described = describe_model(model, num_classes=len(classes), image_size=32)
    save_bundle(folder, network.state_dict(), config, card=model_card(config, described), reference=reference)
    return folder


# --- a training without files around it ---------------------------------------------------------------------


class Discs(nn.Module):
    """The smallest network that tells a disc from a square: a training of it takes milliseconds."""

    def __init__(self, num_classes: int = 2, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.head = nn.Linear(2 * width * 16, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).flatten(1))


def shapes(counts=(16, 16), *, seed: int = 0, shuffled: bool = False, augment=None) -> LabelledImages:
    """Discs (class 0) and squares (class 1) of 16x16 pixels, noisy, anywhere in the image."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    store = PixelStore(len(labels), 16, 16)
    y, x = np.mgrid[:16, :16]
    for index, label in enumerate(labels):
        row, column = rng.uniform(6, 10, size=2)
        away = np.hypot(y - row, x - column) if label == 0 else np.maximum(abs(y - row), abs(x - column))
        store.put(index, np.clip(200 * (away < 4) + rng.normal(30, 10, (16, 16)), 0, 255).astype(np.uint8))
    return LabelledImages(
        store, rng.permutation(labels) if shuffled else labels, PLAIN, make_augmentation(augment) if augment else None
    )


PLAIN = Preprocessing(height=16, width=16, fit="pad", mean=0.3, std=0.3)


def fit_shapes(folder: Path, *, train=None, validation=None, model=None, augment=None, **others) -> FitResult:
    """Train `Discs`; what is not about training options goes to `fit`."""
    to_fit = {name: others.pop(name) for name in ("resume", "progress", "on_epoch") if name in others}
    options = TrainingOptions(**{"epochs": 3, "batch_size": 8, "device": "cpu", "precision": "32-true", **others})
    return fit(
        model or Discs(),
        train or shapes(augment=augment),
        validation or shapes(seed=1),
        num_classes=2,
        options=options,
        folder=folder,
        **to_fit,
    )


def same_weights(one: FitResult, other: FitResult) -> bool:
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def as_parquet(manifest: Path, path: Path) -> Path:
    """The images of a manifest as Hugging Face keeps them: bytes in a column."""
    rows = pd.read_csv(manifest, dtype=str)
    images = [{"bytes": (manifest.parent / name).read_bytes(), "path": name} for name in rows["path"]]
    rows.drop(columns="path").assign(image=images).to_parquet(path, index=False)
    return path


def repaint(path: Path, seed: int) -> None:
    """Replace an image by noise of the same size."""
    with Image.open(path) as image:
        shape = (image.height, image.width)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
