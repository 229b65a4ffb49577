"""Weights without patients: what is generated, and what a pretraining leaves behind."""

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import plainfilm
from plainfilm.cli import run as run_command
from plainfilm.config import RunOptions
from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.errors import PlainfilmError
from plainfilm.models import create_model
from plainfilm.models.shipped import ShippedFile
from plainfilm.pretraining.acquisition import acquire
from plainfilm.pretraining.examples import generated
from plainfilm.pretraining.formulas import FAMILIES
from plainfilm.pretraining.options import FAMILY_NAMES, PretrainOptions
from plainfilm.storage import sha256_of
from small_runs import train_small, write_small_data

TINY = PretrainOptions(epochs=2, epoch_images=128, image_size=32, batch_size=32)


def test_the_families_that_can_be_named_are_those_there_are():
    assert tuple(FAMILIES) == FAMILY_NAMES


@pytest.mark.parametrize("name", FAMILIES)
def test_a_formula_draws_pictures_with_something_on_them(name):
    torch.manual_seed(0)
    family = FAMILIES[name](0)

    images = family.draw(torch.arange(family.num_classes), 48)

    assert images.shape == (family.num_classes, 48, 48)
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images.flatten(1).std(dim=1) > 0.01).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_two_images_of_one_class_differ(name):
    torch.manual_seed(0)

    first, second = FAMILIES[name](0).draw(torch.zeros(2, dtype=torch.int64), 48)

    assert (first - second).abs().mean() > 0.001


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_draws_the_same_images(name):
    def drawn():
        torch.manual_seed(3)
        return FAMILIES[name](5).draw(torch.arange(4), 32)

    assert torch.equal(drawn(), drawn())


def test_thinner_and_thicker_walls_are_different_classes():
    torch.manual_seed(0)
    ellipses = FAMILIES["ellipses"](0)
    small = torch.zeros(64, dtype=torch.int64)  # the smallest cavity, and everything else the least
    large = small + 3 * 27  # the largest cavity

    def contrast(classes):
        images = ellipses.draw(classes, 64)
        body = images[:, 20:44, 20:44]
        return (body.std(dim=(1, 2))).mean()

    assert contrast(large) > 1.2 * contrast(small)


def test_a_sicker_phantom_has_larger_ventricles_in_the_same_slice():
    torch.manual_seed(0)
    phantoms = FAMILIES["phantoms"](0)
    healthy, ill = (torch.full((24,), 4 * severity + 1) for severity in (0, 3))  # of the same level

    def fluid(classes):
        middle = phantoms.draw(classes, 64)[:, 20:44, 24:40]
        return (middle < 0.25).float().mean()

    assert fluid(ill) > 1.3 * fluid(healthy)


def test_the_usual_families_leave_out_the_phantoms_that_a_demonstration_is_made_of():
    assert "phantoms" not in PretrainOptions().families


def test_acquisition_keeps_range_and_number_and_changes_every_image():
    torch.manual_seed(0)
    images = FAMILIES["ellipses"](0).draw(torch.zeros(8, dtype=torch.int64), 32)

    acquired = acquire(images)

    assert acquired.shape == images.shape
    assert acquired.min() >= 0
    assert acquired.max() <= 1
    assert ((acquired - images).abs().mean(dim=(1, 2)) > 0.005).all()


def test_every_family_is_drawn_as_often_as_any_other():
    examples = generated(FAMILY_NAMES, n_images=400, size=32, seed=0)
    counts = np.histogram(examples.labels, bins=examples._starts)[0]

    assert counts.tolist() == [80] * 5
    assert examples.num_classes == sum(FAMILIES[name](0).num_classes for name in FAMILY_NAMES)


def test_validation_images_are_the_same_at_every_look():
    examples = generated(["textures"], n_images=16, size=32, seed=0)
    rows, cpu = np.arange(8), torch.device("cpu")

    first = examples.load(rows, cpu)
    torch.rand(7)

    assert torch.equal(first, examples.load(rows, cpu))
    assert not torch.equal(first, examples.load(rows, cpu, training_epoch=1))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return plainfilm.pretrain(options=TINY, output=tmp_path_factory.mktemp("pretrained") / "weights")


