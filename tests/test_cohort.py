"""Table 1, the flow and the split diagram count patients where patients are known, and name nobody."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plainfilm.data.splits import SplitOptions, split_table
from plainfilm.data.table import LeftOut, Table, make_rows
from plainfilm.errors import BundleError
from plainfilm.plots import Segment, split_plot
from plainfilm.reporting.cohort import Cohort, describe_cohort


def table_of(patients=20, images=3, *, left_out=(), **columns):
    """Brains of two classes; further columns are made by a function of patient and image number."""
    rows = [
        {
            "path": f"P{patient:03d}_{image}.png",
            "label": "ill" if patient % 2 else "healthy",
            "patient_id": f"P{patient:03d}",
            "split": None,
            "sex": "F" if patient % 4 < 2 else "M",
            "width": 64,
            **{name: value(patient, image) for name, value in columns.items()},
        }
        for patient in range(patients)
        for image in range(images)
    ]
    frame = make_rows(rows)
    return Table(frame, (), tuple(left_out))


def cohort_of(table=None, **options):
    table = table or table_of()
    return describe_cohort(table, split_table(table.rows, SplitOptions(**options)))


def line(cohort, name, level=""):
    (found,) = [entry for entry in cohort.lines if (entry.name, entry.level) == (name, level)]
    return found


def test_patients_images_and_images_of_a_patient_head_the_table():
    cohort = cohort_of()

    assert [column.name for column in cohort.columns] == ["", "train", "validation", "test", "healthy", "ill"]
    assert line(cohort, "Patients").cells[0] == "20"
    assert line(cohort, "Images").cells[0] == "60"
    assert line(cohort, "Images of a patient, median (range)").cells[0] == "3 (3–3)"
    assert line(cohort, "Patients").cells[4:] == ("10", "10")


def test_the_splits_add_up_to_all():
    cohort = cohort_of()

    assert sum(column.n_images for column in cohort.by_split) == cohort.columns[0].n_images == 60
    assert sum(column.n_patients for column in cohort.by_split) == 20
    assert cohort.shared == 0


def test_a_characteristic_of_the_patient_is_counted_by_patient():
    sex = line(cohort_of(), "sex", "F")

    assert sex.counted == "patients"
    assert sex.cells[0] == "10 (50 %)"


def test_what_changes_from_image_to_image_is_counted_by_image():
    cohort = cohort_of(table_of(view=lambda patient, image: "AP" if image == 0 else "PA"))

    assert line(cohort, "view", "AP").counted == "images"
    assert line(cohort, "view", "AP").cells[0] == "20 (33 %)"


def test_a_column_of_numbers_has_its_median_and_quartiles():
    cohort = cohort_of(table_of(age=lambda patient, image: str(40 + patient)))

    assert line(cohort, "age, median (quartiles)").cells[0] == "49.5 (44.75–54.25)"


def test_ages_as_dicom_writes_them_are_numbers():
    cohort = cohort_of(table_of(age=lambda patient, image: f"{40 + patient:03d}Y"))

    assert line(cohort, "age, median (quartiles)").cells[0] == "49.5 (44.75–54.25)"


def test_what_is_missing_is_counted():
    cohort = cohort_of(table_of(site=lambda patient, image: None if patient < 5 else "north"))

    assert line(cohort, "site", "not known").cells[0] == "5 (25 %)"
    assert line(cohort, "site", "north").cells[0] == "15 (75 %)"


def test_a_column_of_many_texts_gives_their_number_and_no_text():
    cohort = cohort_of(table_of(name=lambda patient, image: f"Doe^Jane{patient}"))

    assert line(cohort, "name, different values").cells[0] == "20"
    assert cohort.unlisted == ("name",)
    assert "Doe" not in json.dumps(cohort.to_json())


def test_no_patient_id_and_no_path_is_in_it():
    said = json.dumps(cohort_of().to_json())

    assert "P001" not in said
    assert "width" not in said


def test_patients_on_both_sides_of_an_image_split_are_counted():
    cohort = cohort_of(split="image")

    assert cohort.shared > 10


def test_without_patients_images_are_counted():
    table = table_of()
    table.rows["patient_id"] = None
    cohort = cohort_of(table, split="image")

    assert cohort.shared is None
    assert cohort.columns[0].n_patients is None
    assert [entry.name for entry in cohort.lines if not entry.level] == ["Images"]
    assert line(cohort, "sex", "F").counted == "images"


def test_the_flow_goes_from_files_found_to_images_used():
    left_out = [
        LeftOut("a.txt", "skipped", "SKIP_NOT_IMAGE", "Not an image."),
        LeftOut("b.png", "refused", "IMG_TRUNCATED", "The file ends early."),
        LeftOut("c.png", "refused", "IMG_TRUNCATED", "The file ends early."),
    ]
    table = table_of(left_out=left_out)
    table.rows.loc[:2, "label"] = None
    table.rows.loc[3:5, "split"] = "external"
    table.rows.loc[6:, "split"] = ["train", "validation", "test"] * 18
    found, read, used = cohort_of(table, split="patient").flow

    assert (found.n_images, read.n_images, used.n_images) == (63, 60, 54)
    assert [(entry.n_images, entry.reason) for entry in found.leaving] == [
        (2, "refused: The file ends early (IMG_TRUNCATED)"),
        (1, "skipped: Not an image (SKIP_NOT_IMAGE)"),
    ]
    assert [(entry.n_images, entry.reason) for entry in read.leaving] == [
        (3, "no label"),
        (3, "external split, set aside"),
    ]
    assert used.n_patients == 18


def test_rows_without_a_patient_that_are_dropped_are_told():
    table = table_of()
    table.rows.loc[:2, "patient_id"] = None
    (left,) = cohort_of(table, missing_patients="drop").flow[1].leaving

    assert (left.reason, left.n_images) == ("no patient id", 3)


def test_with_folds_every_image_is_tested_once_and_each_fold_has_its_bar():
    cohort = cohort_of(folds=4)

    assert cohort.by_split == ()
    assert sum(part.n_images for part in cohort.parts if part.split == "test") == 60
    assert {part.of for part in cohort.parts} == {"Fold 1", "Fold 2", "Fold 3", "Fold 4"}
    assert cohort.shared == 0


def test_it_comes_back_from_json_and_anything_else_is_refused():
    cohort = cohort_of()

    assert Cohort.from_json(json.loads(json.dumps(cohort.to_json()))) == cohort
    with pytest.raises(BundleError):
        Cohort.from_json({"columns": 3})


@settings(max_examples=25, deadline=None)
@given(st.integers(6, 30), st.integers(1, 4), st.integers(0, 9), st.sampled_from(["patient", "image"]))
def test_levels_add_up_in_every_column(patients, images, seed, split):
    rng = np.random.default_rng(seed)
    site = rng.choice(["a", "b", ""], size=100)
    table = table_of(patients, images, site=lambda patient, image: site[patient] or None)
    cohort = cohort_of(table, split=split, split_seed=seed)

    for name in ("label", "sex", "site"):
        lines = [entry for entry in cohort.lines if entry.name == name]
        for index, column in enumerate(cohort.columns):
            counts = [int(entry.cells[index].split(" (")[0].replace(",", "")) for entry in lines]
            assert sum(counts) == column.n_patients


def test_the_split_is_drawn_with_its_counts_in_words():
    drawing = split_plot(
        [Segment(row="ill", split="train", count=30), Segment(row="ill", split="test", count=10)], counted="patients"
    )

    assert drawing.alt == "Patients in each split. ill: 30 train, 10 test."
    assert ">30<" in drawing.svg(for_page=True).replace("\n", "")


def test_a_table_of_numbers_alone_is_no_characteristic_of_anyone():
    table = table_of()
    table.rows["bits"] = 8
    table.rows["pixel_sha256"] = "abc"

    assert not {"bits", "pixel_sha256", "width"} & {entry.name for entry in cohort_of(table).lines}
