"""Exports: a file that gives the model's own scores, is whole by itself, and tells nothing of this machine."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import plainfilm
from plainfilm import verbs
from plainfilm.abstention import Abstention, ClassThreshold
from plainfilm.bundle import CONFIG, ONNX, load_bundle, read_config
from plainfilm.calibration import Calibration
from plainfilm.calling import CallingRule
from plainfilm.cli import run as cli
from plainfilm.errors import BundleError, DataError, UsageError
from plainfilm.exporting.folder import LICENCES, REQUIREMENTS, check_folder
from plainfilm.exporting.reading import read_onnx
from plainfilm.exporting.writing import BOUND
from plainfilm.runs import Run, open_run
from plainfilm.storage import verify_manifest, write_manifest
from small_runs import command, train_small, write_bundle, write_small_data

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

HALF = ClassThreshold(threshold=0.5, n_patients=50, coverage_low=0.8, coverage_high=0.99)
ABSTAINS = Abstention(classes={"healthy": HALF.model_copy(update={"threshold": 0.4}), "ill": HALF}, reason="")
CALLS = CallingRule(positive=("ill",), threshold=0.5, rule="youden", n_positive=20, n_negative=30, reason="")
WARM = Calibration(temperature=1.7, n_images=9, n_patients=9, reason="")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("images") / "phantoms", patients=10)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with everything a bundle may have, and its ONNX file."""
    folder = write_bundle(
        tmp_path_factory.mktemp("b") / "bundle",
        model="resnet1d",
        learnt=True,
        calibration=WARM,
        abstention=ABSTAINS,
        calling=CALLS,
    )
    verbs.export(folder)
    return folder


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """Two models as a cross-validated run keeps them, and their ONNX file elsewhere."""
    run = tmp_path_factory.mktemp("folds") / "run"
    for number in (1, 2):
        write_bundle(run / "folds" / str(number) / "bundle", seed=number, calibration=WARM)
    verbs.export(run, output=run.parent / "folds.onnx")
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory, images):
    return train_small(images, tmp_path_factory.mktemp("runs") / "run", epochs=1, model="lenet5")


def both(run, images, **options):
    one, _ = verbs.predict(run, images, workers=0, **options)
    other, _ = verbs.predict(run, images, workers=0, engine="onnx", **options)
    return one, other


# --- the same scores ----------------------------------------------------------------------------------------


def test_both_engines_give_one_table(bundle, images):
    torch, exported = both(bundle, images)

    assert np.abs(torch.scores - exported.scores).max() < 1e-5 < BOUND
    assert np.allclose(exported.scores.sum(axis=1), 1, atol=1e-12)
    columns = ["path", "label", "patient_id", "split", "call", "answer", "abstains", "set", "unlike_training"]
    assert exported.table[columns].equals(torch.table[columns])
    ill = torch.scores[:, torch.classes.index("ill")]
    assert torch.table["call"].tolist() == ["positive" if score >= 0.5 else "negative" for score in ill]
    assert list(exported.to_frame().columns) == list(torch.to_frame().columns)


def test_the_distances_to_the_training_images_are_in_the_file(bundle, images):
    torch, exported = both(bundle, images)

    far = torch.table["unlike_training"] == "yes"
    assert far.any()
    assert (exported.table["unlike_why"][far].str.contains("as far as the limit")).all()


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_does_not_matter(bundle, images, batch_size):
    usual, _ = verbs.predict(bundle, images, workers=0, engine="onnx")
    other, _ = verbs.predict(bundle, images, workers=0, engine="onnx", batch_size=batch_size)

    assert np.abs(usual.scores - other.scores).max() < 1e-6


def test_the_file_alone_is_enough(bundle, images, tmp_path):
    mailed = shutil.copyfile(bundle / ONNX, tmp_path / "mailed.onnx")

    alone, _ = verbs.predict(mailed, images, workers=0)

    beside, _ = verbs.predict(bundle, images, workers=0, engine="onnx")
    assert np.array_equal(alone.scores, beside.scores)
    assert alone.table.equals(beside.table)


