"""Batch normalisation, folded into the convolutions before it: the same scores with fewer passes over the maps.

A trained normalisation is a scale and a shift of each channel, and so may be part of the convolution's weights. The
scores differ by rounding alone, about 1e-7.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from plainfilm.models.heads import Headed

logger = logging.getLogger(__name__)

_ACTIVATED = "timm.layers.norm_act BatchNormAct2d"


def folded(model: nn.Module) -> nn.Module:
    """The model with every batch normalisation folded that alone takes what a plain convolution gives.

    Where the path of the data cannot be traced, or there is nothing to fold, this is the model itself. Else it is a
    copy, of which the layers that are not folded share their weights with the model.

    Args:
        model: In evaluation mode; left as it was.
    """
    pairs = _pairs(model)
    if not pairs:
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared)
    for convolution, normalisation in pairs:
        before, norm = copied.get_submodule(convolution), copied.get_submodule(normalisation)
        assert isinstance(before, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        _put(copied, convolution, fuse_conv_bn_eval(before, norm))
        _put(copied, normalisation, _after(norm))
    return copied


class _Paths(fx.Tracer):
    """Follows a model down to its convolutions and normalisations, whoever made them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _BatchNorm) or super().is_leaf_module(m, module_qualified_name)


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions, each with the normalisation after it."""
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return []
    try:
        return _traced_pairs(model, _Paths().trace(model))
    except Exception as error:  # a model decides on its input, or does what fx cannot follow: anything may come
        logger.debug("the paths through a %s cannot be traced: %s", type(model).__name__, error)
    if type(model) not in (nn.Sequential, Headed):
        return []
    # These do nothing but call their children, so that each may be traced alone.
    parts = ((name, _pairs(child)) for name, child in model.named_children())
    return [(f"{name}.{convolution}", f"{name}.{norm}") for name, pairs in parts for convolution, norm in pairs]


def _traced_pairs(model: nn.Module, graph: fx.Graph) -> list[tuple[str, str]]:
    modules = dict(model.named_modules(remove_duplicate=False))
    names = Counter(id(module) for module in modules.values())
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    found = []
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        pair = str(before.target), str(node.target)
        convolution, norm = modules[pair[0]], modules[pair[1]]
        # A subclass may compute its weights anew in each call.
        foldable = type(convolution) is nn.Conv2d and _is_plain(norm) and not norm.training
        if foldable and all(calls[name] == names[id(modules[name])] == 1 for name in pair):
            found.append(pair)
    return found


def _is_plain(norm: nn.Module) -> bool:
    """Whether it is batch normalisation, with or without timm's activation after it, by the statistics of training."""
    return (type(norm) is nn.BatchNorm2d or _has_activation(norm)) and norm.running_mean is not None


def _has_activation(norm: nn.Module) -> bool:
    kind = type(norm)  # by name: to import timm takes a second
    return issubclass(kind, nn.BatchNorm2d) and f"{kind.__module__} {kind.__name__}" == _ACTIVATED


def _after(norm: nn.Module) -> nn.Module:
    """What is left of a normalisation that was folded."""
    if not _has_activation(norm):
        return nn.Identity()
    return nn.Sequential(norm.get_submodule("drop"), norm.get_submodule("act"))


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
