"""Names, resolved: plainfilm's own models, timm's and torchvision's, and what is known of each before it is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import nn

from plainfilm.errors import UsageError, unknown_name
from plainfilm.models.resnet1d import ResNet1d
from plainfilm.models.weights import HubFile

_FREE_LICENCES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0"}
_NON_COMMERCIAL = ("cc-by-nc", "noncommercial", "apple-amlr", "seer-license")  # parts of licence names


class _Build(Protocol):
    def __call__(self, *, num_classes: int, image_size: int | None) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A name, resolved. `mean` and `std` have one value for each channel that `build`'s module takes."""

    name: str
    build: _Build
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hub_file: HubFile | None
    no_weights: str  # what to do where there is nothing to fetch
    licence: str
    source: str
    summary: str


@dataclass(frozen=True)
class _Family:
    """The models of another library, under `PREFIX:NAME`."""

    names: Callable[[], list[str]]  # without the prefix
    find: Callable[[str], Architecture]  # likewise; the name is known


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


def _resnet1d() -> Architecture:
    def build(*, num_classes: int, image_size: int | None) -> nn.Module:
        return ResNet1d(num_classes)

    return Architecture(
        name="resnet1d",
        build=build,
        input_size=128,
        mean=(0.5,),  # maps [0, 1] to [-1, 1]; the paper names no normalisation
        std=(0.5,),
        hub_file=None,
        no_weights="It is trained from scratch: leave weights out, or name a .safetensors file.",
        licence="Apache-2.0 (code; there are no published weights)",
        source="plainfilm, after Ilyassov (2024), section 3.2, and He et al. (2015), arXiv 1512.03385",
        summary="Residual network for one channel at 128x128, trained from scratch.",
    )


def _resnet50_1d() -> Architecture:
    # The paper says "pre-trained on ImageNet" and no more; this is torchvision's first training.
    return replace(
        _timm("resnet50.tv_in1k"),
        name="resnet50-1d",
        source="timm, after Ilyassov (2024), section 3.3, and He et al. (2015), arXiv 1512.03385",
        summary="ImageNet's ResNet-50 behind a 1x1 convolution from 1 to 3 channels.",
    )


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
        no_weights="timm has none under this name; see list_models('timm:*.*'), or name a .safetensors file.",
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
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def _torchvision(name: str) -> Architecture:
    import timm
    import torchvision

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

    tagged = f"{name}.tv_in1k"
    same = f"Use 'timm:{tagged}', the same weights, or" if tagged in timm.list_pretrained() else "Use a timm: model, or"
    return Architecture(
        name=f"torchvision:{name}",
        build=build,
        input_size=size,
        mean=(0.5, 0.5, 0.5) if ported else tuple(preset.mean),
        std=(0.5, 0.5, 0.5) if ported else tuple(preset.std),
        hub_file=None,
        no_weights=f"torchvision publishes its weights only as pickles. {same} name a .safetensors file.",
        licence="BSD-3-Clause (code; no weights are fetched)",
        source="torchvision",
        summary=f"torchvision's {name}.",
    )


# plainfilm's own, by name.
OWN: Mapping[str, Callable[[], Architecture]] = {
    "resnet1d": _resnet1d,
    "resnet50-1d": _resnet50_1d,
}
_FAMILIES: Mapping[str, _Family] = {
    "timm": _Family(_timm_names, _timm),
    "torchvision": _Family(_torchvision_names, _torchvision),
}
