"""Models by name: build one, list them, say what each costs and what its weights may be used for.

A name is one of plainfilm's own (`resnet1d`, `resnet50-1d`), or `timm:NAME`, or `torchvision:NAME`. Whatever
the name, the model takes one channel, `(batch, 1, height, width)`, and returns logits.

Weights are read from safetensors files only, the user's own or the hub's; a file that could execute is
refused by its name and by its first bytes, and never opened further.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from plainfilm.errors import BundleError, ResourceError, UsageError, unknown_name
from plainfilm.models.adapters import Adapter, adapt_to_one_channel
from plainfilm.models.resnet1d import ResNet1d

logger = logging.getLogger(__name__)

PRETRAINED = "pretrained"

_NONE = "none"
_MAX_HEADER_BYTES = 16 * 2**20  # the header of the largest model in timm is below 1 MiB
_HUB_TIMEOUT_S = 10.0
_AUXILIARY_HEADS = ("AuxLogits.", "aux1.", "aux2.")  # Inception's; used in training only, and left out
_FREE_LICENCES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0"}
_NON_COMMERCIAL = ("cc-by-nc", "noncommercial", "apple-amlr", "seer-license")  # parts of licence names


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model costs, and what its weights may be used for.

    Attributes:
        name: What `create_model` takes.
        parameters: Trained numbers, adapter and classifier included; None where not measured.
        flops: Of one image forward, counting a multiply-add as 2; convolutions, matrix products and
            attention only, as `torch.utils.flop_counter` does. None where not measured.
        input_size: Height and width of the images it was made for, or was asked about; `flops` is for it.
        mean: To subtract from images in [0, 1]: the average over the channels of the pretraining.
        std: To divide by, likewise.
        weights: What `weights="pretrained"` fetches from the hub, `HUB_ID/FILE`, or `"none"`; the file's
            name, where one was asked about.
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
    weights: str | Path | None = None,
    image_size: int | None = None,
) -> nn.Module:
    """Build a classifier of one-channel images by name; see `list_models`.

    Args:
        name: `resnet1d`, `resnet50-1d`, `timm:NAME`, `timm:NAME.TAG` or `torchvision:NAME`.
        num_classes: Logits to return; at least 1.
        adapter: How one channel becomes the three of the backbone; models made for one channel, as
            `resnet1d`, have none and ignore it.
        weights: None: random. `"pretrained"`: those the hub has for this name, from the local cache where
            they lie there. A path: a `.safetensors` file with the backbone's names in timm or torchvision.
            A classifier head made for another number of classes is left random, and logged.
        image_size: Height and width of the images, to shape models that need to know, and to refuse a
            model that cannot take them. None: the model's own size.

    Raises:
        UsageError: If the name is unknown, has no weights to fetch, or cannot take `image_size`.
        BundleError: If the weights file is unsafe, damaged or made for another model.
        ResourceError: `RES_DOWNLOAD`, if the hub's weights are neither in the cache nor to be had.
    """
    if num_classes < 1:
        raise UsageError(f"num_classes must be 1 or more, got {num_classes}.")
    architecture = _find(name)
    state = None if weights is None else _weights(architecture, weights)
    with _size_refused(architecture, image_size):
        backbone = architecture.build(num_classes=num_classes, image_size=image_size)
    if state is not None:
        head = _head_names(architecture, backbone, num_classes=num_classes, image_size=image_size)
        _load(backbone, state, head, where=f"{weights} for {name}", extra_allowed=weights == PRETRAINED)
    model = _adapted(backbone, architecture, adapter)
    if image_size is not None:
        with _size_refused(architecture, image_size), torch.no_grad():
            model.eval()(torch.zeros(1, 1, image_size, image_size))
    return model.train()


def describe_model(
    name: str,
    *,
    num_classes: int = 2,
    adapter: Adapter = "conv1x1",
    weights: str | Path | None = None,
    image_size: int | None = None,
    measure: bool = True,
) -> ModelInfo:
    """What one model costs and what its weights may be used for; reads no weights.

    Args:
        name: As for `create_model`; so are the others.
        num_classes: The classifier counts among the parameters.
        adapter: So does the adapter.
        weights: Where a file is named, `weights` and `licence` of the answer are about that file.
        image_size: None: the model's own size.
        measure: False leaves `parameters` and `flops` None and takes no time; else about a second.

    Raises:
        UsageError: If the name is unknown, or the model cannot take `image_size`.
    """
    architecture = _find(name)
    info = replace(_info(architecture), input_size=image_size or architecture.input_size)
    if weights not in (None, PRETRAINED):
        info = replace(info, weights=Path(str(weights)).name, licence="not known: a file of the user's")
    if not measure:
        return info
    parameters, flops = _measured(architecture, num_classes=num_classes, adapter=adapter, image_size=image_size)
    return replace(info, parameters=parameters, flops=flops)


def list_models(pattern: str | None = None, *, measure_up_to: int = 20) -> list[ModelInfo]:
    """The models that `create_model` can build.

    Args:
        pattern: None: plainfilm's own. Else a glob over all names, as `timm:resnet18*`; with a dot in it,
            over the names with their weights' tag too, as `timm:resnet50.*`.
        measure_up_to: Where more models match, `parameters` and `flops` are left None, since measuring
            takes about a second for each.
    """
    names = list(_OWN) if pattern is None else _matching(pattern)
    return [describe_model(name, measure=len(names) <= measure_up_to) for name in names]


def _matching(pattern: str) -> list[str]:
    everything = [*_OWN, *(name for family in _FAMILIES for name in _names(family))]
    tagged = "." in pattern
    return [name for name in everything if fnmatchcase(name, pattern) and (tagged or "." not in name)]


# --- What is known of a name before anything is built ------------------------------------------------


@dataclass(frozen=True)
class _HubFile:
    """One file on the Hugging Face hub."""

    hub_id: str  # owner/name, perhaps with @revision
    filename: str = "model.safetensors"

    def __str__(self) -> str:
        return f"{self.hub_id}/{self.filename}"


class _Build(Protocol):
    def __call__(self, *, num_classes: int, image_size: int | None) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class _Architecture:
    """A name, resolved. `mean` and `std` have one value for each channel that `build`'s module takes."""

    name: str
    build: _Build
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hub_file: _HubFile | None
    no_weights: str  # what to do where there is nothing to fetch
    licence: str
    source: str
    summary: str


