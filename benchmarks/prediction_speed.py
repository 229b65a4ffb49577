"""Images a second in prediction, files included, beside a loop that takes one image at a time.

    python -m benchmarks.prediction_speed ../shared/data/alzheimer-mri

Both have the same network with the same random weights, and read the same files. The loop is what one writes first:
open with Pillow, make a tensor, ask the network. Imports and the loading of the model are not counted; the start of the
decoding processes is. The limit is decoding alone, with one process for each core. Where the processor has bfloat16,
plainfilm is also asked for that.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.service_traffic import write_model
from benchmarks.turns import clock, in_turns, machine, ratio, spread, table
from plainfilm.bundle import load_bundle
from plainfilm.data.scanning import scan_as_prepared
from plainfilm.data.sources import list_images
from plainfilm.data.workers import decode_images
from plainfilm.training.device import cpu_computes_bfloat16
from plainfilm.verbs.predicting import Predictor

MODELS = ("resnet1d", "resnet18")
BFLOAT16 = "plainfilm --precision bf16-mixed"
WAYS = ("plainfilm", BFLOAT16, "one at a time", "decoding alone")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, help="so many of them, drawn at random; by default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(_timed(asked.one, asked.folder, asked.bundle, asked.images)))
        return
    n_images = len(list_images(asked.folder).refs)
    n_images = min(n_images, asked.images or n_images)
    print(f"{machine()}, {n_images} files\n")
    ways = [way for way in WAYS if way != BFLOAT16 or cpu_computes_bfloat16()]
    rows = []
    for model in asked.models:
        with tempfile.TemporaryDirectory() as place:
            bundle = Path(place) / "bundle"
            write_model(bundle, 128, model)
            here = [sys.executable, "-m", "benchmarks.prediction_speed", str(asked.folder.resolve())]
            here += ["--images", str(n_images), "--bundle", str(bundle), "--one"]
            found = in_turns({way: [*here, way] for way in ways}, asked.rounds)
        for way in ways:
            rates = [one["rate"] for one in found[way]]
            memory = max(one["mib"] for one in found[way])
            alone = [one["rate"] for one in found["one at a time"]]
            rows.append([model, way, spread(rates), ratio(rates, alone), f"{memory:,.0f}"])
    table(["model", "way", "images/s", "times as fast as one at a time", "MiB at most"], rows)


def _timed(way: str, folder: Path, place: Path, n_images: int) -> dict[str, float]:
    listing = list_images(folder)
    chosen = np.sort(np.random.default_rng(0).permutation(len(listing.refs))[:n_images])
    refs = tuple(listing.refs[index] for index in chosen)
    listing = type(listing)(listing.rows.iloc[chosen].reset_index(drop=True), refs)
    bundle = load_bundle(place)
    predictor = Predictor((bundle,), None, "cpu", "bf16-mixed" if way == BFLOAT16 else "32-true")
    started = clock()
    if way == "decoding alone":
        assert all(decoded.code is None for decoded in decode_images(refs, size=(128, 128)))
    elif way in ("plainfilm", BFLOAT16):
        predictor.predict(*scan_as_prepared(listing, bundle.config.preprocessing))
    else:
        with torch.inference_mode():
            for ref in refs:
                with Image.open(ref.path) as image:
                    pixels = np.asarray(image.convert("L"), dtype=np.float32) / 255
                batch = bundle.config.preprocessing.apply(torch.from_numpy(pixels)[None, None])
                bundle.model(batch).softmax(dim=1).numpy()
    seconds = clock() - started
    return {"rate": n_images / seconds, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    main()
