"""Who trains, who chooses, who is tested: no patient in two parts, every class in each, nothing lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from plainfilm.data.patients import known_patients
from plainfilm.data.splits import Fold, SplitOptions, SplitPlan, split_table
from plainfilm.data.table import make_rows
from plainfilm.errors import LeakageError, PlainfilmError, TableError, UsageError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared/data")


def table(*patients: tuple[str | None, str | None, int], split: str | None = None) -> pd.DataFrame:
    """Rows from (patient, class, images)."""
    rows = []
    for patient, label, n_images in patients:
        for _ in range(n_images):
            place = f"{label}/{patient}/{len(rows)}.png"
            rows.append({"path": place, "label": label, "patient_id": patient, "split": split})
    return make_rows(rows)


def cohort(images: int = 3, **classes: int) -> pd.DataFrame:
    """Rows from class=patients, each with so many images."""
    return table(*((f"{label}{n}", label, images) for label, count in classes.items() for n in range(count)))


def parts(fold: Fold) -> Iterator[tuple[str, np.ndarray]]:
    yield from (("train", fold.train), ("validation", fold.validation), ("test", fold.test))


def patients_in(rows: pd.DataFrame, part: np.ndarray) -> set[str]:
    return set(rows["patient_id"].iloc[part])


def refusal(rows: pd.DataFrame, **options: object) -> PlainfilmError:
    with pytest.raises(PlainfilmError) as caught:
        split_table(rows, SplitOptions.model_validate(options))
    return caught.value


def assert_whole(rows: pd.DataFrame, plan: SplitPlan) -> None:
    """Each fold holds every labelled row exactly once, and no patient twice."""
    labelled = set(np.flatnonzero(rows["label"].notna()))
    for fold in plan.folds:
        used = Counter(index for _, part in parts(fold) for index in part.tolist())
        assert set(used) == labelled
        assert set(used.values()) == {1}
        places = Counter(patient for _, part in parts(fold) for patient in patients_in(rows, part))
        assert set(places.values()) == {1}


# --- a new split --------------------------------------------------------------------------------------------

COHORTS = st.builds(
    lambda counts, sizes: table(
        *(
            (f"{label}{n}", label, sizes[n % len(sizes)])
            for label, count in zip("abc", counts, strict=False)
            for n in range(count)
        )
    ),
    st.lists(st.integers(8, 30), min_size=2, max_size=3),
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
)


@given(COHORTS, st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_no_patient_is_divided_and_no_row_is_lost(rows, seed):
    plan = split_table(rows, SplitOptions(split_seed=seed))

    assert (plan.unit, plan.patients, plan.tested_on) == ("patient", "documented", "test")
    assert_whole(rows, plan)


@given(COHORTS, st.integers(2, 5), st.integers(0, 5))
@settings(max_examples=12, deadline=None)
def test_folds_test_every_patient_once(rows, n_folds, seed):
    plan = split_table(rows, SplitOptions(folds=n_folds, split_seed=seed))

    assert_whole(rows, plan)
    tested = np.concatenate([fold.test for fold in plan.folds])
    assert sorted(tested) == list(range(len(rows)))


@given(st.lists(st.integers(10, 60), min_size=2, max_size=4), st.integers(1, 4), st.sampled_from([0.1, 0.2, 0.3, 0.4]))
@settings(max_examples=15, deadline=None)
def test_every_class_keeps_its_share(counts, images, fraction):
    rows = cohort(images, **dict(zip("abcd", counts, strict=False)))
    fold = split_table(rows, SplitOptions(test_fraction=fraction)).folds[0]

    for label, n_patients in rows.groupby("label")["patient_id"].nunique().items():
        tested = rows.iloc[fold.test]
        n_tested = tested.loc[tested["label"] == label, "patient_id"].nunique()
        # As near as whole patients come, and the 5 % that a fraction is rounded by.
        assert abs(n_tested - fraction * n_patients) <= 1.5 + 0.05 * fraction * n_patients


@pytest.mark.parametrize("fraction", [0.05, 0.15, 0.25, 0.4, 0.5, 0.6, 0.75, 0.85])
def test_the_fraction_asked_for_is_the_fraction_given(fraction):
    rows = cohort(2, a=200, b=200)
    fold = split_table(rows, SplitOptions(test_fraction=fraction)).folds[0]

    assert len(fold.test) / len(rows) == pytest.approx(fraction, rel=0.06)


def test_patients_with_images_of_both_classes_stay_whole():
    rows = table(*((f"p{n}", label, 2) for n in range(30) for label in "ab"))

    assert_whole(rows, split_table(rows))


@pytest.mark.parametrize("seed", range(8))
def test_a_class_never_leaves_training_whole(seed):
    """Also where its few patients are many of those drawn, or belong to other classes too."""
    rows = pd.concat(
        [cohort(3, a=9, b=9, rare=2), table(*((f"both{n}", label, 1) for n in range(2) for label in ("a", "odd")))],
        ignore_index=True,
    )
    plan = split_table(rows, SplitOptions(test_fraction=0.4, validation_fraction=0.4, split_seed=seed))

    assert set(rows["label"].iloc[plan.folds[0].train]) == {"a", "b", "rare", "odd"}
    assert_whole(rows, plan)


def test_the_only_patient_of_a_class_is_trained_on():
    rows = cohort(3, a=20, b=20, rare=1)
    plan = split_table(rows)

    assert "rare0" in patients_in(rows, plan.folds[0].train)
    assert "Class 'rare' has no test row: too few patients to be in every split." in plan.notes
    assert "Class 'rare' has no validation row: too few patients to be in every split." in plan.notes


def test_of_two_patients_of_a_class_one_is_tested():
    rows = cohort(3, a=20, b=20, rare=2)
    fold = split_table(rows).folds[0]

    assert len(patients_in(rows, fold.test) & {"rare0", "rare1"}) == 1
    assert len(patients_in(rows, fold.train) & {"rare0", "rare1"}) == 1


def test_folds_need_two_patients_of_every_class():
    assert refusal(cohort(3, a=20, b=20, rare=1), folds=5).code == "SPL_UNSEEN_CLASS"


@pytest.mark.parametrize("n_patients", [3, 4, 5, 6])
def test_a_handful_of_patients_can_still_be_divided(n_patients):
    rows = cohort(4, a=n_patients, b=n_patients)

    assert_whole(rows, split_table(rows))


def test_too_few_patients_are_refused():
    assert refusal(cohort(10, a=1, b=1)).code == "SPL_TOO_FEW_PATIENTS"
    assert refusal(cohort(10, a=3, b=1), folds=5).code == "SPL_TOO_FEW_PATIENTS"


def test_the_same_seed_gives_the_same_split():
    rows = cohort(3, a=20, b=20)
    first, again, other = (split_table(rows, SplitOptions(split_seed=seed)).folds[0] for seed in (1, 1, 2))

    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_rows_without_a_label_are_in_no_part():
    rows = pd.concat([cohort(2, a=10, b=10), table(("x", None, 5))], ignore_index=True)

    assert_whole(rows, split_table(rows))


def test_missing_cells_of_any_kind_are_missing():
    rows = cohort(2, a=10, b=10)
    rows["split"] = np.nan
    rows.loc[40:, :] = pd.NA

    assert_whole(rows, split_table(rows.convert_dtypes()))


# --- the table's own split ----------------------------------------------------------------------------------


def given_split(**counts: int) -> pd.DataFrame:
    """Rows from split=patients of each of two classes."""
    frames = [
        table(*((f"{name}-{label}{n}", label, 2) for label in "ab" for n in range(count)), split=name)
        for name, count in counts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def test_the_tables_own_split_is_kept():
    rows = given_split(train=6, validation=2, test=3)
    plan = split_table(rows)

    for name, part in parts(plan.folds[0]):
        assert set(rows["split"].iloc[part]) == {name}
    assert_whole(rows, plan)


def test_validation_is_taken_out_of_train_where_there_is_none():
    rows = given_split(train=14, test=3)
    plan = split_table(rows)

    assert set(rows["split"].iloc[plan.folds[0].test]) == {"test"}
    assert set(rows["split"].iloc[plan.folds[0].validation]) == {"train"}
    assert_whole(rows, plan)
    assert "8 training rows were set aside" in plan.notes[0]


def test_without_a_test_split_the_figures_are_said_to_be_too_good():
    plan = split_table(given_split(train=6, validation=2))

    assert plan.tested_on == "validation"
    assert plan.folds[0].test is plan.folds[0].validation
    assert "too good" in plan.notes[0]


def test_external_rows_are_never_trained_chosen_or_tested_on():
    rows = given_split(train=6, validation=2, test=3, external=4)
    external = set(np.flatnonzero(rows["split"] == "external"))

    for options in (SplitOptions(), SplitOptions(split="patient"), SplitOptions(folds=3), SplitOptions(split="image")):
        plan = split_table(rows, options)
        assert not external & {index for fold in plan.folds for _, part in parts(fold) for index in part.tolist()}
        assert plan.notes[0] == "16 labelled rows of the external split were set aside, as the table says."


def test_rows_that_name_no_split_are_left_out_and_counted():
    rows = pd.concat([given_split(train=6, validation=2, test=2), cohort(2, a=1)], ignore_index=True)
    plan = split_table(rows)

    assert "2 labelled rows name no split and were left out." in plan.notes


def test_a_patient_in_two_splits_is_named():
    rows = given_split(train=6, validation=2, test=3)
    rows.loc[rows["split"] == "test", "patient_id"] = ["train-a0"] * 2 + ["0042"] * 10
    rows.loc[rows.index[-2:], "split"] = "validation"

    with pytest.raises(
        LeakageError, match=r"2 of 17 patients.*0042 \(test, validation\); train-a0 \(test, train\)"
    ) as caught:
        split_table(rows)
    assert caught.value.code == "SPL_LEAK"
    assert "--split patient" in str(caught.value)


def test_a_divided_patient_is_united_by_a_new_split_or_declared_by_an_image_split():
    rows = given_split(train=10, validation=4, test=6)
    rows.loc[rows["split"] == "test", "patient_id"] = "train-a0"

    assert split_table(rows, SplitOptions(split="patient")).unit == "patient"
    kept = split_table(rows, SplitOptions(split="image"))
    assert kept.unit == "image"
    assert set(rows["split"].iloc[kept.folds[0].test]) == {"test"}


def test_folds_set_the_tables_own_split_aside():
    plan = split_table(given_split(train=6, test=3), SplitOptions(folds=3))

    assert len(plan.folds) == 3
    assert "the table's own split was set aside" in plan.notes[0]


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_class_that_is_not_trained_on_is_refused(name):
    rows = given_split(train=6, validation=2, test=2)
    rows.loc[(rows["split"] == name) & (rows["label"] == "b"), "label"] = "unseen"
    error = refusal(rows)

    assert error.code == "SPL_UNSEEN_CLASS"
    assert f"class 'unseen' has {name} rows" in str(error)


def test_an_empty_or_one_sided_training_split_is_refused():
    assert refusal(given_split(test=6, validation=2)).code == "SPL_EMPTY"
    rows = given_split(train=6, validation=2)
    rows.loc[rows["split"] == "train", "label"] = "a"
    assert refusal(rows).code == "SPL_UNSEEN_CLASS"
    assert refusal(rows[rows["label"] == "a"].reset_index(drop=True)).code == "TAB_ONE_CLASS"


# --- patients -----------------------------------------------------------------------------------------------


def without_ids(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(patient_id=None)


def test_without_patients_training_is_refused_with_every_way_out():
    error = refusal(without_ids(cohort(3, a=10, b=10)))

    assert isinstance(error, UsageError)
    assert error.code == "SPL_NO_PATIENTS"
    for way in ("patient_id", "--patient-column", "--patients folder", "--patients image", "--split image"):
        assert way in str(error)


def test_one_image_per_patient_may_be_declared():
    plan = split_table(without_ids(cohort(1, a=20, b=20)), SplitOptions(patients="image"))

    assert (plan.patients, plan.unit) == ("declared", "patient")
    assert len(set(plan.groups)) == 40
    assert "declared, not found" in plan.notes[0]


def test_a_declaration_that_the_table_contradicts_is_refused():
    error = refusal(cohort(3, a=10, b=10), patients="image")

    assert error.code == "SPL_DECLARED_WRONGLY"
    assert "has 3" in str(error)
    assert split_table(cohort(1, a=20, b=20), SplitOptions(patients="image")).patients == "declared"


def test_the_folder_above_an_image_may_be_its_patient():
    rows = without_ids(cohort(3, a=10, b=10))  # a/a0/0.png
    plan = split_table(rows, SplitOptions(patients="folder"))

    assert plan.patients == "documented"
    assert_whole(rows.assign(patient_id=plan.groups), plan)
    assert len(set(plan.groups)) == 20


def test_one_folder_name_in_two_places_is_one_patient():
    rows = make_rows(
        [{"path": f"{label}/{n:03}/1.png", "label": label} for label in ("ill", "well") for n in range(20)]
    )
    plan = split_table(rows, SplitOptions(patients="folder"))

    assert len(set(plan.groups)) == 20
    assert_whole(rows.assign(patient_id=plan.groups), plan)


def test_patients_known_from_folders_may_not_be_in_two_splits_either():
    rows = make_rows(
        [
            {"path": f"{split}/{label}/{label}{n}/1.png", "label": label, "split": split}
            for split in ("train", "test")
            for label in ("ill", "well")
            for n in range(5 if split == "train" else 1)
        ]
    )
    error = refusal(rows, patients="folder")

    assert error.code == "SPL_LEAK"
    assert "ill0 (test, train); well0 (test, train)" in str(error)


def test_the_class_folder_is_not_a_patient():
    rows = make_rows([{"path": f"{label}/{n}.png", "label": label} for label in ("ill", "well") for n in range(20)])

    assert refusal(rows, patients="folder").code == "SPL_FOLDER_IS_CLASS"


def some_ids_missing() -> pd.DataFrame:
    rows = cohort(2, a=10, b=10)
    rows.loc[[0, 7], "patient_id"] = None
    return rows


def test_some_missing_ids_are_refused_dropped_or_counted_as_patients():
    rows = some_ids_missing()
    error = refusal(rows)
    assert error.code == "SPL_MISSING_PATIENTS"
    assert "2 of 40 labelled rows have no patient id, first 'a/a0/0.png'" in str(error)

    dropped = split_table(rows, SplitOptions(missing_patients="drop"))
    assert not {0, 7} & {index for _, part in parts(dropped.folds[0]) for index in part.tolist()}
    assert dropped.notes == ("2 labelled rows without a patient id were left out.",)

    own = split_table(rows, SplitOptions(missing_patients="own"))
    assert (own.groups[0], own.groups[7]) == ("(row 1)", "(row 8)")
    assert_whole(rows.assign(patient_id=own.groups), own)


def test_an_image_split_takes_every_row_and_says_what_it_is():
    for rows in (some_ids_missing(), without_ids(cohort(2, a=10, b=10)), cohort(2, a=10, b=10)):
        plan = split_table(rows, SplitOptions(split="image"))
        assert plan.unit == "image"
        assert sum(len(part) for _, part in parts(plan.folds[0])) == 40
    assert split_table(without_ids(rows), SplitOptions(split="image")).patients == "unknown"


def test_rows_of_the_source_are_not_changed():
    rows = some_ids_missing()
    before = rows.copy(deep=True)
    split_table(rows, SplitOptions(missing_patients="own"))

    pd.testing.assert_frame_equal(rows, before)


# --- classes and options ------------------------------------------------------------------------------------


def test_labels_must_be_classes():
    assert refusal(table(("p", None, 4))).code == "TAB_NO_LABELS"
    assert refusal(cohort(4, a=4)).code == "TAB_ONE_CLASS"
    assert refusal(table(*((f"p{n}", f"finding {n}", 1) for n in range(30)))).code == "TAB_TOO_MANY_CLASSES"


def test_three_images_of_two_classes_are_too_few_not_too_many():
    with pytest.raises(TableError) as caught:
        split_table(table(("p", "a", 1), ("q", "a", 1), ("r", "b", 1)))
    assert caught.value.code in {"SPL_TOO_FEW_PATIENTS", "SPL_EMPTY"}


@pytest.mark.parametrize(
    "options", [{"test_fraction": 0}, {"test_fraction": 1}, {"folds": 1}, {"split": "x"}, {"seed": 1}]
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ValidationError):
        SplitOptions.model_validate(options)


def test_copies_of_test_images_elsewhere_are_counted():
    rows = given_split(train=6, validation=2, test=3)
    digests = [f"{n}" for n in range(len(rows))]
    digests[-1] = digests[0]

    plan = split_table(rows.assign(pixel_sha256=digests))
    assert plan.notes == ("1 test images have a pixel-identical copy outside the test split.",)


def test_splitting_many_single_images_takes_no_longer_than_sorting_them():
    """With the splitter for groups this would take minutes; it is cut off by the machine's patience, not by a clock."""
    rows = make_rows([{"path": str(n), "label": "ab"[n % 2]} for n in range(50_000)])
    plan = split_table(rows, SplitOptions(patients="image"))

    assert len(plan.folds[0].test) == 10_000


@needs_shared
def test_the_alzheimer_patients_are_divided_with_both_of_the_moderate_class_apart():
    rows = pd.read_csv(SHARED / "alzheimer-mri.csv", dtype=str)
    rows = make_rows(rows.drop(columns="image_split").to_dict("records"))
    plan = split_table(rows)

    assert_whole(rows, plan)
    shares = rows["label"].value_counts(normalize=True)
    tested = rows["label"].iloc[plan.folds[0].test].value_counts(normalize=True)
    assert (tested - shares).abs().max() < 0.03
    assert "Moderate_Demented" in tested.index


def test_patients_are_told_without_dividing_anything():
    rows = make_rows(
        [{"path": name, "label": "x", "patient_id": patient} for name, patient in (("a", "1"), ("b", None))]
    )

    groups, how = known_patients(rows)
    assert (list(groups), how) == (["1", "(row 2)"], "documented")


def test_where_no_row_has_a_patient_they_are_unknown():
    groups, how = known_patients(make_rows([{"path": "a", "label": "x"}, {"path": "b", "label": "y"}]))

    assert how == "unknown"
    assert len(set(groups)) == 2
