"""One line of the audit: what was checked, what was found, by which rule, and what that does not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

Verdict = Literal["PASS", "WARN", "FAIL", "NOT ASSESSABLE"]

SEVERITY: tuple[Verdict, ...] = ("PASS", "NOT ASSESSABLE", "WARN", "FAIL")  # rising


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Something a person should look at.

    Attributes:
        name: Of the file, such as `A3-pairs.png`; unique within an audit.
        caption: What to look for, as one sentence.
        png: The file.
    """

    name: str
    caption: str
    png: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found. Every number in it has its interval or p, and its counts.

    Attributes:
        check: Its id, such as `A3` or `B1`.
        title: What is asked, in a few words: "Near-duplicates across splits".
        verdict: `PASS`, `WARN`, `FAIL`, or `NOT ASSESSABLE` where the data do not allow an answer.
        sentence: The answer in plain words, with its numbers and counts; without patient ids.
        value: The number the rule looks at; None where there is none.
        low: Lower end of its interval, where it has one.
        high: Upper end.
        p: The p value the rule looks at, after any correction.
        n_images: Images behind the number.
        n_patients: Patients behind it; None where patients are not known.
        rule: When it is WARN and when FAIL, with the thresholds in use; a convention of plainfilm's own carries a `*`.
        source: Paper, standard or formula the rule comes from.
        limits: One sentence on what the finding does not establish.
        advice: What to do about it; empty for PASS.
        details: Further numbers, ready for JSON.
        pictures: For a person to look at.
        tables: Longer lists by file stem, such as `A3-pairs`; each becomes a CSV.
        accepted: Why a FAIL is accepted, in the words of whoever runs the audit; None where it is not.
    """

    check: str
    title: str
    verdict: Verdict
    sentence: str
    rule: str
    source: str
    limits: str
    advice: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n_images: int | None = None
    n_patients: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    accepted: str | None = None

    @property
    def section(self) -> str:
        """The letter of the check: A leakage, B shortcuts, C controls, D precision, E calibration, ..."""
        return self.check[0]

    @property
    def is_open_failure(self) -> bool:
        """Whether it fails and nobody has taken that upon themselves."""
        return self.verdict == "FAIL" and self.accepted is None


def p_in_words(p: float) -> str:
    """`p = 0.012`; below a millionth no digits, which no approximation would bear out."""
    return "p < 1e-6" if p < 1e-6 else f"p = {p:.2g}"
