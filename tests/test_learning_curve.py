"""A learning curve goes to twice the patients and no farther, by patient, with its interval."""

import numpy as np
import pytest

from plainfilm.auditing.potential import check_learning_curve, check_novelty
from plainfilm.auditing.subject import Subject
from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.errors import DataError
from plainfilm.learning_curve import LearningCurveOptions, _fitted, learning_curve
from plainfilm.novelty import Gate


def made(patients, *, images_each=2, d=60, skill=1.0, seed=0):
    """Features of which each tells a little: the more patients, the better they are weighed."""
    rng = np.random.default_rng(seed)
    y = np.arange(patients) % 2
    patient = np.repeat(np.arange(patients), images_each)
    person = rng.normal(size=(patients, d)) + skill * (2 * y[:, None] - 1) * 3 / np.sqrt(d)
    features = person[patient] + 0.1 * rng.normal(size=(len(patient), d))
    return features.astype(np.float32), y[patient], patient


def test_what_is_hard_to_learn_rises_and_what_is_easy_is_flat():
    hard, easy = learning_curve(*made(120, skill=0.3, d=200)), learning_curve(*made(120, skill=3))

    assert hard.gain > 0.01
    assert abs(easy.gain) < 0.02
    assert hard.patients.max() == pytest.approx(0.7 * 120, abs=2)
    assert hard.drawn_at[-1] == 2 * hard.patients.max()


def test_sizes_and_seeds_are_as_many_as_asked_for():
    found = learning_curve(*made(80), LearningCurveOptions(curve_sizes=5, curve_seeds=4))

    assert len(found.scores) == 20
    assert len(set(found.patients)) == 5
    assert ((found.low <= found.fitted + 1e-9) & (found.fitted <= found.high + 1e-9)).mean() > 0.9


def test_the_curve_is_found_again():
    n = np.repeat(np.array([10, 20, 40, 80, 160]), 3)
    truth = 0.9 - 0.8 * n**-0.5

    assert _fitted(n, truth[None], np.array([320.0]))[0, 0] == pytest.approx(0.9 - 0.8 * 320**-0.5, abs=0.002)


@pytest.mark.long
def test_the_interval_holds_what_twice_the_patients_give():
    """Held against the score of as good a model, trained on so many patients in a large set."""
    held = []
    truth = np.mean([learning_curve(*made(200, skill=0.6, seed=seed)).scores[-1] for seed in range(100, 110)])
    for seed in range(20):
        found = learning_curve(*made(100, skill=0.6, seed=seed))
        held.append(found.low[-1] - 0.08 <= truth <= found.high[-1] + 0.08)  # 30 held-out patients: their own chance

    assert np.mean(held) >= 0.8


def test_the_same_seed_gives_the_same_curve():
    one, other = learning_curve(*made(60)), learning_curve(*made(60))

    assert np.array_equal(one.low, other.low)


def test_few_patients_have_no_curve():
    with pytest.raises(DataError, match="needs 30 patients"):
        learning_curve(*made(20))


def test_a_finding_says_what_doubling_would_gain(tmp_path):
    options = PhantomOptions(patients=60, images_per_patient=2, size=32, effect=1.0)
    table, pixels = scan_listing(list_images(write_phantoms(tmp_path / "p", options).folder), size=(32, 32), workers=0)
    rows = table.rows
    group = np.unique(rows["patient_id"].astype(str), return_inverse=True)[1]
    subject = Subject(rows=rows, pixels=pixels, patients="documented", group=group)

    found = check_learning_curve(subject)
    assert found.verdict in ("PASS", "WARN")
    assert found.low <= found.value <= found.high
    assert "points of balanced accuracy" in found.sentence
    unknown = Subject(rows=rows, pixels=pixels, patients="unknown", group=np.full(len(rows), -1))
    assert check_learning_curve(unknown).verdict == "NOT ASSESSABLE"


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [
        (None, "NOT ASSESSABLE"),
        (Gate(reason="10 held-out patients are needed"), "NOT ASSESSABLE"),
        (Gate(reason="", far_auc={"noise": 1.0, "text": 0.99, "inverted": 0.6}), "PASS"),
        (Gate(reason="", far_auc={"noise": 0.8, "text": 0.99, "inverted": 0.6}), "WARN"),
        (Gate(reason="", far_auc={"noise": 1.0, "brain_phantom": 0.5, "chest_phantom": 0.97}), "PASS"),  # of brains
        (Gate(reason="", far_auc={"noise": 1.0, "brain_phantom": 0.5, "chest_phantom": 0.9}), "WARN"),
    ],
)
def test_noise_text_and_another_organ_must_be_told_from_images(gate, verdict):
    assert check_novelty(gate).verdict == verdict
