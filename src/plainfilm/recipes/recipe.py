"""What a recipe is: an experiment of a paper as data, read from a TOML file beside this one."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from plainfilm.errors import unknown_name

NAMES = (
    "alzheimer-resnet1d",
    "alzheimer-fast",
    "alzheimer-resnet50-1d",
    "alzheimer-background-models",
    "xray-inceptionv3",
    "xray-top-only",
    "xray-pca-network",
    "xray-explore",
    "xray-feature-maps",
    "covid-inceptionv3",
    "outside-images",
)

Column = Literal["paper", "right"]
Kind = Literal["train", "explore", "explain", "predict"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Printed(_Entry):
    """A number as a paper prints it.

    Attributes:
        text: As printed.
        values: The number or numbers; shares as 0 to 1.
        where: Section, figure or place in the code.
        note: What to know of it: printed under another name, does not follow, is of other rows.
    """

    text: str
    values: tuple[float, ...]
    where: str
    note: str = ""


class Paper(_Entry):
    """A paper, and what it printed."""

    title: str
    author: str
    year: int
    numbers: dict[str, Printed]


class Place(_Entry):
    """Where in the folder the user gives the images may lie.

    Attributes:
        path: Under that folder; a table or a folder.
        holds: Folders that must be in it to be sure.
    """

    path: str = "."
    holds: tuple[str, ...] = ()


class Step(_Entry):
    """One thing a recipe does.

    Attributes:
        id: Its folder.
        kind: Which verb.
        title: What it is, in words.
        column: Which column of the table its numbers are for.
        run: The training whose model `explain` and `predict` use.
        images: Place under the data, instead of all of it.
        labelled: Whether images without a class are left out first; a training leaves them out by itself.
        options: Options of the verb, by name.
        with_table: More options, where the data are a table and not folders.
        without_table: More options, where they are folders, which name no patients.
        quick: Options that replace these under --quick.
        pretrained: Whether the model is to start from the weights of its hub.
        with_backbone: Options that replace these where another backbone takes its place.
        without_weights: Options that replace these where no weights can be had.
    """

    id: str
    kind: Kind
    title: str
    column: Column
    run: str | None = None
    images: str | None = None
    labelled: bool = False
    options: dict[str, Any] = {}
    with_table: dict[str, Any] = {}
    without_table: dict[str, Any] = {}
    quick: dict[str, Any] = {}
    pretrained: bool = False
    with_backbone: dict[str, Any] = {}
    without_weights: dict[str, Any] = {}


class Row(_Entry):
    """One quantity of the final table.

    Attributes:
        quantity: What it is.
        printed: Its name among the paper's numbers; None where the paper prints nothing.
        paper: `step: number` for the column of the paper's way.
        right: The same for the column of how it is done right.
        shown: How it is written.
        difference: Whether our numbers, whose names then begin alike, are compared one by one with the printed ones,
            and the largest difference is what is shown.
        every: Whether there is a row for each number whose name begins so.
    """

    quantity: str
    printed: str | None = None
    paper: str | None = None
    right: str | None = None
    shown: Literal["share", "loss", "count", "score"] = "share"
    difference: bool = False
    every: bool = False


class Recipe(_Entry):
    """One experiment of a paper.

    Attributes:
        name: What is typed.
        title: What it is.
        summary: What it does, in a sentence or two.
        printed: The file in `printed/` of the paper's numbers.
        section: Where in the paper.
        data: Name in the catalogue.
        layout: What is expected in the folder given as data, in words.
        places: Where it may lie there; the first that exists is taken.
        minutes: Expected on two processors.
        quick_minutes: The same with --quick.
        quick_patients: With --quick, and where the data are a table: the first so many patients of each class, by id.
        steps: In the order they are done.
        rows: Of the final table.
        notes: Where our way differs from the paper's, and what the paper leaves open.
    """

    name: str
    title: str
    summary: str
    printed: str
    section: str
    data: str
    layout: str
    places: tuple[Place, ...]
    minutes: float
    quick_minutes: float
    quick_patients: int | None = None
    steps: tuple[Step, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _refers_to_what_there_is(self) -> Recipe:
        """Every row and step must name steps that exist, and every printed number must be in the paper's file."""
        earlier: set[str] = set()
        for step in self.steps:
            if step.run is not None and step.run not in earlier:
                raise ValueError(f"step '{step.id}' uses '{step.run}', which does not come before it")
            earlier.add(step.id)
        for row in self.rows:
            for reference in filter(None, (row.paper, row.right)):
                if reference.partition(": ")[0] not in earlier:
                    raise ValueError(f"row '{row.quantity}' refers to '{reference}'")
            if row.printed is not None and row.printed not in self.paper.numbers:
                raise ValueError(f"row '{row.quantity}' names no printed number: '{row.printed}'")
        return self

    @property
    def is_shortened(self) -> bool:
        """Whether --quick changes any number."""
        return self.quick_patients is not None or any(step.kind == "train" and step.quick for step in self.steps)

    @property
    def paper(self) -> Paper:
        """The paper it is from."""
        return read_paper(self.printed)


@cache
def read_paper(name: str) -> Paper:
    """What a paper printed, from `printed/<name>.toml`."""
    text = files("plainfilm.recipes").joinpath("printed", f"{name}.toml").read_text("utf-8")
    return Paper.model_validate(tomllib.loads(text))


@cache
def load_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        UsageError: `UNKNOWN_RECIPE`, with the nearest name.
    """
    if name not in NAMES:
        raise unknown_name("recipe", name, NAMES)
    text = files("plainfilm.recipes").joinpath(f"{name}.toml").read_text("utf-8")
    return Recipe.model_validate({"name": name, **tomllib.loads(text)})


def list_recipes() -> list[Recipe]:
    """Every recipe."""
    return [load_recipe(name) for name in NAMES]
