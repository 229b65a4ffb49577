"""Demented or not, by patient, from the Alzheimer MRI slices: the best method that was found, scored once.

    python -m benchmarks.alzheimer_patients ../shared/data ../shared/weights --seeds 0 1 2 3 4   (developed on these)
    python -m benchmarks.alzheimer_patients ../shared/data ../shared/weights --seeds 100 101 102 103 104

ImageNet's SqueezeNet, frozen, looks at each slice; the maps after two of its stages are pooled to 4x4. The slices of
all patients lie at the same places in the head, in the order of their file numbers, so the maps of the n-th slice can
be compared between patients: all 32 together describe a patient. Ridge regression on how severe the dementia is (0 to
3) gives the score. Nothing is chosen inside: stages, grid and penalty were fixed on fold seeds 0 to 4.

Five folds by patient, as `plainfilm train --folds 5 --split-seed SEED` makes them; every patient is tested once a seed.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.models.feature_extraction import create_feature_extractor

from plainfilm import metrics
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.data.splits import SplitOptions, split_table
from plainfilm.models import create_model, describe_model
from plainfilm.training.batches import LabelledImages

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]

MODEL = "torchvision:squeezenet1_0"
SIDE = 224
STAGES = ("features.6", "features.12")
GRID = 4
PENALTY = 0.03  # beside patients whose features have length 1 on average
BRIGHT = 85  # percentile of the brain's grey values that is made ...
AT = 0.75  # ... this grey
SEVERITY = {"Non_Demented": 0.0, "Very_Mild_Demented": 1.0, "Mild_Demented": 2.0, "Moderate_Demented": 3.0}
DRAWS = 2000


def main() -> None:
    """Print the figure of each seed, and that of all together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="of the division into folds")
    asked = parser.parse_args()
    rows, maps = read_slices(asked.data / "alzheimer-mri.csv", asked.weights)
    severity = rows.groupby("patient_id", sort=True)["label"].first().map(SEVERITY).to_numpy(dtype=float)
    ill = severity > 0
    print(f"{len(ill)} patients, {int(ill.sum())} of them demented; {len(rows)} slices\n")
    scores = np.stack([cross_validated(rows, maps, severity, seed) for seed in asked.seeds])
    print("| fold seed | ROC AUC by patient | 95 % interval |\n|---|---|---|")
    for seed, own in zip(asked.seeds, scores, strict=True):
        print(f"| {seed} | {_row(ill, own[None])}")
    print(f"| mean of these | {_row(ill, scores)}")


def read_slices(table: Path, weights: Path) -> tuple[pd.DataFrame, list[Floats]]:
    """The table of the slices, sorted by patient and place, and of each stage `(n_patients, d)` features."""
    scanned, pixels = scan_listing(list_images(table), size=(SIDE, SIDE), workers=0)
    assert pixels is not None
    place = [int(number[1]) if (number := re.search(r"_(\d+)\.\w+$", path)) else 1 for path in scanned.rows["path"]]
    rows = scanned.rows.assign(place=place, row=range(len(place))).sort_values(["patient_id", "place"])
    described = describe_model(MODEL, measure=False)
    seen = Preprocessing(height=SIDE, width=SIDE, fit="pad", mean=0.0, std=1.0)
    images = LabelledImages(pixels, np.zeros(len(rows), dtype=np.int64), seen)
    (file,) = weights.glob("squeezenet1_0*.safetensors")
    network = create_model(MODEL, num_classes=2, weights=file, adapter="replicate").eval()
    stages = _stages_of(network)
    found: list[list[npt.NDArray[np.float16]]] = [[] for _ in STAGES]
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            batch = images.load(rows["row"].to_numpy()[start : start + 64], torch.device("cpu"))
            ready = (_evenly_bright(batch) - described.mean) / described.std
            for kept, maps in zip(found, stages(ready).values(), strict=True):
                kept.append(adaptive_avg_pool2d(maps, GRID).half().numpy())
    n_patients = rows["patient_id"].nunique()
    return rows.reset_index(drop=True), [
        np.concatenate(kept).reshape(n_patients, -1).astype(np.float32) for kept in found
    ]


def cross_validated(rows: pd.DataFrame, maps: list[Floats], severity: Floats, seed: int) -> Floats:
    """`(n_patients,)` scores, each from the four fifths of the patients without it."""
    options = SplitOptions(split="patient", folds=5, split_seed=seed, calibration_fraction=0)
    code = pd.factorize(rows["patient_id"], sort=True)[0]
    scores = np.full(len(severity), np.nan)
    for fold in split_table(rows, options).folds:
        test = np.unique(code[fold.test])
        train = np.setdiff1d(np.arange(len(severity)), test)
        scores[test] = ridge(maps, severity, train, test)
    return scores


def ridge(maps: list[Floats], severity: Floats, train: Indices, test: Indices) -> Floats:
    """Scores of the test patients: the stages weigh alike, all scaling is learnt from the training patients."""
    own, other = np.zeros((len(train), len(train))), np.zeros((len(test), len(train)))
    for features in maps:
        center = features[train].mean(axis=0)
        learnt, asked = features[train] - center, features[test] - center
        length = float((learnt**2).sum(axis=1).mean()) * len(maps)
        own += learnt @ learnt.T / length
        other += asked @ learnt.T / length
    mean = severity[train].mean()
    return np.asarray(other @ np.linalg.solve(own + PENALTY * np.eye(len(train)), severity[train] - mean) + mean)


def _evenly_bright(batch: torch.Tensor) -> torch.Tensor:
    """Slices `(n, 1, h, w)` of 0 to 1 with the brain of each at the same grey: some are stored darker."""
    bright = [torch.quantile(image[image > 20 / 255], BRIGHT / 100) for image in batch]
    return (batch * AT / torch.stack(bright)[:, None, None, None]).clamp(0, 1)


def _stages_of(network: torch.nn.Module) -> torch.nn.Module:
    """The network, cut open after its stages, on one channel."""
    names = [name for name, _ in network.named_modules()]
    inside = [next(name for name in names if name.endswith(stage)) for stage in STAGES]
    return create_feature_extractor(network, return_nodes=inside)


def _row(ill: npt.NDArray[np.bool_], scores: Floats) -> str:
    """The mean ROC AUC of some divisions of the same patients, and its interval over patients drawn anew."""
    group, strata = np.arange(len(ill)), ill.astype(np.intp)
    value = np.mean([metrics.roc_auc(ill, own) for own in scores])
    draws = np.concatenate(
        [
            np.mean([metrics.roc_auc(ill, own, weights) for own in scores], axis=0)
            for weights in metrics.bootstrap_weights(group, strata, draws=DRAWS, seed=0)
        ]
    )
    low, high = metrics.percentile_interval(draws, confidence=metrics.expanded(0.95, len(ill) - 2))
    return f"{value:.3f} | {low:.3f}-{high:.3f} |"


if __name__ == "__main__":
    main()
