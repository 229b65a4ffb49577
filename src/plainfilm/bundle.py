"""A trained model as files: weights in safetensors, everything else in JSON, nothing that executes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plainfilm import __version__
from plainfilm.abstention import Abstention
from plainfilm.calibration import Calibration
from plainfilm.calling import CallingRule
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.drift import DriftRule, Statistics, check_statistics
from plainfilm.errors import BundleError, UsageError
from plainfilm.novelty import Gate, Reference
from plainfilm.storage import (
    MANIFEST,
    check_hash,
    delete,
    make_folder,
    read_json,
    verify_manifest,
    write_bytes,
    write_json,
    write_manifest,
    write_text,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

SCHEMA = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
NOVELTY = "novelty.safetensors"
DRIFT = "drift.safetensors"
ONNX = "model.onnx"
CARD = "README.md"
BUNDLE_FILES = (WEIGHTS, CONFIG, NOVELTY, DRIFT, ONNX, MANIFEST)
FOR_PEOPLE = (".md", ".txt")  # what else may lie in a bundle, such as a licence; nothing reads it
MAX_CONFIG_BYTES = 16 << 20
MAX_HEADER_BYTES = 16 << 20


class Architecture(BaseModel):
    """What must be built before the weights can be loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    adapter: Literal["conv1x1", "sum", "replicate", "depthwise"]
    head: Literal["own", "linear", "conv"] = "own"
    num_classes: int = Field(ge=1, le=100_000)
    in_channels: int = 1
    image_size: int = Field(ge=1, le=4096)


class BundleConfig(BaseModel):
    """Everything but the weights: `config.json`.

    Attributes:
        architecture: What to build.
        classes: Names in the order of the scores; never derived again.
        preprocessing: From a decoded image to the model's input.
        data: Fingerprint of the training data: counts and a hash, no names.
        weights_sha256: Hash of `model.safetensors`.
        weights_licence: Licence of the weights training began from.
        split_unit: `patient` or `image`: what the scores of this model are worth.
        calibration: What is done to the scores.
        abstention: When nothing is said.
        calling: From which score on an image is called positive.
        novelty: Which images are unlike those of the training; the features to compare with are in a file beside.
        drift: When a whole batch is; the statistics to compare with are in a file beside.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    library_name: str = "plainfilm"
    plainfilm_version: str = __version__
    architecture: Architecture
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    data: dict[str, Any]
    weights_sha256: str = ""
    weights_licence: str = ""
    split_unit: str = "patient"
    calibration: Calibration = Calibration()
    abstention: Abstention = Abstention()
    calling: CallingRule = CallingRule()
    novelty: Gate = Gate()
    drift: DriftRule = DriftRule()


@dataclass(frozen=True)
class Bundle:
    """A model ready to predict, and what it was told."""

    model: nn.Module
    config: BundleConfig

    @cached_property
    def scoring_model(self) -> nn.Module:
        """The same scores sooner, see `models.folding`. Made once, of the weights as they are by then."""
        from plainfilm.models.folding import folded

        return folded(self.model)


def save_bundle(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    config: BundleConfig,
    *,
    card: str,
    reference: Reference | None = None,
    statistics: Statistics | None = None,
) -> None:
    """Write `model.safetensors`, `config.json`, the model card `README.md` and, last, a manifest of all but the card.

    With a reference also `novelty.safetensors`: features of training images, by which unlike ones are known. With
    statistics also `drift.safetensors`: those of training images, one of each patient.

    The class names are in the weights' file too: scores in another order than their names are the worst of errors.
    """
    from safetensors.numpy import save as save_arrays
    from safetensors.torch import save

    make_folder(folder)
    delete(folder / MANIFEST)
    data = save(
        {name: value.contiguous() for name, value in weights.items()},
        metadata={"classes": json.dumps(config.classes)},  # one entry: safetensors writes several in random order
    )
    digest = hashlib.sha256(data).hexdigest()
    write_bytes(folder / WEIGHTS, data)
    write_text(folder / "README.md", card)
    write_json(folder / CONFIG, config.model_copy(update={"weights_sha256": digest}).model_dump(mode="json"))
    delete(folder / ONNX)  # of other weights
    further = {
        NOVELTY: None if reference is None else reference.tensors(),
        DRIFT: None if statistics is None else {"statistics": statistics},
    }
    for name, arrays in further.items():
        delete(folder / name)
        if arrays is not None:
            write_bytes(folder / name, save_arrays({key: np.ascontiguousarray(array) for key, array in arrays.items()}))
    write_manifest(folder, [WEIGHTS, CONFIG, *(name for name, arrays in further.items() if arrays is not None)])


def load_reference(folder: Path) -> Reference:
    """The features that new images are compared with.

    Raises:
        BundleError: `BUN_MISSING` or `BUN_DAMAGED`.
    """
    return Reference.from_tensors(_read_arrays(folder, NOVELTY))


def load_statistics(folder: Path, rule: DriftRule) -> Statistics:
    """What a batch of new images is compared with.

    Raises:
        BundleError: `BUN_MISSING`, `BUN_DAMAGED`, `BUN_SHAPE` or `BUN_NOT_FINITE`.
    """
    return check_statistics(_read_arrays(folder, DRIFT).get("statistics", np.zeros(0)), rule)


def _read_arrays(folder: Path, name: str) -> dict[str, Any]:
    """The arrays of a file that the manifest knows."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    verify_manifest(folder, required=[name], unchecked=[WEIGHTS])
    try:
        return load((folder / name).read_bytes())
    except (OSError, SafetensorError):
        raise BundleError(f"'{name}' is not sound safetensors.", code="BUN_DAMAGED") from None


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle; every file is checked before a tensor is touched.

    Raises:
        BundleError: `BUN_MISSING`, `BUN_EXTRA`, `BUN_OUTSIDE`, `BUN_DAMAGED`, `BUN_SCHEMA`, `BUN_FORMAT`,
            `BUN_ARCHITECTURE`, `BUN_CLASSES`, `BUN_SHAPE` or `BUN_NOT_FINITE`.
    """
    from plainfilm.models import create_model, outline_model

    config = read_config(folder)
    path = folder / WEIGHTS
    check_hash(path, config.weights_sha256, shown=WEIGHTS)
    asked: dict[str, Any] = config.architecture.model_dump(exclude={"in_channels"})
    try:
        outline = outline_model(**asked)
        weights = _read_weights(path, config, outline)
        model = create_model(**asked, try_out=False)
    except UsageError as error:  # what is a slip of the user's elsewhere is a bad file here
        raise BundleError(f"'{CONFIG}': {error}", code="BUN_ARCHITECTURE") from None
    model.load_state_dict(weights, strict=True)
    return Bundle(model.eval(), config)


def _read_weights(path: Path, config: BundleConfig, outline: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file whose hash is right, if they are sound, fit, and their scores have these names."""
    from safetensors import SafetensorError, safe_open

    classes = config.classes
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] != b"{":  # eight bytes of length, then JSON; a renamed pickle or archive begins otherwise
        raise BundleError(f"'{WEIGHTS}' is not a safetensors file, whatever its name says.", code="BUN_FORMAT")
    if int.from_bytes(start[:8], "little") > MAX_HEADER_BYTES:
        raise BundleError(f"'{WEIGHTS}' has a header of more than {MAX_HEADER_BYTES} bytes.", code="BUN_DAMAGED")
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("classes") != json.dumps(list(classes)):
                raise BundleError(f"'{CONFIG}' and '{WEIGHTS}' do not name the same classes.", code="BUN_CLASSES")
            names = list(file.keys())
            _check_fit({name: file.get_slice(name) for name in names}, outline, config.architecture.name)
            weights = {name: file.get_tensor(name) for name in names}
    except SafetensorError:
        raise BundleError(f"'{WEIGHTS}' is not sound safetensors.", code="BUN_DAMAGED") from None
    broken = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise BundleError(
            f"the weights hold values that are no numbers, first in '{broken[0]}'.", code="BUN_NOT_FINITE"
        )
    return weights


