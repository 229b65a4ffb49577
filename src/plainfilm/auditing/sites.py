"""Site and scanner: does the label follow where an image was made, and can the pixels tell where that was?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.auditing.appearance import blurred_features, value_features
from plainfilm.auditing.cases import Cases
from plainfilm.auditing.probes import Probe, Setting
from plainfilm.auditing.probing import Probed, make_design, run_probe
from plainfilm.data.sites import named_columns

MISSING = "(missing)"
MOST_SITES = 40


@dataclass(frozen=True, kw_only=True)
class SiteAnswer:
    """What one column says.

    Attributes:
        column: Its name.
        utility: How well the label is predicted from the column.
        detectability: How well the column is predicted from blurred pixels and grey values; None where it cannot be
            asked.
        p: That both hold, corrected for the number of columns.
    """

    column: str
    utility: Probed
    detectability: Probed | None
    p: float


def site_columns(rows: pd.DataFrame) -> list[str]:
    """Columns that look like a site, scanner or source, and have between two values and one for every five images."""
    return [
        name
        for name in named_columns(rows)
        if 2 <= rows[name].nunique(dropna=False) <= min(MOST_SITES, max(2, len(rows) // 5))
    ]


def site_probe(setting: Setting) -> Probe:
    """B8: utility times detectability (G-AUDIT), for the column where both together say most."""
    columns = site_columns(setting.rows)
    probe = Probe(
        check="B8",
        title="Label from site or scanner",
        of="site or scanner",
        limits="It knows only the columns of the table. A site that no column names stays hidden.",
        look="Balance the classes over the sites, or test on a site that was not trained on.",
    )
    if not columns:
        return replace(probe, reason="no column of the table looks like a site, scanner or source")
    answers = [_asked(column, len(columns), setting) for column in columns]
    best = min(answers, key=lambda answer: (answer.p, -answer.utility.excess))
    seen = best.detectability
    said = f"the pixels tell it with balanced accuracy {seen.value:.3f} (by chance {seen.null:.3f})" if seen else ""
    return replace(
        probe,
        of=f"the column '{best.column}'",
        probed=replace(best.utility, p=best.p),
        may_fail=seen is not None and seen.excess >= setting.options.shortcut_excess,
        remark=f" A model could read the column from the image: {said}." if seen else "",
        details={
            "columns": {
                answer.column: {
                    "utility": answer.utility.value,
                    "utility_null": answer.utility.null,
                    "utility_p": answer.utility.p,
                    "detectability": answer.detectability.value if answer.detectability else None,
                    "detectability_null": answer.detectability.null if answer.detectability else None,
                    "detectability_p": answer.detectability.p if answer.detectability else None,
                }
                for answer in answers
            }
        },
        tables={f"B8-{column}": _crossed(setting, column) for column in columns},
    )


def _asked(column: str, n_columns: int, setting: Setting) -> SiteAnswer:
    values = setting.rows[column].astype(object).fillna(MISSING).astype(str)
    utility = setting.run(np.column_stack(value_features(values, most=MOST_SITES)))
    detectability = _detected(values, setting)
    # Both must hold, so the larger p counts; one of several columns, so it is multiplied.
    p = max(utility.p, detectability.p if detectability else utility.p)
    return SiteAnswer(column=column, utility=utility, detectability=detectability, p=min(1.0, p * n_columns))


def _detected(values: pd.Series, setting: Setting) -> Probed | None:
    """How well a column is told from the pixels; of its values with enough patients."""
    names, code = np.unique(values.to_numpy(dtype=str), return_inverse=True)
    pairs = np.unique(np.stack([code, setting.cases.group]), axis=1)
    enough = np.bincount(pairs[0], minlength=len(names)) >= setting.recipe.probe_patients
    if enough.sum() < 2:
        return None
    chosen = enough[code]
    kept = np.flatnonzero(enough)
    cases = Cases(
        rows=setting.cases.rows[chosen],
        y=np.searchsorted(kept, code[chosen]),
        group=np.unique(setting.cases.group[chosen], return_inverse=True)[1].astype(np.intp),
        classes=tuple(str(names[index]) for index in kept),
        left_out=(),
        patients=setting.cases.patients,
    )
    return run_probe(_pixel_features(setting)[chosen], cases, make_design(cases, setting.recipe), setting.recipe)


def _pixel_features(setting: Setting) -> npt.NDArray[np.float32]:
    return np.column_stack([blurred_features(setting.thumbs), setting.histograms])


def _crossed(setting: Setting, column: str) -> pd.DataFrame:
    """How many images each class has from each site."""
    values = setting.rows[column].astype(object).fillna(MISSING).astype(str)
    label = pd.Series(np.array(setting.cases.classes, dtype=object)[setting.cases.y], index=values.index)
    return pd.crosstab(values, label).reset_index().rename_axis(columns=None)
