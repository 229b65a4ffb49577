"""An audit on disk and back, failures accepted with a reason, and what it makes of a score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from plainfilm.auditing.findings import Finding, Picture, Verdict, p_in_words
from plainfilm.auditing.results import Audit, audit_schema, load_audit, save_audit
from plainfilm.errors import BundleError, UsageError

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU\x00\x00\x00\nIDAT"
    b"x\x9cc\xf8\x0f\x00\x01\x01\x01\x00\x1b\xb6\xeeV\x00\x00\x00\x00IEND\xaeB`\x82"
)


def finding(check: str, verdict: Verdict = "PASS", **more: object) -> Finding:
    return Finding(
        check=check,
        title=f"title of {check}",
        verdict=verdict,
        sentence="3 of 40 images.",
        rule="FAIL if > 0",
        source="Kapoor 2023",
        limits="It looks at pixels only.",
        **more,  # type: ignore[arg-type]
    )


def audit(*findings: Finding) -> Audit:
    return Audit(
        source="films", n_images=40, n_patients=20, patients="documented", findings=tuple(findings), seconds=1.5
    )


CLEAN = audit(*(finding(check) for check in ("A1", "A2", "B1", "B2", "C1", "C2")))


def test_an_audit_comes_back_from_disk_as_it_was(tmp_path: Path):
    pairs = pd.DataFrame({"one": ["=a.png", "b.png"], "other": ["c.png", "d.png"]})
    written = audit(
        finding(
            "A3",
            "FAIL",
            value=0.075,
            low=0.0,
            high=float("nan"),
            p=0.001,
            n_images=40,
            n_patients=20,
            details={"pairs": 3, "similar": [0.99, 1.0]},
            pictures=(Picture(name="A3-pairs.png", caption="Pairs.", png=PNG),),
            tables={"A3-pairs": pairs},
            accepted="They are meant.",
        )
    )

    save_audit(written, tmp_path)
    read = load_audit(tmp_path)

    assert read.when == written.when
    (back,) = read.findings
    assert back.high is None  # JSON has no NaN
    assert back.pictures[0].png == PNG
    assert len(back.tables["A3-pairs"]) == 2
    assert (back.value, back.p, back.accepted, back.details) == (
        0.075,
        0.001,
        "They are meant.",
        {"pairs": 3, "similar": [0.99, 1.0]},
    )
    assert (tmp_path / "audit" / "A3-pairs.csv").read_text().splitlines()[1].startswith("'=a.png")  # not a formula


def test_an_audit_that_was_tampered_with_is_refused_by_its_code(tmp_path: Path):
    save_audit(audit(finding("A3", pictures=(Picture(name="A3.png", caption="Pairs.", png=PNG),))), tmp_path)
    entry = json.loads((tmp_path / "audit.json").read_text())
    entry["findings"][0]["pictures"][0]["name"] = "../../etc/passwd.png"
    (tmp_path / "audit.json").write_text(json.dumps(entry))

    with pytest.raises(BundleError) as refusal:
        load_audit(tmp_path)
    assert refusal.value.code == "BUN_DAMAGED"


def test_a_folder_without_an_audit_is_refused(tmp_path: Path):
    with pytest.raises(BundleError) as refusal:
        load_audit(tmp_path)
    assert refusal.value.code == "BUN_MISSING"


def test_the_schema_names_every_field_of_a_finding():
    entry = audit_schema()["$defs"]["FindingEntry"]["properties"]

    assert set(entry) == set(Finding.__dataclass_fields__)


def test_the_worst_finding_is_the_verdict_and_an_accepted_failure_is_a_warning():
    failing = audit(finding("A1"), finding("A2", "FAIL"), finding("B2", "WARN"))

    assert failing.verdict == "FAIL"
    assert [each.check for each in failing.failures] == ["A2"]
    accepted = failing.accepting({"A2": "the copies are meant"})
    assert accepted.verdict == "WARN"
    assert accepted.failures == ()
    assert accepted.finding("A2").accepted == "the copies are meant"


@pytest.mark.parametrize(
    ("reasons", "code"),
    [
        ({"A2": " "}, "AUD_ACCEPT"),
        ({"A1": "it passes"}, "AUD_ACCEPT"),
        ({"A22": "no such check"}, "UNKNOWN_CHECK"),
    ],
)
def test_a_failure_is_accepted_only_with_a_written_reason(reasons: dict[str, str], code: str):
    with pytest.raises(UsageError) as refusal:
        audit(finding("A1"), finding("A2", "FAIL")).accepting(reasons)
    assert refusal.value.code == code


def test_a_score_on_held_out_patients_with_a_clean_audit_is_level_three():
    assert CLEAN.graded(2).evidence_level == 3


@pytest.mark.parametrize("level", [0, 1])
def test_no_audit_raises_a_score_that_may_not_hold_on_new_patients(level: int):
    assert CLEAN.graded(level).evidence_level == level


def test_a_failure_holds_the_level_down_even_if_accepted():
    failed = replace(finding("A5", "FAIL", accepted="as published"), title="Is one class copied?")
    failing = replace(CLEAN, findings=(*CLEAN.findings, failed))

    graded = failing.graded(2)

    assert graded.evidence_level == 2
    assert graded.open_points == ("A5 fails: Is one class copied.",)


def test_another_site_stays_one_whatever_fails_but_a_leak():
    shortcut = replace(CLEAN, findings=(*CLEAN.findings, finding("B7", "FAIL")))
    copies = replace(CLEAN, findings=(*CLEAN.findings, finding("A2", "FAIL")))

    assert CLEAN.graded(4).evidence_level == 4
    assert (shortcut.graded(4).evidence_level, copies.graded(4).evidence_level) == (4, 2)
    assert shortcut.graded(4).open_points == ("B7 fails: title of B7.",)


def test_a_question_that_could_not_be_asked_holds_the_level_down():
    blind = audit(finding("A1"), finding("B1", "NOT ASSESSABLE"), finding("C1"))

    graded = blind.graded(2)

    assert graded.evidence_level == 2
    assert graded.open_points == ("The audit could not look for shortcuts.",)


@pytest.mark.parametrize(("p", "says"), [(0.0, "p < 1e-6"), (0.012345, "p = 0.012"), (1.0, "p = 1")])
def test_a_p_of_nothing_is_not_printed_as_nought(p: float, says: str):
    assert p_in_words(p) == says