@dataclass(frozen=True)
class _Family:
    """The models of another library, under `PREFIX:NAME`."""

    names: Callable[[], list[str]]  # without the prefix
    find: Callable[[str], _Architecture]  # likewise; the name is known


def _find(name: str) -> _Architecture:
    if name in _OWN:
        return _OWN[name]()
    prefix, colon, rest = name.partition(":")
    if colon and prefix in _FAMILIES:
        if rest not in _FAMILIES[prefix].names():
            alike = [known for known in _names(prefix) if ("." in known) == ("." in rest)]
            raise unknown_name("model", name, alike)
        return _FAMILIES[prefix].find(rest)
    for family in _FAMILIES:
        if f"{family}:{name}" in _names(family):
            raise UsageError(f"No model named '{name}'. Did you mean '{family}:{name}'?", code="UNKNOWN_MODEL")
    raise unknown_name("model", name, [*_OWN, *(f"{family}:NAME" for family in _FAMILIES)])


def _names(family: str) -> list[str]:
    return [f"{family}:{name}" for name in _FAMILIES[family].names()]


def _info(architecture: _Architecture) -> ModelInfo:
    return ModelInfo(
        name=architecture.name,
        parameters=None,
        flops=None,
        input_size=architecture.input_size,
        mean=fmean(architecture.mean),
        std=fmean(architecture.std),
        weights=str(architecture.hub_file or _NONE),
        licence=architecture.licence,
        source=architecture.source,
        summary=architecture.summary,
    )


# --- plainfilm's own names -----------------------------------------------------------------------------


