"""Bundles: a model as files, refused before a tensor is used if anything about them is not what was written."""

import json
import re
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from plainfilm.bundle import (
    CONFIG,
    WEIGHTS,
    Architecture,
    BundleConfig,
    find_bundles,
    load_bundle,
    read_config,
    save_bundle,
)
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.errors import BundleError
from plainfilm.models import create_model
from plainfilm.storage import sha256_of, write_json, write_manifest

CLASSES = ("healthy", "ill")
CONFIG_OF_TEST = BundleConfig(
    architecture=Architecture(name="resnet1d", adapter="conv1x1", num_classes=2, image_size=32),
    classes=CLASSES,
    preprocessing=Preprocessing(height=32, width=32, fit="pad", mean=0.25, std=0.125, source="a test"),
    data={"training_images": 3},
)


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return create_model("resnet1d", num_classes=2, image_size=32).state_dict()


@pytest.fixture(scope="module")
def written(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("written") / "bundle"
    save_bundle(folder, weights, CONFIG_OF_TEST, card="# A model\n")
    return folder


@pytest.fixture
def folder(tmp_path, written):
    return shutil.copytree(written, tmp_path / "bundle")


def refused(folder) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert caught.value.exit_code == 3
    assert str(folder.parent) not in str(caught.value)
    return caught.value.code


def forge(folder, weights=None, metadata=None, **changes) -> None:
    """Change a bundle as somebody does who makes all the hashes fit."""
    if weights is not None:
        save_file(weights, folder / WEIGHTS, metadata=metadata or {"classes": json.dumps(CLASSES)})
    raw = json.loads((folder / CONFIG).read_text())
    write_json(folder / CONFIG, raw | {"weights_sha256": sha256_of(folder / WEIGHTS)} | changes)
    write_manifest(folder, [WEIGHTS, CONFIG])


def test_a_bundle_comes_back_as_it_was(written, weights):
    bundle = load_bundle(written)

    assert bundle.config.classes == CLASSES
    assert bundle.config.preprocessing == CONFIG_OF_TEST.preprocessing
    assert not bundle.model.training
    assert all(torch.equal(value, weights[name]) for name, value in bundle.model.state_dict().items())


def test_a_bundle_is_laid_out_as_model_hubs_read_it(written):
    assert sorted(path.name for path in written.iterdir()) == [
        "README.md",
        "config.json",
        "manifest.json",
        "model.safetensors",
    ]
    with safe_open(written / WEIGHTS, framework="pt") as file:
        assert json.loads(file.metadata()["classes"]) == list(CLASSES)


def test_the_same_weights_give_the_same_bytes(tmp_path, written, weights):
    for number in range(5):
        save_bundle(tmp_path / str(number), weights, CONFIG_OF_TEST, card="")
        assert sha256_of(tmp_path / str(number) / WEIGHTS) == sha256_of(written / WEIGHTS)


def test_the_model_card_is_for_people_to_edit(folder):
    (folder / "README.md").write_text("Made by us, for adults.\n")

    assert load_bundle(folder).config.classes == CLASSES


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([WEIGHTS, CONFIG]), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_one_flipped_bit_is_noticed(tmp_path, written, name, where, bit):
    folder = tmp_path / "bundle"
    if not folder.exists():
        shutil.copytree(written, folder)
    path = folder / name
    position = int(where * path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))

    try:
        assert refused(folder) == "BUN_DAMAGED"
    finally:
        with path.open("r+b") as file:
            file.seek(position)
            file.write(bytes([byte]))


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, "manifest.json"])
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()

    assert refused(folder) == "BUN_MISSING"


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, "manifest.json"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(folder, name, share):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(share * (len(data) - 2))])

    assert refused(folder) == "BUN_DAMAGED"


@pytest.mark.parametrize("name", ["../../x", "/etc/hostname", "a/../../x"])
def test_a_manifest_that_leaves_its_folder_is_refused(folder, name):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][name] = "0" * 64
    write_json(folder / "manifest.json", manifest)

    assert refused(folder) == "BUN_OUTSIDE"


def test_classes_in_another_order_are_refused_whoever_swapped_them(folder):
    raw = json.loads((folder / CONFIG).read_text())
    raw["classes"].reverse()
    write_json(folder / CONFIG, raw)
    assert refused(folder) == "BUN_DAMAGED"

    write_manifest(folder, [WEIGHTS, CONFIG])
    assert refused(folder) == "BUN_CLASSES"


@pytest.mark.parametrize(
    ("classes", "code"),
    [(["a", "b", "c"], "BUN_CLASSES"), (["a", "a"], "BUN_CLASSES"), ([], "BUN_CLASSES"), ("ab", "BUN_DAMAGED")],
)
def test_classes_that_are_not_one_name_for_each_score_are_refused(folder, classes, code):
    forge(folder, classes=classes)

    assert refused(folder) == code


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_another_schema_is_refused_by_number(folder, schema):
    forge(folder, schema_version=schema)

    assert refused(folder) == "BUN_SCHEMA"
    with pytest.raises(BundleError, match=re.escape(str(schema))):
        read_config(folder)


