"""What a training step takes at least: each operation at the machine's measured matrix rate, or at its bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.turns import clock

SIDES = (1024, 1536, 2048)  # of the matrices that are multiplied
COPIED_BYTES = 256 << 20  # far beyond any cache
REPEATS = 5
# No work of the network's: conversions, copies, fills, and what only looks at memory otherwise.
FREE = ("_to_copy", "copy_", "clone", "zero_", "zeros", "fill_", "empty", "detach", "view", "t.", "transpose", "expand")


@dataclass(frozen=True)
class Limits:
    """Of this machine, measured.

    Attributes:
        rate: FLOPs a second of a matrix product, by type of float.
        bandwidth: Bytes a second, read and written.
    """

    rate: Mapping[torch.dtype, float]
    bandwidth: float


def measured_limits() -> Limits:
    """The best of some tries."""
    rate = {floats: max(_matrix_rate(floats, side) for side in SIDES) for floats in (torch.bfloat16, torch.float32)}
    source = torch.ones(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    least = min(_seconds(lambda: target.copy_(source)) for _ in range(REPEATS))
    return Limits(rate, 2 * COPIED_BYTES / least)


def step_limit(step: Callable[[], None], limits: Limits) -> float:
    """Seconds that one step takes at least, by its operations forward and backward."""
    with _Tally(limits) as tally:
        step()
    return tally.seconds


class _Tally(TorchDispatchMode):
    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.seconds = 0.0
        self._limits = limits

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = str(func).removeprefix("aten.")
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        written = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        if not written or name.startswith(FREE):
            return out
        packet = func._overloadpacket
        flops = flop_registry[packet](*args, **kwargs, out_val=out) if packet in flop_registry else 0
        n_bytes = sum(leaf.numel() * leaf.element_size() for leaf in (*read, *written))
        rate = self._limits.rate.get(written[0].dtype, self._limits.rate[torch.float32])
        self.seconds += max(flops / rate, n_bytes / self._limits.bandwidth)
        return out


def _matrix_rate(floats: torch.dtype, side: int) -> float:
    one, other = torch.randn(side, side).to(floats), torch.randn(side, side).to(floats)
    least = min(_seconds(lambda: one @ other) for _ in range(REPEATS))
    return float(2 * side**3 / least)


def _seconds(work: Callable[[], object]) -> float:
    started = clock()
    work()
    return clock() - started
