"""fastai on the same images and network, as its documentation has it; prints images a second, or accuracies by epoch.

python -m benchmarks.rivals.fastai_loop FOLDER --model resnet18 --steps 25
python -m benchmarks.rivals.fastai_loop FOLDER --model resnet18 --until 0.86 --limit 500 --test-list FILES
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

from fastai.vision.all import (
    Callback,
    CancelFitException,
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    Learner,
    PILImageBW,
    Recorder,
    accuracy,
    get_image_files,
    parent_label,
)

from benchmarks.rivals.plain_loop import network
from benchmarks.turns import clock as now

STARTED = time.time()


class Clock(Callback):
    """Notes when each step ends, and stops after some."""

    def __init__(self, steps: int) -> None:
        self.steps, self.ends = steps, []

    def after_batch(self) -> None:
        """One step more."""
        if self.training:
            self.ends.append(now())
            if len(self.ends) == self.steps:
                raise CancelFitException


class Until(Callback):
    """Notes the accuracy after each epoch, and stops at a mark or when the time is up."""

    order = Recorder.order + 1  # after it has noted the epoch's accuracy

    def __init__(self, mark: float, limit: float, started: float) -> None:
        self.mark, self.limit, self.started, self.epochs = mark, limit, started, []

    def after_epoch(self) -> None:
        """One epoch more."""
        found = float(self.learn.recorder.values[-1][-1])
        self.epochs.append((round(time.time() - self.started, 1), found))
        if found >= self.mark or time.time() - self.started > self.limit:
            raise CancelFitException


def main() -> None:
    """Train, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--until", type=float)
    parser.add_argument("--limit", type=float, default=500.0)
    parser.add_argument("--test-list", type=Path, help="paths under FOLDER, one a line, that accuracy is measured on")
    parser.add_argument("--started", type=float, default=STARTED)
    asked = parser.parse_args()
    files = get_image_files(asked.folder)
    held_out = set(asked.test_list.read_text().splitlines()) if asked.test_list else None

    def split(files: list[Path]) -> tuple[list[int], list[int]]:
        if held_out is None:
            return list(range(len(files))), list(range(0, len(files), 10))
        inside = [path.relative_to(asked.folder).as_posix() in held_out for path in files]
        return [i for i, out in enumerate(inside) if not out], [i for i, out in enumerate(inside) if out]

    block = DataBlock(blocks=(ImageBlock(PILImageBW), CategoryBlock), get_y=parent_label, splitter=split)
    loaders = block.dataloaders(files, bs=asked.batch_size, num_workers=2)
    model = network(asked.model, len(loaders.vocab))
    learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat(), metrics=accuracy)
    facts: dict[str, object] = {}
    with learner.no_bar(), learner.no_logging():
        if asked.until is None:
            clock = Clock(asked.steps)
            learner.fit_one_cycle(1 + asked.steps * asked.batch_size // max(1, len(files)), cbs=clock)
            seconds = clock.ends[-1] - clock.ends[asked.warm_up - 1]
            facts["rate"] = asked.batch_size * (len(clock.ends) - asked.warm_up) / seconds
        else:
            until = Until(asked.until, asked.limit, asked.started)
            learner.fit(100, lr=1e-3, cbs=until)
            facts["epochs"] = until.epochs
    facts["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
