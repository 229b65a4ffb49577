"""Names, resolved: plainfilm's own models, timm's and torchvision's, and what is known of each before it is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

from torch import nn

from plainfilm.errors import UsageError, unknown_name
from plainfilm.models.classic import LeNet5, MultiLayerPerceptron, Perceptron
from plainfilm.models.heads import ConvTop, Head
from plainfilm.models.imports import import_torchvision
from plainfilm.models.resnet1d import ResNet1d
from plainfilm.models.shipped import ShippedFile
from plainfilm.models.weights import HubFile

_FREE_LICENCES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0"}
_NON_COMMERCIAL = ("cc-by-nc", "noncommercial", "apple-amlr", "seer-license")  # parts of licence names


class _Build(Protocol):
    def __call__(self, *, num_classes: int, image_size: int | None) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A name, resolved. `mean` and `std` have one value for each channel that `build`'s module takes.

    `own_head` is what head `own` means: the classifier of `build`'s module, or one of plainfilm's in its place.
    """

    name: str
    build: _Build
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hub_file: HubFile | None
    no_weights: Callable[[], str]  # what to do where there is nothing to fetch
    licence: str
    source: str
    summary: str
    own_head: Head = "own"
    shipped: ShippedFile | None = None  # weights inside the package, instead of the hub's

    @property
    def published(self) -> ShippedFile | HubFile | None:
        """The weights that are meant by `pretrained`; None where there are none."""
        return self.shipped or self.hub_file


@dataclass(frozen=True)
class _Family:
    """The models of another library, under `PREFIX:NAME`."""

    names: Callable[[], list[str]]  # without the prefix
    find: Callable[[str], Architecture]  # likewise; the name is known


@cache
def find_architecture(name: str) -> Architecture:
    """What is known of a model of this name; builds nothing.

    Raises:
        UsageError: `UNKNOWN_MODEL`, with the nearest known name.
    """
    if name in OWN:
        return OWN[name]()
    prefix, colon, rest = name.partition(":")
    if colon and prefix in _FAMILIES:
        if rest not in _FAMILIES[prefix].names():
            alike = [known for known in _names(prefix) if ("." in known) == ("." in rest)]
            raise unknown_name("model", name, alike)
        return _FAMILIES[prefix].find(rest)
    for family in _FAMILIES:
        if f"{family}:{name}" in _names(family):
            raise UsageError(f"No model named '{name}'. Did you mean '{family}:{name}'?", code="UNKNOWN_MODEL")
    raise unknown_name("model", name, [*OWN, *(f"{family}:NAME" for family in _FAMILIES)])


def all_names() -> list[str]:
    """Every name there is, those with a weights' tag too: `resnet1d`, `timm:resnet18`, `timm:resnet18.tv_in1k`."""
    return [*OWN, *(name for family in _FAMILIES for name in _names(family))]


def _names(family: str) -> list[str]:
    return [f"{family}:{name}" for name in _FAMILIES[family].names()]


# --- plainfilm's own names -----------------------------------------------------------------------------


def _from_scratch(
    name: str, network: Callable[[int, int], nn.Module], *, input_size: int, source: str, summary: str
) -> Architecture:
    """A network of plainfilm's for one channel; `network` takes the number of classes and the image size."""

    def build(*, num_classes: int, image_size: int | None) -> nn.Module:
        return network(num_classes, image_size or input_size)

    return Architecture(
        name=name,
        build=build,
        input_size=input_size,
        mean=(0.5,),  # maps [0, 1] to [-1, 1]; the papers name no normalisation
        std=(0.5,),
        hub_file=None,
        no_weights=lambda: "It is trained from scratch: leave weights out, or name a .safetensors file.",
        licence="Apache-2.0 (code; there are no published weights)",
        source=f"plainfilm, after {source}",
        summary=summary,
    )


def _resnet1d() -> Architecture:
    network = _from_scratch(
        "resnet1d",
        lambda num_classes, image_size: ResNet1d(num_classes),
        input_size=128,
        source="Ilyassov (2024), section 3.2, and He et al. (2015), arXiv 1512.03385",
        summary="Residual network for one channel at 128x128, from scratch or from generated images.",
    )
    return replace(network, shipped=ShippedFile("resnet1d"), licence="Apache-2.0 (code and weights)")


