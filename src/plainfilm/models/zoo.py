"""Models by name: build one, list them, say what each costs and what its weights may be used for.

A name is one of plainfilm's own (`resnet1d`, `inceptionv3-top`, ...), or `timm:NAME`, or `torchvision:NAME`. Whatever
the name, the model takes one channel, `(batch, 1, height, width)`, and returns logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import get_args

import torch
from torch import Tensor, nn

from plainfilm.errors import UsageError, unknown_name
from plainfilm.models.adapters import Adapter, adapt_to_one_channel
from plainfilm.models.families import OWN, Architecture, all_names, find_architecture
from plainfilm.models.first_weights import published_weights, read_first_weights
from plainfilm.models.heads import SMALLEST_MAP, ConvTop, Head, Headed, LinearHead
from plainfilm.models.options import PRETRAINED
from plainfilm.models.outlines import NothingDrawn, count_flops
from plainfilm.models.parts import feature_maps, pooled_features
from plainfilm.models.patterns import Patterns
from plainfilm.models.weights import load_weights

_tried: set[tuple[object, ...]] = set()  # makes and sizes of models that one image has been through
_costs: dict[tuple[object, ...], tuple[int, int]] = {}  # parameters and FLOPs by make and size
_patterns = Patterns(8)  # a training of several folds builds the same model twice for each


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model costs, and what its weights may be used for.

    Attributes:
        name: What `create_model` takes.
        parameters: Trained numbers, adapter and head included; None where not measured.
        flops: Of one image forward, counting a multiply-add as 2; convolutions, matrix products and
            attention only, as `torch.utils.flop_counter` does. None where not measured.
        input_size: Height and width of the images it was made for, or was asked about; `flops` is for it.
        mean: To subtract from images in [0, 1]: the average over the channels of the pretraining.
        std: To divide by, likewise.
        weights: What `weights="pretrained"` reads inside plainfilm or fetches from the hub, `HUB_ID/FILE`, or
            `"none"`; the file's name, where one was asked about.
        licence: Of those weights; of the code where there are none.
        source: Where the model comes from: library, paper.
        summary: One sentence.
    """

    name: str
    parameters: int | None
    flops: int | None
    input_size: int
    mean: float
    std: float
    weights: str
    licence: str
    source: str
    summary: str


def create_model(
    name: str,
    *,
    num_classes: int,
    adapter: Adapter = "conv1x1",
    head: Head = "own",
    weights: str | Path | None = None,
    image_size: int | None = None,
    try_out: bool = True,
) -> nn.Module:
    """Build a classifier of one-channel images by name; see `list_models`.

    Args:
        name: One of plainfilm's own, as `resnet1d`; `timm:NAME`, `timm:NAME.TAG` or `torchvision:NAME`.
        num_classes: Logits to return; at least 1.
        adapter: How one channel becomes the three of the backbone; models made for one channel, as
            `resnet1d`, have none and ignore it.
        head: What makes logits of the features. `own`: the classifier that the model comes with; of
            `inceptionv3-top`, the convolutional head. `linear`: one linear layer on pooled features. `conv`: a
            small convolutional network on the last feature maps, see `ConvTop`. For the last two the model is a
            `Headed`, and the weights of its own classifier are not kept.
        weights: None: random. `"pretrained"`: those inside plainfilm, or else what the hub has for this name, from
            the local cache where they lie there. A path: a `.safetensors` file with the
            backbone's names in timm or torchvision.
            A classifier head made for another number of classes is left random, and logged.
        image_size: Height and width of the images, to shape models that need to know, and to refuse a
            model that cannot take them. None: the model's own size.
        try_out: Show it one empty image of that size, and refuse a model that cannot take it.

    Raises:
        UsageError: If the name is unknown, has no weights to begin from (`NO_WEIGHTS`), cannot take `image_size`,
            or has no features that `head` could stand on (`NO_FEATURES`, `NO_FEATURE_MAPS`, `HEAD_SIZE`).
        BundleError: If the weights file is unsafe, damaged or made for another model.
        ResourceError: `RES_DOWNLOAD`, if the hub's weights are neither in the cache nor to be had.
    """
    if num_classes < 1:
        raise UsageError(f"num_classes must be 1 or more, got {num_classes}.")
    architecture = find_architecture(name)
    head = _head_for(architecture, head)
    state = None if weights is None else read_first_weights(architecture, weights)
    with _size_refused(architecture, image_size):
        backbone = architecture.build(num_classes=num_classes, image_size=image_size)
    if state is not None:
        classifier = _classifier_names(architecture, backbone, num_classes=num_classes, image_size=image_size)
        if head != "own":
            # It will be dropped: that it does not fit, and starts at random, is nothing to tell.
            state |= {name: tensor for name, tensor in backbone.state_dict().items() if name in classifier}
        load_weights(backbone, state, classifier, where=f"{weights} for {name}", extra_allowed=weights == PRETRAINED)
    with _size_refused(architecture, image_size):
        model = _assembled(
            backbone, architecture, adapter=adapter, head=head, num_classes=num_classes, image_size=image_size
        )
    make = (architecture, num_classes, adapter, head, image_size)
    if image_size is not None and try_out and make not in _tried:
        with _size_refused(architecture, image_size), torch.no_grad():
            model.eval()(torch.zeros(1, 1, image_size, image_size))
        _tried.add(make)
    return model.train()


