"""A whole audit: its findings, what they make of a score, and the file they are kept in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from plainfilm import __version__
from plainfilm.auditing.findings import SEVERITY, Finding, Picture, Verdict
from plainfilm.errors import BundleError, UsageError, unknown_name
from plainfilm.measures import PatientSource
from plainfilm.prediction import safe_csv
from plainfilm.storage import delete, make_folder, read_json, write_bytes, write_json, write_text

SCHEMA: Final = 1
NUMBERS: Final = "audit.json"
EXHIBITS: Final = "audit"  # pictures and longer lists, beside the numbers
GATES: Final = "ABCDE"  # sections that a score must pass to be more than one of held-out patients


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What all checks found.

    Attributes:
        source: What the user called the data, never an absolute path.
        n_images: Images looked at.
        n_patients: Their patients; None where not known.
        patients: How patients are known.
        findings: In the order of the checks.
        seconds: It took.
        evidence_level: Of the audited score, 0 to 4; None where no score was audited.
        open_points: What keeps the evidence level from rising, a sentence each.
        version: Of plainfilm.
        when: It ended.
    """

    source: str
    n_images: int
    n_patients: int | None
    patients: PatientSource
    findings: tuple[Finding, ...]
    seconds: float
    evidence_level: int | None = None
    open_points: tuple[str, ...] = ()
    version: str = __version__
    when: datetime = field(default_factory=lambda: datetime.now().replace(microsecond=0))

    @property
    def verdict(self) -> Verdict:
        """The worst of all; a FAIL that was accepted counts as WARN."""
        seen = {"WARN" if finding.accepted else finding.verdict for finding in self.findings} or {"NOT ASSESSABLE"}
        return next(verdict for verdict in reversed(SEVERITY) if verdict in seen)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Checks that fail and were not accepted."""
        return tuple(finding for finding in self.findings if finding.is_open_failure)

    def finding(self, check: str) -> Finding:
        """The finding of one check.

        Raises:
            UsageError: `UNKNOWN_CHECK`, with the nearest there is.
        """
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise unknown_name("check", check, [finding.check for finding in self.findings])

    def accepting(self, reasons: Mapping[str, str]) -> Audit:
        """The same audit, with some failures accepted.

        Args:
            reasons: By check, such as `{"A2": "the copies are meant"}`.

        Raises:
            UsageError: `UNKNOWN_CHECK`, or `AUD_ACCEPT` for a check that does not fail, or without a reason.
        """
        accepted = {}
        for check, reason in reasons.items():
            finding = self.finding(check)
            if not reason.strip():
                raise UsageError(f"{check} can be accepted only with a written reason.", code="AUD_ACCEPT")
            if finding.verdict != "FAIL":
                raise UsageError(
                    f"{check} is {finding.verdict}: there is nothing to accept. Leave it out.", code="AUD_ACCEPT"
                )
            accepted[check] = replace(finding, accepted=reason.strip())
        return replace(self, findings=tuple(accepted.get(finding.check, finding) for finding in self.findings))

    def graded(self, level: int) -> Audit:
        """The same audit, with the evidence level of the score that it is about.

        A score on held-out patients (2) becomes one with a clean audit (3) where no check of leakage, shortcuts,
        controls, precision and calibration fails - accepted or not - and leakage and shortcuts could be looked at.
        One at another site (4) is that only while no check of leakage fails: copies of what was learnt are no other
        site, whatever a column says.

        Args:
            level: What split and patients alone give the score, 0 to 2; 4 for data of another site.
        """
        points = _open_points(self.findings)
        leaks = any(finding.section == "A" and finding.verdict == "FAIL" for finding in self.findings)
        if level == 4 and leaks:
            level = 2
        raised = level + 1 if level == 2 and not points else level
        return replace(self, evidence_level=raised, open_points=points)


def _open_points(findings: Sequence[Finding]) -> tuple[str, ...]:
    gating = [finding for finding in findings if finding.section in GATES]
    failing = [finding for finding in gating if finding.verdict == "FAIL"]
    points = [f"{finding.check} fails: {finding.title.rstrip('.?')}." for finding in failing]
    for section, what in (("A", "leakage"), ("B", "shortcuts"), ("C", "controls")):
        own = [finding for finding in gating if finding.section == section]
        if all(finding.verdict == "NOT ASSESSABLE" for finding in own):
            points.append(f"The audit could not look for {what}." if own else f"The audit did not look for {what}.")
    return tuple(points)


# --- files --------------------------------------------------------------------------------------------------


class PictureEntry(BaseModel):
    """A picture in the folder `audit`."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*\.png$")  # never a way out of the folder
    caption: str


