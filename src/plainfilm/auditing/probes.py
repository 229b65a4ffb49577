"""What the label might be predicted from, though it should not: files, borders, blurs, grey values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.auditing.appearance import (
    blurred_features,
    border_features,
    border_mask,
    centre_features,
    container_facts,
    edge_features,
    fact_features,
    grey_histograms,
    pooled,
)
from plainfilm.auditing.cases import Cases
from plainfilm.auditing.findings import Picture
from plainfilm.auditing.probing import Design, Probed, ProbeOptions, run_best_probe, run_probe
from plainfilm.auditing.subject import Subject
from plainfilm.auditing.thumbnails import thumbnails
from plainfilm.data.pixels import PixelStore
from plainfilm.plots import contact_sheet

THUMBNAIL = 32
MOST_LISTED = 12
ALL = "all together"


class ShortcutOptions(BaseModel):
    """When a shortcut probe warns, and when it fails."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shortcut_excess: float = Field(
        0.05, gt=0, lt=1, description="Balanced accuracy above chance from which a probe warns; 0.05 is five points.*"
    )
    shortcut_share: float = Field(
        0.5, gt=0, le=1,
        description="Share of the model's excess over chance (without a model: of a perfect one's) from which file "
        "properties, burnt-in marks and sites fail.*",
    )  # fmt: skip
    border: float = Field(0.125, gt=0, lt=0.5, description="Width of the border ring as a share of the side.*")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all probes of one audit share."""

    subject: Subject
    cases: Cases
    design: Design
    options: ShortcutOptions
    recipe: ProbeOptions

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The table of the cases."""
        return self.subject.rows.iloc[self.cases.rows].reset_index(drop=True)

    @property
    def pixels(self) -> PixelStore:
        """All images of the subject; asked for only where it has some."""
        assert self.subject.pixels is not None
        return self.subject.pixels

    @cached_property
    def thumbs(self) -> npt.NDArray[np.float32]:
        """`(n, 32, 32)` of the cases."""
        return thumbnails(self.pixels, THUMBNAIL, self.cases.rows)

    @cached_property
    def histograms(self) -> npt.NDArray[np.float32]:
        """`(n, 32)` grey values of the cases."""
        return grey_histograms(self.pixels, self.cases.rows, self.thumbs)

    def run(self, features: npt.NDArray[np.floating]) -> Probed:
        """The frozen recipe on these features."""
        return run_probe(features, self.cases, self.design, self.recipe)

    def run_best(self, parts: Mapping[str, npt.NDArray[np.floating]]) -> tuple[str, Probed, dict[str, float]]:
        """The frozen recipe on each part by itself; see `run_best_probe`."""
        return run_best_probe(parts, self.cases, self.design, self.recipe)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One thing the label might be predicted from.

    Attributes:
        check: `B1` to `B8`.
        title: What is asked.
        of: What the label is predicted from, in words that follow "from".
        limits: What the answer does not establish.
        look: What a person should look at.
        features: `(n, n_features)` of the cases; None where `reason` or `probed` is there.
        reason: Why it cannot be asked; empty where it can.
        probed: The answer, where it took more than the frozen recipe on `features`.
        may_fail: Whether it has no business to tell the label: then it fails, and does not only warn.
        expected: Whether the label should be found here: then it never warns.
        remark: A sentence to add; begins with a space, or empty.
        details: For the finding.
        tables: For the finding.
        draw: Makes its pictures, where they are wanted.
    """

    check: str
    title: str
    of: str
    limits: str
    look: str = ""
    features: npt.NDArray[np.floating] | None = None
    reason: str = ""
    probed: Probed | None = None
    may_fail: bool = False
    expected: bool = False
    remark: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    draw: Callable[[], tuple[Picture, ...]] = tuple

    @cached_property
    def pictures(self) -> tuple[Picture, ...]:
        """What `draw` makes, drawn once however often the findings are asked for."""
        return self.draw()


def container_probe(setting: Setting) -> Probe:
    """B1: the file without its pixels."""
    probe = Probe(
        check="B1",
        title="Label from file properties alone",
        of="file properties (size, shape, format)",
        may_fail=True,
        limits="It does not say that a model uses them: a model that sees images resized to one shape may not be able "
        "to. It shows that the classes were collected or stored in different ways.",
        look="Find out why the files of the classes differ (another source, program or export), and bring them from "
        "one source, or through one export. Compare 'B1-files.csv'.",
    )
    facts = container_facts(setting.rows)
    if not any(name in setting.rows.columns for name in ("file_bytes", "width", "format")):
        return replace(probe, reason="nothing is known of the files")
    if not facts:
        return replace(probe, features=np.zeros((len(setting.cases), 1)), remark=" All files are alike in these.")
    parts = {name: fact_features({name: values}) for name, values in facts.items()} | {ALL: fact_features(facts)}
    best, probed, alone = setting.run_best(parts)
    fact = best if best != ALL else max(facts, key=lambda name: alone[name])
    return replace(
        probe,
        probed=probed,
        remark=f" The fact that says most by itself is '{fact}' ({alone[fact]:.3f}).",
        details={"balanced_accuracy_by_fact": alone, "best": best},
        tables={"B1-files": _listed(facts[fact], setting)},
    )


def border_probe(setting: Setting) -> Probe:
    """B2: the ring along the edges, and the corners."""
    share = setting.options.border

    def draw() -> tuple[Picture, ...]:
        inside = ~border_mask(THUMBNAIL, share)
        return _class_means(setting, "B2-borders.png", inside, "Mean border of each class, the middle blacked out.")

    parts = {"ring": border_features(setting.thumbs, share), "outermost lines": edge_features(setting.thumbs)}
    best, probed, by_part = setting.run_best(parts)
    return Probe(
        check="B2",
        title="Label from the border alone",
        of=f"the outer {share:.1%} of the image and its corners",
        look="Look at the mean borders of the classes: padding, collimation, marks, or a body that is cut off.",
        limits="The border can hold anatomy that belongs to the label (an abdomen reaches it where a chest does not), "
        "so this alone is no proof of a shortcut.",
        probed=probed,
        details={"balanced_accuracy_by_part": by_part, "best": best},
        draw=draw,
    )


def centre_probe(setting: Setting) -> Probe:
    """B3: the middle half of each side; the yardstick of the border."""
    return Probe(
        check="B3",
        title="Label from the centre alone",
        of="the middle half of both sides",
        expected=True,
        limits="The centre is where the label should be found: this is the yardstick for B2, and no verdict on the "
        "images.",
        features=centre_features(setting.thumbs),
    )


def blur_probe(setting: Setting) -> Probe:
    """B4: 8x8 means, which show no fine structure."""

    def draw() -> tuple[Picture, ...]:
        nothing = np.zeros((8, 8), dtype=bool)
        return _class_means(setting, "B4-blurs.png", nothing, "Mean of each class in 8x8 cells.", side=8)

    return Probe(
        check="B4",
        title="Label from an 8x8 blur alone",
        of="8x8 mean grey values",
        look="Ask whether brightness, position or shape of the body at this size belongs to the label.",
        limits="A coarse difference can be the finding itself (a large effusion), or come from exposure and position.",
        features=blurred_features(setting.thumbs),
        draw=draw,
    )


def histogram_probe(setting: Setting) -> Probe:
    """B5: which grey values there are, wherever they are."""
    return Probe(
        check="B5",
        title="Label from the grey-value histogram alone",
        of="the histogram of grey values",
        look="Compare exposure, windowing and bit depth of the classes.",
        limits="Grey values can follow the label by anatomy (more air, more bone), or by the machine.",
        features=setting.histograms,
    )


def _class_means(
    setting: Setting, name: str, hidden: npt.NDArray[np.bool_], caption: str, side: int = THUMBNAIL
) -> tuple[Picture, ...]:
    """The mean image of each class on one sheet, all over one grey range."""
    small, cases = pooled(setting.thumbs, side), setting.cases
    means = np.stack([small[cases.y == c].mean(axis=0) for c in range(len(cases.classes))])
    shown = means[:, ~hidden]
    grey = np.clip((means - shown.min()) / max(float(np.ptp(shown)), 1e-12) * 255, 0, 255)
    grey[:, hidden] = 0
    pictures: Sequence[npt.NDArray[np.uint8]] = list(grey.astype(np.uint8))
    sheet = contact_sheet(pictures, cases.classes, columns=max(2, min(6, len(pictures))))
    return (Picture(name=name, caption=caption, png=sheet.png()),)


def _listed(values: pd.Series, setting: Setting) -> pd.DataFrame:
    """How often each class has each value of a fact; ranges where there are many."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all() and numbers.nunique() > MOST_LISTED:
        values = pd.qcut(numbers, 10, duplicates="drop").astype(str)
    label = pd.Series(np.array(setting.cases.classes, dtype=object)[setting.cases.y], index=values.index)
    table = pd.crosstab(values.astype(str), label)
    order = table.sum(axis=1).sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index().rename_axis(columns=None)
