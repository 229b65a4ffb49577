"""The same training under other seeds (C5): how far the score moves, and whether one seed gives one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plainfilm.auditing.findings import Finding
from plainfilm.measures import plural

FEWEST = 3  # trainings that a standard deviation is taken from


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of several that differ by their seed alone.

    Attributes:
        name: Of its run.
        seed: Of weights, order and augmentation.
        digest: Hash of its weights and scores.
        score: What it comes to, by patient where they are known; None where that is withheld.
        low: Lower end of the interval over patients.
        high: Upper end.
    """

    name: str
    seed: int
    digest: str
    score: float | None
    low: float | None = None
    high: float | None = None


def check_seeds(trainings: Sequence[Training], *, measure: str = "balanced accuracy", spread: float = 0.05) -> Finding:
    """C5: how far the score moves with the seed alone; and that one seed gives one result.

    Args:
        trainings: The audited one first.
        measure: What their scores are, in words.
        spread: Standard deviation from which it warns.
    """
    facts: dict[str, Any] = {
        "check": "C5",
        "title": "The score under other seeds",
        "rule": f"FAIL where one seed gives two results; WARN where the standard deviation over {FEWEST} seeds or more "
        f"reaches {100 * spread:g} points*.",
        "source": "Bouthillier et al., MLSys 2021; interval of a standard deviation from the chi-squared distribution.",
        "limits": "It counts the luck of training, not the luck of which patients were tested.",
    }
    by_seed: dict[int, Training] = {}
    again = []
    for training in trainings:
        if training.seed in by_seed:
            again.append(training)
        else:
            by_seed[training.seed] = training
    changed = [training for training in again if training.digest != by_seed[training.seed].digest]
    facts["details"] = {
        "trainings": [
            {"run": each.name, "seed": each.seed, "score": each.score, "low": each.low, "high": each.high}
            for each in trainings
        ],
        "under_one_seed_again": len(again),
    }
    if changed:
        return Finding(
            **facts,
            verdict="FAIL",
            sentence=f"{plural(len(changed), 'training')} of {len(again)} under a seed that was used before gave other "
            f"weights or scores than the first (seed {changed[0].seed}).",
            advice="Find what is not seeded, or not deterministic here; another machine may round otherwise.",
        )
    repeated = f" {plural(len(again), 'training')} under the same seed gave the same to the bit." if again else ""
    scores = [training.score for training in by_seed.values() if training.score is not None]
    if len(scores) < FEWEST:
        return Finding(
            **facts,
            verdict="NOT ASSESSABLE",
            sentence=f"Not assessable: scores of {FEWEST} trainings with different seeds are needed, there "
            f"{'is' if len(scores) == 1 else 'are'} {len(scores)}.{repeated}",
            advice="Train again with other --seed, then: plainfilm audit --run RUN --seeds RUN2 --seeds RUN3.",
        )
    from scipy.stats import chi2

    values, free = np.asarray(scores, dtype=np.float64), len(scores) - 1
    deviation = float(values.std(ddof=1))
    low, high = (float(deviation * np.sqrt(free / chi2.ppf(q, free))) for q in (0.975, 0.025))
    wide, own = deviation >= spread, trainings[0]
    beside = "" if own.low is None or own.high is None else f" Beside it: over patients {own.low:.3f}-{own.high:.3f}."
    return Finding(
        **facts,
        verdict="WARN" if wide else "PASS",
        sentence=f"Over {len(scores)} seeds {measure} is {values.mean():.3f} with a standard deviation of "
        f"{100 * deviation:.1f} points (95% CI {100 * low:.1f}-{100 * high:.1f}), from {values.min():.3f} to "
        f"{values.max():.3f}.{beside}{repeated}",
        advice="Report the mean over seeds, not the best one." if wide else "",
        value=deviation,
        low=low,
        high=high,
    )
