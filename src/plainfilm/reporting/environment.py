"""How the pages of reports are put together: their templates, and the words they use for numbers."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, FunctionLoader

from plainfilm import plots
from plainfilm.pages import packaged, page_environment
from plainfilm.plots import readable

NAME_LIMIT = 60  # characters of one name in a table


@cache
def report_environment() -> Environment:
    """The environment of all pages, with the templates of this package and its filters; each is compiled once."""
    environment = page_environment()
    environment.loader = FunctionLoader(lambda name: packaged("plainfilm.reporting", name))
    environment.filters |= {
        "brief": lambda text, limit=NAME_LIMIT: readable(str(text), limit=limit),
        "count": _count,
        "day": lambda when: f"{when.day} {when:%B %Y}",
        "decimal": lambda value: f"{value:.3f}".replace("-0.000", "0.000"),
        "heading": plots.title_of,
        "sentence": as_sentence,
        "percent": lambda share: f"{100 * share:.0f} %",
        "thousands": lambda number: f"{number:,}",
    }
    return environment


def as_sentence(text: str) -> str:
    """A remark with a capital and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