@pytest.mark.parametrize("content", ["[]", "null", "{", '"classes"', "[" * 100_000])
def test_a_config_that_is_no_config_is_refused(folder, content):
    (folder / CONFIG).write_text(content)
    write_manifest(folder, [WEIGHTS, CONFIG])

    assert refused(folder) in {"BUN_SCHEMA", "BUN_DAMAGED"}


def test_a_config_of_many_megabytes_is_not_read(folder):
    with (folder / CONFIG).open("r+b") as file:
        file.truncate(20 << 20)

    assert refused(folder) == "BUN_DAMAGED"


def test_an_unknown_field_is_refused_by_name(folder):
    forge(folder, on_load="print")

    with pytest.raises(BundleError, match="on_load"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "resnet1e"},
        {"name": "timm:../../x"},
        {"name": "vgg17"},
    ],
    ids=str,
)
def test_an_architecture_that_cannot_be_built_is_a_fault_of_the_bundle(folder, change):
    forge(folder, architecture=CONFIG_OF_TEST.architecture.model_dump() | change)

    assert refused(folder) == "BUN_ARCHITECTURE"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"image_size": 64}, "BUN_SHAPE"),
        ({"image_size": 10**6}, "BUN_DAMAGED"),
        ({"num_classes": 10**9}, "BUN_DAMAGED"),
        ({"adapter": "exec"}, "BUN_DAMAGED"),
    ],
    ids=str,
)
def test_an_architecture_that_does_not_fit_or_asks_for_too_much_is_refused(folder, change, code):
    forge(folder, architecture=CONFIG_OF_TEST.architecture.model_dump() | change)

    assert refused(folder) == code


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(folder, weights, value):
    forge(folder, weights | {"head.bias": torch.tensor([0.0, value])})

    with pytest.raises(BundleError, match=r"head\.bias"):
        load_bundle(folder)
    assert refused(folder) == "BUN_NOT_FINITE"


def test_a_tensor_of_another_shape_is_refused_by_name(folder, weights):
    forge(folder, weights | {"head.bias": torch.zeros(3)})

    with pytest.raises(BundleError, match=r"head\.bias"):
        load_bundle(folder)
    assert refused(folder) == "BUN_SHAPE"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.uint8])
def test_a_tensor_of_another_type_is_refused_by_name(folder, weights, dtype):
    forge(folder, weights | {"head.bias": torch.zeros(2, dtype=dtype)})

    with pytest.raises(BundleError, match=r"head\.bias"):
        load_bundle(folder)
    assert refused(folder) == "BUN_SHAPE"


def test_a_tensor_too_many_or_too_few_is_refused(folder, weights):
    forge(folder, weights | {"extra": torch.zeros(1)})
    assert refused(folder) == "BUN_SHAPE"

    forge(folder, {name: value for name, value in weights.items() if name != "head.bias"})
    assert refused(folder) == "BUN_SHAPE"


def test_weights_for_another_number_of_classes_are_refused(folder):
    other = create_model("resnet1d", num_classes=3, image_size=32).state_dict()
    forge(folder, other)

    assert refused(folder) == "BUN_SHAPE"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.", "BUN_FORMAT"),
        (b"PK\x03\x04" + b"\0" * 60, "BUN_FORMAT"),
        (b"", "BUN_FORMAT"),
        ((100 << 20).to_bytes(8, "little") + b"{" + b" " * 1000, "BUN_DAMAGED"),
        ((2**63).to_bytes(8, "little") + b"{}", "BUN_DAMAGED"),
        ((2).to_bytes(8, "little") + b"{}" + b"\0" * 100, "BUN_DAMAGED"),
        ((20).to_bytes(8, "little") + b"{" * 20, "BUN_DAMAGED"),
    ],
    ids=["pickle", "zip of torch.save", "empty", "header of 100 MB", "header of 8 EiB", "trailing bytes", "bad JSON"],
)
def test_what_only_calls_itself_safetensors_is_refused(folder, data, code):
    (folder / WEIGHTS).write_bytes(data)
    forge(folder)

    assert refused(folder) == code


def test_weights_without_class_names_are_refused(folder, weights):
    forge(folder, weights, metadata={"format": "pt"})

    assert refused(folder) == "BUN_CLASSES"


def test_weights_saved_again_are_other_weights(folder):
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS)

    assert refused(folder) == "BUN_DAMAGED"


def test_bundles_are_found_in_a_run_in_its_folds_and_by_themselves(tmp_path, written):
    for place in ("run/bundle", "folds/folds/1/bundle", "folds/folds/2/bundle"):
        shutil.copytree(written, tmp_path / place)

    assert find_bundles(written) == [written]
    assert find_bundles(tmp_path / "run") == [tmp_path / "run" / "bundle"]
    assert find_bundles(tmp_path / "folds") == [tmp_path / "folds" / "folds" / str(fold) / "bundle" for fold in (1, 2)]
    with pytest.raises(BundleError, match="does not exist"):
        find_bundles(tmp_path / "absent")
    with pytest.raises(BundleError, match="--resume"):
        find_bundles(tmp_path)
