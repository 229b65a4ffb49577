"""The audit as a command: what it found, the worst first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Group
from rich.table import Table as Grid
from rich.text import Text

from plainfilm.auditing.results import Audit, audit_facts
from plainfilm.commands.flags import AuditFlags, asked, show
from plainfilm.config import RunOptions
from plainfilm.errors import UsageError
from plainfilm.terminal import Terminal

STYLES = {"FAIL": "bold red", "WARN": "yellow", "NOT ASSESSABLE": "cyan", "PASS": "green"}
FAILED = 4  # exit code


def audit(
    data: Path | None = None,
    /,
    *,
    run: Path | None = None,
    predictions: Path | None = None,
    seeds: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    printed_report: Path | None = None,
    true_count: tuple[str, ...] = (),
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    json_: Annotated[bool, Parameter("--json", negative=())] = False,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    flags: Annotated[AuditFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> int:
    """Leakage, hidden patients, duplicates, shortcuts, controls, precision, labels. Exit code 4 where a check fails.

    Args:
        data: Class folders, a CSV, TSV or parquet table, a folder of parquet shards, or a MedMNIST .npz.
        run: Audit the score of this finished run; its images are found by themselves unless DATA says where they are.
        predictions: Audit the scores in this CSV of another program: true class, scores, and if there, path, patient
            and split. With DATA, images are matched by their path.
        seeds: Further runs, the same training as --run under other seeds: how far the score moves by itself (C5).
        printed_report: Check a classification report as printed, a CSV of class, precision, recall, f1 and support,
            against the true counts: of DATA's test images, or as given by --true-count.
        true_count: CLASS=COUNT, once for each class of --printed-report.
        output: Folder for audit.html, audit.json, pictures and lists; by default 'audit', with --run the run's own.
        overwrite: Replace the audit in --output.
        json_: Print audit.json.
        quiet: No progress.
    """
    from plainfilm import verbs
    from plainfilm.verbs.auditing import PAGE

    folder = output or run or Path("audit")
    options, watcher = RunOptions.from_flat(asked(flags)), Terminal(quiet=quiet)
    if printed_report is not None:
        if run is not None or predictions is not None or seeds:
            raise UsageError(
                "--printed-report is checked by itself: leave --run, --seeds and --predictions out.", code="USAGE"
            )
        found = verbs.audit_printed_report(
            printed_report,
            data,
            options,
            true_counts=_counts(true_count),
            output=folder,
            overwrite=overwrite,
            progress=watcher,
        )
    else:
        found = verbs.audit(
            data,
            options,
            run=run,
            predictions=predictions,
            seeds=seeds,
            output=folder,
            overwrite=overwrite,
            progress=watcher,
        )
    if json_:
        print(json.dumps(audit_facts(found), indent=2, ensure_ascii=False))
    else:
        show(audit_summary(found))
        print(f"page: {folder / PAGE}")
    return FAILED if found.failures else 0


def _counts(given: tuple[str, ...]) -> dict[str, int]:
    """`CLASS=COUNT` by class; a class may have a `=` in its name."""
    counts = {}
    for each in given:
        name, equals, count = each.rpartition("=")
        if not (name.strip() and equals and count.strip().isdecimal()):
            raise UsageError(f"--true-count is CLASS=COUNT, not '{each}'.", code="USAGE")
        counts[name.strip()] = int(count)
    return counts


def audit_summary(found: Audit) -> Group:
    """A line for each check, the worst first, and what the whole comes to."""
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for heading, width in (("", 3), ("", 14), ("", None)):
        grid.add_column(heading, min_width=width, overflow="fold")
    worst_first = sorted(found.findings, key=lambda finding: [*STYLES].index(finding.verdict))
    for finding in worst_first:
        borne = f" Accepted: {finding.accepted}" if finding.accepted else ""
        grid.add_row(
            finding.check,
            Text(finding.verdict, style=STYLES[finding.verdict]),
            Text.assemble((f"{finding.title}. ", "bold"), f"{finding.sentence}{borne}"),
        )
    counts = ", ".join(
        f"{sum(finding.verdict == verdict for finding in found.findings)} {verdict}" for verdict in STYLES
    )
    known = "patients not known" if found.n_patients is None else f"{found.n_patients:,} patients ({found.patients})"
    lines = [f"{found.n_images:,} images, {known}: {counts} in {found.seconds:.0f} s"]
    if found.evidence_level is not None:
        lines.append(f"evidence level {found.evidence_level} of 4")
        lines += [f"  for more: {point}" for point in found.open_points]
    return Group(grid, Text("\n".join(lines)))
