"""Flags made from the option classes, and what commands share in reading and showing them."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import BaseModel, create_model
from rich.console import Console
from rich.table import Table as Grid

from plainfilm.config import SECTION_OF, SECTIONS, RunOptions, option_fields


def flags_class(name: str, sections: list[str], *, without: Collection[str] = ()) -> type[BaseModel]:
    """A class with a flag for every option of `sections` but those in `without`, all None until given."""
    fields: dict[str, Any] = {}
    for option, field in option_fields().items():
        if SECTION_OF[option] in sections and option not in without:
            default = field.get_default(call_default_factory=True)
            shown = (
                ""
                if default in (None, ())
                else f" [default: {str(default).lower() if default in (True, False) else default}]"
            )
            text = Parameter(
                help=f"{field.description}{shown}", group=SECTION_OF[option].capitalize(), show_default=False
            )
            fields[option] = (Annotated[field.annotation | None, text], None)  # type: ignore[operator]
    return create_model(name, **fields)


SweepFlags = flags_class("SweepFlags", list(SECTIONS), without=("model", "folds"))
TrainFlags = flags_class("TrainFlags", list(SECTIONS))
ScanFlags = flags_class("ScanFlags", ["source", "reading"])
EvaluateFlags = flags_class("EvaluateFlags", ["evaluation", "operating", "subgroups", "source"])
AuditFlags = flags_class("AuditFlags", ["source", "reading", "split", "audit"])
PredictFlags = flags_class("PredictFlags", ["source"])


def asked(flags: BaseModel | None) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {} if flags is None else flags.model_dump(exclude_none=True)


def section_of(values: dict[str, Any], section: str) -> Any:
    """The options of one section, the rest at their defaults."""
    return getattr(
        RunOptions.from_flat({name: v for name, v in values.items() if SECTION_OF[name] == section}), section
    )


def show(renderable: object) -> None:
    """Results go to standard output; a table is not squeezed where nobody looks at a terminal."""
    console = Console(highlight=False, soft_wrap=not isinstance(renderable, Grid))
    if not console.is_terminal:
        console = Console(highlight=False, width=160, soft_wrap=not isinstance(renderable, Grid), file=sys.stdout)
    console.print(renderable, markup=False) if isinstance(renderable, str) else console.print(renderable)
