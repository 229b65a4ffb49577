"""Weights: read from a safetensors file or fetched from the hub, checked, and put into a model.

A file that could execute is refused by its name and by its first bytes, and never opened further.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from plainfilm.errors import BundleError, ResourceError

logger = logging.getLogger(__name__)

_MAX_HEADER_BYTES = 16 * 2**20  # the header of the largest model in timm is below 1 MiB
_HUB_TIMEOUT_S = 10.0
_AUXILIARY_HEADS = ("AuxLogits.", "aux1.", "aux2.")  # Inception's; used in training only, and left out


@dataclass(frozen=True)
class HubFile:
    """One file on the Hugging Face hub."""

    hub_id: str  # owner/name, perhaps with @revision
    filename: str = "model.safetensors"

    def __str__(self) -> str:
        return f"{self.hub_id}/{self.filename}"


def read_weights(path: Path, *, shown: str) -> dict[str, Tensor]:
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


def fetch_weights(file: HubFile) -> Path:
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


def _not_fetched(file: HubFile, reason: str) -> ResourceError:
    repository = file.hub_id.partition("@")[0]
    folder = f"models--{repository.replace('/', '--')}"
    return ResourceError(
        f"Weights {file}: not in the local cache, and {reason}. Where there is a network, run "
        f"'hf download {repository} {file.filename}' and copy the folder {folder} into this machine's hub "
        "cache (HF_HUB_CACHE, by default ~/.cache/huggingface/hub); or name a .safetensors file as weights "
        "(--weights FILE).",
        code="RES_DOWNLOAD",
    )


# --- Into a model -----------------------------------------------------------------------------------------


def load_weights(
    backbone: nn.Module, state: dict[str, Tensor], head: Collection[str], *, where: str, extra_allowed: bool
) -> None:
    """Fill a backbone; only the classifier head may be left random.

    Args:
        backbone: Filled in place.
        state: Tensors under their names in timm or torchvision.
        head: The names of the classifier head's tensors.
        where: What to call the weights in an error or the log.
        extra_allowed: Whether tensors that the backbone does not know are passed over.

    Raises:
        BundleError: `BUN_MISMATCH`, naming the first tensors that do not fit.
    """
    state = _library_names(backbone, _without(state, _AUXILIARY_HEADS), head)
    _refuse_mismatch(backbone, state, head, where=where, extra_allowed=extra_allowed)
    own = backbone.state_dict()
    if any(name not in state or state[name].shape != own[name].shape for name in head):
        logger.info("%s: the classifier head (%s) starts at random.", where, ", ".join(sorted(head)))
        state = _without(state, tuple(head))
    backbone.load_state_dict(state, strict=False)


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
