"""Is every flipped bit of a model's files found before it predicts?

    python -m benchmarks.bit_flips [--flips 1000] [--seed 0]

Trains a small run, exports it, and carries it away as a folder. Then single bits are flipped at random in the files
of four things: the finished run as `evaluate` opens it, the bundle alone as `predict` loads it, the exported folder,
and the ONNX file alone. Each flip must be refused with a code, and the file put back must load again. The model card of
a run or of a bundle is not counted: its authors write in it, and nothing reads it. That of an exported folder is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from plainfilm import verbs
from plainfilm.bundle import CARD, ONNX, find_bundles, load_bundle, load_reference, read_config
from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.errors import PlainfilmError
from plainfilm.exporting.folder import check_folder, exported_model
from plainfilm.exporting.reading import read_onnx
from plainfilm.runs import open_run


@dataclass
class Target:
    """One thing that is loaded, and the files it consists of."""

    name: str
    files: list[Path]
    load: Callable[[], object]
    codes: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    @property
    def n_bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in self.files)

    def flip(self, place: int, bit: int) -> None:
        """Flip one bit, load, and put it back."""
        for path in self.files:
            if place < path.stat().st_size:
                break
            place -= path.stat().st_size
        _turn(path, place, bit)
        try:
            self.load()
            self.missed.append(f"{path.name}, byte {place}, bit {bit}")
        except PlainfilmError as error:
            self.codes[error.code] += 1
        finally:
            _turn(path, place, bit)


def _turn(path: Path, place: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ (1 << bit)]))


def targets(place: Path) -> list[Target]:
    """A run with everything a bundle may hold, and what is made of it."""
    data = write_phantoms(place / "data", PhantomOptions(patients=60, images_per_patient=2, size=32)).folder
    options = {"image_size": 32, "epochs": 1, "workers": 0, "device": "cpu", "audit": False, "model": "resnet1d"}
    run = verbs.train(data / "manifest.csv", options, output=place / "run").folder
    bundle = run / "bundle"
    verbs.export(run)
    verbs.export(run, folder=place / "carried")
    verbs.export(run, output=place / "alone" / "model.onnx")
    learnt = read_config(bundle).novelty.neighbour_limit is not None
    print(f"bundle: {', '.join(sorted(path.name for path in bundle.iterdir()))}; novelty learnt: {learnt}")

    def load(folder: Path) -> None:
        (found,) = find_bundles(folder)
        loaded = load_bundle(found)
        if loaded.config.novelty.neighbour_limit is not None:
            load_reference(found)

    def carried() -> None:
        check_folder(place / "carried")
        load(place / "carried")
        exported_model(place / "carried")

    def files(folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.is_file())

    return [
        Target("run", [path for path in files(run) if path.name != CARD], lambda: open_run(run)),
        Target("bundle", [path for path in files(bundle) if path.name != CARD], lambda: load(bundle)),
        Target("exported folder", files(place / "carried"), carried),
        Target(f"{ONNX} alone", files(place / "alone"), lambda: read_onnx(place / "alone" / "model.onnx")),
    ]


def main() -> None:
    """Flip, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        found = targets(Path(folder))
        for number in range(asked.flips):
            target = found[number % len(found)]
            # Half over all bytes, half over all files: else the small ones, manifests among them, are hardly hit.
            if number // len(found) % 2:
                path = target.files[int(rng.integers(len(target.files)))]
                before = sum(other.stat().st_size for other in target.files[: target.files.index(path)])
                place = before + int(rng.integers(path.stat().st_size))
            else:
                place = int(rng.integers(target.n_bytes))
            target.flip(place, int(rng.integers(8)))
        began = time.perf_counter()
        for target in found:
            target.load()  # put back, it is sound again
        took = time.perf_counter() - began
    for target in found:
        codes = ", ".join(f"{code} {count}" for code, count in target.codes.most_common())
        print(f"{target.name}: {sum(target.codes.values())} found ({codes}), {len(target.missed)} missed")
        for missed in target.missed:
            print(f"  MISSED {missed}")
    total = sum(sum(target.codes.values()) for target in found)
    print(f"{total} of {asked.flips} flips found; all four loaded soundly in {took:.1f} s")
    sys.exit(0 if total == asked.flips else 1)


if __name__ == "__main__":
    main()