def test_the_mean_of_all_folds_is_in_one_file(folds, images):
    torch, _ = verbs.predict(folds, images, workers=0)
    exported, _ = verbs.predict(folds.parent / "folds.onnx", images, workers=0)

    single = [verbs.predict(folds / "folds" / str(n) / "bundle", images, workers=0)[0].scores for n in (1, 2)]
    assert np.abs(single[0] - single[1]).max() > 0.01  # else the mean would show nothing
    assert np.abs(torch.scores - exported.scores).max() < 1e-5
    assert not {"abstains", "call"} & set(exported.table)


def test_sixteen_bit_images_score_alike(bundle, tmp_path):
    torch, exported = both(bundle, write_small_data(tmp_path / "16", patients=2, bits=16))

    assert np.abs(torch.scores - exported.scores).max() < 1e-5


def test_the_command_takes_the_file_for_the_model(bundle, images, tmp_path, capsys):
    assert cli(["predict", str(bundle / ONNX), str(images), "-o", str(tmp_path / "p.csv"), "--workers", "0", "-q"]) == 0
    assert len(pd.read_csv(tmp_path / "p.csv")) == 40
    arguments = ["predict", str(bundle), str(images), "--engine", "onnx", "--device", "cuda", "-q", "--workers", "0"]
    assert cli([*arguments, "-o", str(tmp_path / "q.csv")]) == 2
    assert "[OPT_ENGINE]" in capsys.readouterr().err
    arguments = ["predict", str(bundle / ONNX), str(images), "--precision", "bf16-mixed", "-q", "--workers", "0"]
    assert cli([*arguments, "-o", str(tmp_path / "q.csv")]) == 2
    assert "[OPT_ENGINE]" in capsys.readouterr().err


# --- what the file says -------------------------------------------------------------------------------------


def test_the_metadata_say_what_is_needed_to_use_it_elsewhere(bundle):
    model = onnx.load(bundle / ONNX)
    said = {entry.key: entry.value for entry in model.metadata_props}

    config = read_config(bundle)
    assert json.loads(said["classes"]) == ["healthy", "ill"]
    assert (json.loads(said["preprocessing"])["height"], json.loads(said["preprocessing"])["mean"]) == (32, 0.0)
    assert float(said["temperature"]) == 1.7
    assert json.loads(said["abstention"])["classes"]["ill"]["threshold"] == 0.5
    assert said["task"] == "image-classification"
    assert json.loads(said["sha256_weights"]) == [config.weights_sha256]
    assert said["license"] == "none (weights began at random)"
    assert config.weights_sha256.startswith(said["model_version"])
    (image,) = model.graph.input
    sides = [side.dim_param or side.dim_value for side in image.type.tensor_type.shape.dim]
    assert (image.name, sides) == ("image", ["batch", 1, 32, 32])
    assert [value.name for value in model.graph.output] == ["logits", "probabilities", "distances"]
    onnx.checker.check_model(model, full_check=True)


def test_whoever_knows_onnx_alone_gets_the_same_probabilities(bundle, images):
    import onnxruntime
    from PIL import Image

    name = pd.read_csv(images)["path"][0]
    grey = np.asarray(Image.open(images.parent / name), dtype=np.float32)[None, None] / 255
    session = onnxruntime.InferenceSession(str(bundle / ONNX), providers=["CPUExecutionProvider"])

    (found,) = session.run(["probabilities"], {"image": grey})

    expected, _ = verbs.predict(bundle, images.parent / name, workers=0)
    assert np.abs(found[0] - expected.scores[0]).max() < 1e-6


def test_the_file_names_no_path_of_this_machine(bundle, folds):
    for data in ((bundle / ONNX).read_bytes(), (folds.parent / "folds.onnx").read_bytes()):
        for telling in (b"site-packages", b".py", b"/home", b"/root", b"/tmp", b"/work", b"stack_trace"):
            assert telling not in data


