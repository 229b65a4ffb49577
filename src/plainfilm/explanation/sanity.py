"""Whether a heat map shows what the network has learned: the model randomisation test.

A method that draws the same picture for a network with random weights shows the image, not the model. So the weights
are made random layer by layer, from the head down, and every heat map is compared with the trained network's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from plainfilm import metrics
from plainfilm.explanation.feature_maps import MapLayer, held_still
from plainfilm.explanation.saliency import Floats, Ints, for_drawing, raw_heat
from plainfilm.measures import Measure, plural
from plainfilm.progress import Progress, Silent

# A rank correlation of 0.5 explains a quarter of the order of the pixels: a network that has learned nothing would
# still draw that much of the picture. With a random head alone a sound picture may change little, since the layers
# below still see what they saw; but one that stays the same does not depend on the class it is said to explain. Both
# bounds are conventions; the numbers stand beside every verdict.
MOST_SIMILAR = 0.5
SAME_PICTURE = 0.95
LEAST_IMAGES = 5  # below this an interval over images says nothing
BOOTSTRAP_DRAWS = 2000
SSIM_WINDOW = 11  # pixels, as in Wang et al. (2004)

Doubles = npt.NDArray[np.float64]
Verdict = Literal["passed", "failed", "unchecked"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How much of the pictures is left when some layers are random.

    Attributes:
        n_random: Layers with random weights, counted from the head.
        n_layers: Layers with weights.
        lowest: Name of the last one made random.
        rank_similarity: Mean over images and networks of the Spearman correlation of the two heat maps without signs.
        ssim: Mean of their structural similarity, likewise.
        n_draws: Random networks compared.
    """

    n_random: int
    n_layers: int
    lowest: str
    rank_similarity: Measure
    ssim: Measure
    n_draws: int


