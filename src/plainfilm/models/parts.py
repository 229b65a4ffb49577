"""A classifier taken apart: what makes its features, its stages for layer-wise learning rates, a frozen backbone."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor, fx, nn

from plainfilm.errors import UsageError
from plainfilm.models.heads import ChannelsFirst, ClassToken, GlobalAverage, Headed, TokensAsMap

_USUAL_SIZE = 224
_QUICK_SIZE = 384  # up to here one image takes less time than the import of torch's compiler, which `meta` needs
_STAGES = 6  # stem, four stages and head: what a residual network has


# --- Features ----------------------------------------------------------------------------------------------


def feature_maps(model: nn.Module, *, image_size: int | None = None) -> nn.Module:
    """What makes the last feature maps of a classifier, without its head.

    Convolutional networks give the maps that they pool; transformers their patch tokens laid out as a map, class
    token and registers left out. The weights are shared with `model`, which itself stays whole.

    Args:
        model: A classifier of timm, torchvision or plainfilm, with or without an adapter or a head of plainfilm's.
        image_size: Height and width of its images; None: the size it was made for.

    Returns:
        A module from images to `(batch, channels, height, width)`. Tokens need square images.

    Raises:
        UsageError: `NO_FEATURE_MAPS`, for a network without maps.
    """
    if _is_adapted(model):
        return _behind_adapter(model, feature_maps(model.get_submodule("backbone"), image_size=image_size))
    features, output = _features(model, image_size)
    return _as_maps(features, output, model)


def pooled_features(model: nn.Module, *, image_size: int | None = None) -> nn.Module:
    """What makes one vector of each image: global averages of the last maps, or a transformer's own pooling.

    Args:
        model: As for `feature_maps`; it stays whole.
        image_size: Likewise.

    Returns:
        A module from images to `(batch, channels)`.

    Raises:
        UsageError: `NO_FEATURES`, for a network that is a classifier and nothing else.
    """
    if _is_adapted(model):
        return _behind_adapter(model, pooled_features(model.get_submodule("backbone"), image_size=image_size))
    features, output = _features(model, image_size)
    if isinstance(output, Tensor) and output.ndim == 2:
        return features
    if isinstance(output, Tensor) and output.ndim == 4:
        return _chain(maps=_as_maps(features, output, model), pool=GlobalAverage())
    if hasattr(model, "forward_head"):
        features = _ForwardHead(_shared_copy(model))
        _without_unused(features, model, image_size)
        return features
    return _chain(features=features, pool=ClassToken())


def first_channels(model: nn.Module) -> int:
    """Channels of the images that a model takes: those of its first convolution, where that one reads the image."""
    usual = _pretrained(model).get("input_size", (1,))[0]
    first: int = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), usual)
    return first if first <= 3 else usual  # some cut the image into blocks of many channels first


class _ForwardFeatures(nn.Module):
    """A model of timm's, or one that follows it, asked for its features instead of its logits."""

    body: Any

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Any:
        return self.body.forward_features(images)


class _ForwardHead(_ForwardFeatures):
    """Likewise, with all of its head but the classifier."""

    def forward(self, images: Tensor) -> Any:
        return self.body.forward_head(super().forward(images), pre_logits=True)


def _features(model: nn.Module, image_size: int | None) -> tuple[nn.Module, Any]:
    """What makes the last features before the head, and what comes out of it, in whatever shape the model has it."""
    if isinstance(model, Headed):
        features = _shared_copy(model.backbone)
    elif hasattr(model, "forward_features"):
        features = _ForwardFeatures(_shared_copy(model))
    else:
        features = _cut(model, image_size)
    return features, _without_unused(features, model, image_size)


class _Tracer(fx.Tracer):
    """Writes down the steps of a network; what chooses by chance stays a module, and so heeds `train` and `eval`."""

    proxy_buffer_attributes = True  # else what is computed from a buffer becomes a constant

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        random = type(m).__module__ == "torchvision.ops.stochastic_depth"
        return random or super().is_leaf_module(m, module_qualified_name)


class _Walk(fx.Interpreter):
    """Goes through the steps of a network and remembers the last that made maps or tokens."""

    last: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        output = super().run_node(n)
        if isinstance(output, Tensor) and output.requires_grad:  # else no weight had a part in it: it is the image
            places = output.shape[2:] if output.ndim == 4 else output.shape[1:2] if output.ndim == 3 else (1,)
            self.last = n if min(places) > 1 else self.last
        return output


