"""An exported model beside the one it came from: the same scores on real images, and how fast.

    python -m benchmarks.onnx_parity ../shared/data ../shared/weights [--images 500] [--rounds 7] [--threads 1]

The models are resnet1d and SqueezeNet (torchvision's, with ImageNet's weights and a head of four classes), both at
128x128, after one pass over the images: what is compared is arithmetic, not skill. Scores are compared on real slices
of the Alzheimer MRI set. For speed, both engines score the same batches, one after the other in every round, and the
ratio is of times of the same round: a machine that grows slower meanwhile slows both. "highest scores" are the 5th and
95th percentile of the highest score of an image: where all were alike, equal scores would show little.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from plainfilm.bundle import Architecture, Bundle, BundleConfig, load_bundle, save_bundle
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import FittingOptions, IntensityOptions, Preprocessing
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.exporting.reading import OnnxModel, parse_onnx
from plainfilm.exporting.scoring import onnx_scores
from plainfilm.exporting.writing import onnx_bytes
from plainfilm.models import create_model
from plainfilm.prediction import BATCH, predict_scores

SIZE = 128
SQUEEZENET = "squeezenet1_0.imagenet1k.safetensors"


def real_images(data: Path, n_images: int) -> tuple[PixelStore, list[str]]:
    """Slices drawn at random, and their labels."""
    listing = list_images(data / "alzheimer-mri.csv")
    chosen = np.sort(np.random.default_rng(0).permutation(len(listing.refs))[:n_images])
    part = type(listing)(listing.rows.iloc[chosen].reset_index(drop=True), tuple(listing.refs[i] for i in chosen))
    table, pixels = scan_listing(part, size=(SIZE, SIZE))
    assert pixels is not None
    return pixels, list(table.rows["label"])


def ready(name: str, weights: Path | None, pixels: PixelStore, labels: list[str], place: Path) -> Bundle:
    """A bundle that has seen the images once, so that its scores are not all alike."""
    classes = tuple(sorted(set(labels)))
    torch.manual_seed(0)
    model = create_model(name, num_classes=len(classes), weights=weights, image_size=SIZE)
    prepared = Preprocessing.fit_training(pixels, fitting=FittingOptions(), options=IntensityOptions())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    targets = torch.tensor([classes.index(label) for label in labels])
    order = np.random.default_rng(0).permutation(len(pixels))
    for start in range(0, len(pixels) - 31, 32):
        part = order[start : start + 32]
        batch = torch.from_numpy(prepared.apply(pixels.values(part))).float()[:, None]
        loss = torch.nn.functional.cross_entropy(model(batch), targets[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    config = BundleConfig(
        architecture=Architecture(name=name, adapter="conv1x1", num_classes=len(classes), image_size=SIZE),
        classes=classes,
        preprocessing=prepared,
        data={},
    )
    save_bundle(place, model.state_dict(), config, card="")
    return load_bundle(place)


def timed(bundle: Bundle, exported: OnnxModel, pixels: PixelStore, *, rounds: int) -> list[tuple[float, float]]:
    """Seconds of torch and of onnxruntime in each round, after one to warm up."""
    found = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        predict_scores(bundle, pixels, device="cpu")
        between = time.perf_counter()
        onnx_scores(exported, pixels, batch_size=BATCH)
        found.append((between - began, time.perf_counter() - between))
    return found[1:]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)  # what the ONNX engine goes by
    print(f"torch {torch.__version__}, {asked.threads} thread(s), load average {os.getloadavg()[0]:.1f}")
    print(f"{asked.images} real slices of {SIZE}x{SIZE}; {asked.rounds} rounds of {min(64, asked.images)}\n")
    print(
        "| model | highest scores | largest difference | other answers | torch, ms an image | ONNX, ms | torch / ONNX |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        pixels, labels = real_images(asked.data, asked.images)
        some = pixels.take(np.arange(min(64, asked.images)))
        for name, weights in (("resnet1d", None), ("torchvision:squeezenet1_0", asked.weights / SQUEEZENET)):
            bundle = ready(name, weights, pixels, labels, Path(folder) / name.replace(":", "-"))
            data, parity = onnx_bytes([bundle], reference=None, images=pixels)
            highest = np.percentile(predict_scores(bundle, pixels, device="cpu").max(axis=1), (5, 95))
            times = timed(bundle, parse_onnx(data, shown=name), some, rounds=asked.rounds)
            torch_ms, onnx_ms = (median(row[column] for row in times) * 1000 / len(some) for column in (0, 1))
            ratios = sorted(one / other for one, other in times)
            cells = [
                name,
                f"{highest[0]:.2f} to {highest[1]:.2f}",
                f"{parity.largest:.1e}",
                f"{parity.other_answers} of {parity.n_images}",
                f"{torch_ms:.1f}",
                f"{onnx_ms:.1f}",
                f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
