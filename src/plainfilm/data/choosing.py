"""Which frames of a file, or slices of a volume, become images."""

from __future__ import annotations

import re

from plainfilm.errors import UsageError

FRAMES_RULE = "all, first, middle, every:K, or central:SHARE such as central:0.5"


def parse_choice(rule: str) -> tuple[str, float]:
    """The kind of a rule and its number.

    Raises:
        UsageError: `OPT_FRAMES`.
    """
    if rule in ("all", "first", "middle"):
        return rule, 0.0
    every = re.fullmatch(r"every:([1-9]\d{0,5})", rule)
    if every:
        return "every", float(every[1])
    central = re.fullmatch(r"central:(0?\.\d+|1(?:\.0)?)", rule)
    if central and float(central[1]) > 0:
        return "central", float(central[1])
    raise UsageError(f"frames is {FRAMES_RULE}; not '{rule}'.", code="OPT_FRAMES")


def choose(count: int, rule: str) -> list[int]:
    """The chosen of `count` frames, counted from 0, in order; one at least.

    `every:K` begins half a step in, so that neither end is favoured.
    """
    kind, number = parse_choice(rule)
    if kind == "first":
        return [0]
    if kind == "middle":
        return [count // 2]
    if kind == "every":
        step = int(number)
        return list(range(step // 2, count, step)) or [count // 2]
    if kind == "central":
        kept = max(1, round(number * count))
        start = (count - kept) // 2
        return list(range(start, start + kept))
    return list(range(count))
