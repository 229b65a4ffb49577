"""`plainfilm explain` from the command line, and the heat maps beside the pictures of a report."""

import json

import numpy as np
import pytest
from PIL import Image

from plainfilm import verbs
from plainfilm.bundle import load_bundle
from plainfilm.cli import run as cli
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.prediction import Predictions
from plainfilm.reporting import write_report
from plainfilm.reporting.assembly import assemble_report, save_examples
from plainfilm.reporting.content import HeatFacts
from plainfilm.runs import Run
from plainfilm.verbs.explaining import explain
from plainfilm.verbs.gallery import example_explainer
from small_runs import train_small, write_small_data

QUICK = ["--methods", "gradcam", "--check-draws", "1", "--check-steps", "2", "--workers", "0", "-q"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return train_small(data, tmp_path_factory.mktemp("runs") / "run", gallery=False)


@pytest.fixture
def typed(capsys):
    """Runs a command in this process; gives exit status, standard output and standard error."""

    def call(*arguments):
        status = cli([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def explained(run, data, tmp_path_factory):
    """A folder with everything the command can write."""
    folder = tmp_path_factory.mktemp("explained") / "out"
    flags = ["--all-methods", "--most-images", "8", "--mask-marks", "--mask-box", "0,0,0.3,0.3", "--paste", "L"]
    arguments = ["explain", run.folder, data, "-o", folder, *QUICK, *flags, "--maps", "stem.conv"]
    assert cli([str(argument) for argument in arguments]) == 0
    return folder


def test_page_numbers_and_pictures_are_written(explained):
    facts = json.loads((explained / "explain.json").read_text())
    pictures = [explained / image["heatmaps"]["gradcam"] for image in facts["images"]]

    assert {path.name for path in explained.iterdir()} == {
        "explain.html",
        "explain.json",
        "feature-maps.png",
        "heatmaps",
    }
    assert len(pictures) == 8
    for path in pictures:
        with Image.open(path) as picture:
            assert (picture.size, picture.mode) == ((32, 32), "RGB")
    assert [effect["name"] for effect in facts["effects"]] == ["marks painted out", "boxes painted out", "paste L"]
    assert facts["effects"][1]["n_touched"] == 8
    assert facts["maps"]["shape"] == [16, 16, 16]
    assert facts["layer"] == "stages.1"  # of 32x32 pixels, the later maps have fewer than 4x4 cells


def test_classes_and_patients_have_equal_shares_of_the_images(explained):
    images = json.loads((explained / "explain.json").read_text())["images"]

    assert [image["truth"] for image in images].count("normal") == 4
    assert len({image["path"].split("_")[0] for image in images}) == 8


def test_the_scores_are_those_that_predict_gives(explained, run, data):
    images = json.loads((explained / "explain.json").read_text())["images"]
    predictions, table = verbs.predict(run.folder, data, workers=0)
    row_of = {path: row for row, path in enumerate(table.rows["path"])}

    for image in images:
        scores = predictions.scores[row_of[image["path"]]]
        np.testing.assert_allclose(list(image["scores"].values()), scores, atol=1e-5)


def test_an_explanation_is_replaced_only_when_asked_and_nothing_else_is(typed, run, data, explained):
    again = ("explain", run.folder, data, *QUICK, "--check-images", "0", "--most-images", "1")

    assert typed(*again, "-o", explained)[2].endswith("[OUT_EXISTS]\n")
    assert typed(*again, "-o", run.folder / "out")[2].endswith("[RUN_EXISTS]\n")
    assert typed(*again, "-o", data.parent)[2].endswith("[OUT_STRANGE]\n")
    status, out, _ = typed(*again, "-o", explained, "--overwrite")
    assert status == 0
    assert out.splitlines()[-1] == f"page: {explained / 'explain.html'}"
    assert len(list((explained / "heatmaps").iterdir())) == 1


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--methods", "grad-cam"], "UNKNOWN_METHOD", "Did you mean 'gradcam'?"),
        (["--target-class", "abnormol"], "UNKNOWN_CLASS", "Did you mean 'abnormal'?"),
        (["--target-layer", "stages.7"], "XAI_LAYER", "Did you mean 'stages."),
        (["--maps", "stem.con"], "XAI_LAYER", "Did you mean 'stem.conv'?"),
        (["--of-fold", "2"], "XAI_FOLD", "the run has 1"),
        (["--weights", "x.safetensors"], "XAI_WEIGHTS", "model:NAME"),
        (["--mask-box", "1,2,3"], "USAGE", "a box is four numbers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_fault_is_one_line_and_leaves_nothing(typed, run, data, tmp_path, flags, code, said):
    status, out, err = typed("explain", run.folder, data, "-o", tmp_path / "out", "--workers", "0", "-q", *flags)

    assert (status, out) == (2, "")
    assert err.endswith(f"[{code}]\n")
    assert said in err
    assert not (tmp_path / "out").exists()


def test_a_model_by_its_name_shows_feature_maps_and_says_that_its_weights_are_random(typed, data, tmp_path):
    status, out, _ = typed(
        "explain", "model:resnet1d", data, "--maps", "stem.conv", "-o", tmp_path / "out", "--workers", "0", "-q"
    )

    assert status == 0
    assert "stem.conv: 16 maps of 64x64, weights: random" in out
    assert "weights: random" in (tmp_path / "out" / "explain.html").read_text()
    assert typed("explain", "model:resnet1d", data, "-o", tmp_path / "no", "-q")[2].endswith("[XAI_NO_CLASSES]\n")


def test_the_methods_are_listed_with_cost_and_paper(typed):
    status, out, _ = typed("explain", "x", "y", "--methods", "list")

    assert status == 0
    assert "arXiv 1610.02391" in out


def test_any_class_can_be_explained(run, data):
    from plainfilm.explanation.options import ExplainOptions

    options = ExplainOptions(methods=("gradient",), target_class="normal", check_images=0, most_images=2)
    found = explain(run.folder, data, options, workers=0)

    assert [image.explained for image in found.images] == ["normal", "normal"]
    assert found.checks[0].verdict == "unchecked"
    assert found.layer is None  # a gradient needs none


# --- the gallery of a report --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gallery(run, data):
    """What `train` has when it keeps the examples."""
    table, pixels = scan_listing(list_images(data), size=(32, 32), workers=0)
    return Predictions.load(run.predictions).tested("test"), table, pixels


def html_of(run: Run, gallery, explainer) -> str:
    predictions, table, pixels = gallery
    save_examples(run, predictions, table, pixels, explain=explainer)
    return write_report(assemble_report(run))


def test_a_report_shows_heat_maps_beside_its_pictures_or_says_why_not(run, gallery):
    table, pixels = gallery[1:]
    explainer = example_explainer([run.folder / "bundle"], np.zeros(len(table), dtype=np.intp), pixels)
    html = html_of(run, gallery, explainer)
    facts = json.loads((run.folder / "examples" / "heat.json").read_text())
    n_pictures = len(json.loads((run.folder / "examples" / "examples.json").read_text()))

    assert facts["method"] == "Grad-CAM"
    assert "95% CI" in facts["sentence"]
    assert html.count("under its heat map") == (0 if facts["verdict"] == "failed" else n_pictures)
    assert ("No heat maps are shown" in html) == (facts["verdict"] == "failed")
    assert "Grad-CAM" in html


def test_a_heat_map_stands_beside_its_own_picture_with_the_verdict(run, gallery):
    asked = []

    def hot_corner(rows):
        asked.append(rows)
        heat = np.zeros((len(rows), 32, 32), np.float32)
        heat[:, :4, :4] = 1
        return HeatFacts(method="Grad-CAM", verdict="unchecked", sentence="not checked: few images"), heat

    html = html_of(run, gallery, hot_corner)
    report = assemble_report(run)

    assert "Not checked: few images." in html
    paths = list(gallery[1].rows["path"])
    assert [example.path for example in report.examples] == [paths[row] for row in asked[0]]
    for example in report.examples:
        assert example.overlay.shape == (32, 32, 3)
        assert (example.overlay[8:, 8:] == example.thumbnail[8:, 8:, None]).all()
        assert (example.overlay[:4, :4, 0] > example.overlay[:4, :4, 2]).all()


def test_heat_maps_of_a_method_that_failed_are_not_shown(run, gallery):
    def failing(rows):
        return HeatFacts(method="Grad-CAM", verdict="failed", sentence="failed: 0.9"), np.ones((len(rows), 32, 32))

    html = html_of(run, gallery, failing)

    assert "No heat maps are shown" in html
    assert "failed: 0.9" in html.lower()
    assert "under its heat map" not in html
    assert all(example.overlay is None for example in assemble_report(run).examples)


def test_without_heat_a_report_is_as_before(run, gallery):
    save_examples(run, *gallery)
    report = assemble_report(run)

    assert report.heat is None
    assert all(example.overlay is None for example in report.examples)


def test_each_row_is_explained_by_the_model_that_was_tested_on_it(run, gallery, tmp_path):
    """Two folds with different heads: the heat of a row is that of its own fold's model."""
    from plainfilm.bundle import save_bundle

    bundle = load_bundle(run.folder / "bundle")
    weights = {name: value.clone() for name, value in bundle.model.state_dict().items()}
    weights["head.weight"] = weights["head.weight"].roll(7, dims=1)
    save_bundle(tmp_path / "other", weights, bundle.config, card="")
    pixels = gallery[2]
    folders = [run.folder / "bundle", tmp_path / "other"]
    rows = np.array([0, 1, 2, 40, 41, 42])

    def heat(fold_of):
        return example_explainer(folders, fold_of, pixels)(rows)[1]

    first, second = (heat(np.full(80, number)) for number in (0, 1))
    mixed = heat(np.array([0] * 40 + [1] * 40))

    np.testing.assert_allclose(mixed[:3], first[:3], atol=1e-5)
    np.testing.assert_allclose(mixed[3:], second[3:], atol=1e-5)
    assert not np.allclose(first, second)