# --- what is refused ----------------------------------------------------------------------------------------


def test_a_file_with_other_scores_is_not_kept(folds, tmp_path):
    with pytest.raises(DataError, match="was not kept") as caught:
        verbs.export(folds / "folds" / "1" / "bundle", output=tmp_path / "m.onnx", bound=1e-15)
    assert caught.value.code == "ONX_PARITY"
    assert not list(tmp_path.iterdir())


def test_one_flipped_bit_is_found_before_anything_is_parsed(bundle, tmp_path):
    data = (bundle / ONNX).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "m.onnx"
    for place in [*rng.integers(0, len(data), 20), *range(len(data) - 80, len(data), 3)]:
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << int(rng.integers(8)))]) + data[place + 1 :])
        with pytest.raises(BundleError) as caught:
            read_onnx(path)
        assert caught.value.code in {"BUN_DAMAGED", "BUN_FORMAT"}


def test_an_export_of_other_weights_is_refused(bundle, tmp_path):
    other = write_bundle(tmp_path / "other", model="resnet1d", seed=3)
    shutil.copyfile(bundle / ONNX, other / ONNX)
    write_manifest(other, [CONFIG, "model.safetensors", ONNX])

    with pytest.raises(BundleError, match="other weights") as caught:
        verbs.predict(other, tmp_path, engine="onnx")
    assert caught.value.code == "BUN_MISMATCH"


def test_without_an_export_the_command_to_make_one_is_named(tmp_path, images):
    with pytest.raises(BundleError, match="plainfilm export RUN") as caught:
        verbs.predict(write_bundle(tmp_path / "b"), images, engine="onnx")
    assert caught.value.code == "BUN_MISSING"


def test_a_missing_extra_is_named(bundle, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else real(name))

    with pytest.raises(UsageError, match=r"plainfilm\[onnx\]") as caught:
        verbs.export(bundle)
    assert caught.value.code == "MISSING_EXTRA"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"output": "a.onnx", "folder": "b"}, "OPT_OUTPUT"),
        ({"output": "a.pt"}, "OPT_OUTPUT"),
        ({"output": "there.onnx"}, "OUT_EXISTS"),
        ({"folder": "strange"}, "OUT_STRANGE"),
        ({"folder": "there.onnx"}, "OUT_EXISTS"),
    ],
    ids=str,
)
def test_a_place_that_cannot_be_written_is_said_before_the_work(bundle, tmp_path, monkeypatch, options, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").write_bytes(b"x")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.tex").write_text("x")

    with pytest.raises(UsageError) as caught:
        verbs.export(bundle, **options)
    assert caught.value.code == code
    assert (tmp_path / "there.onnx").read_bytes() == b"x"


# --- runs and folders ---------------------------------------------------------------------------------------


def test_export_of_a_run_lies_in_its_bundle_and_the_run_stays_sound(finished, images, capsys):
    assert cli(["export", str(finished.folder), "--check", str(images), "--workers", "0", "-q"]) == 0

    said = capsys.readouterr().out
    assert "largest difference of a score" in said
    assert "40 images of yours" in said
    assert (finished.folder / "bundle" / ONNX).is_file()
    assert "bundle/model.onnx" in verify_manifest(open_run(finished.folder).folder)
    torch, exported = both(finished.folder, images)
    assert np.abs(torch.scores - exported.scores).max() < 1e-5


def test_a_run_that_was_changed_is_not_blessed_by_an_export(finished, tmp_path):
    spoilt = shutil.copytree(finished.folder, tmp_path / "run")
    (spoilt / "evaluation.json").write_text("{}")

    with pytest.raises(BundleError, match=r"evaluation\.json"):
        verbs.export(spoilt)
    assert (Run(spoilt).folder / "evaluation.json").read_text() == "{}"