def _resnet1d_patch() -> Architecture:
    return _from_scratch(
        "resnet1d-patch",
        lambda num_classes, image_size: ResNet1d(num_classes, stem="patch4"),
        input_size=128,
        source="Ilyassov (2024), section 3.2, He et al. (2015), arXiv 1512.03385, and Dosovitskiy et al. (2020), arXiv "
        "2010.11929, for the patches",
        summary="As resnet1d, with a first layer over separate patches of 4x4: quicker to train on a CPU.",
    )


def _resnet50_1d() -> Architecture:
    # The paper says "pre-trained on ImageNet" and no more; this is torchvision's first training.
    return replace(
        _timm("resnet50.tv_in1k"),
        name="resnet50-1d",
        source="timm, after Ilyassov (2024), section 3.3, and He et al. (2015), arXiv 1512.03385",
        summary="ImageNet's ResNet-50 behind a 1x1 convolution from 1 to 3 channels.",
    )


def _inceptionv3_top() -> Architecture:
    # Keras' ImageNet weights come from the TF-Slim checkpoint of 2016, and so do these; timm's module adds scales to
    # the normalisations, which are 1 in that checkpoint. It was trained on [-1, 1]; Keel fed it [0, 1].
    return replace(
        _timm("inception_v3.tf_in1k"),
        name="inceptionv3-top",
        source="timm, after Keel, section 4 and appendix, and Szegedy et al. (2015), arXiv 1512.00567",
        summary="ImageNet's Inception v3 under Keel's small convolutional network, at 299x299; pixels in [-1, 1].",
        own_head="conv",
    )


def _conv_top() -> Architecture:
    return _from_scratch(
        "conv-top",
        lambda num_classes, image_size: ConvTop(1, num_classes),
        input_size=299,
        source="Keel, section 5",
        summary="Keel's small convolutional network alone, on the image itself.",
    )


def _perceptron() -> Architecture:
    return _from_scratch(
        "perceptron",
        lambda num_classes, image_size: Perceptron(num_classes, image_size=image_size),
        input_size=128,
        source="Rosenblatt (1958), doi 10.1037/h0042519",
        summary="Threshold units on the pixels, trained by the perceptron rule; decides without a degree.",
    )


def _mlp() -> Architecture:
    return _from_scratch(
        "mlp",
        lambda num_classes, image_size: MultiLayerPerceptron(num_classes, image_size=image_size),
        input_size=128,
        source="Keel, section 4.1.5, and Rumelhart et al. (1986), doi 10.1038/323533a0",
        summary="Two hidden layers of 256 on the pixels.",
    )


def _lenet5() -> Architecture:
    return _from_scratch(
        "lenet5",
        lambda num_classes, image_size: LeNet5(num_classes, image_size=image_size),
        input_size=32,
        source="LeCun et al. (1998), doi 10.1109/5.726791",
        summary="LeNet-5: two convolutions, averages and three linear layers, with tanh, at 32x32.",
    )


def _renamed(name: str, full_name: str, paper: str, summary: str) -> Callable[[], Architecture]:
    """A short name of a model of another library."""

    def find() -> Architecture:
        family, _, rest = full_name.partition(":")
        return replace(_FAMILIES[family].find(rest), name=name, source=f"{family} ({rest}); {paper}", summary=summary)

    return find


# --- timm ------------------------------------------------------------------------------------------------


def _timm_names() -> list[str]:
    """Architectures, and architectures with a tag."""
    import timm

    return [*timm.list_models(), *timm.list_pretrained()]


def _timm(name: str) -> Architecture:
    import timm

    config = timm.models.get_pretrained_cfg(name) or timm.models.PretrainedCfg()

    def build(*, num_classes: int, image_size: int | None) -> nn.Module:
        # Only models that fix their size take the argument.
        size: dict[str, Any] = {"img_size": image_size} if image_size and config.fixed_input_size else {}
        model: nn.Module = timm.create_model(name, num_classes=num_classes, **size)
        return model

    weights = f", weights '{config.tag}'" if config.hf_hub_id and config.tag else ""
    return Architecture(
        name=f"timm:{name}",
        build=build,
        input_size=max(config.input_size[1:]),
        mean=tuple(config.mean),
        std=tuple(config.std),
        hub_file=HubFile(config.hf_hub_id, config.hf_hub_filename or "model.safetensors") if config.hf_hub_id else None,
        no_weights=lambda: "timm has none under this name; see list_models('timm:*.*'), or name a .safetensors file.",
        licence=_licence(config.license) if config.hf_hub_id else "Apache-2.0 (code; there are no weights)",
        source="; ".join(_texts("timm", config.paper_ids, config.origin_url)),
        summary=f"timm's {name.partition('.')[0]}{weights}.",
    )


