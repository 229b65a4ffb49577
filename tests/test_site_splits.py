"""Whole sites held out: none is both learnt from and tested, no patient is divided, and what cannot be is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plainfilm
from plainfilm.data.sites import site_column
from plainfilm.data.splits import SplitOptions, split_table
from plainfilm.data.table import make_rows
from plainfilm.errors import LeakageError, PlainfilmError, TableError, UsageError
from small_runs import train_small, write_small_data


def cohort(sites: dict[str, int], *, images=2, column="hospital", classes=("a", "b")) -> pd.DataFrame:
    """So many patients of each class at each site."""
    return make_rows(
        [
            {"path": f"{site}/{label}{n}/{image}.png", "label": label, "patient_id": f"{site}-{label}{n}", column: site}
            for site, n_patients in sites.items()
            for label in classes
            for n in range(n_patients)
            for image in range(images)
        ]
    )


def by_site(rows: pd.DataFrame, **options):
    return split_table(rows, SplitOptions(split="site", **options))


def refusal(rows: pd.DataFrame, **options) -> PlainfilmError:
    with pytest.raises(PlainfilmError) as caught:
        by_site(rows, **options)
    return caught.value


THREE = {"Ghent": 6, "Leiden": 8, "Bonn": 10}


@given(st.lists(st.integers(4, 12), min_size=2, max_size=6), st.integers(0, 5), st.booleans())
@settings(max_examples=8, deadline=None)
def test_no_site_is_learnt_from_and_tested_no_patient_is_divided_and_every_row_is_tested_once(sizes, seed, together):
    rows = cohort({f"site {number}": size for number, size in enumerate(sizes)})
    plan = by_site(rows, split_seed=seed, folds=2 if together else None)

    assert (plan.unit, plan.tested_on, len(plan.folds)) == ("patient", "test", 2 if together else len(sizes))
    assert sorted(np.concatenate([fold.test for fold in plan.folds])) == list(range(len(rows)))
    for fold, held in zip(plan.folds, plan.sites.sites, strict=True):
        learnt = np.concatenate([fold.train, fold.validation, fold.calibration])
        assert set(rows["hospital"].iloc[fold.test]) == set(held)
        assert not set(rows["hospital"].iloc[learnt]) & set(held)
        assert sorted([*learnt, *fold.test]) == list(range(len(rows)))
        parts = [set(rows["patient_id"].iloc[part]) for part in (fold.train, fold.validation, fold.calibration)]
        assert sum(map(len, parts)) == len(set.union(*parts))


def test_a_single_training_may_hold_out_the_sites_that_are_named():
    plan = by_site(cohort(THREE), test_site=("Ghent", "Bonn"))

    (fold,) = plan.folds
    assert set(cohort(THREE)["hospital"].iloc[fold.test]) == {"Ghent", "Bonn"}
    assert plan.sites.sites == (("Bonn", "Ghent"),)


def test_the_tables_own_split_is_set_aside_and_its_external_rows_stay_out():
    rows = cohort(THREE)
    rows["split"] = ["external", "test"] + ["train"] * (len(rows) - 2)

    plan = by_site(rows)

    assert 0 not in np.concatenate([fold.test for fold in plan.folds])
    assert 1 in np.concatenate([fold.test for fold in plan.folds])


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["hospital", "scanner"], "hospital"),
        (["InstitutionName", "age"], "InstitutionName"),
        (["scanner", "age"], "scanner"),
    ],
)
def test_the_column_of_a_place_comes_before_that_of_a_device(columns, found):
    assert site_column(pd.DataFrame(columns=["path", *columns])) == found


@pytest.mark.parametrize(
    ("columns", "asked", "code", "said"),
    [
        (["age"], None, "SPL_SITE_COLUMN", "no column looks like one"),
        (["site", "hospital"], None, "SPL_SITE_COLUMN", "2 columns look like one (site, hospital)"),
        (["site"], "sit", "UNKNOWN_COLUMN", "Did you mean 'site'?"),
        (["site"], "patient_id", "UNKNOWN_COLUMN", "patient_id"),
    ],
)
def test_a_column_that_is_not_there_or_not_the_only_one_is_asked_for(columns, asked, code, said):
    with pytest.raises(UsageError) as caught:
        site_column(pd.DataFrame(columns=["path", "label", "patient_id", "split", *columns]), asked)

    assert caught.value.code == code
    assert said in str(caught.value)


def test_one_site_alone_cannot_be_held_out():
    error = refusal(cohort({"Ghent": 10}))

    assert (type(error), error.code) == (TableError, "SPL_TOO_FEW_SITES")
    assert "'Ghent' in column 'hospital'" in str(error)
    assert "plainfilm evaluate RUN DATA" in str(error)


def test_a_patient_at_two_sites_is_named_with_both():
    rows = cohort(THREE)
    rows.loc[rows["patient_id"] == "Leiden-a0", "patient_id"] = "Ghent-a0"

    error = refusal(rows)

    assert (type(error), error.code) == (LeakageError, "SPL_SITE_LEAK")
    assert "1 patient has images at a site that is held out and at another: Ghent-a0 (Ghent, Leiden)" in str(error)
    assert len(by_site(rows, test_site=("Ghent", "Leiden")).folds) == 1  # together they divide nobody
    assert len(by_site(rows, test_site=("Bonn",)).folds) == 1


def test_a_class_of_one_site_alone_cannot_be_learnt_without_it():
    rows = cohort(THREE)
    rows.loc[rows["hospital"] == "Bonn", "label"] = "c"

    error = refusal(rows)

    assert error.code == "SPL_UNSEEN_CLASS"
    assert "class 'c' is at Bonn alone" in str(error)


@pytest.mark.parametrize(
    ("change", "options", "code"),
    [
        ({"hospital": lambda rows: [None, *rows["hospital"][1:]]}, {}, "SPL_MISSING_SITES"),
        ({"hospital": lambda rows: rows["patient_id"]}, {}, "SPL_SITE_COLUMN"),
        ({}, {"test_site": ("Gent",)}, "UNKNOWN_SITE"),
        ({}, {"test_site": tuple(THREE)}, "SPL_TOO_FEW_SITES"),
        ({}, {"test_site": ("Ghent",), "folds": 2}, "OPT_INVALID"),
        ({}, {"folds": 4}, "SPL_TOO_FEW_SITES"),
        ({"patient_id": lambda rows: None}, {}, "SPL_NO_PATIENTS"),
    ],
)
def test_what_cannot_be_held_out_is_refused(change, options, code):
    rows = cohort(THREE)

    assert refusal(rows.assign(**{name: make(rows) for name, make in change.items()}), **options).code == code


def test_too_many_sites_for_one_training_each_are_held_out_several_at_once():
    rows = cohort({f"{number:02}": 2 for number in range(51)}, images=1)

    assert refusal(rows).code == "SPL_TOO_MANY_SITES"
    assert len(by_site(rows, folds=5).folds) == 5


@pytest.mark.parametrize("options", [{"site_column": "hospital"}, {"test_site": ("Ghent",)}])
def test_sites_are_not_named_for_another_split(options):
    with pytest.raises(UsageError, match="about --split site"):
        split_table(cohort(THREE), SplitOptions(**options))


# --- a whole training ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two sites, each tested by the model of the other."""
    folder = tmp_path_factory.mktemp("sites")
    data = write_small_data(folder / "data", images_per_patient=2)
    return train_small(data, folder / "run", model="lenet5", split="site", epochs=1, draws=100)


def test_a_score_at_sites_that_were_held_out_is_evidence_of_another_site(run):
    evaluation = plainfilm.Evaluation.from_json(json.loads(run.evaluation.read_text()))

    assert (evaluation.evidence_level, evaluation.struck, evaluation.n_images) == (4, None, 40)
    assert [score.site for score in evaluation.sites] == ["site1", "site2"]
    assert sum(score.measure.n_patients for score in evaluation.sites) == evaluation.n_patients == 20
    assert any("whole sites of column 'site' were held out (site1; site2)" in note for note in evaluation.notes)
    assert plainfilm.evaluate(run.folder) == evaluation


def test_the_report_says_how_sites_were_held_out_and_what_each_came_to(run):
    page = run.report.read_text()

    assert "Site by site" in page
    assert "By site: all images of one site are on the same side" in page
    assert "Whole sites (column site: site1, site2) were held out in turn, in 2 trainings" in (
        run.paper / "methods.md"
    ).read_text().replace("\n", " ")
