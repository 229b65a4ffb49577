"""Predictions: the same scores however the images come, and files that a spreadsheet cannot run."""

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plainfilm import verbs
from plainfilm.bundle import load_bundle
from plainfilm.data.pixels import PixelStore
from plainfilm.data.table import LeftOut
from plainfilm.errors import BundleError, DataError, UsageError
from plainfilm.prediction import FORMULA_STARTS, Predictions, predict_scores, predict_table, safe_csv
from small_runs import as_parquet, copy_data, train_small, write_small_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return train_small(data, tmp_path_factory.mktemp("runs") / "run")


def by_path(predictions: Predictions) -> dict[str, list[float]]:
    return dict(zip(predictions.table["path"], predictions.scores.tolist(), strict=True))


# --- the same scores ----------------------------------------------------------------------------------------


def test_a_folder_a_csv_and_parquet_give_the_same_scores_bit_for_bit(run, data, tmp_path):
    from_csv, _ = verbs.predict(run.folder, data, workers=0)
    from_folder, _ = verbs.predict(run.folder, data.parent, workers=0)
    from_parquet, _ = verbs.predict(run.folder, as_parquet(data, tmp_path / "shard.parquet"), workers=0)

    expected = by_path(from_csv)
    assert len(expected) == 80
    assert {path: scores for path, scores in by_path(from_folder).items() if path in expected} == expected
    assert np.array_equal(from_parquet.scores, from_csv.scores)
    assert from_parquet.table["label"].tolist() == from_csv.table["label"].tolist()


def test_an_image_alone_scores_as_among_others(run, data):
    together, _ = verbs.predict(run.folder, data, workers=0)
    path = together.table["path"][5]

    alone, _ = verbs.predict(run.folder, data.parent / path, workers=0)

    assert np.array_equal(alone.scores[0], together.scores[5])


def test_the_bundle_alone_is_enough(run, data, tmp_path):
    copied = shutil.copytree(run.folder / "bundle", tmp_path / "mailed")

    from_bundle, _ = verbs.predict(copied, data, workers=0)

    assert np.array_equal(from_bundle.scores, verbs.predict(run.folder, data, workers=0)[0].scores)


def test_a_run_scores_its_test_images_as_predict_does(run, data):
    expected = by_path(verbs.predict(run.folder, data, workers=0)[0])

    kept = by_path(Predictions.load(run.predictions))

    assert kept
    assert all(scores == expected[path] for path, scores in kept.items())


@pytest.mark.parametrize("batch_size", [1, 7, 80])
def test_the_batch_size_does_not_matter(run, data, batch_size):
    usual, _ = verbs.predict(run.folder, data, workers=0)
    other, _ = verbs.predict(run.folder, data, workers=0, batch_size=batch_size)

    assert np.abs(usual.scores - other.scores).max() < 1e-6


def test_scores_are_probabilities(run, data):
    predictions, _ = verbs.predict(run.folder, data, workers=0)

    assert predictions.scores.dtype == np.float64
    assert (predictions.scores >= 0).all()
    assert np.allclose(predictions.scores.sum(axis=1), 1, atol=1e-12)
    assert [predictions.classes[index] for index in predictions.y_pred] == predictions.to_frame()["predicted"].tolist()


def test_several_models_give_the_mean_of_their_scores(run, data):
    table = verbs.scan(data)
    store = PixelStore(len(table), 32, 32)
    rng = np.random.default_rng(0)
    for index in range(len(table)):
        store.put(index, rng.integers(0, 256, (32, 32), dtype=np.uint8))
    bundle = load_bundle(run.folder / "bundle")
    other = load_bundle(run.folder / "bundle")
    other.model.head.bias.data[1] -= 2.0

    both = predict_table([bundle, other], table, store)

    single = [predict_scores(one, store) for one in (bundle, other)]
    assert not np.array_equal(single[0], single[1])
    assert np.array_equal(both.scores, np.mean(single, axis=0))


# --- precision ----------------------------------------------------------------------------------------------