class FindingEntry(BaseModel):
    """One line of `audit.json`; see `Finding` for what each field says."""

    model_config = ConfigDict(extra="forbid")

    check: str = Field(pattern="^[A-K][0-9]{1,2}$")
    title: str
    verdict: Verdict
    sentence: str
    value: float | None
    low: float | None
    high: float | None
    p: Annotated[float, Field(ge=0, le=1)] | None
    n_images: int | None
    n_patients: int | None
    rule: str
    source: str
    limits: str
    advice: str
    accepted: str | None
    details: dict[str, Any]
    pictures: list[PictureEntry]
    tables: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]]


class AuditFile(BaseModel):
    """What `audit.json` holds."""

    model_config = ConfigDict(extra="forbid", title="plainfilm audit")

    schema_: Literal[1] = Field(alias="schema")
    version: str
    when: datetime
    source: str
    n_images: int
    n_patients: int | None
    patients: PatientSource
    seconds: float
    verdict: Verdict
    evidence_level: Annotated[int, Field(ge=0, le=4)] | None
    open_points: list[str]
    findings: list[FindingEntry]


@cache
def _file() -> TypeAdapter[AuditFile]:
    return TypeAdapter(AuditFile)


def audit_schema() -> dict[str, Any]:
    """JSON schema of `audit.json`."""
    return _file().json_schema()


def save_audit(audit: Audit, folder: Path) -> None:
    """Write `audit.json`, and pictures and longer lists into the folder `audit` beside it; older ones go."""
    delete(folder / NUMBERS)
    delete(folder / EXHIBITS)
    make_folder(folder)
    if any(finding.pictures or finding.tables for finding in audit.findings):
        make_folder(folder / EXHIBITS)
    for finding in audit.findings:
        for picture in finding.pictures:
            write_bytes(folder / EXHIBITS / picture.name, picture.png)
        for stem, table in finding.tables.items():
            write_text(folder / EXHIBITS / f"{stem}.csv", safe_csv(table))
    write_json(folder / NUMBERS, audit_facts(audit))


def audit_facts(audit: Audit) -> dict[str, Any]:
    """The content of `audit.json`."""
    entry = {
        "schema": SCHEMA,
        **{each.name: getattr(audit, each.name) for each in fields(audit) if each.name != "findings"},
        "when": audit.when.isoformat(),
        "verdict": audit.verdict,
        "findings": [_entry(finding) for finding in audit.findings],
    }
    return _file().dump_python(_file().validate_python(entry), mode="json", by_alias=True)  # type: ignore[no-any-return]


def _entry(finding: Finding) -> dict[str, Any]:
    entry = {each.name: _plain(getattr(finding, each.name)) for each in fields(finding) if each.name != "tables"}
    pictures = [{"name": picture.name, "caption": picture.caption} for picture in finding.pictures]
    return entry | {"pictures": pictures, "tables": list(finding.tables)}


def _plain(value: Any) -> Any:
    """Numbers of NumPy as Python's; what is not a number as None, which JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_audit(folder: Path) -> Audit:
    """Read what `save_audit` wrote, with its pictures and lists.

    Raises:
        BundleError: `BUN_MISSING` or `BUN_DAMAGED`.
    """
    if not (folder / NUMBERS).is_file():
        raise BundleError(f"No {NUMBERS} in '{folder}'.", code="BUN_MISSING")
    try:
        found = _file().validate_python(read_json(folder / NUMBERS))
        findings = tuple(_finding(entry, folder / EXHIBITS) for entry in found.findings)
    except (ValidationError, OSError, ValueError):
        raise BundleError(f"'{NUMBERS}' is not an audit, or what it names is gone.", code="BUN_DAMAGED") from None
    own = {each.name: getattr(found, each.name) for each in fields(Audit) if each.name != "findings"}
    return Audit(**own | {"findings": findings, "open_points": tuple(found.open_points)})


def _finding(entry: FindingEntry, exhibits: Path) -> Finding:
    plain = {name: value for name, value in entry.model_dump().items() if name not in ("pictures", "tables")}
    return Finding(
        **plain,
        pictures=tuple(
            Picture(name=picture.name, caption=picture.caption, png=(exhibits / picture.name).read_bytes())
            for picture in entry.pictures
        ),
        tables={stem: pd.read_csv(exhibits / f"{stem}.csv", dtype=str) for stem in entry.tables},
    )
