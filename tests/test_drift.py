"""A batch that comes from elsewhere is told from the training images; one that does not, is not."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from plainfilm import verbs
from plainfilm.bundle import load_bundle, load_statistics, read_config
from plainfilm.data.pixels import PixelStore
from plainfilm.drift import DriftRule, check_statistics, image_statistics, look_for_drift, one_each
from plainfilm.errors import BundleError
from plainfilm.storage import write_manifest
from plainfilm.summaries import prediction_summary
from small_runs import train_small, write_small_data

RULE = DriftRule(n_reference=60, reason="")


def cloud(n, *, seed, shift=0.0, d=20):
    """As statistics are: few directions that vary, and noise."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, 3)) @ np.random.default_rng(99).normal(size=(3, d))
    return (mixed + 0.5 * rng.normal(size=(n, d)) + shift).astype(np.float32)


def test_the_same_source_is_called_drift_as_rarely_as_promised():
    found = [
        look_for_drift(cloud(30, seed=2 * n), cloud(60, seed=2 * n + 1), RULE, knows_patients=True) for n in range(60)
    ]

    p = np.array([each.p for each in found])
    assert (p <= 0.01).sum() <= 3  # of 60: four have a chance of 1 in 300
    assert 0.35 < p.mean() < 0.65
    assert sum(each.drifted for each in found) <= 2


def test_another_source_is_drift_and_names_what_differs_most():
    changed = cloud(40, seed=1)
    changed[:, 1] += 3

    found = look_for_drift(changed, cloud(60, seed=2), RULE, knows_patients=True)

    assert found.drifted
    assert (found.auc > 0.8, found.most, found.shift > 0.5) == (True, "contrast", True)
    assert found.p == pytest.approx(1 / 1001)
    assert found.in_words().startswith("Drift: these 40 patients are told from 60 of the training with a ROC AUC of ")


def test_a_difference_that_is_sure_but_small_is_no_drift():
    found = look_for_drift(
        cloud(500, seed=1, shift=0.1), cloud(500, seed=2), RULE.model_copy(update={"p": 0.05}), knows_patients=False
    )

    assert (found.p <= 0.05, found.auc < 0.65, found.drifted) == (True, True, False)
    assert "images, each taken for a patient of its own," in found.in_words()


def test_the_statistics_say_what_changed():
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(120, 20, (32, 30)), 0, 255)
    store = PixelStore(4, 32, 30)
    noise = rng.normal(0, 25, image.shape)
    for index, made in enumerate((image, image + 60, 128 + 0.5 * (image - 128), image + noise)):
        store.put(index, np.clip(made, 0, 255).astype(np.uint8))
    as_it_is, brighter, flatter, noisier = image_statistics(store, np.arange(4))

    assert as_it_is.shape == (4 + 11 + 64,)
    assert brighter[0] == pytest.approx(as_it_is[0] + 60 / 255, abs=0.01)
    assert flatter[1] == pytest.approx(as_it_is[1] / 2, rel=0.05)
    assert noisier[3] > 1.3 * as_it_is[3]
    assert as_it_is[-64:].mean() == pytest.approx(as_it_is[0], abs=0.01)  # the cells together are the image


def test_one_image_of_each_patient_is_looked_at():
    group = np.repeat(np.arange(40), 5)

    assert sorted(group[one_each(group)]) == list(range(40))
    assert len(one_each(group, most=7)) == 7


@pytest.mark.parametrize(
    ("statistics", "code"),
    [
        (np.zeros((60, 79)), "BUN_SHAPE"),
        (np.zeros((59, 79), dtype=np.float32), "BUN_SHAPE"),
        (np.zeros((60, 5_000), dtype=np.float32), "BUN_SHAPE"),
        (np.full((60, 79), np.nan, dtype=np.float32), "BUN_NOT_FINITE"),
    ],
)
def test_statistics_that_cannot_be_are_refused(statistics, code):
    with pytest.raises(BundleError) as caught:
        check_statistics(statistics, RULE)
    assert caught.value.code == code


# --- in a bundle --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    data = write_small_data(folder / "data", patients=40, images_per_patient=1)
    return train_small(data, folder / "run", model="lenet5", epochs=1, split="patient")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Thirty patients more, and the same through another window."""
    data = write_small_data(tmp_path_factory.mktemp("others") / "data", patients=30, images_per_patient=1, seed=8)
    darker = write_small_data(data.parents[1] / "noisy", patients=30, images_per_patient=1, seed=8, noise=0.2)
    return data, darker


def test_statistics_of_training_patients_alone_are_in_the_bundle(run):
    config = read_config(run.folder / "bundle")
    trained = (run.read_table()["split"] == "train").sum()

    assert config.drift.n_reference == trained
    assert load_statistics(run.folder / "bundle", config.drift).shape == (trained, 79)


def test_predict_tells_a_batch_of_another_kind_and_not_one_of_the_same(run, others, tmp_path):
    same, noisy = (
        verbs.predict(run.folder / "bundle", each, output=tmp_path / f"{n}.json", workers=0)[0].drift
        for n, each in enumerate(others)
    )

    assert (same.drifted, noisy.drifted) == (False, True)
    assert noisy.n_batch == 30
    kept = json.loads((tmp_path / "1.json").read_text())["drift"]
    assert (kept["drifted"], kept["auc"], kept["sentence"]) == (True, noisy.auc, noisy.in_words())
    assert "at least 0.65 and p at most 0.01" in kept["rule"]


def test_a_batch_that_is_too_small_says_so_in_the_file_and_nothing_on_the_screen(run, others, tmp_path):
    rows = pd.read_csv(others[0], dtype=str).head(5)
    rows.to_csv(others[0].with_name("few.csv"), index=False)

    predictions, table = verbs.predict(
        run.folder, others[0].with_name("few.csv"), output=tmp_path / "few.json", workers=0
    )

    kept = json.loads((tmp_path / "few.json").read_text())["drift"]
    assert (kept["drifted"], kept["auc"]) == (None, None)
    assert kept["sentence"] == "Drift was not looked for: 5 are too few to tell a batch by, 20 are needed."
    assert "rift" not in prediction_summary(predictions, table)


def test_a_model_measured_on_other_data_is_told_with_the_figures(run, others):
    assert any(note.startswith("Drift: these 30 patients") for note in verbs.evaluate(run.folder, others[1]).notes)


def test_a_bundle_whose_statistics_no_manifest_names_is_refused(run, tmp_path):
    bundle = shutil.copytree(run.folder / "bundle", tmp_path / "bundle")
    write_manifest(bundle, ["model.safetensors", "config.json"])

    with pytest.raises(BundleError) as caught:
        load_bundle(bundle)
    assert caught.value.code == "BUN_EXTRA"