def _cut(model: nn.Module, image_size: int | None) -> nn.Module:
    """The model, as torchvision writes them, up to its last maps or tokens before the classifier."""
    body = _shared_copy(model)
    # On images smaller than the model's own, its last maps may be 1x1 and look pooled.
    size = max(image_size or 0, own_size(model))
    twin = _twin(model, size)
    try:
        graph = _Tracer().trace(twin)
    except fx.proxy.TraceError:
        raise _no_features() from None
    # The classifier is what they define last; SqueezeNet's makes maps as well.
    classifier = [name for name, child in model.named_children() if _size(child)][-1]
    end = next(node for node in graph.nodes if node.op == "output" or str(node.target).split(".")[0] == classifier)
    for node in reversed(list(graph.nodes)):
        if node >= end:
            graph.erase_node(node)
    walk = _Walk(fx.GraphModule(twin, graph))
    _run(walk.run, twin, first_channels(model), size)
    if walk.last is None:
        raise _no_features()
    graph.output(walk.last)
    graph.eliminate_dead_code()
    return fx.GraphModule(body, graph)


def _no_features() -> UsageError:
    return UsageError(
        "it is a classifier and nothing else, without features to put a head on. Take head 'own'.", code="NO_FEATURES"
    )


def _as_maps(features: nn.Module, output: Any, model: nn.Module) -> nn.Module:
    layout = _layout(output, model)
    if layout is None:
        raise UsageError(
            "it has no feature maps, or none larger than 1x1. Take head 'linear' or 'own', or another model.",
            code="NO_FEATURE_MAPS",
        )
    return features if isinstance(layout, nn.Identity) else _chain(features=features, layout=layout)


def _layout(output: Any, model: nn.Module) -> nn.Module | None:
    """What turns features into maps; None where nothing can."""
    if isinstance(output, Tensor) and output.ndim == 4:
        # Probed with a square image, so that the two equal sides are height and width.
        return nn.Identity() if output.shape[2] == output.shape[3] else ChannelsFirst()
    if isinstance(output, Tensor) and output.ndim == 3:
        count = output.shape[1]
        prefix = int(getattr(model, "num_prefix_tokens", count - isqrt(count) ** 2))
        side = isqrt(count - prefix)
        return TokensAsMap(prefix) if side > 1 and prefix + side**2 == count else None
    return None


def _is_adapted(model: nn.Module) -> bool:
    """Whether `adapt_to_one_channel` has put a layer before it."""
    return isinstance(model, nn.Sequential) and [name for name, _ in model.named_children()] == ["adapter", "backbone"]


def _behind_adapter(model: nn.Module, features: nn.Module) -> nn.Sequential:
    return _chain(adapter=model.get_submodule("adapter"), backbone=features)