def _check_fit(held: Mapping[str, Any], outline: Mapping[str, torch.Tensor], name: str) -> None:
    """Compare names, shapes and types of a file's tensors, by its header alone, with those of the model."""
    dtypes = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "BOOL": "bool"}
    odd = sorted(set(held) ^ set(outline))
    if odd:
        where = "has no" if odd[0] in outline else "has an unknown"
        raise BundleError(f"the weights do not fit '{name}': '{WEIGHTS}' {where} '{odd[0]}'.", code="BUN_SHAPE")
    for tensor, wanted in outline.items():
        shape, dtype = tuple(held[tensor].get_shape()), held[tensor].get_dtype()
        if shape != tuple(wanted.shape) or dtypes.get(dtype) != str(wanted.dtype).removeprefix("torch."):
            raise BundleError(
                f"the weights do not fit '{name}': '{tensor}' is {dtype} of {shape}, wanted is {wanted.dtype} of "
                f"{tuple(wanted.shape)}.",
                code="BUN_SHAPE",
            )


def read_config(folder: Path) -> BundleConfig:
    """Read `config.json` alone, once the manifest says that it is what was written.

    Raises:
        BundleError: As `load_bundle`.
    """
    path = folder / CONFIG
    if path.is_file() and path.stat().st_size > MAX_CONFIG_BYTES:
        raise BundleError(f"'{CONFIG}' is far too large.", code="BUN_DAMAGED")
    _check_contents(folder)
    # `load_bundle` hashes the weights
    named = verify_manifest(folder, required=[WEIGHTS, CONFIG], allowed=BUNDLE_FILES, unchecked=[WEIGHTS])
    for name in (NOVELTY, DRIFT):
        if name not in named and (folder / name).exists():
            raise BundleError(f"'{MANIFEST}' does not name '{name}'.", code="BUN_EXTRA")
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("schema_version") != SCHEMA:
        found = raw.get("schema_version") if isinstance(raw, dict) else None
        raise BundleError(f"this bundle has schema {found}; this plainfilm reads {SCHEMA}.", code="BUN_SCHEMA")
    try:
        config = BundleConfig.model_validate(raw)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BundleError(f"'{CONFIG}' is damaged at '{where}'.", code="BUN_DAMAGED") from None
    if named[WEIGHTS] != config.weights_sha256:  # the one hash of the manifest that nothing else is compared with
        raise BundleError(f"'{MANIFEST}' and '{CONFIG}' do not name the same weights.", code="BUN_DAMAGED")
    if len(set(config.classes)) != len(config.classes) or len(config.classes) != config.architecture.num_classes:
        raise BundleError(
            f"{len(config.classes)} class names for {config.architecture.num_classes} scores.",
            code="BUN_CLASSES",
        )
    if not (config.abstention.fits(config.classes) and config.calling.fits(config.classes)):
        raise BundleError(f"'{CONFIG}' has rules about other classes than its own.", code="BUN_CLASSES")
    _check_numbers(config)
    size = config.architecture.image_size
    if (config.preprocessing.height, config.preprocessing.width) != (size, size):
        raise BundleError(f"the images are not prepared at the size of the model, {size}x{size}.", code="BUN_SHAPE")
    return config


