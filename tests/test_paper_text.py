"""What a paper can take: whole numbers, escaped text, no patient, and nothing that makes a void score look valid."""

from __future__ import annotations

import re
from io import StringIO

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainfilm.reporting.content import Estimate, LeakGap
from plainfilm.reporting.paper import PAPER_FILES, latex_text, markdown_text, paper_files
from test_cohort import cohort_of
from test_findings_page import all_kinds, audit_of
from test_reporting import HOSTILE, hostile_report, make_report
from test_standards import full_report

LATEX_SPECIAL = re.compile(r"(?<!\\)[&%$#_{}~^\\]")


@pytest.fixture(scope="module")
def report():
    return full_report(audit=audit_of(*all_kinds()))


@pytest.fixture(scope="module")
def written(report):
    return paper_files(report)


def test_every_file_is_there(written):
    assert tuple(written) == PAPER_FILES


def test_a_run_that_does_not_say_who_is_in_it_has_no_table_one():
    assert set(PAPER_FILES) - set(paper_files(make_report())) == {"table1.csv", "table1.tex"}


def test_the_main_figure_stands_with_its_interval_and_its_count(report, written):
    head = report.evaluation.headline
    whole = (
        f"Balanced accuracy by patient was {head.value:.3f} (95 % CI {head.low:.3f} to {head.high:.3f}; 24 patients)"
    )

    assert whole in written["results.md"]


def test_the_methods_say_what_was_done(written):
    methods = written["methods.md"]

    for said in (
        "divided at random, stratified by class, seed 0",
        "disjoint by patient",
        "2,800,000 parameters",
        "AdamW",
        "bootstrap draws of whole patients",
        "The weights of epoch 2 were kept (lowest validation loss)",
    ):
        assert said in methods


def test_a_score_that_may_not_stand_is_struck_through_in_every_table():
    files = paper_files(make_report(split_unit="image", cohort=cohort_of(split="image")))

    assert "**Not a result." in files["results.md"]
    assert r"\caption{NOT A RESULT:" in files["results.tex"]
    scores = [line for line in files["results.md"].splitlines() if line.startswith("| ") and "0." in line]
    assert scores
    assert all(re.fullmatch(r"~~.*~~|\d+|withheld|–", cell) for line in scores for cell in line[2:-2].split(" | ")[1:])
    cells = re.findall(r"& (\d\.\d.*?) (?:&|\\\\)", files["results.tex"])
    assert cells == []


def test_a_score_that_may_stand_is_not_struck(written):
    assert "~~" not in written["results.md"].replace("\\~", "")
    assert "NOT A RESULT" not in written["results.tex"]


def test_the_leak_gap_is_told_with_the_interval_of_the_difference():
    gap = LeakGap(
        measure="Accuracy of the nearest neighbour",
        as_given=Estimate(value=0.997, low=0.995, high=0.999),
        patient_safe=Estimate(value=0.49, low=0.42, high=0.56),
        difference=Estimate(value=0.507, low=0.44, high=0.57),
        counted="1,280 images of 40 patients",
    )
    results = paper_files(make_report(leak_gap=gap))["results.md"]

    assert (
        "0.997 on the data as given and 0.490 without leaks: a difference of 50.7 points (95 % CI 44.0 to 57.0)"
        in results
    )


def test_no_file_names_a_patient_or_an_image(written):
    for name, text in written.items():
        assert not re.search(r"\bP\d{3}\b", text), name
        assert ".png" not in text, name


def test_the_checklist_has_71_items(written):
    items = pd.read_csv(StringIO(written["checklist.csv"]), dtype=str)

    assert len(items) == 44 + 27
    assert set(items["status"]) == {"filled by the tool", "needs you", "not applicable"}
    assert items["asks"].notna().all()


def test_table_one_reads_back_with_a_column_for_each_split_and_class(written):
    table = pd.read_csv(StringIO(written["table1.csv"]), dtype=str)

    assert list(table.columns[3:]) == [
        "all",
        "split: train",
        "split: validation",
        "split: test",
        "label: healthy",
        "label: ill",
    ]
    assert table.loc[table["characteristic"] == "Patients", "all"].item() == "20"


def test_latex_tables_have_as_many_cells_as_columns(written):
    for name in ("results.tex", "table1.tex"):
        width = 0
        for line in written[name].splitlines():
            if line.startswith(r"\begin{tabular}"):
                width = len(line.removeprefix(r"\begin{tabular}").strip("{}"))
            elif line.endswith(r" \\"):
                assert line.count(" & ") == width - 1


@given(st.text(max_size=60))
def test_latex_sees_no_command_in_any_text(text):
    shown = latex_text(text)
    for command in ("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"):
        shown = shown.replace(f"\\{command}{{}}", "")
    shown = shown.replace(r"\textasciigrave{}", "").replace(r"\ldots{}", "")

    assert not re.sub(r"\\[&%$#_{}]", "", shown).strip("".join(chr(code) for code in range(32))).count("\\")
    assert not LATEX_SPECIAL.search(re.sub(r"\\[&%$#_{}]", "", shown))


@given(st.text(alphabet="ab|*_`<>[]#~\\\n", max_size=40))
def test_markdown_marks_nothing_up(text):
    shown = markdown_text(text)

    assert "\n" not in shown
    assert not re.sub(r"\\.", "", shown).strip("ab") or set(re.sub(r"\\.", "", shown)) <= set("abun0123456789")


def test_hostile_names_are_text_in_every_file():
    files = paper_files(hostile_report(*HOSTILE))

    assert "<script>" not in files["methods.md"] + files["results.md"] + files["results.tex"]
    assert "\\<script\\>" in files["results.md"]
    assert r"\textless{}script\textgreater{}" in files["results.tex"]


def test_the_same_run_gives_the_same_files(report, written):
    assert paper_files(report) == written
