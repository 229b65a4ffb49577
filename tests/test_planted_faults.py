"""A small version of `benchmarks/planted_faults.py`: faults are found, and clean sets are left in peace."""

from dataclasses import replace

import pytest
from benchmarks.faults import KINDS
from benchmarks.phantom_sets import SETS, STACKS, Plan, without_pictures
from benchmarks.planted_faults import Kept, markdown, p_values, planted

SMALL = replace(SETS["single chests"], patients=100)


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("file size", 0.6),
        ("file quality", 0.6),
        ("burnt-in marks", 0.6),
        ("bright borders", 0.6),
        ("the same pixels in two splits", 0.05),
        ("the same pixels under two labels", 0.05),
        ("copies in another split, flipped or turned", 0.05),
        ("copies in another split, saved again as JPEG", 0.05),
        ("copies in another split, smaller and back", 0.05),
        ("one class made larger on disk", 0.6),
        ("mixed-up score columns", 1.0),
        ("swapped report", 1.0),
        ("a model that guesses", 1.0),
        ("a model that reads the border", 1.0),
        ("a model that reads marks", 1.0),
    ],
)
def test_a_planted_fault_is_found(name, severity):
    assert planted(KINDS[name], SMALL, severity) == 1


@pytest.mark.parametrize("name", ["patients in two splits", "patients in two splits, random labels"])
def test_patients_in_two_splits_are_found(name):
    assert planted(KINDS[name], replace(SMALL, images_per_patient=4), 0.9) == 1


@pytest.mark.parametrize("name", ["patients in two splits, no ids", "stacks without ids"])
def test_stacks_without_ids_are_found(name):
    assert planted(KINDS[name], replace(STACKS["stacks of 8"], patients=20), 1.0) == 1


def test_files_and_marks_of_a_clean_set_are_left_in_peace():
    from plainfilm.auditing.shortcuts import check_shortcuts

    with without_pictures():
        findings = check_shortcuts(Plan(SMALL).saved())

    assert {finding.check: finding.verdict for finding in findings if finding.check in ("B1", "B7", "B8")} == {
        "B1": "PASS",
        "B7": "PASS",
        "B8": "PASS",
    }


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    assert Kept(tmp_path, "a kind", {"size": 64}).ask("1% a set 0", lambda: 1.0) == 1.0

    assert Kept(tmp_path, "a kind", {"size": 64}).ask("1% a set 0", lambda: pytest.fail("asked again")) == 1.0
    assert Kept(tmp_path, "a kind", {"size": 32}).ask("1% a set 0", lambda: 0.0) == 0.0


def test_p_values_spread_evenly_where_there_is_nothing_to_find():
    table = p_values(60, draws=199).set_index("p at or below")["share"].astype(float)

    assert table[0.05] <= 0.15
    assert 0.3 <= table[0.5] <= 0.7
    assert markdown(table.reset_index()).startswith("| p at or below |")