def _licence(licence: str | None) -> str:
    """The licence of some weights, with what a user must not overlook in plain words."""
    if not licence or licence == "unknown":
        return "not stated by the publisher"
    if any(part in licence for part in _NON_COMMERCIAL):
        return f"{licence} (non-commercial use only)"
    return licence if licence in _FREE_LICENCES else f"{licence} (its own terms: read them first)"


def _texts(*values: Any) -> Iterable[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif value:
            yield from value


# --- torchvision -----------------------------------------------------------------------------------------


def _torchvision_names() -> list[str]:
    torchvision = import_torchvision()
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def _torchvision(name: str) -> Architecture:
    torchvision = import_torchvision()
    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    size = preset.crop_size[0]
    # These two were trained on [-1, 1] elsewhere; torchvision converts its usual normalisation inside the
    # model, channel by channel. One channel needs no detour: they get [-1, 1] directly.
    ported = name in ("inception_v3", "googlenet")

    def build(*, num_classes: int, image_size: int | None) -> nn.Module:
        options: dict[str, Any] = {}
        if ported:
            options = {"aux_logits": False, "transform_input": False, "init_weights": True}
        elif name.startswith("vit_"):
            options = {"image_size": image_size or size}
        elif name.startswith("maxvit"):
            options = {"input_size": (image_size or size, image_size or size)}
        model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
        return model

    def no_weights() -> str:
        import timm  # half a second, for whoever asks in vain

        tagged = f"{name}.tv_in1k"
        same = f"'timm:{tagged}', the same weights" if tagged in timm.list_pretrained() else "a timm: model"
        return f"torchvision publishes its weights only as pickles. Use {same}, or name a .safetensors file."

    return Architecture(
        name=f"torchvision:{name}",
        build=build,
        input_size=size,
        mean=(0.5, 0.5, 0.5) if ported else tuple(preset.mean),
        std=(0.5, 0.5, 0.5) if ported else tuple(preset.std),
        hub_file=None,
        no_weights=no_weights,
        licence="BSD-3-Clause (code; no weights are fetched)",
        source="torchvision",
        summary=f"torchvision's {name}.",
    )


_FAMILIES: Mapping[str, _Family] = {
    "timm": _Family(_timm_names, _timm),
    "torchvision": _Family(_torchvision_names, _torchvision),
}

_HE = "He et al. (2015), arXiv 1512.03385"

# plainfilm's own, by name; those of other libraries with the weights nearest to their paper's.
OWN: Mapping[str, Callable[[], Architecture]] = {
    "resnet1d": _resnet1d,
    "resnet1d-patch": _resnet1d_patch,
    "resnet50-1d": _resnet50_1d,
    "inceptionv3-top": _inceptionv3_top,
    "conv-top": _conv_top,
    "perceptron": _perceptron,
    "mlp": _mlp,
    "lenet5": _lenet5,
    "alexnet": _renamed(
        "alexnet",
        "torchvision:alexnet",
        "Krizhevsky et al. (2012), doi 10.1145/3065386",
        "AlexNet, in Krizhevsky's later form with one column (2014, arXiv 1404.5997).",
    ),
    "vgg16": _renamed(
        "vgg16",
        "timm:vgg16.tv_in1k",
        "Simonyan and Zisserman (2014), arXiv 1409.1556",
        "VGG-16: thirteen 3x3 convolutions and three linear layers.",
    ),
    "resnet18": _renamed("resnet18", "timm:resnet18.tv_in1k", _HE, "Residual network of 18 layers."),
    "resnet34": _renamed("resnet34", "timm:resnet34.tv_in1k", _HE, "Residual network of 34 layers."),
    "resnet50": _renamed("resnet50", "timm:resnet50.tv_in1k", _HE, "Residual network of 50 layers."),
    "vit": _renamed(
        "vit",
        "timm:vit_base_patch16_224.orig_in21k_ft_in1k",
        "Dosovitskiy et al. (2020), arXiv 2010.11929",
        "Vision transformer, ViT-B/16.",
    ),
}
