"""Write a model as ONNX, and keep the file only if it gives the scores that the model gives."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from plainfilm.abstention import Abstention
from plainfilm.bundle import Bundle
from plainfilm.calling import CallingRule
from plainfilm.data.pixels import PixelStore
from plainfilm.errors import BundleError, DataError, UsageError
from plainfilm.exporting.reading import IMAGE, MAX_BYTES, OPSET, OnnxFacts, parse_onnx, require_onnx
from plainfilm.exporting.scoring import onnx_scores
from plainfilm.exporting.seal import sealed
from plainfilm.novelty import Gate, Reference
from plainfilm.prediction import BATCH, predict_scores
from plainfilm.progress import Progress, Silent

if TYPE_CHECKING:
    import onnx
    from torch import nn

logger = logging.getLogger(__name__)

BOUND = 1e-4  # largest difference of a score between both engines that is let pass
PHANTOMS = 16  # drawn where no images were given, and as many of noise


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far the scores of the file are from those of the model, on the same images.

    Attributes:
        n_images: Images scored by both.
        largest: Largest difference of any score of any image.
        bound: What it had to stay within.
        other_answers: Images whose highest score is another class.
        images: What they were, in words.
    """

    n_images: int
    largest: float
    bound: float
    other_answers: int
    images: str

    def in_words(self) -> str:
        """One sentence."""
        return (
            f"largest difference of a score from the model's own: {self.largest:.1e} (bound {self.bound:g}) on "
            f"{self.n_images} {self.images}; other answers: {self.other_answers}"
        )


def onnx_bytes(
    bundles: Sequence[Bundle],
    *,
    reference: Reference | None,
    images: PixelStore | None = None,
    bound: float = BOUND,
    progress: Progress | None = None,
) -> tuple[bytes, Parity]:
    """The file, after its scores were compared with the model's.

    Args:
        bundles: One model, or those of all folds, whose scores are averaged as `predict` does.
        reference: Features of training images, for a single model that has them.
        images: What to compare on, fitted to the model's size; None draws phantoms and noise in its range.
        bound: Largest difference of a score that is let pass.
        progress: Told of the steps.

    Raises:
        DataError: `ONX_PARITY` if the scores differ by more.
        UsageError: `ONX_UNSUPPORTED` if the model cannot be written as ONNX; `MISSING_EXTRA`.
    """
    require_onnx(("onnx", "onnxscript", "onnxruntime"))
    if len({(bundle.config.classes, bundle.config.architecture.image_size) for bundle in bundles}) != 1:
        raise BundleError("the models of these folds do not have the same classes and size.", code="BUN_CLASSES")
    progress = progress or Silent()
    with progress.task("writing ONNX", 1) as advance:
        data = _written(bundles, reference)
        advance(1)
    said = "images of yours" if images is not None else "phantoms and images of noise"
    return data, check_parity(data, bundles, images or _drawn(bundles[0]), said, bound=bound, progress=progress)


def check_parity(
    data: bytes, bundles: Sequence[Bundle], images: PixelStore, said: str, *, bound: float, progress: Progress
) -> Parity:
    """Compare the scores of a file with those of its models.

    Raises:
        DataError: `ONX_PARITY`.
    """
    ours = np.mean([predict_scores(bundle, images, device="cpu", progress=progress) for bundle in bundles], axis=0)
    model = parse_onnx(data, shown="the export")
    theirs = onnx_scores(model, images, batch_size=BATCH, progress=progress).scores
    largest = float(np.abs(ours - theirs).max())
    other = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
    parity = Parity(n_images=len(images), largest=largest, bound=bound, other_answers=other, images=said)
    if not largest <= bound:
        raise DataError(
            f"the ONNX file does not give the model's scores, and was not kept: {parity.in_words()}.",
            code="ONX_PARITY",
        )
    return parity


# --- the file -----------------------------------------------------------------------------------------------


