"""The audit as people call it: on images, on a run, on the scores of another program, on a printed report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plainfilm import cli, verbs
from plainfilm.auditing.limits import AuditLimits, read_limits
from plainfilm.auditing.results import load_audit
from plainfilm.auditing.seeds import check_seeds
from plainfilm.config import RunOptions, read_options
from plainfilm.data.phantoms import Faults, PhantomOptions, write_phantoms
from plainfilm.errors import DataError, LeakageError, UsageError
from plainfilm.measures import Evaluation
from plainfilm.runs import Run, open_run
from plainfilm.storage import read_json, verify_manifest, write_json, write_text
from plainfilm.verbs.repeating import trainings_of
from small_runs import copy_data, repaint, train_small, write_small_data

# As the ResNet1d paper prints it (Ilyassov 2024, Figure 10).
SWAPPED = """class,precision,recall,f1-score,support
Mild_Demented,0.00,0.00,0.00,0
Moderate_Demented,0.00,0.00,0.00,0
Non_Demented,0.91,0.81,0.86,720
Very_Mild_Demented,0.83,0.68,0.75,560
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """Stacks of 30 patients, divided by patient, their ids in the manifest."""
    return write_small_data(tmp_path_factory.mktemp("films"), patients=30, images_per_patient=6, size=64, effect=1.0)


@pytest.fixture(scope="module")
def run(films: Path, tmp_path_factory):
    return train_small(films, tmp_path_factory.mktemp("runs") / "audited", audit=True, gallery=False)


def audited(data: Path, **options):
    return verbs.audit(data, RunOptions.from_flat({"workers": 0, **options}))


def test_images_without_any_label_are_audited_for_what_needs_none(films: Path, tmp_path: Path):
    for number, image in enumerate(sorted(films.parent.rglob("*.png"))[:6]):
        shutil.copyfile(image, tmp_path / f"{number}.png")

    audit = audited(tmp_path)

    assert audit.n_images == 6
    assert audit.finding("B1").verdict == "NOT ASSESSABLE"


def test_clean_images_fail_no_check(films: Path):
    audit = audited(films)

    assert audit.failures == ()
    assert audit.finding("A1").verdict == "PASS"
    assert (audit.n_images, audit.n_patients, audit.patients) == (180, 30, "documented")
    assert audit.evidence_level is None  # there is no score


def test_the_same_images_give_the_same_findings(films: Path):
    one, other = audited(films), audited(films)

    assert [(f.check, f.verdict, f.value, f.p, f.sentence) for f in one.findings] == [
        (f.check, f.verdict, f.value, f.p, f.sentence) for f in other.findings
    ]


