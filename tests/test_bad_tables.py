"""Every bad table through every command it can reach: the right exit status, one line, the right code."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from bad_tables import BadTable, as_csv, bad_tables, good_rows, write_images
from plainfilm.cli import run

QUICK = ["--epochs", "1", "--image-size", "32", "--batch-size", "8", "--workers", "0", "--quiet"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, BadTable]:
    listed = bad_tables(tmp_path_factory.mktemp("tables"))
    assert len({table.name for table in listed}) == len(listed)
    return {table.name: table for table in listed}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The smallest real run."""
    folder = tmp_path_factory.mktemp("trained")
    write_images(folder, good_rows())
    (folder / "table.csv").write_text(as_csv(good_rows()))
    assert run(["train", str(folder / "table.csv"), "--output", str(folder / "run"), *QUICK]) == 0
    return folder / "run"


def names_of_tables() -> list[str]:
    """Names alone: the files are written when the tests run."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return [table.name for table in bad_tables(Path(folder))]


every_table = pytest.mark.parametrize("name", names_of_tables())


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def assert_refused(table: BadTable, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    line = error_line(capsys)
    assert line.startswith("plainfilm: ")
    assert line.endswith(f"[{table.code}]"), line
    assert "Traceback" not in line
    assert len(line) < 6000
    assert status == table.exit_code


@every_table
def test_scan_refuses_it_or_accounts_for_every_file(name, tables, tmp_path, capsys):
    table, account = tables[name], tmp_path / "account.csv"
    status = run(["scan", str(table.path), "--workers", "0", "--quiet", "--json", "--output", str(account)])

    if table.stops == "scan":
        assert_refused(table, status, capsys)
        assert not account.exists()
        return
    assert status == 0
    counts = json.loads(capsys.readouterr().out)
    with account.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (
        counts["files"]
        == len(rows)
        == counts["used"] + sum(counts["skipped"].values()) + sum(counts["refused"].values())
    )
    if table.code.startswith(("TAB_PATH", "TAB_LINK", "TAB_CONFLICT", "TAB_NO_PATH", "IMG_", "TAB_PARQUET")):
        assert set(counts["refused"]) == {table.code}
    else:
        assert counts["refused"] == {}
        assert counts["used"] == 24


@every_table
def test_train_refuses_it_or_plans_the_split(name, tables, tmp_path, capsys):
    table = tables[name]
    if table.stops == "nothing":
        patients = ["--patients", "folder"] if table.path.is_dir() else []
        assert run(["train", str(table.path), "--dry-run", *patients, *QUICK]) == 0
        assert json.loads(capsys.readouterr().out)["patients"] == "documented"
        return
    status = run(["train", str(table.path), "--output", str(tmp_path / "run"), *QUICK, *table.flags])

    assert_refused(table, status, capsys)
    assert not (tmp_path / "run" / "manifest.json").exists()


@every_table
def test_predict_refuses_it_or_scores_what_can_be_read(name, tables, trained, tmp_path, capsys):
    table, output = tables[name], tmp_path / "predictions.csv"
    status = run(["predict", str(trained), str(table.path), "--output", str(output), "--workers", "0", "--quiet"])

    if table.stops == "scan":
        assert_refused(table, status, capsys)
        return
    assert status == 0
    assert "Traceback" not in capsys.readouterr().err
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    scored = [row for row in rows if row["predicted"]]
    assert len(scored) >= 11
    if any(row.get("refused") for row in rows):
        assert {row["refused"] for row in rows if not row["predicted"]} == {table.code}
