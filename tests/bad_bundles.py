"""Hostile and damaged bundles and ONNX files, made on demand from sound ones, each with the codes it may be refused by.

Where a case leaves the hashes wrong, a careless copy is meant; where it makes them right again, somebody's intent.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from plainfilm.bundle import CONFIG, NOVELTY, ONNX, WEIGHTS
from plainfilm.exporting.seal import sealed
from plainfilm.storage import MANIFEST, sha256_of, write_json, write_manifest

Change = Callable[[Path], None]


@dataclass(frozen=True)
class BadBundle:
    """One way to spoil a sound bundle, and what it must be refused with.

    Attributes:
        of_features: What is spoilt are the features of the training images, which only `predict` and `export` need.
    """

    name: str
    code: str
    spoil: Change
    of_features: bool = False


class Bomb:
    """What a pickle may do when it is opened: here, make a file that the tests look for."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (self.path, "w"))


# --- tools --------------------------------------------------------------------------------------------------


def agree(folder: Path, *, weights: bool = True, **changes: object) -> None:
    """Make every hash fit again, as somebody would who wants the bundle to be loaded."""
    raw = json.loads((folder / CONFIG).read_text())
    if weights:
        raw["weights_sha256"] = sha256_of(folder / WEIGHTS)
    write_json(folder / CONFIG, raw | changes)
    write_manifest(folder, [name for name in (WEIGHTS, CONFIG, NOVELTY, ONNX) if (folder / name).is_file()])


def nested(folder: Path, section: str, **changes: object) -> None:
    raw = json.loads((folder / CONFIG).read_text())
    agree(folder, **{section: raw[section] | changes})


def rewrite(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], classes: object = ("healthy", "ill")
) -> None:
    tensors = load_file(folder / WEIGHTS)
    changed = change(tensors)
    save_file(changed if isinstance(changed, dict) else tensors, folder / WEIGHTS, {"classes": json.dumps(classes)})
    agree(folder)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def weigh(folder: Path, data: bytes) -> None:
    (folder / WEIGHTS).write_bytes(data)
    agree(folder)


def manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    change(raw["sha256"])
    write_json(folder / MANIFEST, raw)


def link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def raw_config(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text)
    write_manifest(folder, [WEIGHTS, CONFIG])


def torch_saved(folder: Path) -> None:
    """As `torch.save` writes: a zip with a pickle in it, which opens a file."""
    with zipfile.ZipFile(folder / WEIGHTS, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(str(folder.parent / "opened"))))
    agree(folder)


def header(folder: Path, entries: dict[str, object], body: bytes = b"") -> None:
    text = json.dumps({"__metadata__": {"classes": json.dumps(["healthy", "ill"])}, **entries}).encode()
    weigh(folder, struct.pack("<Q", len(text)) + text + body)


def moved(folder: Path) -> None:
    """The weights elsewhere, and a link in their place."""
    elsewhere = folder.parent / "elsewhere.safetensors"
    shutil.move(folder / WEIGHTS, elsewhere)
    link(folder / WEIGHTS, elsewhere)


def gate(folder: Path, **changes: object) -> None:
    raw = json.loads((folder / CONFIG).read_text())
    agree(folder, novelty=raw["novelty"] | changes)


def spoilt(weights: dict[str, torch.Tensor], value: float) -> dict[str, torch.Tensor]:
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = value
    return weights


def with_nan(folder: Path) -> None:
    text = (folder / CONFIG).read_text().replace('"temperature": 1.0', '"temperature": NaN')
    assert "NaN" in text
    raw_config(folder, text)


