"""In which precision and memory layout a training computes: decided by the device, questioned by a short probe.

What the device says is decided the same way every time, so that one seed gives one result. A probe of a few steps may
overrule it, but only by a margin that chance does not reach, and only where that saves time worth having. What was
decided is written into the facts of the run; a resumed training takes it from there.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from plainfilm.errors import UsageError
from plainfilm.training.batches import Examples
from plainfilm.training.device import Precision
from plainfilm.training.options import TrainingOptions
from plainfilm.training.strides import layer_past_its_map

MemoryFormat = Literal["channels-last", "contiguous"]

MARGIN = 1.5  # how many times faster another manner must be, by the fastest step of each
ROUNDS = 4
PROBED_IMAGES = 16  # of each step: enough for the usual ratio, few enough for large models
SHORTEST_TRAINING = 10_000  # images over all epochs; below that a probe costs more than it can save
SHORTEST_STEP = 0.02  # seconds; of faster steps the clock says little, and they need no saving

_FLOATS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "32-true": torch.float32}
_LAYOUTS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
_settled: dict[tuple[object, ...], dict[str, Any]] = {}  # a training of several folds is probed once


@dataclass(frozen=True)
class Manner:
    """How a step is computed."""

    precision: Precision
    memory_format: MemoryFormat

    @property
    def layout(self) -> torch.memory_format:
        """As torch names it."""
        return _LAYOUTS[self.memory_format]

    def __str__(self) -> str:
        return f"{self.precision}, {self.memory_format}"


def settle_manner(
    model: nn.Module, train: Examples, *, device: str, precision: Precision, options: TrainingOptions
) -> dict[str, Any]:
    """Facts of the training: `precision`, `memory_format` and, where a probe was made, the milliseconds of its steps.

    The model and the random state stay as they were.

    Args:
        model: What is trained, not yet on its device.
        train: A few of these are shown to a copy of it.
        device: Where it will be trained.
        precision: What the device computes in.
        options: A precision or layout named there is not questioned.

    Raises:
        UsageError: `DEV_PRECISION` for a named precision in which this model cannot be trained soundly here.
    """
    precision = _sound_precision(model, train, device=device, precision=precision, options=options)
    layout: MemoryFormat = "channels-last" if options.memory_format == "auto" else options.memory_format
    usual = Manner(precision, layout)
    n_images = min(PROBED_IMAGES, options.batch_size, len(train.labels))
    if options.epochs * len(train.labels) < SHORTEST_TRAINING or n_images < 2:  # batch norm needs two
        return _facts(usual)
    make = (repr(model), train.in_words, device, usual, n_images, options.precision, options.memory_format)
    if make not in _settled:
        found = usual
        seconds: dict[Manner, float] = {}
        with torch.random.fork_rng(devices=[]):
            probe = _Probe(model, train, device, n_images)
            if options.precision == "auto" and precision != "32-true":
                found = _faster(found, Manner("32-true", layout), probe.seconds, seconds)
            if options.memory_format == "auto":
                found = _faster(found, Manner(found.precision, "contiguous"), probe.seconds, seconds)
        _settled[make] = _facts(found) | {
            "probed": {str(manner): round(1000 * least, 2) for manner, least in seconds.items()}
        }
    return dict(_settled[make])


def _sound_precision(
    model: nn.Module, train: Examples, *, device: str, precision: Precision, options: TrainingOptions
) -> Precision:
    """The precision, or 32 bits where another would leave part of a gradient unset."""
    if device != "cpu" or precision == "32-true":
        return precision
    layer = layer_past_its_map(model, train.load(np.array([0]), torch.device("cpu")))
    if layer is None:
        return precision
    if options.precision != "auto":
        raise UsageError(
            f"At this size '{layer}' steps further than its map is wide; torch then leaves part of its gradient unset "
            f"in '{precision}' on a CPU. Use larger images (--image-size), or --precision 32-true.",
            code="DEV_PRECISION",
        )
    return "32-true"


def _facts(manner: Manner) -> dict[str, Any]:
    return {"precision": manner.precision, "memory_format": manner.memory_format}


def _faster(usual: Manner, other: Manner, seconds_of: Callable[[Manner], float], least: dict[Manner, float]) -> Manner:
    """`other` if it is faster beyond doubt; what each took at least is noted in `least`."""
    seconds_of(usual)  # the first step of a kind prepares kernels
    least[usual] = seconds_of(usual)
    if least[usual] < SHORTEST_STEP:
        return usual
    seconds_of(other)
    for _ in range(ROUNDS):  # turn and turn about: whoever else uses the machine slows both
        one, two = seconds_of(usual), seconds_of(other)
        least[usual] = min(least[usual], one)
        least[other] = min(least.get(other, two), two)
        if least[usual] < least[other]:
            return usual  # as nearly always: nothing more to ask
    return other if least[usual] > MARGIN * least[other] else usual


class _Probe:
    """Steps of a copy of a model that change nothing outside it."""

    def __init__(self, model: nn.Module, train: Examples, device: str, n_images: int) -> None:
        self._device = torch.device(device)
        self._model = copy.deepcopy(model).to(self._device).train()
        indices = torch.arange(n_images).numpy()
        self._batch = train.load(indices, self._device)
        self._target = torch.from_numpy(train.labels[indices]).to(self._device)

    def seconds(self, manner: Manner) -> float:
        """Of one step, forward and backward."""
        batch = self._batch
        if batch.ndim == 4:
            self._model.to(memory_format=manner.layout)
            batch = batch.contiguous(memory_format=manner.layout)
        self._model.zero_grad()
        started = self._now()
        floats = _FLOATS[manner.precision]
        with torch.autocast(self._device.type, floats, enabled=floats != torch.float32):
            logits = self._model(batch)
        nn.functional.cross_entropy(logits.float(), self._target).backward()  # type: ignore[no-untyped-call]
        return self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
