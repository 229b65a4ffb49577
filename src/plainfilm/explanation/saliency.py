"""Heat maps: how much each place of an image counts for the score of one class.

Nothing here is written by hand that a well-kept library has: the CAM family is grad-cam's, gradients and occlusion
are captum's. What is added is that the right layer is found, and that the model leaves as it came.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from plainfilm.errors import UsageError, unknown_name
from plainfilm.explanation.feature_maps import MapLayer, choose_layer, held_still

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

AT_ONCE = 16  # images in one pass
PATH_STEPS = 32  # of integrated gradients
BRIGHTEST = 99.5  # percentile of single pixels drawn as 1: the few above would leave all others dark


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to explain a score.

    Attributes:
        title: For people.
        kind: `cam` weighs the maps of one layer; `pixels` follows gradients to the pixels; `occlusion` covers patches.
        signed: Whether a negative value speaks against the class; otherwise only what speaks for it is shown.
        cost: Passes through the network for one image, in words.
        source: The paper.
    """

    title: str
    kind: Literal["cam", "pixels", "occlusion"]
    signed: bool = False
    cost: str = "1 forward, 1 backward"
    source: str


METHODS: dict[str, Method] = {
    "gradcam": Method(title="Grad-CAM", kind="cam", source="Selvaraju et al. 2017, arXiv 1610.02391"),
    "gradcam++": Method(title="Grad-CAM++", kind="cam", source="Chattopadhay et al. 2018, arXiv 1710.11063"),
    "xgradcam": Method(title="XGrad-CAM", kind="cam", source="Fu et al. 2020, arXiv 2008.02312"),
    "hirescam": Method(title="HiResCAM", kind="cam", source="Draelos and Carin 2020, arXiv 2011.08891"),
    "layercam": Method(title="LayerCAM", kind="cam", source="Jiang et al. 2021, IEEE TIP 30:5875-5888"),
    "eigencam": Method(
        title="Eigen-CAM", kind="cam", cost="1 forward", source="Muhammad and Yeasin 2020, arXiv 2008.00299"
    ),
    "scorecam": Method(
        title="Score-CAM", kind="cam", cost="1 forward for each channel", source="Wang et al. 2020, arXiv 1910.01279"
    ),
    "gradient": Method(title="Gradient", kind="pixels", source="Simonyan et al. 2013, arXiv 1312.6034"),
    "gradient-x-input": Method(
        title="Gradient x input", kind="pixels", signed=True, source="Shrikumar et al. 2016, arXiv 1605.01713"
    ),
    "integrated-gradients": Method(
        title="Integrated gradients",
        kind="pixels",
        signed=True,
        cost=f"{PATH_STEPS} forward, {PATH_STEPS} backward",
        source="Sundararajan et al. 2017, arXiv 1703.01365",
    ),
    "guided-backprop": Method(
        title="Guided backpropagation", kind="pixels", source="Springenberg et al. 2014, arXiv 1412.6806"
    ),
    "occlusion": Method(
        title="Occlusion",
        kind="occlusion",
        signed=True,
        cost="1 forward for each patch",
        source="Zeiler and Fergus 2013, arXiv 1311.2901",
    ),
}

_CAM_CLASSES = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "eigencam": "EigenCAM",
    "scorecam": "ScoreCAM",
}


def explain_images(
    model: nn.Module,
    batch: Tensor,
    classes: Sequence[int] | Ints,
    method: str,
    target_layer: str | None = None,
    *,
    signed: bool = False,
    window: float = 0.125,
    stride: float = 0.0625,
) -> Floats:
    """Heat maps of some images, ready to be drawn.

    Args:
        model: Gives logits.
        batch: `(n, 1, height, width)`, preprocessed, on the model's device.
        classes: `(n,)`, the class number whose logit is explained.
        method: One of `METHODS`.
        target_layer: For the CAM family; by default the last layer with a map worth drawing.
        signed: Keep what speaks against the class as negative numbers, where the method tells.
        window: Occlusion: side of the patch as a share of the image's.
        stride: Occlusion: how far it moves, likewise.

    Returns:
        `(n, height, width)`, 0 to 1 (`signed`: -1 to 1), each image over its own range; all 0 where nothing in the
        image speaks for the class.

    Raises:
        UsageError: `UNKNOWN_METHOD`, `XAI_LAYER`, `XAI_NO_MAP` or `XAI_NO_RELU`.
    """
    layer = layer_for([method], model, batch, target_layer)
    return for_drawing(
        raw_heat(model, batch, classes, method, layer=layer, window=window, stride=stride), method, signed=signed
    )


def check_methods_known(methods: Sequence[str]) -> None:
    """Refuse a name that is no method with a `UsageError`, before anything is computed."""
    for method in methods:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)


def layer_for(methods: Sequence[str], model: nn.Module, batch: Tensor, wanted: str | None) -> MapLayer | None:
    """The layer that the CAM methods among these weigh; None where there are none."""
    check_methods_known(methods)
    if not any(METHODS[method].kind == "cam" for method in methods):
        return None
    return choose_layer(model, batch, wanted)