BUNDLES = [
    # careless
    BadBundle("weights cut at 99 %", "BUN_DAMAGED", lambda f: cut(f / WEIGHTS, 0.99)),
    BadBundle("weights cut at 1 %", "BUN_DAMAGED", lambda f: cut(f / WEIGHTS, 0.01)),
    BadBundle("weights empty", "BUN_DAMAGED", lambda f: cut(f / WEIGHTS, 0)),
    BadBundle("config cut in half", "BUN_DAMAGED", lambda f: cut(f / CONFIG, 0.5)),
    BadBundle("manifest cut in half", "BUN_DAMAGED", lambda f: cut(f / MANIFEST, 0.5)),
    BadBundle("one bit of the weights", "BUN_DAMAGED", lambda f: flip(f / WEIGHTS, 70_000)),
    BadBundle("one bit of the weights' header", "BUN_DAMAGED", lambda f: flip(f / WEIGHTS, 20)),
    BadBundle("one bit of the config", "BUN_DAMAGED", lambda f: flip(f / CONFIG, 100)),
    BadBundle("one bit of a hash", "BUN_DAMAGED", lambda f: flip(f / MANIFEST, 60)),
    BadBundle(
        "another hash of the weights in the manifest",
        "BUN_DAMAGED",
        lambda f: manifest(f, lambda m: m.update({WEIGHTS: "0" * 64})),
    ),
    BadBundle("no weights", "BUN_MISSING", lambda f: (f / WEIGHTS).unlink()),
    BadBundle("no config", "BUN_MISSING", lambda f: (f / CONFIG).unlink()),
    BadBundle("no manifest", "BUN_MISSING", lambda f: (f / MANIFEST).unlink()),
    BadBundle("a script beside the weights", "BUN_EXTRA", lambda f: (f / "modeling.py").write_text("import os")),
    BadBundle("a pickle beside the weights", "BUN_EXTRA", lambda f: (f / "pytorch_model.bin").write_bytes(b"\x80")),
    BadBundle("a folder in it", "BUN_EXTRA", lambda f: (f / "code").mkdir()),
    # names and links
    BadBundle("manifest names ../../x", "BUN_OUTSIDE", lambda f: manifest(f, lambda m: m.update({"../../x": "0"}))),
    BadBundle(
        "manifest names /etc/passwd", "BUN_OUTSIDE", lambda f: manifest(f, lambda m: m.update({"/etc/passwd": "0"}))
    ),
    BadBundle(
        "manifest names one file a million times",
        "BUN_DAMAGED",
        lambda f: manifest(f, lambda m: m.update({f"{'./' * 9}{n}": "0" * 64 for n in range(300_000)})),
    ),
    BadBundle(
        "manifest names one file by many ways",
        "BUN_EXTRA",
        lambda f: manifest(f, lambda m: m.update({f"{'./' * n}{WEIGHTS}": m[WEIGHTS] for n in range(1, 2000)})),
    ),
    BadBundle("manifest without the config", "BUN_DAMAGED", lambda f: manifest(f, lambda m: m.pop(CONFIG))),
    BadBundle(
        "manifest with numbers for hashes", "BUN_DAMAGED", lambda f: manifest(f, lambda m: m.update({CONFIG: 1}))
    ),
    BadBundle("weights are a link out of the bundle", "BUN_OUTSIDE", moved),
    BadBundle("card is a link to a secret", "BUN_OUTSIDE", lambda f: link(f / "README.md", Path("/etc/hostname"))),
    BadBundle("weights are a link to /dev/zero", "BUN_OUTSIDE", lambda f: link(f / WEIGHTS, Path("/dev/zero"))),
    BadBundle("weights are a pipe", "BUN_MISSING", lambda f: ((f / WEIGHTS).unlink(), os.mkfifo(f / WEIGHTS))[1]),
    # the weights, with hashes that fit
    BadBundle(
        "pickle renamed to .safetensors",
        "BUN_FORMAT",
        lambda f: weigh(f, pickle.dumps(Bomb(str(f.parent / "opened")))),
    ),
    BadBundle("torch.save renamed to .safetensors", "BUN_FORMAT", torch_saved),
    BadBundle("header of 100 MB declared", "BUN_DAMAGED", lambda f: weigh(f, struct.pack("<Q", 100 << 20) + b"{" * 99)),
    BadBundle(
        "header of 100 MB", "BUN_DAMAGED", lambda f: weigh(f, struct.pack("<Q", 100 << 20) + b"{" + b" " * (100 << 20))
    ),
    BadBundle("header of 8 EiB declared", "BUN_DAMAGED", lambda f: weigh(f, struct.pack("<Q", 2**63) + b"{}")),
    BadBundle("header is no JSON", "BUN_DAMAGED", lambda f: weigh(f, struct.pack("<Q", 64) + b"{" * 64)),
    BadBundle(
        "tensor of 4 TB declared",
        "BUN_DAMAGED",
        lambda f: header(f, {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, b"1234"),
    ),
    BadBundle(
        "tensors that overlap",
        "BUN_DAMAGED",
        lambda f: header(f, {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in ("a", "b")}, b"1234"),
    ),
    BadBundle("another tensor", "BUN_SHAPE", lambda f: rewrite(f, lambda w: w | {"x": torch.zeros(1)})),
    BadBundle("a tensor less", "BUN_SHAPE", lambda f: rewrite(f, lambda w: w.popitem() and w)),
    BadBundle(
        "a tensor of another shape", "BUN_SHAPE", lambda f: rewrite(f, lambda w: {n: v[None] for n, v in w.items()})
    ),
    BadBundle(
        "tensors of another type", "BUN_SHAPE", lambda f: rewrite(f, lambda w: {n: v.double() for n, v in w.items()})
    ),
    BadBundle("NaN in the weights", "BUN_NOT_FINITE", lambda f: rewrite(f, lambda w: spoilt(w, float("nan")))),
    BadBundle("infinite weights", "BUN_NOT_FINITE", lambda f: rewrite(f, lambda w: spoilt(w, float("-inf")))),
    BadBundle("weights name classes in another order", "BUN_CLASSES", lambda f: rewrite(f, dict, ("ill", "healthy"))),
    # the config, with hashes that fit
    BadBundle("classes swapped", "BUN_CLASSES", lambda f: agree(f, classes=["ill", "healthy"])),
    BadBundle("one class more", "BUN_CLASSES", lambda f: agree(f, classes=["healthy", "ill", "x"])),
    BadBundle("a class twice", "BUN_CLASSES", lambda f: agree(f, classes=["ill", "ill"])),
    BadBundle(
        "abstains by other classes",
        "BUN_CLASSES",
        lambda f: agree(
            f,
            abstention={
                "classes": {"x": {"threshold": 0.5, "n_patients": 9, "coverage_low": 0.5, "coverage_high": 1.0}}
            },
        ),
    ),
    BadBundle(
        "calls other classes positive",
        "BUN_CLASSES",
        lambda f: agree(f, calling={"positive": ["x"], "threshold": 0.5}),
    ),
    BadBundle(
        "calls everything positive",
        "BUN_CLASSES",
        lambda f: agree(f, calling={"positive": ["healthy", "ill"], "threshold": 0.5}),
    ),
    BadBundle("a million classes", "BUN_CLASSES", lambda f: agree(f, classes=[str(n) for n in range(1_000_000)])),
    BadBundle(
        "a million scores, and classes",
        "BUN_DAMAGED",
        lambda f: (
            agree(f, classes=[str(n) for n in range(1_000_000)]),
            nested(f, "architecture", num_classes=1_000_000),
        )[1],
    ),
    BadBundle("older schema", "BUN_SCHEMA", lambda f: agree(f, schema_version=0)),
    BadBundle("newer schema", "BUN_SCHEMA", lambda f: agree(f, schema_version=99)),
    BadBundle("no schema", "BUN_SCHEMA", lambda f: raw_config(f, "{}")),
    BadBundle("an unknown field", "BUN_DAMAGED", lambda f: agree(f, auto_map={"AutoModel": "modeling.Evil"})),
    BadBundle("nested 100,000 deep", "BUN_DAMAGED", lambda f: raw_config(f, '{"a":' * 100_000)),
    BadBundle(
        "nested 5,000 deep, and closed", "BUN_DAMAGED", lambda f: raw_config(f, "[" * 5_000_000 + "]" * 5_000_000)
    ),
    BadBundle("config of 20 MB", "BUN_DAMAGED", lambda f: raw_config(f, " " * (20 << 20) + "{}")),
    BadBundle(
        "config is not UTF-8",
        "BUN_DAMAGED",
        lambda f: ((f / CONFIG).write_bytes(b"\xff\xfe{}"), write_manifest(f, [WEIGHTS, CONFIG]))[1],
    ),
    BadBundle("temperature NaN", "BUN_DAMAGED", with_nan),
    BadBundle("temperature 0", "BUN_DAMAGED", lambda f: nested(f, "calibration", temperature=0)),
    BadBundle("temperature below 0", "BUN_DAMAGED", lambda f: nested(f, "calibration", temperature=-1.5)),
    BadBundle("a model that does not exist", "BUN_ARCHITECTURE", lambda f: nested(f, "architecture", name="resnet1e")),
    BadBundle("a model by its path", "BUN_ARCHITECTURE", lambda f: nested(f, "architecture", name="timm:local-dir:/x")),
    BadBundle(
        "a model of a billion numbers",
        "BUN_SHAPE",
        lambda f: nested(f, "architecture", name="timm:eva_giant_patch14_224"),
    ),
    BadBundle("images of another size", "BUN_SHAPE", lambda f: nested(f, "preprocessing", height=64)),
    BadBundle("images of a million", "BUN_DAMAGED", lambda f: nested(f, "architecture", image_size=10**6)),
    BadBundle("values that divide by zero", "BUN_DAMAGED", lambda f: nested(f, "preprocessing", std=0)),
    BadBundle("NaN in the preprocessing", "BUN_DAMAGED", lambda f: nested(f, "preprocessing", low=1.0, high=1.0)),
    # the features of the training images
    BadBundle(
        "limits without features",
        "BUN_DAMAGED",
        lambda f: gate(f, neighbour_limit=1.0, class_limit=1.0),
        of_features=True,
    ),
    BadBundle("one limit of two", "BUN_DAMAGED", lambda f: gate(f, neighbour_limit=1.0)),
    BadBundle("features that no manifest names", "BUN_EXTRA", lambda f: (f / NOVELTY).write_bytes(b"x")),
    BadBundle(
        "features are a pickle",
        "BUN_DAMAGED",
        lambda f: (
            (f / NOVELTY).write_bytes(pickle.dumps(Bomb(str(f.parent / "opened")))),
            gate(f, neighbour_limit=1.0, class_limit=1.0),
        )[1],
        of_features=True,
    ),
    BadBundle(
        "features of other shapes",
        "BUN_SHAPE",
        lambda f: (
            save_file(
                {n: torch.zeros(3, 7) for n in ("images", "classes", "whitening", "center", "scale")}, f / NOVELTY
            ),
            gate(f, neighbour_limit=1.0, class_limit=1.0),
        )[1],
        of_features=True,
    ),
]


# --- ONNX ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BadOnnx:
    """One way to spoil an ONNX file, and what it must be refused with."""

    name: str
    code: str
    spoil: Callable[[bytes], bytes]


def again(change: Callable[[object], object]) -> Callable[[bytes], bytes]:
    """Change the parsed file, and seal it as if it were ours."""

    def spoil(data: bytes) -> bytes:
        import onnx

        model = onnx.ModelProto.FromString(data)
        kept = [entry for entry in model.metadata_props if entry.key != "sha256"]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        change(model)
        return sealed(model.SerializeToString())

    return spoil


def said(key: str, value: str | None) -> Callable[[bytes], bytes]:
    """Another text under a key of the metadata; None takes it out."""

    def change(model) -> None:
        kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != key]
        del model.metadata_props[:]
        for name, text in [*kept, *([(key, value)] if value is not None else [])]:
            model.metadata_props.add(key=name, value=text)

    return again(change)


