"""A recipe's result as one offline page, in the look of the report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from plainfilm.plots import readable
from plainfilm.recipes.comparison import COLUMNS, Comparison
from plainfilm.recipes.outcome import Outcome
from plainfilm.recipes.recipe import Recipe

TEXT_LIMIT = 1_000  # characters of one sentence


def write_page(table: Comparison, recipe: Recipe, outcomes: Mapping[str, Outcome], facts: Mapping[str, Any]) -> str:
    """The whole page as HTML text: nothing in it runs, nothing is loaded; it links to the runs' own pages.

    Args:
        table: What it shows.
        recipe: What was done.
        outcomes: What came of each step, by its id.
        facts: `plainfilm`, `finished`, `seconds`, `asked`, what was `typed`, `options` of each step.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_as_text
    )
    environment.filters["duration"] = _duration
    style = "\n".join(
        files(package).joinpath(name).read_text("utf-8")
        for package, name in (("plainfilm.reporting", "style.css"), ("plainfilm.recipes", "page.css"))
    )
    template = files("plainfilm.recipes").joinpath("page.html.j2").read_text("utf-8")
    reasons = {reason: _letter(index) for index, reason in enumerate(table.reasons)}
    return environment.from_string(template).render(
        table=table,
        recipe=recipe,
        paper=recipe.paper,
        outcomes=outcomes,
        facts=facts,
        columns=COLUMNS,
        command=shlex.join(
            ["plainfilm", "recipe", "run", recipe.name, "--data", facts["asked"]["data"], *facts["typed"]]
        ),
        reasons=reasons,
        style=Markup(style),
    )


def _letter(index: int) -> str:
    """a, b, ..., z, then numbers: a recipe has few reasons."""
    return chr(ord("a") + index) if index < 26 else str(index)


def _as_text(value: Any) -> Any:
    """Any text without hidden characters; markup made here as it is."""
    return readable(value, limit=TEXT_LIMIT) if isinstance(value, str) and not isinstance(value, Markup) else value


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
