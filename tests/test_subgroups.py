"""Groups of patients are compared where they have enough patients; else it is said what would show."""

import numpy as np
import pandas as pd
import pytest

from plainfilm.evaluation import evaluate_predictions
from plainfilm.measures import Evaluation, EvaluationOptions, SubgroupOptions
from plainfilm.prediction import Predictions
from plainfilm.subgroups import banded


def evaluated(*, patients=200, images_each=2, harm=0.0, women=0.5, seed=0, draws=300, subgroup=("sex",)):
    """Two classes; the ill among the women score lower by `harm`."""
    rng = np.random.default_rng(seed)
    y = np.arange(patients) % 2
    sex = np.where(rng.random(patients) < women, "F", "M")
    patient = np.repeat(np.arange(patients), images_each)
    logit = 2.5 * (y - 0.5) - harm * (y == 1) * (sex == "F") + rng.normal(size=patients)
    logit = logit[patient] + 0.3 * rng.normal(size=len(patient))
    p = 1 / (1 + np.exp(-logit))
    paths = [f"{index}.png" for index in range(len(patient))]
    table = pd.DataFrame(
        {
            "path": paths,
            "label": [("healthy", "ill")[c] for c in y[patient]],
            "patient_id": [f"p{index}" for index in patient],
            "split": "test",
        },
        dtype=object,
    )
    attributes = pd.DataFrame(
        {
            "path": paths,
            "sex": sex[patient],
            "age": rng.integers(10, 95, size=patients)[patient],
            "view": np.where(np.arange(len(patient)) % 2, "PA", "AP"),
        }
    ).sample(frac=1, random_state=0)
    return evaluate_predictions(
        Predictions(("healthy", "ill"), table, np.column_stack([1 - p, p])),
        patients="documented",
        split_unit="patient",
        options=EvaluationOptions(draws=draws, positive=("ill",)),
        attributes=attributes,
        subgroups=SubgroupOptions(subgroup=subgroup),
    )


def gap_of(found, measure, group="F"):
    (gap,) = [gap for gap in found.gaps if (gap.measure, gap.group) == (measure, group)]
    return gap


def test_a_harmed_group_is_found_in_what_harms_it():
    found = evaluated(harm=3, draws=1000)
    sensitivity, missed, specificity = (
        gap_of(found, name) for name in ("sensitivity", "false_negative_rate", "specificity")
    )

    assert sensitivity.high < -0.05
    assert sensitivity.p_holm < 0.01
    assert missed.gap == pytest.approx(-sensitivity.gap)
    assert specificity.low < 0 < specificity.high
    assert sensitivity.others == "M"
    assert (sensitivity.unit, sensitivity.n_group + sensitivity.n_others) == ("patient", 200)


@pytest.mark.long
def test_groups_served_alike_are_rarely_called_unlike():
    found = [evaluated(seed=seed, draws=200, images_each=1) for seed in range(50)]
    gaps = [gap_of(one, "sensitivity") for one in found]

    assert np.mean([gap_of(one, "roc_auc").p <= 0.05 for one in found]) <= 0.12
    assert np.mean([gap.low <= 0 <= gap.high for gap in gaps]) >= 0.88


def test_a_small_group_is_not_compared_but_told_what_would_show():
    gap = gap_of(evaluated(women=0.06), "sensitivity")

    assert gap.gap is None
    assert gap.n_group < 20
    assert 0.2 < gap.detectable <= 1


def test_ages_are_put_into_bands_each_against_all_others():
    found = evaluated(subgroup=("age",), patients=300)

    groups = {gap.group for gap in found.gaps}
    assert groups == {"below 18", "18 to below 40", "40 to below 60", "60 to below 80", "80 and above"}
    assert {gap.others for gap in found.gaps} == {"all others"}
    assert all(gap.p_holm is None or gap.p_holm >= gap.p for gap in found.gaps)


def test_a_column_that_differs_within_a_patient_is_compared_by_image():
    assert {gap.unit for gap in evaluated(subgroup=("view",)).gaps} == {"image"}


def test_columns_that_say_nothing_are_named():
    found = evaluated(subgroup=("seks", "path2"))

    assert found.gaps == ()
    assert "There is no column 'seks' to make groups of." in found.notes


def test_ages_as_dicom_writes_them_are_numbers():
    ages = pd.Series(["005Y", "045Y", None, *[f"{age:03}Y" for age in range(50, 62)]])

    assert banded(ages, (18, 60)).tolist()[:4] == ["below 18", "18 to below 60", "unknown", "18 to below 60"]
    assert banded(pd.Series(["1", "2", "1"]), (18,)).tolist() == ["1", "2", "1"]


def test_gaps_go_to_the_file_and_back():
    found = evaluated(draws=100)

    assert Evaluation.from_json(found.to_json()) == found