def external(model) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def hidden_external(model) -> None:
    """The same inside a node, where some readers do not look."""
    import onnx

    tensor = onnx.TensorProto(dims=[4], data_type=1, data_location=1)
    tensor.external_data.add(key="location", value="../../secret")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["planted"], value=tensor))


def node(kind: str, *inputs: str, domain: str = "", **attributes: object) -> Callable[[bytes], bytes]:
    def change(model) -> None:
        import onnx

        model.graph.node.append(onnx.helper.make_node(kind, inputs, ["planted"], domain=domain, **attributes))

    return again(change)


def growing(kind: str, sides: list[int]) -> Callable[[bytes], bytes]:
    """A few bytes that ask for terabytes."""

    def change(model) -> None:
        import onnx

        model.graph.initializer.append(onnx.helper.make_tensor("sides", 7, [len(sides)], sides))
        inputs = ["sides"] if kind == "ConstantOfShape" else ["image", "sides"]
        model.graph.node.append(onnx.helper.make_node(kind, inputs, ["planted"]))

    return again(change)


def loop(model) -> None:
    import onnx

    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [onnx.helper.make_tensor_value_info("i", 7, []), onnx.helper.make_tensor_value_info("go", 9, [])],
        [onnx.helper.make_tensor_value_info("on", 9, [])],
    )
    model.graph.initializer.append(onnx.helper.make_tensor("times", 7, [], [2**62]))
    model.graph.initializer.append(onnx.helper.make_tensor("true", 9, [], [True]))
    model.graph.node.append(onnx.helper.make_node("Loop", ["times", "true"], [], body=body))