def test_a_pretraining_leaves_weights_that_a_training_can_begin_from(pretrained):
    model = create_model("resnet1d", num_classes=3, weights=pretrained.weights)
    tensors = load_file(pretrained.weights)

    assert "head.weight" not in tensors
    assert torch.equal(model.state_dict()["stem.conv.weight"], tensors["stem.conv.weight"])


def test_the_recipe_says_what_was_done(pretrained):
    folder = pretrained.weights.parent
    recipe = json.loads((folder / "recipe.json").read_text())

    assert recipe["images_seen"] == 256
    assert recipe["options"] == TINY.model_dump(mode="json")
    assert recipe["sha256"] in (folder / "README.md").read_text()
    assert {"samples.png", "history.csv", "curves.png"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "checkpoints").exists()


def test_a_pretraining_goes_on_from_the_weights_of_another(pretrained, tmp_path):
    options = TINY.model_copy(update={"begin_from": str(pretrained.weights), "epochs": 1, "learning_rate": 1e-9})

    more = plainfilm.pretrain(options=options, output=tmp_path / "more")

    before, after = load_file(pretrained.weights), load_file(more.weights)
    assert torch.allclose(before["stem.conv.weight"], after["stem.conv.weight"], atol=1e-6)
    assert more.recipe["began_from_sha256"] == pretrained.recipe["sha256"]


def test_weights_to_go_on_from_have_to_be_there(tmp_path):
    options = TINY.model_copy(update={"begin_from": str(tmp_path / "gone.safetensors")})

    assert code_of(plainfilm.pretrain, options=options, output=tmp_path / "more") == "BUN_MISSING"
    assert not (tmp_path / "more").exists()


def test_the_same_seed_gives_the_same_weights(pretrained, tmp_path):
    again = plainfilm.pretrain(options=TINY, output=tmp_path / "again")

    assert again.recipe["sha256"] == pretrained.recipe["sha256"]


def test_a_stopped_pretraining_goes_on_to_the_same_weights(pretrained, tmp_path, monkeypatch):
    from plainfilm.reporting.history import LiveHistory

    def stop(self, history):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(LiveHistory, "__call__", stop)
        with pytest.raises(PlainfilmError, match=r"Stopped|stopped"):
            plainfilm.pretrain(options=TINY, output=tmp_path / "stopped")

    resumed = plainfilm.pretrain(options=TINY, output=tmp_path / "stopped", resume=True)

    assert resumed.recipe["sha256"] == pretrained.recipe["sha256"]


def test_a_stopped_pretraining_is_not_gone_on_with_in_another_way(pretrained):
    with pytest.raises(PlainfilmError) as refused:
        plainfilm.pretrain(options=TINY, output=pretrained.weights.parent, resume=True)
    assert refused.value.code == "OPT_RESUME"


def test_a_folder_without_labels_is_enough(tmp_path):
    phantoms = write_phantoms(tmp_path / "images", PhantomOptions(patients=70, images_per_patient=1, size=32))

    made = plainfilm.pretrain(phantoms.folder, TINY, output=tmp_path / "weights", workers=0)

    assert made.recipe["classes"] == 70
    assert not [name for name in load_file(made.weights) if name.startswith("head")]


def test_a_handful_of_images_is_too_few(tmp_path):
    phantoms = write_phantoms(tmp_path / "images", PhantomOptions(patients=5, images_per_patient=1, size=32))

    with pytest.raises(PlainfilmError) as refused:
        plainfilm.pretrain(phantoms.folder, TINY, output=tmp_path / "weights", workers=0)
    assert refused.value.code == "PRE_TOO_FEW"


def test_a_network_of_three_channels_is_refused(tmp_path):
    with pytest.raises(PlainfilmError) as refused:
        plainfilm.pretrain(options=PretrainOptions(model="timm:resnet18"), output=tmp_path / "weights")
    assert refused.value.code == "PRE_MODEL"


