"""What to beware of in an image, beside what the model says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plainfilm.data.images import DecodeRecord
from plainfilm.novelty import Gate

SPLITS: Final = {
    "train": "The model was trained on this very image, so its answer says nothing about new ones.",
    "validation": "The model was chosen on this very image, so its answer says little about new ones.",
    "test": "This very image is one of the run's test images.",
}


@dataclass(frozen=True)
class Caution:
    """One warning.

    Attributes:
        code: Stable: `UNLIKE_TRAINING`, `WRONG_DEPTH`, `LOOKS_INVERTED`, `SEEN_BEFORE` or `NEAR_DUPLICATE`.
        text: For a person.
    """

    code: str
    text: str


def cautions_of(
    record: DecodeRecord,
    gate: Gate,
    *,
    unlike: bool,
    unlike_why: str,
    looks_inverted: bool,
    seen_in: str | None,
    is_near: bool,
) -> tuple[Caution, ...]:
    """The warnings about one image, the gravest first.

    Args:
        record: How it was stored.
        gate: What the training images had in common.
        unlike: Whether it is unlike them.
        unlike_why: Why.
        looks_inverted: Whether its negative is like them, and it is not.
        seen_in: The split of the run in which this very image was; None if it was in none.
        is_near: Whether a training image shows the same picture.
    """
    found = []
    if seen_in is not None:
        found.append(Caution("SEEN_BEFORE", SPLITS.get(seen_in, "This very image was in the run's table.")))
    elif is_near:
        found.append(
            Caution("NEAR_DUPLICATE", "A training image shows nearly the same picture: is it the same patient?")
        )
    if looks_inverted:
        found.append(
            Caution("LOOKS_INVERTED", "Black and white seem to be exchanged: its negative is like the training images.")
        )
    if gate.bits and record.bits not in gate.bits:
        known = " or ".join(str(bits) for bits in gate.bits)
        found.append(
            Caution("WRONG_DEPTH", f"It has {record.bits} bits; the training images had {known}. Exported otherwise?")
        )
    if unlike:
        found.append(Caution("UNLIKE_TRAINING", f"The image is unlike the training images: {unlike_why}."))
    return tuple(found)
