"""A comparison as one offline page: nothing in it runs, nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from plainfilm.comparison import Comparison, Difference
from plainfilm.comparison.words import LOSSES, difference_cell, shown_p, title_of_difference
from plainfilm.pages import packaged, page_environment, page_style
from plainfilm.plots.comparison import ForestLine, forest_plot


def write_comparison(found: Comparison) -> str:
    """The whole page as HTML text."""
    template = page_environment().from_string(packaged("plainfilm.pages", "comparison.html.j2"))
    return template.render(
        found=found,
        level=f"{100 * found.confidence:g}",
        drawings=list(_drawings(found)),
        rows=[_row(one) for one in found.differences],
        titles=list(dict.fromkeys(title_of_difference(one) for one in found.differences)),
        style=page_style(("plainfilm.pages", "comparison.css")),
    )


def _drawings(found: Comparison) -> Iterator[tuple[str, Markup]]:
    """A forest plot for each measure."""
    for title in dict.fromkeys(title_of_difference(one) for one in found.differences):
        own = [one for one in found.differences if title_of_difference(one) == title]
        loss = own[0].measure in LOSSES
        scale = 1.0 if loss else 100.0
        drawing = forest_plot(
            [
                ForestLine(
                    name=f"{one.model} minus {one.reference}",
                    value=None if one.value is None else scale * one.value,
                    low=None if one.low is None else scale * one.low,
                    high=None if one.high is None else scale * one.high,
                    struck=one.struck,
                )
                for one in own
            ],
            xlabel="Difference; left is better" if loss else "Difference in points; right is better",
            margin=None if loss else scale * found.options.difference,
        )
        yield title, Markup(drawing.svg(for_page=True))


def _row(one: Difference) -> dict[str, object]:
    """A row of the table, as text."""
    exact = one.delong if one.delong is not None else one.mcnemar
    planned = one.planned
    return {
        "measure": title_of_difference(one),
        "model": one.model,
        "reference": one.reference,
        "difference": difference_cell(one),
        "p": "–" if one.p is None else shown_p(one.p),
        "p_holm": "–" if one.p_holm is None else shown_p(one.p_holm),
        "exact": "–" if exact is None else shown_p(exact),
        "needed": "–"
        if planned is None or planned.patients is None or one.measure in LOSSES
        else f"{planned.patients:,} ({planned.low:,} to {planned.high:,})",
        "struck": one.struck,
    }