def test_an_unknown_family_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="fractals"):
        PretrainOptions(families=("fractal",))


# --- the weights inside plainfilm -------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A copy of the weights inside plainfilm, which may be spoilt."""
    from plainfilm.models import shipped

    folder = tmp_path / "pretrained"
    shutil.copytree(Path(plainfilm.__file__).parent / "models" / "pretrained", folder)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Whoever opens a socket fails."""

    def refuse(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)


def code_of(call, *arguments, **options):
    with pytest.raises(PlainfilmError) as refused:
        call(*arguments, **options)
    return refused.value.code


def test_resnet1d_begins_from_the_weights_inside_plainfilm(no_network):
    tensors = load_file(Path(plainfilm.__file__).parent / "models" / "pretrained" / "resnet1d.safetensors")
    model = create_model("resnet1d", num_classes=3, weights="pretrained").state_dict()

    assert {name for name in model if name not in tensors} == {"head.weight", "head.bias"}
    assert all(torch.equal(model[name], tensor) for name, tensor in tensors.items())


def test_their_recipe_and_card_are_those_of_the_file():
    folder = Path(plainfilm.__file__).parent / "models" / "pretrained"
    recipe = ShippedFile("resnet1d").recipe()

    assert recipe["sha256"] == sha256_of(folder / "resnet1d.safetensors")
    assert recipe["sha256"] in (folder / "resnet1d.md").read_text()
    assert recipe["options"]["model"] == "resnet1d"
    assert (
        recipe["options"].items() <= PretrainOptions.model_validate(recipe["options"]).model_dump(mode="json").items()
    )
    assert recipe["learnt_from"].startswith("generated images")
    assert (folder / "resnet1d.safetensors").stat().st_size <= 12_000_000


def test_weights_whose_hash_differs_are_refused(installed):
    path = installed / "resnet1d.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    assert code_of(create_model, "resnet1d", num_classes=2, weights="pretrained") == "BUN_DAMAGED"


@pytest.mark.parametrize("name", ["resnet1d.safetensors", "resnet1d.json"])
def test_an_installation_without_one_of_the_files_is_refused(installed, name):
    (installed / name).unlink()

    assert code_of(create_model, "resnet1d", num_classes=2, weights="pretrained") == "BUN_MISSING"


def test_a_damaged_recipe_is_refused(installed):
    (installed / "resnet1d.json").write_text("{")

    assert code_of(create_model, "resnet1d", num_classes=2, weights="pretrained") == "BUN_DAMAGED"


def test_training_begins_from_them_and_the_report_says_so(tmp_path, no_network):
    run = train_small(write_small_data(tmp_path / "data"), tmp_path / "run", pretrained=True, epochs=1)
    facts = json.loads(run.facts.read_text())

    assert facts["model"]["weights"] == "resnet1d.safetensors inside plainfilm"
    assert facts["model"]["licence"].startswith("Apache-2.0")
    assert "mean and SD of the weights" in facts["folds"][0]["preprocessing"]
    assert "resnet1d.safetensors inside plainfilm" in (run.folder / "report.html").read_text()


def test_a_model_without_weights_inside_is_refused_before_anything_is_written(tmp_path):
    manifest = write_small_data(tmp_path / "data")

    code = code_of(train_small, manifest, tmp_path / "run", model="lenet5", pretrained=True)

    assert code == "NO_WEIGHTS"
    assert not (tmp_path / "run").exists()
    options = RunOptions.from_flat({"model": "lenet5", "pretrained": True})
    assert code_of(plainfilm.verbs.plan, manifest, options) == "NO_WEIGHTS"


def test_two_beginnings_at_once_are_refused():
    assert code_of(RunOptions.from_flat, {"pretrained": True, "weights": "w.safetensors"}) == "OPT_INVALID"


def test_the_command_takes_the_flag(tmp_path, capsys):
    status = run_command(["train", str(tmp_path), "--model", "lenet5", "--pretrained", "--weights", "pretrained"])

    assert status == 2
    assert "one of the two" in capsys.readouterr().err
