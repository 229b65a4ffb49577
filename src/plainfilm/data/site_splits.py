"""Whole sites held out: what is learnt at some is tested at one that had no part in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from plainfilm.data.dividing import Indices, grouped_folds
from plainfilm.data.patients import first_of
from plainfilm.data.sites import site_column
from plainfilm.data.table import Cells, cells, shown
from plainfilm.errors import LeakageError, TableError, UsageError, unknown_name

MOST_TRAININGS: Final = 50
NAMED: Final = 5  # sites in one sentence


@dataclass(frozen=True)
class HeldOutSites:
    """Which sites the test rows of each training are from; no other row of the training is from one of them.

    Attributes:
        column: That names the site.
        sites: Of each fold.
    """

    column: str
    sites: tuple[tuple[str, ...], ...]

    def in_words(self) -> str:
        """What was tested on what."""
        named = [" with ".join(held) for held in self.sites]
        listed = "; ".join(named[:NAMED]) + (f"; and {len(named) - NAMED} more" if len(named) > NAMED else "")
        how = "each tested by a model that learnt at the others" if len(named) > 1 else "tested, not learnt from"
        return f"Another site: whole sites of column '{self.column}' were held out ({listed}), {how}."


def hold_out_sites(
    rows: pd.DataFrame,
    labels: Cells,
    kept: Indices,
    groups: Cells,
    *,
    column: str | None,
    test_sites: Sequence[str],
    folds: int | None,
    seed: int,
) -> tuple[HeldOutSites, list[tuple[Indices, Indices]]]:
    """Divide rows by site: into all sites but one and that one, for every site in turn.

    Args:
        rows: The table.
        labels: Of each row.
        kept: Rows that take part.
        groups: Patient of each row.
        column: That names the site; None finds it.
        test_sites: Hold out these together, in a single training.
        folds: Hold out several at once, in so many trainings.
        seed: Of which are held out together.

    Returns:
        The sites, and for each training the rows of all other sites and those to test.

    Raises:
        UsageError: `UNKNOWN_COLUMN`, `UNKNOWN_SITE`, `SPL_SITE_COLUMN` or `OPT_INVALID`.
        TableError: `SPL_MISSING_SITES`, `SPL_TOO_FEW_SITES`, `SPL_TOO_MANY_SITES` or `SPL_UNSEEN_CLASS`.
        LeakageError: `SPL_SITE_LEAK` if a patient was imaged at a site that is held out and at another.
    """
    if test_sites and folds is not None:
        raise UsageError("--test-site makes one training and --folds several: give one of the two.", code="OPT_INVALID")
    column = site_column(rows, column)
    sites = np.array([None if site is None else str(site) for site in cells(rows, column)], dtype=object)
    _check_sites(rows, column, sites, kept, groups)
    names = sorted(set(sites[kept]))
    if test_sites:
        for name in test_sites:
            if name not in names:
                raise unknown_name("site", name, names)
        held = [kept[[site in test_sites for site in sites[kept]]]]
        if len(held[0]) == len(kept):
            raise TableError(
                "every site is held out, and none is left to learn from. Give fewer --test-site.",
                code="SPL_TOO_FEW_SITES",
            )
    elif folds is not None:
        if folds > len(names):
            raise TableError(
                f"{len(names)} sites cannot make {folds} folds. Use fewer --folds, or leave it out to hold out each.",
                code="SPL_TOO_FEW_SITES",
            )
        held = [test for _, test in grouped_folds(labels, kept, sites, folds, seed)]
    elif len(names) > MOST_TRAININGS:
        raise TableError(
            f"{len(names)} sites of column '{column}' would be {len(names)} trainings. Hold out several at once with "
            "--folds 5, or name one or more with --test-site.",
            code="SPL_TOO_MANY_SITES",
        )
    else:
        held = [kept[sites[kept] == name] for name in names]
    parts = []
    for test in held:
        away = tuple(sorted(set(sites[test])))
        rest = kept[[site not in away for site in sites[kept]]]
        _check_patients(groups, sites, rest, test)
        _check_classes(labels, rest, test, away)
        parts.append((rest, test))
    return HeldOutSites(column, tuple(tuple(sorted(set(sites[test]))) for test in held)), parts


def _check_sites(rows: pd.DataFrame, column: str, sites: Cells, kept: Indices, groups: Cells) -> None:
    """Refuse a column that leaves a site out, has only one, or names patients."""
    missing = [index for index in kept if sites[index] is None]
    if missing:
        raise TableError(
            f"{len(missing)} of {len(kept)} labelled rows name no site in column '{column}', first "
            f"'{rows['path'].iat[missing[0]]}': they could be of a site that is held out. Fill it in, or remove them.",
            code="SPL_MISSING_SITES",
        )
    names = set(sites[kept])
    if len(names) < 2:
        raise TableError(
            f"every labelled row is of one site, '{shown(next(iter(names)))}' in column '{column}': none can be held "
            "out. Use --split patient, and measure the model on another site's images: plainfilm evaluate RUN DATA.",
            code="SPL_TOO_FEW_SITES",
        )
    patients = pd.DataFrame({"site": sites[kept], "patient": groups[kept]}).groupby("site")["patient"].nunique()
    if patients.max() < 2:
        raise UsageError(
            f"column '{column}' has another value for every patient: it names patients, not sites. Name another: "
            "--site-column NAME.",
            code="SPL_SITE_COLUMN",
        )


def _check_patients(groups: Cells, sites: Cells, rest: Indices, test: Indices) -> None:
    both = sorted(set(groups[rest]) & set(groups[test]), key=str)
    if not both:
        return
    rows = np.concatenate([rest, test])
    frame = pd.DataFrame({"patient": groups[rows], "site": sites[rows]})
    at = frame[frame["patient"].isin(both)].groupby("patient")["site"].agg(lambda all_: sorted(set(all_)))
    verb = "patient has" if len(both) == 1 else "patients have"
    raise LeakageError(
        f"{len(both)} {verb} images at a site that is held out and at another: {first_of(at)}. Such a patient would be "
        "in both training and test. Hold these sites out together (--test-site A --test-site B), leave the patients "
        "out, or, where two sites gave the same id to different people, write the site into the id.",
        code="SPL_SITE_LEAK",
    )


def _check_classes(labels: Cells, rest: Indices, test: Indices, away: Sequence[str]) -> None:
    unseen = sorted(set(labels[test]) - set(labels[rest]))
    if unseen:
        raise TableError(
            f"class '{shown(unseen[0])}' is at {' and '.join(map(shown, away[:NAMED]))} alone: with that held out it "
            "cannot be learnt. A class that comes from one site cannot be told from the site; leave it out, or add "
            "images of it from elsewhere.",
            code="SPL_UNSEEN_CLASS",
        )