def test_an_audit_without_a_model_loads_no_deep_learning_library(films: Path):
    program = (
        "import sys\n"
        "from plainfilm import RunOptions, audit\n"
        f"audit({str(films)!r}, RunOptions.from_flat({{'workers': 0}}))\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=300, check=False).returncode == 0


def test_patients_in_two_splits_fail_with_exit_code_4_unless_a_reason_is_written(tmp_path: Path, capsys):
    data = write_phantoms(
        tmp_path / "films",
        PhantomOptions(patients=30, images_per_patient=6, size=32, effect=2.0),
        Faults(straddling_patients=0.3),
    ).folder
    command = ["audit", str(data / "manifest.csv"), "--workers", "0", "--quiet", "--output", str(tmp_path / "audit")]

    assert cli.run(command) == 4
    assert "A1" in capsys.readouterr().out.splitlines()[1]  # the worst first

    reasons = [f"--accept={check}=known, see the paper" for check in _failing(tmp_path / "audit")]
    assert cli.run([*command, "--overwrite", *reasons]) == 0
    assert load_audit(tmp_path / "audit").finding("A1").accepted == "known, see the paper"
    assert "known, see the paper" in (tmp_path / "audit" / "audit.html").read_text()


def _failing(folder: Path) -> list[str]:
    return [finding.check for finding in load_audit(folder).failures]


def test_an_audit_is_not_written_over_anything_else(films: Path, tmp_path: Path):
    (tmp_path / "letter.txt").write_text("dear")

    with pytest.raises(UsageError) as refusal:
        verbs.audit(films, output=tmp_path)
    assert refusal.value.code == "OUT_STRANGE"


def test_a_trained_run_carries_its_audit_and_its_evidence_level(run):
    audit = load_audit(run.folder)

    verify_manifest(run.folder)
    evaluation = Evaluation.from_json(read_json(run.evaluation))
    assert evaluation.evidence_level == audit.evidence_level
    assert audit.evidence_level in (2, 3)
    assert {finding.section for finding in audit.findings} >= set("ABC")
    assert (run.folder / "audit.html").is_file()
    assert "Patients in two splits" in run.report.read_text()


def test_measuring_a_run_again_keeps_the_level_that_its_audit_gave(run):
    assert verbs.evaluate(run.folder).evidence_level == load_audit(run.folder).evidence_level


def test_a_run_can_be_audited_again_from_its_folder_alone(run, capsys):
    before = [(finding.check, finding.verdict) for finding in load_audit(run.folder).findings if finding.section != "J"]

    status = cli.run(["audit", "--run", str(run.folder), "--quiet", "--workers", "0", "--json"])

    again = json.loads(capsys.readouterr().out)
    verify_manifest(run.folder)
    assert status in (0, 4)
    assert [(f["check"], f["verdict"]) for f in again["findings"] if f["check"][0] != "J"] == before
    heat = {f["check"]: f for f in again["findings"] if f["check"][0] == "J"}  # left out of the training: --no-gallery
    assert heat["J1"]["low"] <= heat["J1"]["value"] <= heat["J1"]["high"]
    assert heat["J2"]["verdict"] != "NOT ASSESSABLE" or heat["J1"]["verdict"] != "PASS"


def seeded(run, folder: Path, seed: int, score: float, **options) -> Path:
    """The run again, as if trained under another seed."""
    other = Run(shutil.copytree(run.folder, folder))
    given = {name: v for name, v in read_options(other.options).items() if name != "data"}
    given |= {"seed": seed, **options}
    write_text(other.options, RunOptions.from_flat(given).to_toml(data="films"))
    facts = read_json(other.evaluation)
    for measure in facts["measures"]:
        if measure["name"] == "balanced_accuracy":
            measure |= {"value": score, "low": score - 0.1, "high": score + 0.1, "interval": "bootstrap", "reason": ""}
    write_json(other.evaluation, facts)
    other.finish()
    return other.folder


def test_runs_of_other_seeds_stand_beside_the_score(run, tmp_path: Path):
    others = [seeded(run, tmp_path / f"seed {seed}", seed, 0.7 + seed / 10) for seed in (0, 1, 2)]

    trainings = trainings_of(open_run(others[0]), others[1:])
    finding = check_seeds(trainings)

    assert [(each.seed, round(each.score, 3)) for each in trainings] == [(0, 0.7), (1, 0.8), (2, 0.9)]
    assert finding.verdict == "WARN"
    assert finding.value == pytest.approx(0.1)
    assert "over patients 0.600-0.800" in finding.sentence


def test_the_same_seed_must_give_the_same_weights_and_scores(run, tmp_path: Path):
    same, changed = (seeded(run, tmp_path / name, 0, 0.7) for name in ("same", "changed"))
    scores = pd.read_csv(changed / "predictions.csv", dtype=str)
    scores.iloc[::-1].to_csv(changed / "predictions.csv", index=False)
    Run(changed).finish()

    assert "the same to the bit" in check_seeds(trainings_of(open_run(same), [run.folder])).sentence
    assert check_seeds(trainings_of(open_run(same), [changed])).verdict == "FAIL"


def test_a_run_of_other_options_is_no_other_seed(run, tmp_path: Path):
    other = seeded(run, tmp_path / "longer", 1, 0.7, epochs=3)

    with pytest.raises(UsageError, match="epochs = 3") as refusal:
        trainings_of(open_run(run.folder), [other])
    assert refusal.value.code == "AUD_OTHER_TRAINING"


def test_other_images_are_not_taken_for_those_of_a_run(run, films: Path, tmp_path: Path):
    other = copy_data(films, tmp_path / "films")
    repaint(next(other.parent.rglob("*.png")), 3)

    with pytest.raises(DataError) as refusal:
        verbs.audit(other, run=run.folder)
    assert refusal.value.code == "AUD_OTHER_IMAGES"


def test_images_declared_independent_are_refused_where_the_pixels_show_patients(films: Path, tmp_path: Path):
    rows = pd.read_csv(films, dtype=str).drop(columns=["patient_id", "split"])
    rows.to_csv(films.parent / "anonymous.csv", index=False)

    with pytest.raises(LeakageError, match="--patients recovered") as refusal:
        train_small(films.parent / "anonymous.csv", tmp_path / "run", patients="image", audit=True)
    assert refusal.value.code == "SPL_PATIENTS_FOUND"
    assert not (tmp_path / "run" / "table.parquet").exists()

    leaky = train_small(films.parent / "anonymous.csv", tmp_path / "run", split="image", audit=True, gallery=False)
    assert Evaluation.from_json(read_json(leaky.evaluation)).struck
    assert load_audit(leaky.folder).finding("A4").verdict == "FAIL"


def predictions_of(films: Path, *, turned: bool) -> pd.DataFrame:
    """Scores of a program that is right in 19 of 20, or that has its classes the wrong way round."""
    rows = pd.read_csv(films, dtype=str)
    rng = np.random.default_rng(0)
    ill = (rows["label"] == "abnormal").to_numpy()
    score = np.clip(np.where(ill, 0.9, 0.1) + rng.normal(0, 0.05, len(rows)), 0.01, 0.99)
    score = 1 - score if turned else score
    return rows[["path", "label", "split"]].assign(prob_abnormal=score.round(3), prob_normal=(1 - score).round(3))


@pytest.mark.parametrize(("turned", "verdict"), [(True, "FAIL"), (False, "PASS")])
def test_scores_with_the_classes_the_wrong_way_round_fail(films: Path, tmp_path: Path, turned: bool, verdict: str):
    predictions_of(films, turned=turned).to_csv(tmp_path / "theirs.csv", index=False)

    audit = verbs.audit(films, RunOptions.from_flat({"workers": 0}), predictions=tmp_path / "theirs.csv")

    assert audit.finding("C4").verdict == verdict


def test_scores_can_be_audited_without_their_images(films: Path, tmp_path: Path):
    predictions_of(films, turned=True).to_csv(tmp_path / "theirs.csv", index=False)

    audit = verbs.audit(predictions=tmp_path / "theirs.csv")

    assert audit.finding("C4").verdict == "FAIL"
    assert audit.finding("B2").verdict == "NOT ASSESSABLE"


def test_a_printed_report_with_truth_and_prediction_swapped_fails_from_the_command_line(tmp_path: Path, capsys):
    (tmp_path / "report.csv").write_text(SWAPPED)
    counts = {"Mild_Demented": 172, "Moderate_Demented": 15, "Non_Demented": 634, "Very_Mild_Demented": 459}

    status = cli.run(
        [
            "audit", "--printed-report", str(tmp_path / "report.csv"), "--output", str(tmp_path / "audit"),
            *(f"--true-count={name}={count}" for name, count in counts.items()),
        ]
    )  # fmt: skip

    assert status == 4
    assert "C4" in capsys.readouterr().out


def test_a_limit_can_be_set_in_a_file_and_stands_in_the_rule(films: Path, tmp_path: Path):
    (tmp_path / "limits.toml").write_text("[shortcuts]\nshortcut_excess = 0.2\n")

    audit = audited(films, limits=str(tmp_path / "limits.toml"))

    assert "20 points*" in audit.finding("B2").rule


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[shortcut]\nborder = 0.1\n", "shortcuts"),
        ("[shortcuts]\nborders = 0.1\n", "border"),
        ("[shortcuts]\nborder = 'wide'\n", "shortcuts.border"),
        ("not toml", "not a TOML file"),
    ],
)
def test_a_wrong_limit_is_refused_with_the_nearest_name(films: Path, tmp_path: Path, text: str, says: str):
    (tmp_path / "limits.toml").write_text(text)

    with pytest.raises(UsageError) as refusal:
        audited(films, limits=str(tmp_path / "limits.toml"))
    assert refusal.value.code == "AUD_LIMITS"
    assert says in str(refusal.value)


def test_the_printed_limits_are_a_file_of_limits(tmp_path: Path, capsys):
    assert cli.run(["config", "--audit-limits"]) == 0
    (tmp_path / "limits.toml").write_text(capsys.readouterr().out)

    assert read_limits(tmp_path / "limits.toml") == AuditLimits()