def _resnet1d() -> _Architecture:
    def build(*, num_classes: int, image_size: int | None) -> nn.Module:
        return ResNet1d(num_classes)

    return _Architecture(
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


def _resnet50_1d() -> _Architecture:
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


def _timm(name: str) -> _Architecture:
    import timm

    config = timm.models.get_pretrained_cfg(name) or timm.models.PretrainedCfg()

    def build(*, num_classes: int, image_size: int | None) -> nn.Module:
        # Only models that fix their size take the argument.
        size: dict[str, Any] = {"img_size": image_size} if image_size and config.fixed_input_size else {}
        model: nn.Module = timm.create_model(name, num_classes=num_classes, **size)
        return model

    weights = f", weights '{config.tag}'" if config.hf_hub_id and config.tag else ""
    return _Architecture(
        name=f"timm:{name}",
        build=build,
        input_size=max(config.input_size[1:]),
        mean=tuple(config.mean),
        std=tuple(config.std),
        hub_file=_HubFile(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
        if config.hf_hub_id
        else None,
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


def _torchvision(name: str) -> _Architecture:
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
    return _Architecture(
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


_OWN: Mapping[str, Callable[[], _Architecture]] = {
    "resnet1d": _resnet1d,
    "resnet50-1d": _resnet50_1d,
}
_FAMILIES: Mapping[str, _Family] = {
    "timm": _Family(_timm_names, _timm),
    "torchvision": _Family(_torchvision_names, _torchvision),
}


# --- Building and measuring ------------------------------------------------------------------------------


def _adapted(backbone: nn.Module, architecture: _Architecture, adapter: Adapter) -> nn.Module:
    if len(architecture.mean) == 1:
        return backbone
    return adapt_to_one_channel(backbone, adapter, mean=architecture.mean, std=architecture.std)


def _build_on_meta(architecture: _Architecture, *, num_classes: int, image_size: int | None) -> nn.Module:
    """The backbone with shapes but no numbers; the random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return architecture.build(num_classes=num_classes, image_size=image_size)
        except NotImplementedError:
            # Some constructors compute with tensors (torchvision's RegNet) and need real ones.
            return architecture.build(num_classes=num_classes, image_size=image_size).to("meta")


def _measured(
    architecture: _Architecture, *, num_classes: int, adapter: Adapter, image_size: int | None
) -> tuple[int, int]:
    """Parameters of the adapted model, and the FLOPs of one image through it."""
    size = image_size or architecture.input_size
    with _size_refused(architecture, image_size):
        backbone = _build_on_meta(architecture, num_classes=num_classes, image_size=image_size)
        with torch.device("meta"):
            model = _adapted(backbone, architecture, adapter).eval()
            with FlopCounterMode(display=False) as counter:
                model(torch.empty(1, 1, size, size))
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops()


@contextmanager
def _size_refused(architecture: _Architecture, image_size: int | None) -> Iterator[None]:
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


# --- Weights ---------------------------------------------------------------------------------------------


def _weights(architecture: _Architecture, weights: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, or of what the hub has for this name."""
    if weights != PRETRAINED:
        return _read_weights(Path(weights), shown=str(weights))
    file = architecture.hub_file
    if file is None:
        raise UsageError(
            f"{architecture.name} has no pretrained weights to fetch. {architecture.no_weights}",
            code="NO_WEIGHTS",
        )
    if "non-commercial" in architecture.licence:
        logger.warning("The weights of %s are under %s.", architecture.name, architecture.licence)
    return _read_weights(_fetch(file), shown=str(file))


def _load(
    backbone: nn.Module, state: dict[str, Tensor], head: Collection[str], *, where: str, extra_allowed: bool
) -> None:
    """Fill a backbone; only the classifier head may be left random."""
    state = _library_names(backbone, _without(state, _AUXILIARY_HEADS), head)
    _refuse_mismatch(backbone, state, head, where=where, extra_allowed=extra_allowed)
    own = backbone.state_dict()
    if any(name not in state or state[name].shape != own[name].shape for name in head):
        logger.info("%s: the classifier head (%s) starts at random.", where, ", ".join(sorted(head)))
        state = _without(state, tuple(head))
    backbone.load_state_dict(state, strict=False)


def _head_names(
    architecture: _Architecture, backbone: nn.Module, *, num_classes: int, image_size: int | None
) -> set[str]:
    """The tensors whose shape follows the number of classes: the classifier head, in any library."""
    own = backbone.state_dict()
    one_more = _build_on_meta(architecture, num_classes=num_classes + 1, image_size=image_size).state_dict()
    return {name for name in own if own[name].shape != one_more[name].shape}


def _without(state: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


def _library_names(backbone: nn.Module, state: dict[str, Tensor], head: Collection[str]) -> dict[str, Tensor]:
    """Weights under the names and shapes of today's library, where timm knows how to convert them.

    It resizes position embeddings to the image size, and renames what older files called otherwise.
    """
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if convert is None or not any(_mismatches(backbone, state, head)):
        return state
    try:
        converted: dict[str, Tensor] = convert(dict(state), backbone)
    except Exception:
        # Written for files of its own family, it may fail in any way on others; those are refused next.
        return state
    return converted


def _mismatches(
    backbone: nn.Module, state: Mapping[str, Tensor], head: Collection[str]
) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, that are of another shape, and that the backbone does not know."""
    own = backbone.state_dict()
    body = [name for name in own if name not in head]
    # Files from before PyTorch 0.4.1 lack the counters, which inference does not use.
    missing = [name for name in body if name not in state and not name.endswith("num_batches_tracked")]
    reshaped = [name for name in body if name in state and state[name].shape != own[name].shape]
    return missing, reshaped, [name for name in state if name not in own]


def _refuse_mismatch(
    backbone: nn.Module,
    state: Mapping[str, Tensor],
    head: Collection[str],
    *,
    where: str,
    extra_allowed: bool,
) -> None:
    missing, reshaped, extra = _mismatches(backbone, state, head)
    if extra and extra_allowed:
        logger.info("%s: %d tensors are not used, first %s.", where, len(extra), extra[0])
        extra = []
    faults = {"missing": missing, "of another shape": reshaped, "unknown": extra}
    if any(faults.values()):
        told = "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in faults.items() if names)
        raise BundleError(f"{where}: the weights do not fit. Tensors: {told}.", code="BUN_MISMATCH")


def _first(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _read_weights(path: Path, *, shown: str) -> dict[str, Tensor]:
    """Read a safetensors file, after a look at its first bytes.

    Raises:
        BundleError: `BUN_MISSING`, `BUN_FORMAT`, `BUN_DAMAGED` or `BUN_NOT_FINITE`.
    """
    if path.suffix.lower() != ".safetensors":
        raise BundleError(
            f"{shown}: weights must be 'pretrained' or a .safetensors file; a pickle (.pt, .pth, .bin, "
            ".ckpt) can run code and is not opened. Convert it where you trust it: "
            "safetensors.torch.save_file(state_dict, 'weights.safetensors').",
            code="BUN_FORMAT",
        )
    if not path.is_file():
        raise BundleError(f"{shown}: no such file.", code="BUN_MISSING")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        _check_header(start, shown)
        state: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError):
        raise BundleError(f"{shown}: damaged, or cut short. Fetch or save it again.", code="BUN_DAMAGED") from None
    spoilt = [name for name, tensor in state.items() if not _is_finite(tensor)]
    if spoilt:
        raise BundleError(f"{shown}: infinite or NaN weights in {_first(spoilt)}.", code="BUN_NOT_FINITE")
    return state


def _check_header(start: bytes, shown: str) -> None:
    """Eight bytes of length, then JSON; a renamed pickle or archive begins otherwise."""
    if len(start) < 9 or start[8:] != b"{":
        raise BundleError(f"{shown}: not a safetensors file, whatever its name says.", code="BUN_FORMAT")
    if int.from_bytes(start[:8], "little") > _MAX_HEADER_BYTES:
        raise BundleError(f"{shown}: header above {_MAX_HEADER_BYTES} bytes; no model needs that.", code="BUN_DAMAGED")


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.float()).all())


def _fetch(file: _HubFile) -> Path:
    """The file in the local cache, downloaded if it is not there yet.

    Raises:
        ResourceError: `RES_DOWNLOAD`; within seconds where the hub cannot be reached.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors

    repository, _, revision = file.hub_id.partition("@")
    at = revision or None
    cached = hub.try_to_load_from_cache(repository, file.filename, revision=at)
    if isinstance(cached, str):
        return Path(cached)
    if hub.constants.HF_HUB_OFFLINE:
        raise _not_fetched(file, "HF_HUB_OFFLINE is set")
    try:
        # Asked once first: the download itself retries a dead connection for about a minute.
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file.filename, revision=at), timeout=_HUB_TIMEOUT_S)
        return Path(hub.hf_hub_download(repository, file.filename, revision=at))
    except errors.GatedRepoError:
        raise _not_fetched(file, "its page asks for consent first; then set HF_TOKEN") from None
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError):
        raise _not_fetched(file, "the hub has no such file") from None
    except Exception as error:
        # The network's own exceptions come from a library that differs between versions of the hub's.
        raise _not_fetched(file, f"the hub could not be used ({type(error).__name__})") from None


def _not_fetched(file: _HubFile, reason: str) -> ResourceError:
    repository = file.hub_id.partition("@")[0]
    folder = f"models--{repository.replace('/', '--')}"
    return ResourceError(
        f"Weights {file}: not in the local cache, and {reason}. Where there is a network, run "
        f"'hf download {repository} {file.filename}' and copy the folder {folder} into this machine's hub "
        "cache (HF_HUB_CACHE, by default ~/.cache/huggingface/hub); or name a .safetensors file as weights "
        "(--weights FILE).",
        code="RES_DOWNLOAD",
    )
