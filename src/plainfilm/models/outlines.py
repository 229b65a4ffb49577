"""Networks with shapes but no numbers, and what they cost, without torch's compiler: its import takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils import flop_counter

_DRAWN = {Tensor.normal_, Tensor.uniform_}


class NothingDrawn(TorchFunctionMode):
    """Leaves tensors as they are where a constructor would draw their first numbers.

    For the device `meta`, whose tensors have none: to draw there changes nothing, and the first draw imports torch's
    compiler.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _DRAWN or (getattr(func, "__module__", None) == init.__name__):
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def count_flops(model: nn.Module, images: Tensor) -> int:
    """FLOPs of these images forward; a multiplication and an addition count as 2."""
    mode = getattr(flop_counter, "_FlopCounterMode", None)
    dispatch = getattr(getattr(mode, "__torch_dispatch__", None), "__wrapped__", None)
    if dispatch is not None:
        # Its first use would import the compiler to be hidden from it, and nothing is compiled here.
        dispatch.__dict__.setdefault("__dynamo_disable", dispatch)
    # Attention step by step: its fused kernels of the processor are not counted.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), flop_counter.FlopCounterMode(display=False) as counter:
        model(images)
    return int(counter.get_total_flops())