@dataclass(frozen=True, kw_only=True)
class SanityCheck:
    """What one method's heat maps are worth for one model.

    Attributes:
        method: Its name.
        verdict: `passed` if the rank similarity to wholly random networks is below `MOST_SIMILAR`, and that to
            networks with a random head below `SAME_PICTURE`, each with its whole interval. Empty heat maps
            of the trained network are like nothing, which is no merit: they are not compared, and it is `failed` where
            fewer than `LEAST_IMAGES`, or not half, are left. A random network that draws nothing is one more that draws
            something else. `unchecked` with fewer images.
        stages: From a random head to a wholly random network; empty if nothing was compared.
        n_images: Images looked at.
        n_blank: Those among them for which the trained network's heat map is empty.
        reason: Why nothing was compared; empty otherwise.
    """

    method: str
    verdict: Verdict
    stages: tuple[Stage, ...]
    n_images: int
    n_blank: int
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the heat maps depend on what was learned."""
        return self.verdict == "passed"

    def in_words(self) -> str:
        """One sentence with the numbers."""
        if not self.stages:
            return f"{'failed' if self.verdict == 'failed' else 'not checked'}: {self.reason}"
        head, whole = self.stages[0].rank_similarity, self.stages[-1].rank_similarity
        return (
            f"{self.verdict}: rank similarity to a network with random weights {whole}; with a random head alone "
            f"{head.value:.3f}; to pass, surely below {MOST_SIMILAR} and {SAME_PICTURE}"
        )


def check_methods(
    model: nn.Module,
    batch: Tensor,
    classes: Sequence[int] | Ints,
    methods: Sequence[str],
    *,
    layer: MapLayer | None,
    groups: Sequence[object] | None = None,
    steps: int = 3,
    draws: int = 2,
    seed: int = 0,
    window: float = 0.125,
    stride: float = 0.0625,
    progress: Progress | None = None,
) -> tuple[SanityCheck, ...]:
    """Compare each method's heat maps with those of networks that forget more and more.

    Adebayo et al. draw weights anew from their first distribution, which a trained model no longer tells. Here the
    numbers of each tensor are shuffled instead: every layer keeps its scale, so that signals neither vanish nor
    explode, and loses all that it has learned. The class that is explained stays the same.

    Args:
        model: Gives logits.
        batch: `(n, 1, height, width)`, preprocessed.
        classes: `(n,)`, the class number explained in each image.
        methods: Names out of `METHODS`.
        layer: For the CAM family.
        groups: The patient of each image; None where not known. Intervals resample these.
        steps: Stages from the head alone to all layers.
        draws: Networks that are followed down; a similarity is the mean over them.
        seed: Of the shuffling, and of the intervals.
        window: For occlusion.
        stride: For occlusion.
        progress: Told after every network.

    Returns:
        One check for each method.

    References:
        Adebayo et al. 2018, Sanity checks for saliency maps, arXiv 1810.03292.
    """
    if len(batch) < LEAST_IMAGES:
        return tuple(unchecked(method, len(batch)) for method in methods)

    def draw(network: nn.Module, method: str) -> Floats:
        return raw_heat(network, batch, classes, method, layer=layer, window=window, stride=stride)

    trained = {method: draw(model, method) for method in methods}
    layers = layers_from_the_head(model, batch)
    cuts = _cuts(layers, steps)
    similarities: dict[str, list[Doubles]] = {method: [] for method in methods}
    with (progress or Silent()).task("checking heat maps", draws * len(cuts)) as advance:
        for number in range(draws):
            for network in _forgetting(model, layers, cuts, seed + number):
                for method in methods:
                    similarities[method].append(_similarity(trained[method], draw(network, method), method))
                advance(1)
    return tuple(
        _judged(method, np.reshape(similarities[method], (draws, len(cuts), 2, -1)), trained[method], layers, cuts,
                groups, seed)
        for method in methods
    )  # fmt: skip


def unchecked(method: str, n_images: int) -> SanityCheck:
    """The check that was not made."""
    reason = f"{plural(n_images, 'image')}, {LEAST_IMAGES} are needed"
    return SanityCheck(method=method, verdict="unchecked", stages=(), n_images=n_images, n_blank=0, reason=reason)


def _judged(
    method: str,
    similarities: Doubles,
    trained: Floats,
    layers: Sequence[str],
    cuts: Sequence[int],
    groups: Sequence[object] | None,
    seed: int,
) -> SanityCheck:
    """The verdict on one method; `similarities` are `(draws, stages, 2, n_images)`."""
    drawn = np.ptp(trained, axis=(1, 2)) > 0
    n_images, n_drawn = len(trained), int(drawn.sum())
    nothing = SanityCheck(method=method, verdict="failed", stages=(), n_images=n_images, n_blank=n_images - n_drawn)
    if n_drawn < max(LEAST_IMAGES, n_images / 2):
        return replace(nothing, reason=f"{n_images - n_drawn} of {plural(n_images, 'heat map')} are empty")
    own = None if groups is None else [group for group, is_drawn in zip(groups, drawn, strict=True) if is_drawn]
    stages = tuple(
        Stage(
            n_random=cut,
            n_layers=len(layers),
            lowest=layers[cut - 1],
            rank_similarity=mean_measure("rank_similarity", rank, own, of=method, seed=seed),
            ssim=mean_measure("ssim", ssim, own, of=method, seed=seed),
            n_draws=len(similarities),
        )
        for cut, (rank, ssim) in zip(cuts, similarities[..., drawn].mean(axis=0), strict=True)
    )
    head, whole = stages[0].rank_similarity.high, stages[-1].rank_similarity.high
    # Without an interval, of a single patient, nothing is sure.
    is_sound = head is not None and whole is not None and head < SAME_PICTURE and whole < MOST_SIMILAR
    return SanityCheck(
        method=method,
        verdict="passed" if is_sound else "failed",
        stages=stages,
        n_images=n_images,
        n_blank=n_images - n_drawn,
    )


# --- networks that forget -----------------------------------------------------------------------------------


def layers_from_the_head(model: nn.Module, batch: Tensor) -> list[str]:
    """Names of the modules with weights of their own, the one nearest to the scores first.

    Tokens and position embeddings, which belong to the whole network, come last.
    """
    order: dict[str, int] = {}

    def noting(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any) -> None:
            del module, inputs
            order.setdefault(name, len(order))

        return note

    handles = [module.register_forward_pre_hook(noting(name)) for name, module in model.named_modules()]
    try:
        with held_still(model), torch.no_grad():
            model(batch[:1])
    finally:
        for handle in handles:
            handle.remove()

    def place(name: str) -> int:
        """When it was first used; a part that its owner reads directly has the owner's place."""
        while name and name not in order:
            name = name.rpartition(".")[0]
        return order.get(name, -1)

    with_weights = [
        name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))
    ]
    return sorted(with_weights, key=place, reverse=True)


