"""A recipe's result as one offline page, in the look of the report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from plainfilm.pages import packaged, page_environment, page_style
from plainfilm.recipes.comparison import COLUMNS, Comparison
from plainfilm.recipes.outcome import Outcome
from plainfilm.recipes.recipe import Recipe


def write_page(table: Comparison, recipe: Recipe, outcomes: Mapping[str, Outcome], facts: Mapping[str, Any]) -> str:
    """The whole page as HTML text: nothing in it runs, nothing is loaded; it links to the runs' own pages.

    Args:
        table: What it shows.
        recipe: What was done.
        outcomes: What came of each step, by its id.
        facts: `plainfilm`, `finished`, `seconds`, `asked`, what was `typed`, `options` of each step.
    """
    environment = page_environment()
    environment.filters["duration"] = _duration
    template = packaged("plainfilm.recipes", "page.html.j2")
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
        style=page_style(("plainfilm.reporting", "style.css"), ("plainfilm.recipes", "page.css")),
    )


def _letter(index: int) -> str:
    """a, b, ..., z, then numbers: a recipe has few reasons."""
    return chr(ord("a") + index) if index < 26 else str(index)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