def _written(bundles: Sequence[Bundle], reference: Reference | None) -> bytes:
    from plainfilm.exporting.network import ScoringNetwork

    network = ScoringNetwork(bundles, reference).eval()
    size = bundles[0].config.architecture.image_size
    model = _traced(network, network.output_names, size, name=bundles[0].config.architecture.name)
    _strip(model)
    for name, value in facts_of(bundles).to_metadata().items():
        model.metadata_props.add(key=name, value=value)
    if model.ByteSize() + 100 > MAX_BYTES:
        raise UsageError("The model is larger than one ONNX file can be (2 GiB).", code="ONX_UNSUPPORTED")
    return sealed(model.SerializeToString(deterministic=True))


def facts_of(bundles: Sequence[Bundle]) -> OnnxFacts:
    """What the metadata say; what a single model has of its own, the mean of several has not."""
    first = bundles[0].config
    alone = len(bundles) == 1
    left = first.preprocessing.model_copy(
        update={
            "low": 0.0,
            "high": 1.0,
            "mean": 0.0,
            "std": 1.0,
            "source": "integers divided by the full range of their depth (255, 65535); all else is inside the graph",
        }
    )
    hashes = tuple(bundle.config.weights_sha256 for bundle in bundles)
    return OnnxFacts(
        classes=first.classes,
        preprocessing=left,
        temperature=first.calibration.temperature if alone else 1.0,
        abstention=first.abstention if alone else Abstention(reason="the mean of several models"),
        calling=first.calling if alone else CallingRule(reason="the mean of several models"),
        novelty=first.novelty if alone else Gate(),
        architecture=first.architecture.name,
        models=len(bundles),
        model_version=hashes[0][:12],
        sha256_weights=hashes,
        license=first.weights_licence or "none (weights began at random)",
        split_unit=first.split_unit,
        plainfilm_version=first.plainfilm_version,
    )


def _traced(network: nn.Module, outputs: list[str], size: int, *, name: str) -> onnx.ModelProto:
    import torch

    example = torch.zeros(2, 1, size, size)  # two: a batch of one would be taken for a constant
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet("torch.onnx", "onnxscript"):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[IMAGE],
                output_names=outputs,
                opset_version=OPSET,
                verbose=False,
            )
        assert program is not None
        model: onnx.ModelProto = program.model_proto
    except Exception as error:  # the exporter's errors are of every kind
        logger.debug("export of %s", name, exc_info=error)
        raise UsageError(
            f"'{name}' cannot be written as ONNX by this torch ({type(error).__name__}).", code="ONX_UNSUPPORTED"
        ) from None
    return model


@contextlib.contextmanager
def _quiet(*names: str) -> Any:
    """The exporter's loggers, silent for a while."""
    loggers = [logging.getLogger(name) for name in names]
    before = [(one, one.level) for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in before:
            one.setLevel(level)


def _strip(model: onnx.ModelProto) -> None:
    """Take out what the exporter notes of this machine: stack traces with the paths of its files."""
    graph = model.graph
    for noted in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del noted.metadata_props[:]
        noted.ClearField("doc_string")
    del graph.value_info[:]
    del model.metadata_props[:]
    model.ClearField("doc_string")
    model.producer_name, model.producer_version = "plainfilm", ""


# --- images to compare on -----------------------------------------------------------------------------------


def _drawn(bundle: Bundle) -> PixelStore:
    """Phantoms and noise in the range of values that the model was trained on."""
    from plainfilm.data.fitting import fit_image
    from plainfilm.data.phantoms import PhantomOptions, phantom_image

    prepared = bundle.config.preprocessing
    height, width = prepared.height, prepared.width
    store = PixelStore(2 * PHANTOMS, height, width)
    rng = np.random.default_rng(0)
    options = PhantomOptions(images_per_patient=1, size=64)
    for index in range(PHANTOMS):
        drawn = fit_image(phantom_image(options, patient=index + 1), height=height, width=width).astype(np.float32)
        noise = rng.random((height, width), dtype=np.float32)
        for place, values in ((index, drawn / 255), (PHANTOMS + index, noise)):
            store.put(place, (prepared.low + values * (prepared.high - prepared.low)).astype(np.float32))
    return store