def test_bfloat16_is_only_by_asking_and_is_said(run, data, tmp_path):
    usual, _ = verbs.predict(run.folder, data, workers=0, output=tmp_path / "usual.json")
    asked, _ = verbs.predict(run.folder, data, workers=0, output=tmp_path / "asked.json", precision="bf16-mixed")

    assert not np.array_equal(asked.scores, usual.scores)
    assert np.abs(asked.scores - usual.scores).max() < 0.05
    assert json.loads((tmp_path / "usual.json").read_text())["precision"] == usual.precision == "32-true"
    assert json.loads((tmp_path / "asked.json").read_text())["precision"] == asked.precision == "bf16-mixed"
    assert Predictions.join([asked, asked]).labelled().precision == "bf16-mixed"


@pytest.mark.parametrize(("has", "taken"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_takes_bfloat16_where_the_processor_has_it(run, data, monkeypatch, has, taken):
    monkeypatch.setattr("plainfilm.training.device.cpu_computes_bfloat16", lambda: has)

    auto, _ = verbs.predict(run.folder, data, workers=0, device="cpu", precision="auto")
    named, _ = verbs.predict(run.folder, data, workers=0, device="cpu", precision=taken)

    assert auto.precision == taken
    assert np.array_equal(auto.scores, named.scores)


def test_another_precision_is_refused(run, data):
    with pytest.raises(UsageError) as refused:
        verbs.predict(run.folder, data, workers=0, precision="16-mixed")

    assert refused.value.code == "DEV_PRECISION"


def test_a_model_is_folded_once_and_stays_as_it_was(run, data):
    bundle = load_bundle(run.folder / "bundle")
    before = {name: value.clone() for name, value in bundle.model.state_dict().items()}
    store = PixelStore(3, 32, 32)
    for index in range(3):
        store.put(index, np.full((32, 32), 40 * index, dtype=np.uint8))

    predict_scores(bundle, store)

    assert bundle.scoring_model is bundle.scoring_model
    assert bundle.model.state_dict().keys() == before.keys()
    assert all((value == before[name]).all() for name, value in bundle.model.state_dict().items())


# --- files --------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
cells = texts | st.builds(lambda start, rest: start + rest, st.sampled_from([*FORMULA_STARTS[:-1], "'", "''"]), texts)


def some_predictions(names=("a.png", "b.png"), classes=("healthy", "ill"), **columns) -> Predictions:
    table = pd.DataFrame({"path": list(names), "label": None, "patient_id": None, "split": None}, dtype=object)
    scores = np.random.default_rng(0).dirichlet(np.ones(len(classes)), size=len(names))
    return Predictions(tuple(classes), table.assign(**columns), scores)


@given(st.lists(cells.filter(lambda text: text != ""), min_size=1, max_size=4))
@example(["\r", "a\rb", "a\nb", 'a"b', "a,b", " a ", "NA", "null", "-", "'=1", "''=1", "'"])
def test_what_is_saved_is_read_back_equal_and_starts_no_formula(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("saved") / "predictions.csv"
    saved = some_predictions(names, patient_id=names)

    loaded = Predictions.load(saved.save(path))

    assert loaded.table["path"].tolist() == names
    assert loaded.table["patient_id"].tolist() == names
    assert loaded.table["label"].tolist() == [None] * len(names)
    assert np.array_equal(loaded.scores, saved.scores)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    texts = [row[column] for row in rows[1:] for column in range(4)]
    assert not any(text.startswith(FORMULA_STARTS) for text in texts)


def test_a_class_may_be_called_like_a_formula(tmp_path):
    saved = some_predictions(classes=("=cmd|' /C calc'!A0", "-1", "+x"), label="=cmd|' /C calc'!A0")

    path = saved.save(tmp_path / "predictions.csv")

    with path.open(newline="") as file:
        assert not any(cell.startswith(("=", "+", "-")) for row in csv.reader(file) for cell in row)
    assert Predictions.load(path).classes == saved.classes
    assert Predictions.load(path).table["label"].tolist() == ["=cmd|' /C calc'!A0"] * 2


def test_numbers_are_left_alone():
    text = safe_csv(pd.DataFrame({"change": [-0.1, 1e-300, 0.1 + 0.2], "note": ["-0.1", "x", None]}))

    assert text.splitlines() == ["change,note", "-0.1,'-0.1", "1e-300,x", "0.30000000000000004,"]


def test_refused_images_are_listed_with_their_code(tmp_path):
    refused = [LeftOut("c.png", "refused", "IMG_TRUNCATED", "cut short.")]
    skipped = [LeftOut(".DS_Store", "skipped", "SKIP_HIDDEN", "hidden.")]

    path = some_predictions().save(tmp_path / "predictions.csv", refused + skipped)

    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert rows["path"].tolist() == ["a.png", "b.png", "c.png"]
    assert rows["refused"].tolist() == ["", "", "IMG_TRUNCATED"]
    assert rows["score_ill"].tolist()[2] == ""
    assert len(Predictions.load(path)) == 2


def test_json_holds_the_same(tmp_path):
    refused = [LeftOut("c.png", "refused", "IMG_TRUNCATED", "cut short.")]
    saved = some_predictions()

    written = json.loads(saved.save(tmp_path / "predictions.json", refused).read_text())

    assert written["classes"] == ["healthy", "ill"]
    assert [row["score_ill"] for row in written["predictions"]] == saved.scores[:, 1].tolist()
    assert written["predictions"][0]["label"] is None
    assert written["refused"] == [{"path": "c.png", "code": "IMG_TRUNCATED", "detail": "cut short."}]


@pytest.mark.parametrize("content", ["", "path\na.png\n", "path,label,patient_id,split,score_a\na,b,c,d,high\n", "\0"])
def test_a_file_that_holds_no_predictions_is_refused(tmp_path, content):
    path = tmp_path / "predictions.csv"
    path.write_text(content)

    with pytest.raises(BundleError) as caught:
        Predictions.load(path)
    assert caught.value.code == "BUN_DAMAGED"


# --- what cannot be read ------------------------------------------------------------------------------------


def test_images_that_cannot_be_read_do_not_stop_the_others(run, data, tmp_path):
    spoilt = copy_data(data, tmp_path / "data")
    names = pd.read_csv(spoilt)["path"].tolist()
    whole = (spoilt.parent / names[0]).read_bytes()
    (spoilt.parent / names[0]).write_bytes(whole[: len(whole) // 2])
    (spoilt.parent / names[1]).write_text("not an image")

    predictions, table = verbs.predict(run.folder, spoilt, workers=0, output=tmp_path / "out.csv")

    assert len(predictions) == 78
    assert [item.path for item in table.refused] == names[:2]
    rows = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert dict(zip(rows["path"], rows["refused"], strict=True))[names[1]] == table.refused[1].code
    whole_set = by_path(verbs.predict(run.folder, data, workers=0)[0])
    assert all(scores == whole_set[path] for path, scores in by_path(predictions).items())


def test_not_one_readable_image_is_an_error_with_its_reason(run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")

    with pytest.raises(DataError, match=r"a\.png") as caught:
        verbs.predict(run.folder, tmp_path, workers=0)
    assert caught.value.code.startswith("IMG_")
    assert caught.value.exit_code == 3


def test_predictions_do_not_replace_those_of_a_finished_run(run, data):
    before = run.predictions.read_bytes()

    with pytest.raises(UsageError) as caught:
        verbs.predict(run.folder, data, workers=0, output=run.predictions)
    assert caught.value.code == "RUN_EXISTS"
    assert run.predictions.read_bytes() == before


def test_sixteen_bit_images_are_scored_at_their_full_depth(run, tmp_path):
    eight = write_small_data(tmp_path / "8", patients=2)
    sixteen = write_small_data(tmp_path / "16", patients=2, bits=16)

    low, high = (verbs.predict(run.folder, manifest, workers=0)[0].scores for manifest in (eight, sixteen))

    assert np.abs(low - high).max() < 0.02  # the same pictures, finer
    assert not np.array_equal(low, high)
