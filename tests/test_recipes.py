"""The papers' experiments as data, the table each ends in, and one run for real on small images."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from plainfilm.catalogue import find_data_set
from plainfilm.commands.recipes import list_recipes as list_command
from plainfilm.config import RunOptions
from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.errors import DataError, UsageError
from plainfilm.explanation.options import ExplainOptions
from plainfilm.exploration.options import ExploreOptions
from plainfilm.progress import Silent
from plainfilm.recipes import list_recipes, load_recipe
from plainfilm.recipes.backbone import Backbone
from plainfilm.recipes.comparison import compare
from plainfilm.recipes.data import find_images
from plainfilm.recipes.outcome import Number, Outcome
from plainfilm.recipes.recipe import NAMES, Recipe, read_paper
from plainfilm.recipes.running import PAGE, RESULT, Changes, run_recipe
from plainfilm.storage import read_json

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared")
TRAIN_STEPS = [(recipe.name, step) for recipe in list_recipes() for step in recipe.steps if step.kind == "train"]


def printed(paper: str, name: str) -> float:
    return read_paper(paper).numbers[name].values[0]


# --- the recipes as data ------------------------------------------------------------------------------------


def test_there_are_as_many_files_as_recipes():
    folder = Path(find_images.__code__.co_filename).parent
    assert {path.stem for path in folder.glob("*.toml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_can_be_read_and_gets_its_images_from_the_catalogue(name):
    recipe = load_recipe(name)
    assert recipe.rows
    assert find_data_set(recipe.data)
    assert recipe.quick_minutes <= 3


@pytest.mark.parametrize(("name", "step"), TRAIN_STEPS, ids=[f"{name}:{step.id}" for name, step in TRAIN_STEPS])
def test_every_training_has_options_that_there_are(name, step):
    backbone = Backbone(model="torchvision:squeezenet1_0", weights="pretrained")
    without = Backbone(weights=None)
    for options in (
        {**step.options, **step.with_table},
        {**step.options, **step.without_table},
        {**step.options, **step.quick},
        backbone.applied(step, {**step.options, **step.quick}),
        without.applied(step, step.options),
    ):
        RunOptions.from_flat(options)


@pytest.mark.parametrize("name", NAMES)
def test_every_other_step_has_options_that_there_are(name):
    kinds = {"explore": ExploreOptions, "explain": ExplainOptions}
    for step in load_recipe(name).steps:
        if step.kind in kinds:
            kinds[step.kind].model_validate({**step.options, **step.quick})


def test_no_training_of_the_right_column_is_split_by_image():
    for name, step in TRAIN_STEPS:
        options = RunOptions.from_flat(step.options)
        assert step.column == "paper" or options.split.split == "patient" or options.split.patients == "image", name


def test_a_wrong_name_offers_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'xray-explore'") as caught:
        load_recipe("xray-explor")
    assert caught.value.code == "UNKNOWN_RECIPE"


def test_the_list_names_every_recipe(capsys):
    list_command()
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)
    list_command(json_=True)
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == list(NAMES)


@needs_shared
@pytest.mark.parametrize("name", NAMES)
def test_the_real_images_are_found(name):
    assert find_images(load_recipe(name), SHARED / "data").path.exists()


def test_a_folder_laid_out_otherwise_is_refused_with_the_layout(tmp_path):
    with pytest.raises(DataError, match="TRAIN and VAL") as caught:
        run_recipe("xray-explore", tmp_path, output=tmp_path / "out")
    assert caught.value.code == "RCP_DATA"
    assert "plainfilm data get openi-chest-abdomen" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_images_without_a_class_are_left_out_where_the_paper_had_none(tmp_path):
    for name in ("TRAIN/abdomen/1.png", "TRAIN/chest/2.png", "VAL/chest/3.png", "TEST/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"not read here")
    images = find_images(load_recipe("xray-explore"), tmp_path).labelled(tmp_path / "labelled.csv")
    assert list(pd.read_csv(images.path)["path"]) == ["TRAIN/abdomen/1.png", "TRAIN/chest/2.png", "VAL/chest/3.png"]
    assert images.options == {"images": str(tmp_path)}


# --- what the papers printed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "supports", "accuracy"), [("resnet1d", (720, 560), 0.75), ("resnet50-1d", (654, 438), 0.86)]
)
def test_the_printed_reports_have_truth_and_prediction_swapped(model, supports, accuracy):
    """Only then do their own numbers fit: right answers = printed recall x printed support = recall x true count."""
    paper = "resnet1d-alzheimer-mri"
    right = 0.0
    for label, support, images in (("non", supports[0], 634), ("very-mild", supports[1], 459)):
        of_predicted = printed(paper, f"{model}-precision-{label}") * support
        of_true = printed(paper, f"{model}-recall-{label}") * images
        assert of_predicted == pytest.approx(of_true, rel=0.015)
        right += of_true
    if model == "resnet50-1d":
        right += printed(paper, f"{model}-recall-mild") * 172
    assert right / 1280 == pytest.approx(accuracy, abs=0.006)


def test_the_printed_ratios_are_23_falling_and_just_above_90_percent():
    ratios = read_paper("xray-transfer-learning").numbers["pca-ratios"].values
    assert len(ratios) == printed("xray-transfer-learning", "pca-components") == 23
    assert list(ratios) == sorted(ratios, reverse=True)
    assert 0.9 <= sum(ratios) < 0.9 + ratios[-1]


@pytest.mark.parametrize(
    ("name", "right", "of"),
    [("inceptionv3-train-accuracy", 59, 65), ("pca-accuracy", 74, 75), ("covid-train-accuracy", 29, 30)],
)
def test_printed_accuracies_are_counts_of_so_many_images(name, right, of):
    assert printed("xray-transfer-learning", name) == pytest.approx(right / of, abs=5e-4)


@needs_shared
@pytest.mark.parametrize("paper", ["resnet1d-alzheimer-mri", "xray-transfer-learning"])
def test_printed_numbers_are_in_the_text_of_the_paper(paper):
    text = (SHARED / "papers" / f"{paper}.txt").read_text("utf-8").replace(" %", "%")
    for name, entry in read_paper(paper).numbers.items():
        for word in re.findall(r"\d[\d.,]*%?", entry.text.replace(" %", "%")):
            if name == "pca-ratios":  # shown rounded; compared below in full
                continue
            assert word.rstrip(",") in text, name
    for ratio in read_paper("xray-transfer-learning").numbers["pca-ratios"].values:
        assert str(ratio) in (SHARED / "papers" / "xray-transfer-learning.txt").read_text("utf-8")


# --- the table ----------------------------------------------------------------------------------------------


def small_recipe(**changes) -> Recipe:
    """Two short trainings on phantoms, by image and by patient."""
    common = {"model": "resnet1d", "image_size": 32, "batch_size": 16, "epochs": 2, "workers": 0, "device": "cpu"}
    values = {
        "name": "small",
        "title": "Brains <b>small</b>",
        "summary": "Two trainings.",
        "printed": "resnet1d-alzheimer-mri",
        "section": "section 4",
        "data": "alzheimer-mri",
        "layout": "a table manifest.csv.",
        "places": ({"path": "manifest.csv"},),
        "minutes": 1,
        "quick_minutes": 1,
        "quick_patients": 15,
        "steps": (
            {
                "id": "by-image",
                "kind": "train",
                "title": "By image",
                "column": "paper",
                "options": {**common, "split": "image", "choose": "last"},
                "quick": {"epochs": 1},
            },
            {
                "id": "by-patient",
                "kind": "train",
                "title": "By patient",
                "column": "right",
                "options": {**common, "split": "patient", "test_fraction": 0.4},
                "quick": {"epochs": 1},
            },
            {
                "id": "scores",
                "kind": "predict",
                "title": "Scores",
                "column": "right",
                "run": "by-patient",
                "images": "images-to-score",
            },
        ),
        "rows": (
            {
                "quantity": "Accuracy",
                "printed": "resnet1d-accuracy",
                "paper": "by-image: accuracy/image",
                "right": "by-patient: accuracy/patient",
            },
            {"quantity": "Training loss", "paper": "by-image: mean/train_loss", "shown": "loss"},
            {"quantity": "Training accuracy", "paper": "by-image: last/train_accuracy"},
            {"quantity": "Score of ill:", "right": "scores: score/ill/", "shown": "score", "every": True},
            {"quantity": "Parameters", "paper": "by-image: parameters", "shown": "count"},
        ),
        "notes": ("A note.",),
    }
    return Recipe.model_validate({**values, **changes})


def outcome(**numbers: Number) -> Outcome:
    return Outcome(numbers={name.replace("__", "/"): number for name, number in numbers.items()}, pages={})


def table_of(recipe: Recipe, **outcomes: Outcome):
    nothing = Outcome(numbers={}, pages={})
    return compare(recipe, {step.id: outcomes.get(step.id.replace("-", "_"), nothing) for step in recipe.steps})


def test_a_row_that_names_no_step_or_no_printed_number_is_refused():
    with pytest.raises(ValueError, match="refers to"):
        small_recipe(rows=({"quantity": "x", "paper": "nothing: accuracy"},))
    with pytest.raises(ValueError, match="no printed number"):
        small_recipe(rows=({"quantity": "x", "printed": "nothing"},))


def test_a_struck_number_says_so_in_words_and_why():
    struck = Number(value=0.99, low=0.9, high=1.0, counted="10 images", struck="Split by image.")
    table = table_of(small_recipe(), by_image=outcome(accuracy__image=struck))
    assert str(table.lines[0].paper) == "struck: 0.990 (95% CI 0.900-1.000, 10 images)"
    assert table.reasons == ("Split by image.",)


def test_a_number_that_is_withheld_keeps_its_reason():
    table = table_of(small_recipe(), by_image=outcome(accuracy__image=Number(value=None, note="two patients")))
    assert (table.lines[0].paper.text, table.lines[0].paper.note) == ("withheld", "two patients")


@pytest.mark.parametrize(
    ("low", "high", "word"), [(0.6, 0.9, "above that"), (0.4, 0.8, "not told apart"), (0.1, 0.3, "worse than")]
)
def test_the_verdict_compares_with_always_naming_the_most_frequent_class(low, high, word):
    numbers = outcome(
        accuracy__patient=Number(value=(low + high) / 2, low=low, high=high, counted="20 patients"),
        majority_rate__patient=Number(value=0.5),
    )
    verdict = table_of(small_recipe(), by_patient=numbers).verdict
    assert len(verdict) == 1
    assert word in verdict[0]
    assert "20 patients" in verdict[0]


def test_the_printed_ratios_are_compared_one_by_one():
    recipe = load_recipe("xray-pca-network")
    ratios = read_paper("xray-transfer-learning").numbers["pca-ratios"].values
    numbers = {f"ratio/{index}": Number(value=ratio) for index, ratio in enumerate(ratios, start=1)}
    numbers["ratio/7"] = Number(value=ratios[6] + 3e-4)
    line = compare(recipe, {"pca": Outcome(numbers=numbers, pages={})}).lines[1]
    assert line.paper.text == "differs by 3.0e-04"
    del numbers["ratio/23"]
    assert compare(recipe, {"pca": Outcome(numbers=numbers, pages={})}).lines[1].paper.note == "22 of 23 to compare"


def test_an_outcome_survives_its_file():
    before = Outcome(
        numbers={"a": Number(value=1.0, counted="2 images")}, pages={"report": "x"}, notes=("n",), seconds=2.0
    )
    assert Outcome.from_json(json.loads(json.dumps(before.to_json()))) == before


# --- a run for real -----------------------------------------------------------------------------------------


class Told(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brains") / "data"
    phantoms = write_phantoms(
        folder, PhantomOptions(patients=40, images_per_patient=3, size=32, effect=2.0, classes=("healthy", "ill"))
    )
    rows = phantoms.manifest.drop(columns="split")
    rows.to_csv(folder / "manifest.csv", index=False)
    (folder / "images-to-score").mkdir()
    first = rows["path"].iloc[0]
    (folder / "images-to-score" / "film.png").write_bytes((folder / first).read_bytes())
    return folder


@pytest.fixture(scope="module")
def done(brains, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes") / "small"
    table, page = run_recipe(small_recipe(), brains, output=folder, changes=Changes(quick=True, seed=3))
    return table, page


def test_a_recipe_ends_in_a_table_with_intervals_and_counts(done):
    table, page = done
    accuracy, loss, training, score, parameters = table.lines
    assert accuracy.printed.text == "75 %"
    assert accuracy.paper.struck
    assert accuracy.paper.interval
    assert "patient" in accuracy.right.counted
    assert not accuracy.right.struck
    assert training.paper.interval
    assert "trained the model" in training.paper.struck
    assert "no interval" in loss.paper.note
    assert score.quantity == "Score of ill: film.png"
    assert 0 <= float(score.right.text) <= 1
    assert parameters.paper.text.replace(",", "").isdigit()
    written = read_json(page.with_name(RESULT))
    assert written["lines"][0]["paper"]["number"]["value"] == accuracy.paper.number.value


def test_quick_takes_the_first_patients_of_each_class_and_says_so(done):
    table, page = done
    rows = pd.read_csv(page.parent / "fewer-patients.csv", dtype=str)
    for _, own in rows.groupby("label"):
        assert own["patient_id"].nunique() == 15
    assert any("first 15 patients by id" in note and "--quick" in note for note in table.notes)
    assert any("--seed 3" in note for note in table.notes)


def test_the_page_is_offline_escaped_and_its_links_lead_somewhere(done):
    page = done[1]
    text = page.read_text("utf-8")
    assert "<b>small</b>" not in text
    assert "&lt;b&gt;small" in text
    assert "<script" not in text
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", text)
    links = re.findall(r'href="([^"]+)"', text)
    assert len([link for link in links if not link.startswith("#")]) >= 3
    assert all((page.parent / link).is_file() for link in links if not link.startswith("#"))


def test_a_finished_recipe_is_not_overwritten_unasked(done, brains):
    with pytest.raises(UsageError) as caught:
        run_recipe(small_recipe(), brains, output=done[1].parent, changes=Changes(quick=True, seed=3))
    assert caught.value.code == "RUN_EXISTS"


def test_a_folder_of_something_else_is_left_alone(brains, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError) as caught:
        run_recipe(small_recipe(), brains, output=tmp_path, overwrite=True)
    assert caught.value.code == "RUN_NOT_A_RUN"
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_stopped_recipe_goes_on_with_what_is_not_finished(done, brains):
    table, page = done
    folder = page.parent
    (folder / RESULT).unlink()
    (folder / "steps" / "scores.json").unlink()
    (folder / "steps" / "by-patient.json").unlink()  # its run is finished all the same
    with pytest.raises(UsageError) as caught:
        run_recipe(small_recipe(), brains, output=folder, changes=Changes(quick=True, seed=4))
    assert caught.value.code == "RCP_CHANGED"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("by-*/**/model.safetensors")}
    told = Told()
    again, _ = run_recipe(small_recipe(), brains, output=folder, changes=Changes(quick=True, seed=3), progress=told)
    assert again.lines == table.lines
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (folder / PAGE).is_file()
    assert "step 1 of 3: By image (done before)" in told.said


def test_without_patients_the_right_column_says_that_it_was_not_run(brains, tmp_path):
    folder = tmp_path / "data"
    folder.symlink_to(brains)
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    rows = pd.read_csv(brains / "manifest.csv", dtype=str).drop(columns="patient_id")
    rows.to_csv(nameless / "manifest.csv", index=False)
    recipe = small_recipe(
        steps=[
            {**step.model_dump(), "options": {**step.options, "images": str(brains), "epochs": 1}}
            for step in small_recipe().steps[1:2]
        ],
        rows=({"quantity": "Accuracy", "right": "by-patient: accuracy/patient"},),
    )
    table, page = run_recipe(recipe, nameless, output=tmp_path / "out")
    assert table.lines[0].right.note.startswith("not run")
    assert any("Nothing says which images belong to one patient" in note for note in table.notes)
    assert "Not run" in page.read_text("utf-8")
