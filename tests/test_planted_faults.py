"""A small version of `benchmarks/planted_faults.py`: faults are found, and clean sets are left in peace."""

from dataclasses import replace

import pytest
from benchmarks.planted_faults import KINDS, SETS, Plan, markdown, p_values, planted

SMALL = replace(SETS["single chests"], patients=100)


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("file size", 0.6),
        ("file quality", 0.6),
        ("marks", 0.6),
        ("bright borders", 0.6),
        ("mixed-up score columns", 1.0),
        ("swapped report", 1.0),
        ("a model that guesses", 1.0),
        ("a model that reads the border", 1.0),
    ],
)
def test_a_planted_fault_is_found(name, severity):
    assert planted(KINDS[name], SMALL, severity) == 1


def test_patients_in_two_splits_learn_random_labels():
    assert planted(KINDS["straddling patients (random labels)"], replace(SMALL, images_per_patient=4), 0.9) == 1


def test_files_and_marks_of_a_clean_set_are_left_in_peace(tmp_path):
    from plainfilm.auditing.shortcuts import check_shortcuts

    findings = check_shortcuts(Plan(SMALL, 0.0, tmp_path).read()[0])

    assert {finding.check: finding.verdict for finding in findings if finding.check in ("B1", "B7", "B8")} == {
        "B1": "PASS",
        "B7": "PASS",
        "B8": "PASS",
    }


def test_p_values_spread_evenly_where_there_is_nothing_to_find():
    table = p_values(60, draws=199).set_index("level")["share of p at or below"]

    assert table[0.05] <= 0.15
    assert 0.3 <= table[0.5] <= 0.7
    assert markdown(table.reset_index()).startswith("| level |")
