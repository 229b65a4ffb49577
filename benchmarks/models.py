"""Is ResNet1d "smaller and faster" than the ResNets? Parameters, FLOPs and latency on the CPU.

    python benchmarks/models.py [--rounds 5] [--threads 2]

Every round times each model once, one after the other, and a ratio compares two times of the same round: a
machine that grows slower meanwhile slows both. Weights are random; they do not change the time.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from plainfilm.models import ModelInfo, create_model, describe_model

CLASSES = 4  # as the Alzheimer MRI set
MODELS = (
    ("resnet1d", 128),  # first: the others are compared with it
    ("timm:resnet18", 128),
    ("timm:resnet18", 224),
    ("resnet50-1d", 128),
    ("resnet50-1d", 224),
)


@dataclass(frozen=True)
class Candidate:
    """A model at one image size, ready to run."""

    info: ModelInfo
    model: nn.Module

    @classmethod
    def build(cls, name: str, image_size: int) -> Candidate:
        """With random weights."""
        info = describe_model(name, num_classes=CLASSES, image_size=image_size)
        return cls(info, create_model(name, num_classes=CLASSES).eval())

    def seconds(self, batch_size: int) -> float:
        """One forward pass of a whole batch."""
        images = torch.zeros(batch_size, 1, self.info.input_size, self.info.input_size)
        start = time.perf_counter()
        self.model(images)
        return time.perf_counter() - start


def measure(candidates: Sequence[Candidate], *, batch_size: int, rounds: int) -> list[list[float]]:
    """Seconds for each round and candidate, after one round to warm up."""
    times = [[candidate.seconds(batch_size) for candidate in candidates] for _ in range(rounds + 1)]
    return times[1:]


def cells(times: Sequence[Sequence[float]], column: int, *, batch_size: int) -> tuple[str, str]:
    """Median milliseconds for one image, and the median over rounds of the ratio to the first candidate."""
    milliseconds = median(row[column] for row in times) * 1000 / batch_size
    ratio = median(row[column] / row[0] for row in times)
    return f"{milliseconds:.1f}", f"{ratio:.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds_of = {1: options.rounds * 7, 32: options.rounds}  # single images are quick, and jitter more

    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {options.threads} thread(s)")
    print(f"rounds for each batch size: {rounds_of}; load average before: {os.getloadavg()[0]:.1f}\n")
    candidates = [Candidate.build(name, size) for name, size in MODELS]
    first = candidates[0].info
    assert first.parameters is not None
    assert first.flops is not None
    with torch.inference_mode():
        times = {n: measure(candidates, batch_size=n, rounds=rounds) for n, rounds in rounds_of.items()}

    timed = " | ".join(f"ms an image, batch {n} | times" for n in rounds_of)
    print(f"| model | image | parameters, million | times | GFLOPs | times | {timed} |")
    print("|---|---" + "|---:" * (4 + 2 * len(rounds_of)) + "|")
    for column, candidate in enumerate(candidates):
        info = candidate.info
        assert info.parameters is not None
        assert info.flops is not None
        row = [
            info.name,
            f"{info.input_size}x{info.input_size}",
            f"{info.parameters / 1e6:.2f}",
            f"{info.parameters / first.parameters:.1f}",
            f"{info.flops / 1e9:.2f}",
            f"{info.flops / first.flops:.1f}",
        ]
        for batch_size, rounds in times.items():
            row += cells(rounds, column, batch_size=batch_size)
        print(f"| {' | '.join(row)} |")
    print(f"\nload average after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