def function(model) -> None:
    import onnx

    model.functions.append(
        onnx.helper.make_function("local", "Relu", ["x"], ["y"], [onnx.helper.make_node("Relu", ["x"], ["y"])], [])
    )


def sparse(model) -> None:
    import onnx

    model.graph.sparse_initializer.append(onnx.SparseTensorProto(dims=[2**40]))


def nan_weight(model) -> None:
    import numpy as np
    from onnx import numpy_helper

    tensor = next(t for t in model.graph.initializer if t.data_type == 1 and len(t.dims) > 1)
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def declared(model) -> None:
    model.graph.initializer[0].dims[:] = [2**40]


def negative(model) -> None:
    model.graph.initializer[0].dims[:] = [-4]


def output_gone(model) -> None:
    del model.graph.output[1]


def other_input(model) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3


def another_input(model) -> None:
    model.graph.input.add().CopyFrom(model.graph.input[0])
    model.graph.input[1].name = "second"


def unknown_type(model) -> None:
    model.graph.initializer[0].data_type = 99


def cycle(model) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def twice(model) -> None:
    model.metadata_props.add(key="classes", value='["ill", "healthy"]')


def nodes(model) -> None:
    import onnx

    model.graph.node.extend([onnx.helper.make_node("Identity", ["image"], [f"n{i}"]) for i in range(60_000)])