def for_drawing(raw: Floats, method: str, *, signed: bool = False) -> Floats:
    """Raw heat over each image's own range; see `explain_images`."""
    strength = np.abs(raw)
    top = BRIGHTEST if METHODS[method].kind == "pixels" else 100.0
    scale = np.percentile(strength, top, axis=(1, 2), keepdims=True)
    scale = np.where(scale > 0, scale, strength.max(axis=(1, 2), keepdims=True))
    scaled = np.divide(raw, scale, out=np.zeros_like(raw), where=scale > 0)
    heat: Floats = np.clip(scaled, -1, 1) if signed and METHODS[method].signed else np.clip(np.abs(scaled), 0, 1)
    return heat


def raw_heat(
    model: nn.Module,
    batch: Tensor,
    classes: Sequence[int] | Ints,
    method: str,
    *,
    layer: MapLayer | None,
    window: float = 0.125,
    stride: float = 0.0625,
) -> Floats:
    """`(n, height, width)` in the method's own units, for comparing; what is no finite number becomes 0.

    Args:
        model: As for `explain_images`; so are the others.
        batch: See there.
        classes: See there.
        method: See there.
        layer: For the CAM family, as `layer_for` found it.
        window: See there.
        stride: See there.
    """
    targets = torch.as_tensor(np.asarray(classes, dtype=np.int64), device=batch.device)
    kind = METHODS[method].kind
    parts: list[Floats] = []
    with held_still(model), torch.enable_grad():
        for start in range(0, len(batch), AT_ONCE):
            their = targets[start : start + AT_ONCE]
            images = batch[start : start + AT_ONCE].detach().clone().contiguous().requires_grad_()
            if kind == "cam":
                assert layer is not None
                parts.append(_cam(model, images, their, method, layer))
            elif kind == "occlusion":
                parts.append(_occlusion(model, images, their, window, stride))
            else:
                parts.append(_pixels(model, images, their, method))
    heat = np.concatenate(parts).astype(np.float32)
    return np.nan_to_num(heat, nan=0.0, posinf=0.0, neginf=0.0)


def _cam(model: nn.Module, images: Tensor, classes: Tensor, method: str, layer: MapLayer) -> Floats:
    import pytorch_grad_cam  # type: ignore[import-untyped, unused-ignore]
    from pytorch_grad_cam.utils.model_targets import (  # type: ignore[import-untyped, unused-ignore]
        ClassifierOutputTarget,
    )

    build = getattr(pytorch_grad_cam, _CAM_CLASSES[method])
    cam = build(model, [model.get_submodule(layer.name)], reshape_transform=layer.as_map)
    try:
        with _no_bars() if method == "scorecam" else nullcontext():
            heat: Floats = cam(images, [ClassifierOutputTarget(number) for number in classes.tolist()])
    finally:
        cam.activations_and_grads.release()  # its own context manager would swallow an IndexError
    return heat


@contextmanager
def _no_bars() -> Iterator[None]:
    """Score-CAM draws a progress bar for every image, which cannot be switched off."""
    from pytorch_grad_cam import score_cam  # type: ignore[import-untyped, unused-ignore]

    bars, score_cam.tqdm = score_cam.tqdm, SimpleNamespace(tqdm=iter)
    try:
        yield
    finally:
        score_cam.tqdm = bars


def _pixels(model: nn.Module, images: Tensor, classes: Tensor, method: str) -> Floats:
    from captum import attr  # type: ignore[import-untyped, unused-ignore]

    if method == "gradient":
        heat = attr.Saliency(model).attribute(images, target=classes)
    elif method == "gradient-x-input":
        heat = attr.InputXGradient(model).attribute(images, target=classes)
    elif method == "guided-backprop":
        heat = _guided(attr.GuidedBackprop(model), model, images, classes).abs()
    else:
        # The path begins at the image's own darkest value, which is also what stands around a padded image.
        darkest = images.detach().amin(dim=(1, 2, 3), keepdim=True).expand_as(images)
        heat = attr.IntegratedGradients(model).attribute(
            images, baselines=darkest, target=classes, n_steps=PATH_STEPS, internal_batch_size=2 * AT_ONCE
        )
    return _flat(heat)


def _guided(guided: Any, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise UsageError(
            "Guided backpropagation changes ReLU layers, and this model has none. Use --methods gradient.",
            code="XAI_NO_RELU",
        )
    with warnings.catch_warnings():
        # Said at every call; the hooks are taken away again, as it says.
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU", category=UserWarning)
        gradient: Tensor = guided.attribute(images, target=classes)
    return gradient


def _occlusion(model: nn.Module, images: Tensor, classes: Tensor, window: float, stride: float) -> Floats:
    """How far the logit falls when a patch is covered with the image's mean grey."""
    from captum import attr  # type: ignore[import-untyped, unused-ignore]

    height, width = images.shape[2:]
    side = (max(1, round(window * height)), max(1, round(window * width)))
    step = (min(side[0], max(1, round(stride * height))), min(side[1], max(1, round(stride * width))))
    with torch.no_grad():
        images = images.detach()
        heat = attr.Occlusion(model).attribute(
            images,
            sliding_window_shapes=(1, *side),
            strides=(1, *step),
            baselines=images.mean(dim=(1, 2, 3), keepdim=True).expand_as(images),
            target=classes,
            perturbations_per_eval=4,
        )
    return _flat(heat)


def _flat(heat: Tensor) -> Floats:
    """`(n, height, width)` of `(n, 1, height, width)`."""
    values: Floats = heat.detach().sum(dim=1).float().cpu().numpy()
    return values