def outline_model(
    name: str, *, num_classes: int, adapter: Adapter = "conv1x1", head: Head = "own", image_size: int
) -> dict[str, Tensor]:
    """Names, shapes and types of a model's tensors, without their numbers; takes next to no memory.

    Raises:
        UsageError: As `create_model`.
    """
    architecture = find_architecture(name)
    head = _head_for(architecture, head)
    with _size_refused(architecture, image_size):
        backbone = _build_on_meta(architecture, num_classes=num_classes, image_size=image_size)
        with torch.random.fork_rng(devices=[]), torch.device("meta"), NothingDrawn(), torch.no_grad():
            model = _assembled(
                backbone, architecture, adapter=adapter, head=head, num_classes=num_classes, image_size=image_size
            ).eval()
            if (architecture, num_classes, adapter, head, image_size) not in _tried:
                model(torch.empty(1, 1, image_size, image_size))
    outline: dict[str, Tensor] = model.state_dict()
    return outline


def describe_model(
    name: str,
    *,
    num_classes: int = 2,
    adapter: Adapter = "conv1x1",
    head: Head = "own",
    weights: str | Path | None = None,
    image_size: int | None = None,
    measure: bool = True,
    built: nn.Module | None = None,
) -> ModelInfo:
    """What one model costs and what its weights may be used for; reads no weights.

    Args:
        name: As for `create_model`; so are the others.
        num_classes: The head counts among the parameters.
        adapter: So does the adapter.
        head: As for `create_model`.
        weights: Where a file is named, `weights` and `licence` of the answer are about that file.
        image_size: None: the model's own size.
        measure: False leaves `parameters` and `flops` None and takes no time; else about a second.
        built: This model, where it is at hand: it is measured as it stands, in the time of one image.

    Raises:
        UsageError: If the name is unknown, has no weights and is asked for them (`NO_WEIGHTS`), or cannot take
            `image_size` or `head`.
    """
    architecture = find_architecture(name)
    info = replace(_info(architecture), input_size=image_size or architecture.input_size)
    if weights == PRETRAINED:
        published_weights(architecture)
    elif weights is not None:
        info = replace(info, weights=Path(str(weights)).name, licence="not known: a file of the user's")
    if not measure:
        return info
    head = _head_for(architecture, head)
    make = (architecture, num_classes, adapter, head, info.input_size)
    if make not in _costs:
        _costs[make] = (
            _cost(built, info.input_size)
            if built is not None
            else _measured(architecture, num_classes=num_classes, adapter=adapter, head=head, image_size=image_size)
        )
    parameters, flops = _costs[make]
    return replace(info, parameters=parameters, flops=flops)


def list_models(pattern: str | None = None, *, measure_up_to: int = 20) -> list[ModelInfo]:
    """The models that `create_model` can build.

    Args:
        pattern: None: plainfilm's own. Else a glob over all names, as `timm:resnet18*`; with a dot in it,
            over the names with their weights' tag too, as `timm:resnet50.*`.
        measure_up_to: Where more models match, `parameters` and `flops` are left None, since measuring
            takes about a second for each.
    """
    names = list(OWN) if pattern is None else _matching(pattern)
    return [describe_model(name, measure=len(names) <= measure_up_to) for name in names]


def _matching(pattern: str) -> list[str]:
    tagged = "." in pattern
    return [name for name in all_names() if fnmatchcase(name, pattern) and (tagged or "." not in name)]


def _info(architecture: Architecture) -> ModelInfo:
    return ModelInfo(
        name=architecture.name,
        parameters=None,
        flops=None,
        input_size=architecture.input_size,
        mean=fmean(architecture.mean),
        std=fmean(architecture.std),
        weights=str(architecture.published or "none"),
        licence=architecture.licence,
        source=architecture.source,
        summary=architecture.summary,
    )


def _classifier_names(
    architecture: Architecture, backbone: nn.Module, *, num_classes: int, image_size: int | None
) -> set[str]:
    """The tensors whose shape follows the number of classes: the classifier, in any library."""
    one_more = _shapes(architecture, num_classes + 1, image_size)
    return {name for name, tensor in backbone.state_dict().items() if tensor.shape != one_more[name]}