@pytest.fixture(scope="module")
def carried(finished, folds, tmp_path_factory):
    """A single model and one of two folds, each as a folder to carry away."""
    place = tmp_path_factory.mktemp("carried")
    verbs.export(finished.folder, folder=place / "single")
    verbs.export(folds, folder=place / "folds")
    return {"single": (finished.folder, place / "single"), "folds": (folds, place / "folds")}


@pytest.mark.long
@pytest.mark.parametrize("which", ["single", "folds"])
def test_a_folder_to_carry_away_predicts_without_a_network(carried, which, images, tmp_path):
    run, folder = carried[which]

    names = verify_manifest(folder)
    assert {"README.md", "LICENSE", LICENCES, REQUIREMENTS} <= set(names)
    assert not [name for name in names if name.endswith((".parquet", ".csv", ".png", ".html"))]
    assert "HF_HUB_OFFLINE=1" in (folder / "README.md").read_text()
    assert "://" not in "".join((folder / name).read_text() for name in ("README.md", REQUIREMENTS, LICENCES))
    expected, _ = verbs.predict(run, images, workers=0)
    engine = {"single": "torch", "folds": "onnx"}[which]
    done = command(
        *("predict", ".", images, "--engine", engine, "-o", tmp_path / "scores.csv", "-q", "--workers", 0),
        cwd=folder,
        env={"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(plainfilm.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(tmp_path / "scores.csv")[f"score_{expected.classes[1]}"]
    assert np.abs(scores - expected.scores[:, 1]).max() < 1e-5


def test_the_requirements_are_what_is_installed(carried):
    from importlib.metadata import version

    lines = (carried["single"][1] / REQUIREMENTS).read_text().splitlines()
    packages = dict(line.split("==") for line in lines)

    assert {"torch", "onnxruntime", "safetensors", "numpy"} <= packages.keys()
    assert all(version(name).partition("+")[0] == pinned for name, pinned in packages.items())


def test_a_changed_or_added_file_of_the_folder_is_found(carried, images, tmp_path):
    folder = shutil.copytree(carried["folds"][1], tmp_path / "copy")
    check_folder(folder)

    (folder / "extra.py").write_text("print('hello')")
    with pytest.raises(BundleError) as caught:
        verbs.predict(folder, images)
    assert caught.value.code == "BUN_EXTRA"
    (folder / "extra.py").unlink()
    (folder / "folds" / "1" / "bundle" / "README.md").write_text("Another card.")
    with pytest.raises(BundleError) as caught:
        verbs.predict(folder, images)
    assert caught.value.code == "BUN_DAMAGED"


def test_a_folder_is_replaced_only_if_asked(carried, folds, tmp_path):
    folder = shutil.copytree(carried["folds"][1], tmp_path / "copy")
    with pytest.raises(UsageError, match="--overwrite"):
        verbs.export(folds, folder=folder)
    (folder / "old.txt").write_text("of an earlier export")

    verbs.export(folds, folder=folder, overwrite=True)

    check_folder(folder)


def test_a_bundle_by_itself_is_evaluated_on_other_data(finished, images):
    evaluation = verbs.evaluate(finished.folder / "bundle", images)

    assert evaluation.n_images == 40
    assert any("for you to know" in note for note in evaluation.notes)
    with pytest.raises(BundleError):
        verbs.evaluate(finished.folder / "bundle")


def test_distances_of_the_file_are_those_of_the_reference(bundle, images):
    from plainfilm.data.scanning import scan_as_prepared
    from plainfilm.data.sources import list_images
    from plainfilm.exporting.scoring import onnx_scores
    from plainfilm.verbs.gating import NoveltyCheck

    loaded = load_bundle(bundle)
    table, pixels = scan_as_prepared(list_images(images), loaded.config.preprocessing, workers=0)
    found = onnx_scores(read_onnx(bundle / ONNX), pixels, batch_size=16).distances
    expected = NoveltyCheck.load(bundle, loaded, device="cpu")._distances(pixels)

    assert found.shape == (len(table), 2)
    assert np.abs(found / expected - 1).max() < 1e-3
