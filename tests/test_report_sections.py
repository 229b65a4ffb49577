"""The newer sections of the report: the audit, who is in the data, standards, texts for a paper; and a whole run."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pytest

from plainfilm import verbs
from plainfilm.abstention import Abstention, ClassThreshold
from plainfilm.auditing.results import save_audit
from plainfilm.calibration import Calibration
from plainfilm.evaluation import evaluate_predictions
from plainfilm.measures import EvaluationOptions, SubgroupOptions
from plainfilm.reporting import write_report
from plainfilm.reporting.assembly import leak_gap_of
from plainfilm.reporting.paper import PAPER_FILES
from plainfilm.reporting.sentences import sentences_of
from plainfilm.runs import open_run
from small_runs import train_small, write_small_data
from test_cohort import cohort_of, table_of
from test_findings_page import all_kinds, audit_of, finding
from test_reporting import HOSTILE, Page, hostile_report, make_report, predictions
from test_standards import full_report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


def hidden_patients(**changes):
    """What A4 says of a split that divides patients."""
    counts = {"n_images": 1280, "n_patients": 40}
    details = {
        "divides_patients": True,
        "nn_by_image": {"value": 0.997, "low": 0.994, "high": 0.999, **counts},
        "nn_by_patient": {"value": 0.49, "low": 0.42, "high": 0.56, **counts},
        "nn_gap": {"value": 0.507, "low": 0.44, "high": 0.573, **counts},
    }
    return finding("A4", "FAIL", details=details | changes)


@pytest.fixture(scope="module")
def audited():
    audit = audit_of(*all_kinds(), hidden_patients()).graded(2)
    return full_report(
        audit=audit,
        leak_gap=leak_gap_of(audit),
        card="# A card\n\n- one line\n- <b>another</b>",
        calibration=Calibration(temperature=1.3, n_images=40, n_patients=10, reason=""),
        abstention=Abstention(
            classes={"ill": ClassThreshold(threshold=0.2, n_patients=12, coverage_low=0.8, coverage_high=0.99)}
        ),
    )


@pytest.fixture(scope="module")
def html(audited):
    return write_report(audited)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_is_whole_and_asks_for_nothing(html, page):
    assert page.open == []
    assert not set(page.tags) & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src"))
    assert all(target.startswith("#") for target in page.values("href") + page.values("xlink:href"))
    assert len(page.values("id")) == len(set(page.values("id")))
    assert {target.removeprefix("#") for target in page.values("href")} <= set(page.values("id"))
    assert page.tags.count("caption") == page.tags.count("table")
    assert page.tags.count("h1") == 1


def test_the_audit_stands_in_the_report_as_on_its_own_page(page):
    assert "3 ✗ FAIL 1 ! WARN 1 ? NOT ASSESSABLE 2 ✓ PASS" in page.text
    assert "in the words of whoever ran the audit: All films of the ward" in page.text
    assert "Limits of B2." in page.text


def test_what_is_missing_for_the_next_level_is_said_beside_the_levels(page):
    assert (
        "For level 3: sections A to E of the audit must be clean. A3 fails: Near-duplicates across splits." in page.text
    )


def test_without_an_audit_the_report_says_so():
    page = Page(write_report(make_report()))

    assert "No audit of this run is on file" in page.text
    assert "For level 3: run the audit" in page.text


def test_the_score_by_image_and_by_patient_stand_side_by_side_with_the_paired_difference(html, page):
    assert (
        "Split by image 0.997 0.994–0.999 Split by patient 0.490 0.420–0.560 Difference 50.7 points 44.0–57.3"
        in page.text
    )
    assert "On 1,280 images of 40 patients." in page.text
    assert html.index('class="gap"') < html.index('id="pictures"')


def test_a_split_that_keeps_patients_together_has_no_leak_gap_in_its_headline():
    assert leak_gap_of(audit_of(hidden_patients(divides_patients=False))) is None
    assert leak_gap_of(audit_of(finding("A4"))) is None


def test_table_one_the_flow_and_the_split_are_drawn(page):
    assert "From files found to images used" in page.text
    assert "Images used 60 of 20 patients" in page.text
    assert "The partitions are disjoint by patient: no patient is in two of them." in page.text
    assert "sex counted by patient" in page.text
    assert any(label.startswith("Patients in each split. healthy: ") for label in page.values("aria-label"))


def test_a_split_that_shares_patients_is_drawn_by_image_with_a_warning():
    html = write_report(make_report(split_unit="image", cohort=cohort_of(split="image")))

    assert any(label.startswith("Images in each split.") for label in Page(html).values("aria-label"))
    assert '<p class="verdict">' in html
    assert "the partitions are not disjoint" in html


def test_patients_kept_for_calibration_are_a_split_of_their_own():
    cohort = cohort_of(table_of(patients=200, images=1), validation_fraction=0.4)
    page = Page(write_report(replace(full_report(), cohort=cohort)))

    assert [column.name for column in cohort.by_split] == ["train", "validation", "calibration", "test"]
    assert sum(column.n_patients for column in cohort.by_split) == 200
    assert cohort.shared == 0
    assert "Calibration" in page.text


def test_calibration_and_abstention_are_told(page):
    assert "Logits were divided by a temperature of 1.3, fitted on 40 images of 10 patients" in page.text
    assert "The model abstains unless exactly one class passes its own threshold" in page.text


def test_the_card_keeps_its_lines_and_no_markup(html):
    assert "# A card\n\n- one line\n- &lt;b&gt;another&lt;/b&gt;\n</pre>" in html


def test_both_standards_are_listed_with_what_is_left_to_the_authors(page):
    assert "CLAIM 2024" in page.text
    assert "TRIPOD+AI" in page.text
    assert "Left to you: " in page.text
    assert "Say prospective or retrospective." in page.text


def test_hostile_text_stays_text_in_the_newer_sections():
    everything = " ".join(HOSTILE)
    table = table_of(**{HOSTILE[0]: lambda patient, image: HOSTILE[patient % 7]})
    table.rows["label"] = [HOSTILE[1] if label == "ill" else HOSTILE[2] for label in table.rows["label"]]
    report = replace(hostile_report(*HOSTILE), cohort=cohort_of(table), card=everything)
    page = Page(write_report(report))

    assert page.open == []
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("style") == page.tags.count("title") == 1


# --- a whole run --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return train_small(write_small_data(folder / "data"), folder / "run", gallery=False)


def test_a_run_writes_what_a_paper_takes_and_hashes_it(run):
    manifest = json.loads((run.folder / "manifest.json").read_text())["sha256"]

    assert {f"paper/{name}" for name in PAPER_FILES} <= set(manifest)
    for name in PAPER_FILES:
        text = (run.paper / name).read_text("utf-8")
        assert text
        assert "P001" not in text
        assert str(run.folder) not in text


def test_report_writes_the_page_and_the_paper_again_even_where_they_were_changed_or_lost(run):
    before = {name: (run.paper / name).read_text("utf-8") for name in PAPER_FILES}
    (run.paper / "methods.md").write_text("my own words")
    (run.paper / "results.tex").unlink()
    verbs.report(run.folder)

    assert {name: (run.paper / name).read_text("utf-8") for name in PAPER_FILES} == before
    open_run(run.folder)


def test_an_audit_in_the_folder_of_a_run_is_read_by_its_report(run):
    save_audit(audit_of(*all_kinds()).graded(2), run.folder)
    text = Page(verbs.report(run.folder).read_text("utf-8")).text

    assert "Near-duplicates across splits" in text
    assert "B1 FAIL: Sentence of B1" in (run.paper / "results.md").read_text("utf-8")


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium on the PATH")
def test_a_browser_opens_and_prints_the_report_without_a_complaint(tmp_path, html):
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--log-level=0"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer"]
    command += [f"--print-to-pdf={tmp_path / 'report.pdf'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ":CONSOLE" not in done.stderr
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


# --- calibration and groups of patients ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def grouped():
    """A report on 80 patients of two sexes."""
    scored = predictions(patients=40, images=1)
    sexes = pd.DataFrame({"path": scored.table["path"], "sex": ["F", "M"] * 40})
    evaluation = evaluate_predictions(
        scored,
        patients="documented",
        split_unit="patient",
        options=EvaluationOptions(draws=100),
        attributes=sexes,
        subgroups=SubgroupOptions(subgroup=("sex",)),
    )
    return replace(full_report(), evaluation=evaluation)


def test_calibration_is_drawn_with_its_figures_and_not_among_the_others(grouped):
    page = Page(write_report(grouped))

    assert "Calibration slope" in page.text
    assert "below 1 the scores are too bold" in page.text
    assert any(label.startswith("Reliability diagram of ") for label in page.values("aria-label"))
    assert any(label.startswith("Risk against coverage: ") for label in page.values("aria-label"))
    others = page.text.split("Over all classes")[1].split("Curves")[0]
    assert "Calibration" not in others
    assert "calibration error" in sentences_of(grouped)["calibration"]


def test_groups_of_patients_have_a_table_with_gaps_and_what_could_have_been_seen(grouped):
    page = Page(write_report(grouped))

    assert "Groups of patients by sex" in page.text
    assert "F against M" in page.text
    assert "p is corrected for all rows of this table (Holm)" in page.text
    assert sentences_of(grouped)["subgroups"].startswith("The widest gap by sex: ")


def test_without_columns_or_enough_patients_neither_is_shown():
    few = make_report(predictions(patients=6, images=1))
    page = Page(write_report(few))

    assert "Groups of patients by" not in page.text
    assert not any(label.startswith("Reliability") for label in page.values("aria-label"))
