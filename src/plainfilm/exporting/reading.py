"""An ONNX file of ours, read with distrust, and what its metadata says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plainfilm.abstention import Abstention
from plainfilm.calling import CallingRule
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.errors import BundleError, UsageError
from plainfilm.exporting.guards import check_graph
from plainfilm.exporting.seal import check_seal
from plainfilm.novelty import Gate

if TYPE_CHECKING:
    import onnx

SCHEMA = 1
SUFFIX = ".onnx"
IMAGE = "image"
OPSET = 20
MAX_BYTES = 2**31 - 1  # what a protobuf message can hold
MAX_CLASSES = 100_000
MAX_SIDE = 4096
MAX_TEXT = 1 << 24


class OnnxFacts(BaseModel):
    """The metadata of an exported model; in the file every value is text, lists and classes as JSON.

    Attributes:
        schema_version: Of this list.
        task: What the model does.
        classes: Names in the order of the scores.
        preprocessing: What is left to do to an image; its normalisation is in the graph.
        temperature: What the logits are divided by before their softmax is the scores.
        abstention: When nothing is said.
        calling: From which score on an image is called positive.
        novelty: Which images are unlike those of the training.
        architecture: Name of the model.
        models: How many models (folds) give the mean.
        model_version: First digits of the hash of the weights.
        sha256_weights: Hash of each `model.safetensors`, in the order of the folds.
        license: Of the weights the training began from.
        split_unit: What the scores of this model are worth: `patient` or `image`.
        plainfilm_version: What wrote the file.
        purpose: What it is not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    task: str = "image-classification"
    classes: tuple[str, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    preprocessing: Preprocessing
    temperature: float = Field(gt=0, allow_inf_nan=False)
    abstention: Abstention
    calling: CallingRule = CallingRule()
    novelty: Gate
    architecture: str
    models: int = Field(1, ge=1)
    model_version: str
    sha256_weights: tuple[str, ...]
    license: str
    split_unit: str
    plainfilm_version: str
    purpose: str = "Research software, not a medical device."

    def to_metadata(self) -> dict[str, str]:
        """Text to text, as ONNX has it."""
        values = self.model_dump(mode="json")
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> OnnxFacts:
        """From the file.

        Raises:
            BundleError: `BUN_SCHEMA`, `BUN_CLASSES` or `BUN_DAMAGED`.
        """
        if metadata.get("schema_version") != str(SCHEMA):
            raise BundleError("the ONNX file has metadata of another version of plainfilm.", code="BUN_SCHEMA")
        texts = {name for name, field in cls.model_fields.items() if field.annotation is str}
        try:
            values = {name: text if name in texts else json.loads(text) for name, text in metadata.items()}
            facts = cls.model_validate(values)
        except ValidationError as error:
            where = str(error.errors()[0]["loc"][0])
            code = "BUN_CLASSES" if where == "classes" else "BUN_DAMAGED"
            raise BundleError(f"the metadata of the ONNX file are damaged at '{where[:40]}'.", code=code) from None
        except (ValueError, RecursionError):
            raise BundleError("the metadata of the ONNX file are not JSON.", code="BUN_DAMAGED") from None
        if len(set(facts.classes)) != len(facts.classes):
            raise BundleError("the ONNX file names a class twice.", code="BUN_CLASSES")
        if not (facts.abstention.fits(facts.classes) and facts.calling.fits(facts.classes)):
            raise BundleError("the ONNX file answers by rules about other classes than its own.", code="BUN_CLASSES")
        return facts


@dataclass(frozen=True)
class OnnxModel:
    """A file that was found sound.

    Attributes:
        data: Its bytes.
        facts: Its metadata.
        outputs: Names of what it gives.
    """

    data: bytes
    facts: OnnxFacts
    outputs: tuple[str, ...]


def read_onnx(path: Path) -> OnnxModel:
    """Read an exported model; the hash first, then metadata, tensors and graph. Nothing is run.

    Raises:
        BundleError: `BUN_MISSING`, `BUN_FORMAT`, `BUN_DAMAGED`, `BUN_SCHEMA`, `BUN_CLASSES`, `BUN_SHAPE`,
            `BUN_OPERATOR`, `BUN_OUTSIDE`, `BUN_TOO_LARGE` or `BUN_NOT_FINITE`.
        UsageError: `MISSING_EXTRA` without the packages that read it.
    """
    require_onnx()
    if not path.is_file():
        raise BundleError(f"'{path.name}' is missing.", code="BUN_MISSING")
    if path.stat().st_size > MAX_BYTES:
        raise BundleError(f"'{path.name}' is larger than an ONNX file can be.", code="BUN_TOO_LARGE")
    try:
        data = path.read_bytes()
    except OSError:
        raise BundleError(f"'{path.name}' cannot be read.", code="BUN_DAMAGED") from None
    return parse_onnx(data, shown=f"'{path.name}'")


def parse_onnx(data: bytes, *, shown: str) -> OnnxModel:
    """As `read_onnx`, from bytes."""
    import onnx

    check_seal(data, shown=shown)
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:  # protobuf's errors differ between its implementations
        raise BundleError(f"{shown}: not an ONNX file.", code="BUN_FORMAT") from None
    facts = OnnxFacts.from_metadata(_metadata(model))
    outputs = _check_doors(model, facts)
    check_graph(model)
    return OnnxModel(data, facts, outputs)


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    """All but the seal; no key twice, or two readers could see two models."""
    entries = [(entry.key, entry.value) for entry in model.metadata_props]
    if len({key for key, _ in entries}) != len(entries) or sum(len(value) for _, value in entries) > MAX_TEXT:
        raise BundleError("the metadata of the ONNX file are not sound.", code="BUN_DAMAGED")
    return {key: value for key, value in entries if key != "sha256"}


def _check_doors(model: onnx.ModelProto, facts: OnnxFacts) -> tuple[str, ...]:
    """What goes in and comes out must be what the metadata say."""
    from onnx import TensorProto

    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    size = (facts.preprocessing.height, facts.preprocessing.width)
    if max(size) > MAX_SIDE or min(size) < 1:
        raise BundleError("the ONNX file takes images of an impossible size.", code="BUN_SHAPE")
    if [(value.name, _sides(value)[1:]) for value in inputs] != [(IMAGE, (1, *size))]:
        raise BundleError("the ONNX file does not take the images that its metadata say.", code="BUN_SHAPE")
    found = {value.name: _sides(value)[1:] for value in model.graph.output}
    known = [("logits", (len(facts.classes),)), ("probabilities", (len(facts.classes),)), ("distances", (2,))]
    expected = dict(known if facts.novelty.neighbour_limit is not None else known[:2])
    if found != expected:
        raise BundleError("the ONNX file does not give a score for each class name.", code="BUN_CLASSES")
    values = [*inputs, *model.graph.output]
    if any(value.type.tensor_type.elem_type != TensorProto.FLOAT for value in values):
        raise BundleError("the ONNX file does not work with 32-bit floats.", code="BUN_SHAPE")
    return tuple(found)


def _sides(value: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def require_onnx(packages: Sequence[str] = ("onnx", "onnxruntime")) -> None:
    """Refuse, in words, to work with ONNX where what it takes is not installed.

    Raises:
        UsageError: `MISSING_EXTRA`.
    """
    from importlib.util import find_spec

    absent = [name for name in packages if find_spec(name) is None]
    if absent:
        raise UsageError(
            f"ONNX needs {', '.join(absent)}. Install it with: pip install 'plainfilm[onnx]'", code="MISSING_EXTRA"
        )