def _chain(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


# --- Without numbers ---------------------------------------------------------------------------------------


def own_size(model: nn.Module) -> int:
    """Height and width of the images that a model was built for, as far as it knows."""
    known = (
        getattr(model, "image_size", None),
        getattr(getattr(model, "patch_embed", None), "img_size", None),
        _pretrained(model).get("input_size"),
    )
    size = next((size for size in known if size), _USUAL_SIZE)
    return int(size if isinstance(size, int) else size[-1])


def _pretrained(model: nn.Module) -> Mapping[str, Any]:
    """What timm's models know of their pretraining."""
    return getattr(model, "pretrained_cfg", None) or {}


def output_shape(features: nn.Module, *, in_channels: int, image_size: int) -> tuple[int, ...]:
    """The shape of what a module makes of one image."""
    output, _ = _dry_run(features, in_channels, image_size)
    return tuple(output.shape)


def _dry_run(module: nn.Module, in_channels: int, image_size: int) -> tuple[Any, set[str]]:
    """Run a twin on one image: what comes out, and the parameters that had a part in it."""
    twin = _twin(module, image_size)
    output = _run(twin, twin, in_channels, image_size)
    used = {id(tensor) for tensor in _ancestors(output)}
    return output, {name for name, parameter in twin.named_parameters(remove_duplicate=False) if id(parameter) in used}


def _twin(module: nn.Module, image_size: int) -> nn.Module:
    """The same module to be run on one image of this size: without numbers where they would take long."""
    own = next((tensor.device.type for tensor in module.state_dict().values()), "meta")
    return _copy(module, _trainable if own == "cpu" and image_size <= _QUICK_SIZE else _stand_in).eval()


def _trainable(tensor: Tensor) -> Tensor:
    """The same numbers as a tensor of its own, since frozen weights leave no trace of their part."""
    return nn.Parameter(tensor.detach(), tensor.is_floating_point()) if isinstance(tensor, nn.Parameter) else tensor


def _run(run: Callable[[Tensor], Any], twin: nn.Module, in_channels: int, image_size: int) -> Any:
    device = next((tensor.device for tensor in twin.state_dict().values()), torch.device("meta"))
    with torch.enable_grad(), device:
        return run(torch.zeros(1, in_channels, image_size, image_size))


def _copy(module: nn.Module, replacement: Callable[[Tensor], Tensor]) -> nn.Module:
    """The same tree of modules over other tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): replacement(tensor) for tensor in tensors})


def _shared_copy(module: nn.Module) -> nn.Module:
    """The same tree of modules over the same tensors."""
    return _copy(module, lambda tensor: tensor)


def _stand_in(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, tensor.is_floating_point()) if isinstance(tensor, nn.Parameter) else empty


def _ancestors(output: Any) -> Iterator[Tensor]:
    """The parameters that an output was computed from, read off autograd's graph."""
    values = output if isinstance(output, list | tuple) else [output]
    waiting = [value.grad_fn for value in values if isinstance(value, Tensor)]
    seen = set()
    while waiting:
        step = waiting.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        waiting.extend(before for before, _ in step.next_functions)
        if hasattr(step, "variable"):
            yield step.variable


def _without_unused(features: nn.Module, model: nn.Module, image_size: int | None) -> Any:
    """Take out the modules whose parameters have no part in the features: the classifier; what comes out."""
    output, used = _dry_run(features, first_channels(model), image_size or own_size(model))
    _drop_unused(features, used)
    return output


def _drop_unused(module: nn.Module, used: set[str], prefix: str = "") -> None:
    for name, child in module.named_children():
        inside = [f"{prefix}{name}.{parameter}" for parameter, _ in child.named_parameters()]
        if inside and used.isdisjoint(inside):
            setattr(module, name, nn.Identity())
        else:
            _drop_unused(child, used, f"{prefix}{name}.")


# --- Training a part -----------------------------------------------------------------------------------------


def layer_groups(model: nn.Module) -> tuple[tuple[nn.Parameter, ...], ...]:
    """The trainable parameters by depth, from head (first) to stem (last), each in one group.

    For learning rates that fall from the head to the stem (Howard and Ruder 2018, arXiv 1801.06146). The groups are
    the model's own parts, in the order in which it defines them: the largest is opened until there are six or more.
    A normalisation joins the layer before it; parameters that lie outside of all parts, such as a transformer's
    position embeddings, go with the stem.
    """
    parts: list[nn.Module] = [model]
    while len(parts) < _STAGES and (opened := _largest_opened(parts)):
        parts = opened
    groups: list[list[nn.Parameter]] = []
    for part in parts:
        parameters = list(part.parameters())
        if groups and all(parameter.ndim < 2 for parameter in parameters):
            groups[-1].extend(parameters)
        else:
            groups.append(parameters)
    inside = {id(parameter) for group in groups for parameter in group}
    groups[:1] = [[*(p for p in model.parameters() if id(p) not in inside), *group] for group in groups[:1]]
    return tuple(reversed(list(_trainable_once(groups))))


def _largest_opened(parts: list[nn.Module]) -> list[nn.Module]:
    """The parts, with the children of the largest that has any in its place; nothing where none has."""
    openable = [part for part in parts if _parts_of(part)]
    if not openable:
        return []
    largest = max(openable, key=_size)
    return [inner for part in parts for inner in (_parts_of(part) if part is largest else [part])]


def _parts_of(module: nn.Module) -> list[nn.Module]:
    return [child for child in module.children() if _size(child)]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _trainable_once(groups: list[list[nn.Parameter]]) -> Iterator[tuple[nn.Parameter, ...]]:
    """The groups without what is not trained, nor what an earlier group shares."""
    seen: set[int] = set()
    for group in groups:
        kept = tuple(parameter for parameter in group if parameter.requires_grad and id(parameter) not in seen)
        seen.update(id(parameter) for parameter in kept)
        if kept:
            yield kept


def freeze_backbone(model: Headed) -> None:
    """Train the head only: the backbone keeps its weights, and the statistics of its normalisations, as they are."""
    trained = tuple(parameter for parameter in model.backbone.parameters() if parameter.requires_grad)
    for parameter in trained:
        parameter.requires_grad_(False)
    model.frozen = (*model.frozen, *trained)
    model.train(model.training)


def unfreeze_backbone(model: Headed) -> None:
    """Undo `freeze_backbone`: train again what was trained before it."""
    for parameter in model.frozen:
        parameter.requires_grad_(True)
    model.frozen = ()
    model.train(model.training)
