"""The findings of an audit as a page: the worst first, each with its rule and its limits, and nothing that runs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plainfilm.auditing.findings import Finding, Picture
from plainfilm.auditing.results import Audit, load_audit, save_audit
from plainfilm.reporting.findings import (
    SECTIONS,
    audit_page,
    findings_page,
    in_digits,
    next_step,
    p_in_words,
    view_of,
)
from test_reporting import HOSTILE, Page

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


def picture(name="A3-pairs.png", *, seed=0):
    buffer = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 120), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    return Picture(name=name, caption="Pairs that are nearly the same; look at the ribs.", png=buffer.getvalue())


def finding(check="A1", verdict="PASS", **changes):
    base = Finding(
        check=check,
        title=f"Title of {check}",
        verdict=verdict,
        sentence=f"Sentence of {check}.",
        rule=f"Rule of {check}: FAIL above 0.01*.",
        source=f"Source of {check}",
        limits=f"limits of {check}",
        advice="" if verdict == "PASS" else f"Advice of {check}.",
    )
    return replace(base, **changes)


def all_kinds():
    """An audit with every verdict, an accepted failure, pictures, tables and nested numbers."""
    return (
        finding("A1", n_images=640, n_patients=20),
        finding(
            "A3",
            "FAIL",
            title="Near-duplicates across splits",
            sentence="37 of 120 test images (30.8 %) have a near copy in training.",
            value=0.308,
            low=0.21,
            high=0.41,
            n_images=640,
            n_patients=20,
            pictures=(picture(),),
            tables={"A3-pairs": pd.DataFrame({"first": ["a.png"] * 37})},
            details={
                "floor": 0.99,
                "by_class": {"ill": 20, "healthy": 17},
                "gap": {"value": 0.5, "low": 0.4, "high": 0.6, "n_images": 640, "n_patients": 20},
                "empty": [],
                "probes": [{"probe": "border", "p_holm": 0.0004}, {"probe": "centre", "p_holm": 0.3}],
                "sizes": list(range(30)),
            },
        ),
        finding("B1", "FAIL", value=0.61, p=0.0004, accepted="All films of the ward are stored so; see protocol."),
        finding("B2", "WARN", p=0.004),
        finding("C3", "NOT ASSESSABLE"),
        finding("D1", value=246),
    )


def audit_of(*findings):
    return Audit(
        source="brains",
        n_images=640,
        n_patients=20,
        patients="documented",
        findings=findings,
        seconds=4.2,
        version="0.2.0",
        when=datetime(2026, 11, 22, 9, 30),
    )


@pytest.fixture(scope="module")
def html():
    return audit_page(audit_of(*all_kinds()).graded(2))


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_asks_for_nothing_and_runs_nothing(html, page):
    assert page.open == []
    assert not set(page.tags) & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src"))
    assert all(target.startswith("#") for target in page.values("href"))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert html.index(policy) < html.index("<style>") < html.index("<body>")


def test_the_summary_counts_every_verdict(page):
    assert "2 ✗ FAIL 1 ! WARN 1 ? NOT ASSESSABLE 2 ✓ PASS" in page.text


def test_the_worst_comes_first_and_an_accepted_failure_after_an_open_one():
    view = view_of(all_kinds())

    assert [section.letter for section in view.sections] == ["A", "B", "C", "D"]
    assert [item.finding.check for item in view.sections[0].shown] == ["A3", "A1"]
    assert [item.finding.check for item in view.attention] == ["A3", "B1", "B2"]


def test_a_section_with_a_failure_comes_before_one_with_a_warning():
    view = view_of([finding("A1", "WARN"), finding("C4", "FAIL"), finding("B1", "NOT ASSESSABLE"), finding("D1")])

    assert [section.letter for section in view.sections] == ["C", "A", "B", "D"]


def test_every_finding_has_its_rule_its_source_and_what_it_does_not_establish(page):
    for check in ("A1", "B1", "B2", "C3", "D1"):
        for said in (f"Sentence of {check}.", f"Rule of {check}", f"Source of {check}", f"Limits of {check}."):
            assert page.text.count(said) == 1


def test_a_verdict_is_told_by_a_word_and_a_sign_beside_its_colour(html):
    for kind, mark, word in (
        ("fail", "✗", "FAIL"),
        ("warn", "!", "WARN"),
        ("open", "?", "NOT ASSESSABLE"),
        ("pass", "✓", "PASS"),
    ):
        assert f'<span class="badge {kind}"><i aria-hidden="true">{mark}</i> {word}</span>' in html


def test_a_number_stands_with_its_interval_and_what_is_behind_it(page):
    assert "0.308 (95 % interval 0.210 to 0.410) · 640 images of 20 patients" in page.text
    assert "0.610, p < 0.001" in page.text


def test_why_a_failure_is_accepted_is_printed(page):
    assert "in the words of whoever ran the audit: All films of the ward are stored so; see protocol." in page.text


def test_pictures_and_further_numbers_are_shown_and_lists_are_named(page):
    assert page.tags.count("img") == 1
    assert page.values("alt") == ["Pairs that are nearly the same; look at the ribs."]
    assert "by class: ill 20" in page.text
    assert "gap 0.500 (0.400 to 0.600), 640 images of 20 patients" in page.text
    assert "empty none" in page.text
    assert "border below 0.001" in page.text
    assert "0, 1, 2, 3, 4, 5, 6, 7 … 22 more values" in page.text
    assert "The list of 37 rows is in A3-pairs.csv" in page.text
    assert "a.png" not in page.text


def test_every_link_leads_somewhere_and_no_id_is_used_twice(page):
    assert {target.removeprefix("#") for target in page.values("href")} <= set(page.values("id"))
    assert len(page.values("id")) == len(set(page.values("id")))


def test_two_findings_of_one_check_do_not_share_an_id():
    page = Page(findings_page([finding("B1"), finding("B1", "WARN")], title="brains"))

    assert len(page.values("id")) == len(set(page.values("id")))


def test_the_level_is_said_with_what_is_missing_for_the_next(page):
    assert "Evidence level 2: Split by patient." in page.text
    assert "For level 3: sections A to E of the audit must be clean. A3 fails: Near-duplicates" in page.text


@pytest.mark.parametrize(
    ("level", "audited", "said"),
    [
        (0, None, "For level 1: the patient of every image must be known"),
        (1, None, "For level 2: split by patient"),
        (2, None, "For level 3: run the audit"),
        (
            2,
            audit_of(finding("A1")).graded(2),
            "For level 3: sections A to E of the audit must be clean. The audit did",
        ),
        (3, audit_of(finding("A1")).graded(2), "For level 4: measure the model on patients of another site"),
        (4, None, ""),
        (4, audit_of(finding("B1", verdict="FAIL")).graded(4), "No level is above this one, but the audit is not"),
    ],
)
def test_each_level_but_the_last_says_how_to_get_on(level, audited, said):
    assert next_step(level, audited).startswith(said)
    assert bool(next_step(level, audited)) == bool(said)


def test_an_audit_read_back_from_its_files_gives_the_same_page(tmp_path):
    audit = audit_of(*all_kinds()).graded(2)
    save_audit(audit, tmp_path)

    assert audit_page(load_audit(tmp_path)) == audit_page(audit)


def test_an_audit_without_findings_or_facts_is_a_whole_page():
    page = Page(findings_page([], title="nothing"))

    assert page.open == []
    assert "No check fails or warns." in page.text


def test_hostile_text_stays_text_wherever_a_finding_holds_it():
    everything = " ".join(HOSTILE)
    hostile = finding(
        HOSTILE[0],
        "FAIL",
        title=everything,
        sentence=everything,
        rule=everything,
        source=everything,
        limits=everything,
        advice=everything,
        accepted=everything,
        pictures=(replace(picture(), caption=everything),),
        tables={everything: pd.DataFrame({"a": [1]})},
        details={everything: everything, "table": [{everything: everything}]},
    )
    page = Page(findings_page([hostile], title=everything, facts=[(everything, everything)], version=everything))

    assert page.open == []
    assert "script" not in page.tags
    assert page.tags.count("img") == page.tags.count("style") == page.tags.count("title") == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE[1]) >= 10


def test_the_same_findings_give_the_same_bytes(html):
    assert audit_page(audit_of(*all_kinds()).graded(2)) == html


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (0.5, "0.500"), (246.0, "246"), (1280.0, "1,280"), (1.0, "1.000"), (0.00012, "0.00012")],
)
def test_digits_fit_the_size_of_a_number(value, said):
    assert in_digits(value) == said


def test_a_p_value_is_never_said_to_be_zero():
    assert p_in_words(0.0) == "p < 0.001"
    assert p_in_words(0.0123) == "p = 0.012"


def test_every_section_of_the_design_has_a_title_in_plain_words():
    assert "".join(SECTIONS) == "ABCDEFGHIJK"


def test_the_templates_and_the_style_are_part_of_the_package():
    for name in ("findings.html.j2", "audit.html.j2", "findings.css"):
        assert files("plainfilm.reporting").joinpath(name).is_file()


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium on the PATH")
def test_a_browser_opens_the_page_without_a_complaint(tmp_path, html):
    path = tmp_path / "audit.html"
    path.write_text(html, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--log-level=0"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert "Near-duplicates across splits" in done.stdout
    assert ":CONSOLE" not in done.stderr
