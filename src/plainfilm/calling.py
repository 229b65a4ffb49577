"""From a score to a yes or no: the threshold that validation patients chose, kept in a bundle for new images.

How it is chosen, and what it is worth, is in `operating`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.metrics import Bools, Floats

POSITIVE, NEGATIVE = "positive", "negative"


class CallingRule(BaseModel):
    """When an image is called positive; part of a bundle.

    Attributes:
        positive: Classes whose scores are added up.
        threshold: From which sum on an image is called positive; None where no threshold was chosen. It was chosen on
            patients, by the mean over the images of each.
        rule: How it was chosen: `youden`, or a floor such as `sensitivity=0.9`.
        n_positive: Validation patients behind the choice that are positive.
        n_negative: Those that are not.
        reason: Why none was chosen, or a caution; empty otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    positive: tuple[str, ...] = ()
    threshold: float | None = Field(None, ge=0, le=1)
    rule: str = ""
    n_positive: int = Field(0, ge=0)
    n_negative: int = Field(0, ge=0)
    reason: str = "no class was named positive"

    @property
    def applies(self) -> bool:
        """Whether there is a threshold."""
        return self.threshold is not None

    def fits(self, classes: Sequence[str]) -> bool:
        """Whether the rule is about these classes: some are positive, and some are not."""
        return self.threshold is None or (bool(self.positive) and set(self.positive) < set(classes))

    def calls(self, scores: Floats, classes: Sequence[str]) -> Bools:
        """`(n,)`: whether each row of the scores `(n, K)` is called positive."""
        assert self.threshold is not None
        named = np.array([name in self.positive for name in classes])
        return np.asarray(scores[:, named].sum(axis=1) >= self.threshold)

    def in_words(self) -> str:
        """One sentence."""
        if self.threshold is None:
            return f"No threshold is part of this model: {self.reason}."
        caution = f"; {self.reason}" if self.reason else ""
        return (
            f"Called positive ({' + '.join(self.positive)}) from a score of {self.threshold:.3f} on, chosen by "
            f"'{self.rule}' on {self.n_positive} positive and {self.n_negative} negative validation patients{caution}."
        )