def _check_numbers(config: BundleConfig) -> None:
    """Refuse preprocessing and limits that make every score, or every comparison, no number."""
    preprocessing, gate = config.preprocessing, config.novelty
    spread = (preprocessing.high - preprocessing.low) * preprocessing.std
    numbers = [preprocessing.offset, spread, gate.neighbour_limit or 0.0, gate.class_limit or 0.0, gate.longest]
    if not np.isfinite(numbers).all() or spread <= 0 or gate.neighbours < 1:
        raise BundleError(f"'{CONFIG}' has numbers that cannot be.", code="BUN_DAMAGED")
    if (gate.neighbour_limit is None) != (gate.class_limit is None):
        raise BundleError(f"'{CONFIG}' has one limit of two.", code="BUN_DAMAGED")


def _check_contents(folder: Path) -> None:
    """Refuse links that lead out of the folder, and files that a bundle does not have.

    In the hub's cache every file is a link to one folder beside; whatever it holds must still have the right hash.
    """
    cached = folder.parents[1] / "blobs" if folder.parent.name == "snapshots" else folder
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_symlink() and not path.resolve().is_relative_to(cached.resolve()):
            raise BundleError(f"'{path.name[:80]}' is a link out of the bundle.", code="BUN_OUTSIDE")
        known = path.name in BUNDLE_FILES or path.name.startswith(".") or path.suffix.lower() in FOR_PEOPLE
        if not known and not path.name.upper().startswith(("LICENSE", "LICENCE", "NOTICE")):
            raise BundleError(f"'{path.name[:80]}' is no part of a bundle; take it out.", code="BUN_EXTRA")


def put_calling(folder: Path, rule: CallingRule) -> None:
    """Say in a sound bundle from which score on an image is called positive; the weights stay.

    Killed in between, the bundle is without its manifest: the training that it belongs to writes it again.
    """
    config = read_config(folder)
    named = sorted(verify_manifest(folder, required=[WEIGHTS, CONFIG], allowed=BUNDLE_FILES, unchecked=[WEIGHTS]))
    delete(folder / MANIFEST)
    write_json(folder / CONFIG, config.model_copy(update={"calling": rule}).model_dump(mode="json"))
    write_manifest(folder, named)


def put_onnx(folder: Path, data: bytes) -> Path:
    """Add `model.onnx` to a sound bundle, in place of an older one.

    Killed in between, the bundle is as it was, or without the file.
    """
    named = set(verify_manifest(folder, required=[WEIGHTS, CONFIG], allowed=BUNDLE_FILES))
    write_manifest(folder, sorted(named - {ONNX}))
    write_bytes(folder / ONNX, data)
    write_manifest(folder, sorted(named | {ONNX}))
    return folder / ONNX


def find_bundles(run: Path) -> list[Path]:
    """The bundle of a run, those of its folds, or the folder itself if it is one.

    Raises:
        BundleError: `BUN_MISSING` if there is none.
    """
    if (run / CONFIG).is_file():
        return [run]
    if (run / "bundle" / CONFIG).is_file():
        return [run / "bundle"]
    folds = sorted(path.parent for path in run.glob("folds/*/bundle/config.json"))
    if folds:
        return folds
    if not run.is_dir():
        raise BundleError(f"'{run}' does not exist.", code="BUN_MISSING")
    raise BundleError(
        f"'{run}' holds no finished model. If training was stopped, go on with --resume.", code="BUN_MISSING"
    )
