"""CLAIM 2024 and TRIPOD+AI as checklists: what the run answers, and what only its authors can say."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from plainfilm.pages import packaged
from plainfilm.reporting.content import ReportData
from plainfilm.reporting.sentences import SENTENCES, sentences_of

Status = Literal["filled by the tool", "needs you", "not applicable"]
STATUSES: Final[tuple[Status, ...]] = ("filled by the tool", "needs you", "not applicable")


class Standard(BaseModel):
    """A reporting standard: its name, where to read it, and how many items it has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    source: str
    count: int


class Item(BaseModel):
    """What one item asks, in our own words, and how a run fills it; see `standards.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    standard: str
    id: str
    part: Literal["front", "method", "result", "discussion", "other"]
    asks: str
    says: tuple[str, ...] = ()
    needs: str = ""
    missing: str = ""
    never: str = ""

    @model_validator(mode="after")
    def _can_be_answered(self) -> Self:
        unknown = [name for name in self.says if name not in SENTENCES]
        if unknown:
            raise ValueError(f"item {self.id}: no sentence is named '{unknown[0]}'")
        if not (self.needs or self.missing or self.never):
            raise ValueError(f"item {self.id} would leave its reader alone: give needs, missing or never")
        return self


@dataclass(frozen=True)
class Answer:
    """An item with what this run says to it.

    Attributes:
        item: What is asked.
        status: Whether the run answers it.
        said: The run's own sentences; empty where it has none.
        todo: What the authors must add; empty where nothing is left to them.
    """

    item: Item
    status: Status
    said: str
    todo: str


@dataclass(frozen=True)
class Checklist:
    """All items of one standard, in its order."""

    standard: Standard
    answers: tuple[Answer, ...]

    def count(self, status: Status) -> int:
        """How many items have a status."""
        return sum(answer.status == status for answer in self.answers)


@cache
def read_standards() -> tuple[tuple[Standard, tuple[Item, ...]], ...]:
    """Every standard with its items, from the data file."""
    raw = tomllib.loads(packaged("plainfilm.reporting", "standards.toml"))
    items = [Item.model_validate(entry) for entry in raw["item"]]
    standards = [Standard.model_validate(entry) for entry in raw["standard"]]
    return tuple((standard, tuple(item for item in items if item.standard == standard.name)) for standard in standards)


def checklists(report: ReportData) -> tuple[Checklist, ...]:
    """Each standard filled in as far as this run can."""
    said = sentences_of(report)
    return tuple(
        Checklist(standard, tuple(_answer(item, said) for item in items)) for standard, items in read_standards()
    )


def _answer(item: Item, said: Mapping[str, str]) -> Answer:
    if item.never:
        return Answer(item, "not applicable", item.never, "")
    answer = " ".join(said[name] for name in item.says if name in said)
    if answer and not item.needs:
        return Answer(item, "filled by the tool", answer, "")
    return Answer(item, "needs you", answer, item.needs or item.missing)
