"""A difference in plain words."""

from __future__ import annotations

from dataclasses import replace

from plainfilm import pairing
from plainfilm.comparison.results import Difference
from plainfilm.measures import plural

LOSSES = ("log_loss", "brier_score")  # lower is better, and they have no points


def told(found: list[Difference], confidence: float) -> list[Difference]:
    """The differences of one measure with the p of the family, and each in a sentence."""
    tested = [index for index, one in enumerate(found) if one.p is not None]
    adjusted = pairing.holm([found[index].p or 0.0 for index in tested])
    for index, p in zip(tested, adjusted, strict=True):
        found[index] = replace(found[index], p_holm=p)
    return [
        one if one.value is None else replace(one, sentence=_sentence(one, confidence, pairs=len(tested)))
        for one in found
    ]


def _sentence(found: Difference, confidence: float, *, pairs: int) -> str:
    """Which is better and by how much, or that it cannot be seen."""
    assert found.value is not None
    unit = "" if found.measure in LOSSES else " points"
    what = title_of_difference(found)
    counted = plural(found.n_images, "image") if found.n_patients is None else plural(found.n_patients, "patient")
    if found.low is None or found.high is None or found.p_holm is None:
        return (
            f"{found.model} minus {found.reference}: {signed(found.value, found.measure)}{unit} of {what}; no interval."
        )
    behind = f"{counted}; p = {shown_p(found.p_holm)}" + (f" among {pairs} pairs" if pairs > 1 else "")
    apart = not found.low <= 0 <= found.high
    if apart and found.p_holm <= 1 - confidence:
        rises = (found.value > 0) != (found.measure in LOSSES)
        size, ends = abs(found.value), sorted((abs(found.low), abs(found.high)))
        said = (
            f"{found.model} is {'better' if rises else 'worse'} than {found.reference} by "
            f"{sized(size, found.measure)}{unit} ({sized(ends[0], found.measure)} to {sized(ends[1], found.measure)}) "
            f"of {what}, {behind}."
        )
    else:
        said = (
            f"No difference between {found.model} and {found.reference} can be seen: {what} differs by between "
            f"{signed(found.low, found.measure)} and {signed(found.high, found.measure)}{unit}, {behind}."
        )
    return f"{said} {_planned(found)}".strip() + (" Struck through: not a result." if found.struck else "")


def _planned(found: Difference) -> str:
    """What the stated difference would need."""
    planned = found.planned
    if planned is None or planned.patients is None or found.measure in LOSSES:
        return ""
    counted = "images" if found.n_patients is None else "patients"
    return (
        f"To find a difference of {sized(planned.difference, found.measure)} points, about {planned.patients:,} "
        f"{counted} would be needed ({planned.low:,} to {planned.high:,})."
    )


def title_of_difference(found: Difference) -> str:
    """What is compared: `balanced accuracy by patient`."""
    return found.measure.replace("_", " ") + (f" of {found.of}" if found.of else "") + f" by {found.unit}"


def difference_cell(found: Difference) -> str:
    """The difference with its interval in a few characters; a dash where it is withheld."""
    if found.value is None:
        return "–"
    value = signed(found.value, found.measure)
    if found.low is None or found.high is None:
        return value
    return f"{value} ({signed(found.low, found.measure)} to {signed(found.high, found.measure)})"


def sized(value: float, measure: str) -> str:
    """A number without its sign: in points of a hundred, or as it is for a loss."""
    return f"{value:.3f}" if measure in LOSSES else f"{100 * value:.1f}"


def signed(value: float, measure: str) -> str:
    """The same with its sign; never "-0.0"."""
    text = sized(abs(value), measure)
    return text if not text.strip("0.") else f"{'+' if value > 0 else '-'}{text}"


def shown_p(p: float) -> str:
    """A p value as it is printed: `0.031`, `0.0005`."""
    return f"{p:.2g}" if p < 0.01 else f"{p:.3f}".rstrip("0").rstrip(".")