def reparsed(data: bytes) -> bytes:
    """A file that another program read and wrote again: the same model, other bytes."""
    import onnx

    return onnx.ModelProto.FromString(data).SerializeToString()[:-1]


ONNX_FILES = [
    BadOnnx("empty", "BUN_FORMAT", lambda d: b""),
    BadOnnx("cut in half", "BUN_FORMAT", lambda d: d[: len(d) // 2]),
    BadOnnx("cut by one byte", "BUN_DAMAGED", lambda d: d[:-1]),
    BadOnnx("a pickle", "BUN_FORMAT", lambda d: pickle.dumps({"a": 1}) * 40),
    BadOnnx("bytes behind", "BUN_DAMAGED", lambda d: d + b"x"),
    BadOnnx("sealed nonsense", "BUN_FORMAT", lambda d: sealed(hashlib.sha512(b"x").digest() * 40)),
    BadOnnx("another seal", "BUN_DAMAGED", lambda d: d[:100] + b"0" + d[101:]),
    BadOnnx("without one byte", "BUN_DAMAGED", reparsed),
    BadOnnx("tensors from ../../../../etc/passwd", "BUN_OUTSIDE", again(external)),
    BadOnnx("a constant from ../../secret", "BUN_OUTSIDE", again(hidden_external)),
    BadOnnx("an operator of somebody's", "BUN_OPERATOR", node("Evil", "image", domain="com.evil")),
    BadOnnx("an operator that does not exist", "BUN_OPERATOR", node("Rlu", "image")),
    BadOnnx("a function of its own", "BUN_OPERATOR", again(function)),
    BadOnnx("a loop without end", "BUN_OPERATOR", again(loop)),
    BadOnnx("sparse terabytes", "BUN_OPERATOR", again(sparse)),
    BadOnnx("an initialiser of 4 TB declared", "BUN_DAMAGED", again(declared)),
    BadOnnx("an initialiser of negative size", "BUN_DAMAGED", again(negative)),
    BadOnnx("an initialiser of unknown type", "BUN_DAMAGED", again(unknown_type)),
    BadOnnx("zeros by the terabyte", "BUN_TOO_LARGE", growing("ConstantOfShape", [2**20, 2**20])),
    BadOnnx("an image spread over terabytes", "BUN_TOO_LARGE", growing("Expand", [16, 2**20, 32, 32])),
    BadOnnx("an image tiled over terabytes", "BUN_TOO_LARGE", growing("Tile", [1, 2**20, 64, 64])),
    BadOnnx("a size that depends on the image", "BUN_TOO_LARGE", node("NonZero", "image")),
    BadOnnx("60,000 nodes", "BUN_TOO_LARGE", again(nodes)),
    BadOnnx("a circle", "BUN_DAMAGED", again(cycle)),
    BadOnnx("NaN in the weights", "BUN_NOT_FINITE", again(nan_weight)),
    BadOnnx("no probabilities", "BUN_CLASSES", again(output_gone)),
    BadOnnx("three channels", "BUN_SHAPE", again(other_input)),
    BadOnnx("a second input", "BUN_SHAPE", again(another_input)),
    BadOnnx("no schema", "BUN_SCHEMA", said("schema_version", None)),
    BadOnnx("newer schema", "BUN_SCHEMA", said("schema_version", "2")),
    BadOnnx("classes are no JSON", "BUN_DAMAGED", said("classes", "healthy, ill")),
    BadOnnx("classes are a number", "BUN_CLASSES", said("classes", "7")),
    BadOnnx("no classes", "BUN_CLASSES", said("classes", "[]")),
    BadOnnx("one class more", "BUN_CLASSES", said("classes", '["healthy", "ill", "x"]')),
    BadOnnx("a class twice", "BUN_CLASSES", said("classes", '["ill", "ill"]')),
    BadOnnx("a million classes", "BUN_CLASSES", said("classes", json.dumps([str(n) for n in range(1_000_000)]))),
    BadOnnx("classes twice", "BUN_DAMAGED", again(twice)),
    BadOnnx("classes nested deep", "BUN_DAMAGED", said("classes", "[" * 200_000)),
    BadOnnx("temperature NaN", "BUN_DAMAGED", said("temperature", "NaN")),
    BadOnnx("temperature 0", "BUN_DAMAGED", said("temperature", "0")),
    BadOnnx("temperature is text", "BUN_DAMAGED", said("temperature", '"warm"')),
    BadOnnx(
        "preprocessing of another size", "BUN_SHAPE", said("preprocessing", '{"height": 64, "width": 64, "fit": "pad"}')
    ),
    BadOnnx(
        "images of a billion", "BUN_SHAPE", said("preprocessing", '{"height": 1000000000, "width": 1, "fit": "pad"}')
    ),
    BadOnnx("an unknown key", "BUN_DAMAGED", said("on_load", "os.system")),
    BadOnnx(
        "abstains by other classes",
        "BUN_CLASSES",
        said(
            "abstention",
            '{"classes": {"x": {"threshold": 0.5, "n_patients": 9, "coverage_low": 0.5, "coverage_high": 1.0}}}',
        ),
    ),
    BadOnnx("calls other classes positive", "BUN_CLASSES", said("calling", '{"positive": ["x"], "threshold": 0.5}')),
    BadOnnx("a threshold of 7", "BUN_DAMAGED", said("calling", '{"positive": ["ill"], "threshold": 7}')),
    BadOnnx(
        "distances that it does not give",
        "BUN_CLASSES",
        said("novelty", '{"bits": [8], "neighbour_limit": 1.0, "class_limit": 1.0}'),
    ),
]
