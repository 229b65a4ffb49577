"""A trained model as files: weights in safetensors, everything else in JSON, nothing that executes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from plainfilm import __version__
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.errors import BundleError
from plainfilm.storage import make_folder, read_json, sha256_of, write_bytes, write_json, write_text

if TYPE_CHECKING:
    import torch
    from torch import nn

SCHEMA = 1
WEIGHTS = "model.safetensors"
MAX_CONFIG_BYTES = 16 << 20


class Architecture(BaseModel):
    """What must be built before the weights can be loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    adapter: Literal["conv1x1", "sum", "replicate"]
    num_classes: int
    in_channels: int = 1
    image_size: int


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


@dataclass(frozen=True)
class Bundle:
    """A model ready to predict, and what it was told."""

    model: nn.Module
    config: BundleConfig


def save_bundle(folder: Path, weights: Mapping[str, torch.Tensor], config: BundleConfig, *, card: str) -> None:
    """Write `model.safetensors`, `config.json` and the model card `README.md`."""
    from safetensors.torch import save

    make_folder(folder)
    write_bytes(folder / WEIGHTS, save({name: value.contiguous() for name, value in weights.items()}))
    digest = sha256_of(folder / WEIGHTS)
    write_text(folder / "README.md", card)
    write_json(folder / "config.json", config.model_copy(update={"weights_sha256": digest}).model_dump(mode="json"))


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle; every file is checked before a tensor is touched.

    Raises:
        BundleError: `BUN_MISSING`, `BUN_DAMAGED`, `BUN_SCHEMA`, `BUN_CLASSES`, `BUN_SHAPE`, `BUN_NOT_FINITE`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from plainfilm.models import create_model

    config = read_config(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise BundleError(f"'{WEIGHTS}' is missing.", code="BUN_MISSING")
    if sha256_of(path) != config.weights_sha256:
        raise BundleError(f"'{WEIGHTS}' is not the file that was written: its hash differs.", code="BUN_DAMAGED")
    try:
        weights = load_file(path)
    except SafetensorError:
        raise BundleError(f"'{WEIGHTS}' is not sound safetensors.", code="BUN_DAMAGED") from None
    broken = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise BundleError(
            f"the weights hold values that are not numbers, first in '{broken[0]}'.", code="BUN_NOT_FINITE"
        )
    shape = config.architecture
    model = create_model(
        shape.name,
        num_classes=shape.num_classes,
        adapter=shape.adapter,
        image_size=shape.image_size,
    )
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise BundleError(f"the weights do not fit '{shape.name}': {first}", code="BUN_SHAPE") from None
    return Bundle(model.eval(), config)


def read_config(folder: Path) -> BundleConfig:
    """Read and check `config.json` alone.

    Raises:
        BundleError: As `load_bundle`.
    """
    path = folder / "config.json"
    if path.is_file() and path.stat().st_size > MAX_CONFIG_BYTES:
        raise BundleError("'config.json' is far too large.", code="BUN_DAMAGED")
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("schema_version") != SCHEMA:
        found = raw.get("schema_version") if isinstance(raw, dict) else None
        raise BundleError(f"this bundle has schema {found}; this plainfilm reads {SCHEMA}.", code="BUN_SCHEMA")
    try:
        config = BundleConfig.model_validate(raw)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BundleError(f"'config.json' is damaged at '{where}'.", code="BUN_DAMAGED") from None
    if len(set(config.classes)) != len(config.classes) or len(config.classes) != config.architecture.num_classes:
        raise BundleError(
            f"{len(config.classes)} class names for {config.architecture.num_classes} scores.",
            code="BUN_CLASSES",
        )
    return config


def find_bundles(run: Path) -> list[Path]:
    """The bundle of a run, those of its folds, or the folder itself if it is one.

    Raises:
        BundleError: `BUN_MISSING` if there is none.
    """
    if (run / "config.json").is_file():
        return [run]
    if (run / "bundle" / "config.json").is_file():
        return [run / "bundle"]
    folds = sorted(path.parent for path in run.glob("folds/*/bundle/config.json"))
    if folds:
        return folds
    if not run.is_dir():
        raise BundleError(f"'{run}' does not exist.", code="BUN_MISSING")
    raise BundleError(
        f"'{run}' holds no finished model. If training was stopped, go on with --resume.", code="BUN_MISSING"
    )