@lru_cache(maxsize=8)  # every fold asks the same
def _shapes(architecture: Architecture, num_classes: int, image_size: int | None) -> Mapping[str, torch.Size]:
    model = _build_on_meta(architecture, num_classes=num_classes, image_size=image_size)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def classifier_names(name: str, *, num_classes: int, image_size: int | None = None) -> set[str]:
    """The tensors of a model that are its classifier, whose shape follows the number of classes."""
    architecture = find_architecture(name)
    backbone = _build_on_meta(architecture, num_classes=num_classes, image_size=image_size)
    return _classifier_names(architecture, backbone, num_classes=num_classes, image_size=image_size)


def _build_on_meta(architecture: Architecture, *, num_classes: int, image_size: int | None) -> nn.Module:
    """The backbone with shapes but no numbers; the random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"), NothingDrawn():
                return architecture.build(num_classes=num_classes, image_size=image_size)
        except NotImplementedError:
            # Some constructors compute with tensors (torchvision's RegNet) and need real ones.
            return architecture.build(num_classes=num_classes, image_size=image_size).to("meta")


def _adapted(backbone: nn.Module, architecture: Architecture, adapter: Adapter) -> nn.Module:
    """The backbone as one that takes one channel."""
    if len(architecture.mean) == 1:
        return backbone
    return adapt_to_one_channel(backbone, adapter, mean=architecture.mean, std=architecture.std)


def _head_for(architecture: Architecture, head: Head) -> Head:
    """The head that is meant: `own` stands for another with some models."""
    if head not in get_args(Head):
        raise unknown_name("head", head, get_args(Head))
    return architecture.own_head if head == "own" else head


def _assembled(
    backbone: nn.Module,
    architecture: Architecture,
    *,
    adapter: Adapter,
    head: Head,
    num_classes: int,
    image_size: int | None,
) -> nn.Module:
    """The whole model: the backbone with its own classifier, or what it has for features under a head."""
    if head == "own":
        return _adapted(backbone, architecture, adapter)
    size = image_size or architecture.input_size
    try:
        features, (_, channels, *side) = _patterns.take_apart(
            backbone,
            (architecture, num_classes, image_size),
            feature_maps if head == "conv" else pooled_features,
            in_channels=len(architecture.mean),
            image_size=size,
        )
    except UsageError as error:
        raise error.located(architecture.name) from None
    if head == "linear":
        return Headed(_adapted(features, architecture, adapter), LinearHead(channels, num_classes))
    if min(side) < SMALLEST_MAP:
        enough = SMALLEST_MAP * ceil(size / min(side))
        raise UsageError(
            f"{architecture.name} makes feature maps of {side[0]}x{side[1]} from images of {size}x{size}; head 'conv' "
            f"needs {SMALLEST_MAP}x{SMALLEST_MAP} or more. Take images of about {enough}x{enough} or more "
            f"(--image-size {enough}), or head 'linear'.",
            code="HEAD_SIZE",
        )
    return Headed(_adapted(features, architecture, adapter), ConvTop(channels, num_classes))


def _measured(
    architecture: Architecture, *, num_classes: int, adapter: Adapter, head: Head, image_size: int | None
) -> tuple[int, int]:
    """Parameters of the whole model, and the FLOPs of one image through it."""
    size = image_size or architecture.input_size
    with _size_refused(architecture, image_size):
        backbone = _build_on_meta(architecture, num_classes=num_classes, image_size=image_size)
        with torch.random.fork_rng(devices=[]), torch.device("meta"), NothingDrawn():
            model = _assembled(
                backbone, architecture, adapter=adapter, head=head, num_classes=num_classes, image_size=image_size
            ).eval()
            return _cost(model, size)


def _cost(model: nn.Module, image_size: int) -> tuple[int, int]:
    """Parameters, and the FLOPs of one image; the model stays as it was."""
    parameters, was_training = list(model.parameters()), model.training
    image = torch.zeros(1, 1, image_size, image_size, device=parameters[0].device)
    flops = count_flops(model.eval(), image)  # batch norm would learn from an empty image, or refuse it
    model.train(was_training)
    return sum(parameter.numel() for parameter in parameters), flops


@contextmanager
def _size_refused(architecture: Architecture, image_size: int | None) -> Iterator[None]:
    """Turn what the libraries raise for a size their layers cannot divide, or shrink to nothing, into words."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        if image_size is None or isinstance(error, NotImplementedError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"{architecture.name} cannot take images of {image_size}x{image_size}: {reason} "
            f"It was made for {architecture.input_size}x{architecture.input_size}.",
            code="IMAGE_SIZE",
        ) from error