def _cuts(layers: Sequence[str], steps: int) -> list[int]:
    """How many layers are random at each stage: the head alone, then equal parts, at last all."""
    return sorted({max(1, round(share * len(layers))) for share in np.linspace(0, 1, steps)})


def _forgetting(model: nn.Module, layers: Sequence[str], cuts: Sequence[int], seed: int) -> Iterator[nn.Module]:
    """A copy of the model, given out again at each cut with more of its layers shuffled."""
    network = deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    done = 0
    for cut in cuts:
        for name in layers[done:cut]:
            _shuffle(network.get_submodule(name), generator)
        done = cut
        yield network


@torch.no_grad()
def _shuffle(module: nn.Module, generator: torch.Generator) -> None:
    """Put the numbers of each of a module's own tensors, running statistics too, in random order."""
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if tensor.is_floating_point() and tensor.numel() > 1:
            order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
            tensor.copy_(tensor.flatten()[order].reshape(tensor.shape))


# --- how alike two heat maps are ----------------------------------------------------------------------------


def _similarity(trained: Floats, random: Floats, method: str) -> Doubles:
    """`(2, n)`: rank similarity and SSIM of each pair of heat maps."""
    rank = [rank_similarity(one, other) for one, other in zip(trained, random, strict=True)]
    return np.stack([rank, _ssim(for_drawing(trained, method), for_drawing(random, method))])


def rank_similarity(one: Floats, other: Floats) -> float:
    """Spearman correlation of two heat maps without their signs, -1 to 1.

    Below 0 one is hot where the other is cold: another picture. (The absolute correlation would call these alike, and
    unrelated maps of a few cells too, by chance.) An empty heat map is like another empty one, 1, and like nothing
    else, 0.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(np.abs(heat)) for heat in (one, other)]
    flat = [bool(np.ptp(rank) == 0) for rank in ranks]
    if any(flat):
        return float(all(flat))
    return float(np.corrcoef(ranks[0].ravel(), ranks[1].ravel())[0, 1])


def _ssim(one: Floats, other: Floats) -> Doubles:
    """Mean structural similarity of each pair of pictures in [0, 1]."""
    from kornia.metrics import ssim

    window = min(SSIM_WINDOW, (min(one.shape[1:]) - 1) // 2 * 2 + 1)
    first, second = (torch.from_numpy(np.ascontiguousarray(heat)).unsqueeze(1) for heat in (one, other))
    means: Doubles = ssim(first, second, window).mean(dim=(1, 2, 3)).double().numpy()
    return means


def mean_measure(
    name: str,
    values: Doubles,
    groups: Sequence[object] | None = None,
    *,
    of: str | None = None,
    seed: int = 0,
) -> Measure:
    """A mean over images, with the interval of a bootstrap over patients (images, where patients are unknown)."""
    known = groups is not None
    _, group = np.unique(
        [str(g) for g in groups] if groups is not None else np.arange(len(values)), return_inverse=True
    )
    n_groups = int(group.max()) + 1
    low = high = None
    if n_groups > 1:
        blocks = metrics.bootstrap_weights(group, np.zeros(n_groups, dtype=np.intp), draws=BOOTSTRAP_DRAWS, seed=seed)
        draws = np.concatenate([weights @ values / weights.sum(axis=1) for weights in blocks])
        low, high = (float(end) for end in metrics.percentile_interval(draws))
    return Measure(
        name=name,
        unit="image",
        of=of,
        value=float(values.mean()),
        low=low,
        high=high,
        n_images=len(values),
        n_patients=n_groups if known else None,
        interval="bootstrap" if n_groups > 1 else "none",
        reason="" if n_groups > 1 else f"no interval: one {'patient' if known else 'image'}",
    )
