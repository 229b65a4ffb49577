"""Scores of an ONNX file by onnxruntime, on the processor."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from plainfilm.calibration import tempered
from plainfilm.data.pixels import PixelStore
from plainfilm.errors import BundleError, ResourceError
from plainfilm.exporting.reading import IMAGE, OnnxModel
from plainfilm.metrics import Floats
from plainfilm.progress import Progress, Silent


@dataclass(frozen=True)
class OnnxScores:
    """What an ONNX file says of some images.

    Attributes:
        scores: `(n, num_classes)` probabilities.
        distances: `(n, 2)` distances to the training images; None where the file does not know them.
    """

    scores: Floats
    distances: Floats | None


def onnx_scores(
    model: OnnxModel, pixels: PixelStore, *, batch_size: int, progress: Progress | None = None
) -> OnnxScores:
    """Score images in batches of one shape, the last filled up and cut, as `predict_scores` does."""
    session = _session(model)
    found: dict[str, list[np.ndarray]] = {name: [] for name in model.outputs if name != "probabilities"}
    with (progress or Silent()).task("scoring images", len(pixels)) as advance:
        for start in range(0, len(pixels), batch_size):
            n_images = min(batch_size, len(pixels) - start)
            filled = np.resize(np.arange(start, start + n_images), batch_size)
            batch = pixels.values(filled)[:, None]
            for name, values in zip(found, _asked(session, list(found), batch, batch_size), strict=True):
                found[name].append(values[:n_images].astype(np.float64))
            advance(n_images)
    logits = np.concatenate(found["logits"])
    if not np.isfinite(logits).all():
        raise BundleError("the ONNX file gives scores that are no numbers.", code="BUN_NOT_FINITE")
    # In double precision, and from the logits, as the other engine does: the rows then add up to 1.
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = tempered(shifted / shifted.sum(axis=1, keepdims=True), model.facts.temperature)
    return OnnxScores(scores, np.concatenate(found["distances"]) if "distances" in found else None)


def _session(model: OnnxModel) -> object:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)  # 0: one for each core
    try:
        return onnxruntime.InferenceSession(model.data, options, providers=["CPUExecutionProvider"])
    except MemoryError:
        raise ResourceError("the ONNX file needs more memory than there is.", code="RES_MEMORY") from None
    except Exception:  # onnxruntime's errors have no common class
        raise BundleError("onnxruntime cannot run this ONNX file.", code="BUN_OPERATOR") from None


def _asked(session: object, names: list[str], batch: np.ndarray, batch_size: int) -> list[np.ndarray]:
    try:
        return list(session.run(names, {IMAGE: batch}))  # type: ignore[attr-defined]
    except MemoryError:
        raise _out_of_memory(batch_size) from None
    except Exception as error:
        if "alloc" in str(error).lower():
            raise _out_of_memory(batch_size) from None
        raise BundleError("onnxruntime cannot run this ONNX file on these images.", code="BUN_OPERATOR") from None


def _out_of_memory(batch_size: int) -> ResourceError:
    return ResourceError(
        f"Out of memory with batches of {batch_size}. Try --batch-size {max(1, batch_size // 2)}.", code="RES_MEMORY"
    )
