"""`plainfilm compare`: two runs in, a sentence, a page and numbers out."""

import json
import shutil

import pytest

from plainfilm import verbs
from plainfilm.cli import run as typed
from plainfilm.comparison import ComparisonOptions
from plainfilm.errors import UsageError
from small_runs import train_small, write_small_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms", patients=40, images_per_patient=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("runs")
    return [
        train_small(
            data, folder / name, **{"split": "patient", "test_fraction": 0.5, "gallery": False, **options}
        ).folder
        for name, options in (("first", {"epochs": 1}), ("second", {"epochs": 4}), ("leaky", {"split": "image"}))
    ]


def test_two_runs_are_compared_on_their_test_patients(runs, tmp_path, capsys):
    first, second, _ = runs
    status = typed(
        ["compare", str(first), str(second), "--measure", "accuracy", "--output", str(tmp_path / "out"), "-q"]
    )
    said = capsys.readouterr().out

    assert status == 0
    assert "balanced accuracy by patient" in said
    assert "accuracy by patient" in said
    assert f"page: {tmp_path / 'out' / 'compare.html'}" in said
    numbers = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [found["model"] for found in numbers["differences"]] == ["second", "second"]
    assert numbers["differences"][0]["n_patients"] == 20
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "<svg" in page
    assert numbers["differences"][0]["sentence"] in page


def test_json_is_what_the_call_gives(runs, capsys):
    assert typed(["compare", str(runs[0]), str(runs[1]), "--json", "-q"]) == 0

    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(verbs.compare(runs[:2]).to_json()))


def test_a_run_that_is_struck_through_stays_so_beside_an_honest_one(runs, capsys):
    found = verbs.compare([runs[1], runs[2]])

    assert found.headline[0].struck
    assert found.standings[1].struck.startswith("The split is by image")
    assert "of 'second' left out" in found.notes[0]
    assert typed(["compare", str(runs[1]), str(runs[2]), "-q"]) == 0
    assert "struck" in capsys.readouterr().out


def test_runs_of_one_name_are_told_apart_by_their_folders(runs, tmp_path):
    again = shutil.copytree(runs[1], tmp_path / "elsewhere" / "second")

    found = verbs.compare([runs[1], again])

    assert [one.name for one in found.standings] == [f"{runs[1].parent.name}/second", "elsewhere/second"]


def test_the_positive_classes_may_be_named(runs):
    found = verbs.compare(
        runs[:2], ComparisonOptions(difference=0.1), overrides={"positive": ["abnormal"], "draws": 200}
    )

    assert found.headline[0].measure == "roc_auc"
    assert found.headline[0].delong is not None


def test_one_run_is_not_a_comparison(runs, tmp_path, capsys):
    assert typed(["compare", str(runs[0]), "-q"]) == 2
    assert "[CMP_ONE_RUN]" in capsys.readouterr().err
    assert typed(["compare", "-q"]) == 2
    (tmp_path / "compare.json").write_text("{}")
    with pytest.raises(UsageError, match="not empty"):
        verbs.compare(runs[:2], output=tmp_path)
