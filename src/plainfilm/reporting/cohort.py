"""Who is in the data: Table 1, the flow from files found to images used, and how they were divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from plainfilm.data.images import DecodeRecord
from plainfilm.data.splits import SplitPlan
from plainfilm.data.table import COLUMNS, Table
from plainfilm.errors import BundleError

Cells = npt.NDArray[np.object_]
Masks = npt.NDArray[np.bool_]

PARTS: Final = ("train", "validation", "calibration", "test")
MOST_LEVELS: Final = 8  # values of a column that are listed; of more only their number is given
MOST_CLASS_COLUMNS: Final = 6  # beside the splits; more classes are rows only
MOST_LAYOUTS: Final = 3
NOT_CHARACTERISTICS: Final = frozenset((*COLUMNS, *DecodeRecord.__dataclass_fields__, "fold"))
"""Columns of a table that say nothing of the people in it."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of Table 1.

    Attributes:
        kind: All images used, one split, or one class.
        name: Of the split or class; empty for all.
        n_images: Images in it.
        n_patients: Patients in it; None where patients are not known.
    """

    kind: Literal["all", "split", "label"]
    name: str
    n_images: int
    n_patients: int | None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of Table 1.

    Attributes:
        name: What is counted or measured: `Patients`, `age, median (quartiles)`.
        level: The value that is counted, such as `F`; empty where the row is about the whole characteristic.
        counted: Whether a patient or an image counts once.
        cells: One for each column, in words: `34 (50 %)`.
    """

    name: str
    level: str
    counted: Literal["patients", "images"]
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """Images that go no further, and why."""

    reason: str
    n_images: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """A station on the way from files found to images used.

    Attributes:
        name: What arrives here.
        n_images: How many.
        n_patients: Of how many patients; None where that is not known.
        leaving: What goes no further, by reason.
    """

    name: str
    n_images: int
    n_patients: int | None
    leaving: tuple[Leaving, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images of one class, or of one fold, in one split."""

    of: str
    split: str
    n_images: int
    n_patients: int | None


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Who is in the data, without a name or an id.

    Attributes:
        columns: Of Table 1: all, then the splits, then the classes unless they are many.
        lines: Of Table 1.
        flow: From files found to images used.
        parts: How each class was divided; with cross-validation how each fold was.
        came_divided: Whether the splits are those the data came with.
        stored: How the image files were stored, most frequent first, such as `PNG, 8 bits, 64x64`, with their number.
        shared: Patients with images in two splits or more of one training; None where patients are not known.
        unlisted: Columns of which only the number of different values is given.
    """

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    flow: tuple[Step, ...]
    parts: tuple[Part, ...]
    came_divided: bool
    stored: tuple[tuple[str, int], ...]
    shared: int | None
    unlisted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text; `from_json` gives the same cohort back."""
        return dict(_adapter().dump_python(self, mode="json"))

    @staticmethod
    def from_json(data: Any) -> Cohort:
        """Read what `to_json` wrote.

        Raises:
            BundleError: `BUN_DAMAGED` if it is not that.
        """
        try:
            return _adapter().validate_python(data)
        except ValidationError:
            raise BundleError("'run.json' does not say who is in the data.", code="BUN_DAMAGED") from None

    @property
    def used(self) -> Step:
        """The last step: what was divided."""
        return self.flow[-1]

    @property
    def by_split(self) -> tuple[Column, ...]:
        """What went to each split."""
        return tuple(column for column in self.columns if column.kind == "split")


@cache
def _adapter() -> TypeAdapter[Cohort]:
    return TypeAdapter(Cohort)


def describe_cohort(table: Table, plan: SplitPlan) -> Cohort:
    """Count images and patients of a table as it was divided, and summarise its further columns.

    The unit is the patient: a characteristic that is the same on all images of every patient is counted once for each
    patient. One that changes from image to image, such as the view, is counted by image.

    Args:
        table: Every image that could be read, and what could not.
        plan: How they were divided.
    """
    rows = table.rows
    split = _splits_of(plan, len(rows))
    used = np.array([name is not None for name in split], dtype=bool)
    groups = None if plan.patients == "unknown" else plan.groups
    labels = _cells(rows, "label")
    masks = _columns(split, labels, used, plan)
    columns = tuple(
        Column(kind=kind, name=name, n_images=int(mask.sum()), n_patients=_count(groups, mask))
        for kind, name, mask in masks
    )
    chosen = [mask for _, _, mask in masks]
    lines = [*_sizes(columns, groups, chosen), *_characteristic("label", labels, groups, chosen, most=len(rows))]
    unlisted = []
    for name in rows.columns:
        if name not in NOT_CHARACTERISTICS and rows[name].notna()[used].any():
            found = list(_characteristic(str(name), _cells(rows, name), groups, chosen))
            lines += found
            unlisted += [str(name)] if found[0].name.endswith("different values") else []
    return Cohort(
        columns=columns,
        lines=tuple(lines),
        flow=tuple(_flow(table, plan, groups, used, labels)),
        parts=tuple(_parts(plan, labels, groups)),
        came_divided=_came_divided(rows, split, used),
        stored=_stored(rows, used),
        shared=None if groups is None else _shared(plan, groups),
        unlisted=tuple(unlisted),
    )


def _splits_of(plan: SplitPlan, n_rows: int) -> Cells:
    """The split of every row; with folds every divided row is tested once."""
    split = np.full(n_rows, None, dtype=object)
    for fold in plan.folds:
        if len(plan.folds) == 1:
            split[fold.train], split[fold.validation], split[fold.calibration] = "train", "validation", "calibration"
        if plan.tested_on == "test":
            split[fold.test] = "test"
    return split


def _columns(
    split: Cells, labels: Cells, used: Masks, plan: SplitPlan
) -> list[tuple[Literal["all", "split", "label"], str, Masks]]:
    columns: list[tuple[Literal["all", "split", "label"], str, Masks]] = [("all", "", used)]
    if len(plan.folds) == 1:
        columns += [("split", name, split == name) for name in PARTS if (split == name).any()]
    classes = sorted(set(labels[used]))
    if len(classes) <= MOST_CLASS_COLUMNS:
        columns += [("label", name, used & (labels == name)) for name in classes]
    return columns


def _cells(rows: pd.DataFrame, name: str) -> Cells:
    column = rows[name]
    return column.astype(object).where(column.notna(), None).to_numpy(dtype=object)


def _count(groups: Cells | None, mask: Masks) -> int | None:
    return None if groups is None else len(set(groups[mask]))


def _sizes(columns: Sequence[Column], groups: Cells | None, masks: Sequence[Masks]) -> Iterator[Line]:
    """How many patients, images, and images of a patient."""
    if groups is not None:
        yield Line(
            name="Patients", level="", counted="patients", cells=tuple(f"{column.n_patients:,}" for column in columns)
        )
    yield Line(name="Images", level="", counted="images", cells=tuple(f"{column.n_images:,}" for column in columns))
    if groups is not None:
        spread = tuple(_spread(np.array(list(Counter(groups[mask]).values()), dtype=np.float64)) for mask in masks)
        yield Line(name="Images of a patient, median (range)", level="", counted="patients", cells=spread)


def _spread(values: npt.NDArray[np.float64]) -> str:
    if not len(values):
        return "–"
    return f"{np.median(values):g} ({values.min():g}–{values.max():g})"


def _characteristic(
    name: str, cells: Cells, groups: Cells | None, masks: Sequence[Masks], *, most: int = MOST_LEVELS
) -> Iterator[Line]:
    """The rows of one further column: shares of its values, or median and quartiles of its numbers."""
    all_used = masks[0]
    by_patient = groups is not None and _is_constant(cells[all_used], groups[all_used])
    counted: Literal["patients", "images"] = "patients" if by_patient else "images"
    units = [_one_each(mask, groups) if by_patient and groups is not None else np.flatnonzero(mask) for mask in masks]
    # Index of each value among the sorted texts, -1 where there is none.
    texts = pd.Categorical([None if value is None else str(value) for value in cells])
    codes = np.asarray(texts.codes, dtype=np.intp)
    occurring = np.unique(codes[units[0]])
    levels = occurring[occurring >= 0]
    numbers = _numbers(cells) if len(levels) > most else None
    if numbers is not None:
        yield Line(
            name=f"{name}, median (quartiles)",
            level="",
            counted=counted,
            cells=tuple(_quartiles(numbers[unit]) for unit in units),
        )
    elif len(levels) > most:
        # A column of many texts may hold names, dates or numbers of files: how many differ is told, not which.
        yield Line(
            name=f"{name}, different values",
            level="",
            counted=counted,
            cells=tuple(f"{len(set(codes[unit]) - {-1}):,}" for unit in units),
        )
    else:
        for level in levels:
            cells_of_level = tuple(_share(int((codes[unit] == level).sum()), len(unit)) for unit in units)
            yield Line(name=name, level=str(texts.categories[level]), counted=counted, cells=cells_of_level)
    if -1 in occurring:
        missing = tuple(_share(int((codes[unit] == -1).sum()), len(unit)) for unit in units)
        yield Line(name=name, level="not known", counted=counted, cells=missing)


def _is_constant(cells: Cells, groups: Cells) -> bool:
    """Whether no patient has two values."""
    value_of: dict[Any, Any] = {}
    return all(
        value is None or value_of.setdefault(group, value) == value for group, value in zip(groups, cells, strict=True)
    )


def _one_each(mask: Masks, groups: Cells) -> npt.NDArray[np.intp]:
    """The first image of each patient."""
    rows = np.flatnonzero(mask)
    _, first = np.unique(groups[rows].astype(str), return_index=True)
    return rows[np.sort(first)]


def _numbers(cells: Cells) -> npt.NDArray[np.float64] | None:
    """A column as numbers, nan where it is empty; None if it holds anything else. `061Y` is DICOM's age in years."""
    texts = pd.Series([None if value is None else str(value).removesuffix("Y") for value in cells], dtype=object)
    numbers = np.asarray(pd.to_numeric(texts, errors="coerce"), dtype=np.float64)
    return None if (np.isnan(numbers) & texts.notna().to_numpy()).any() else numbers


def _quartiles(values: npt.NDArray[np.float64]) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "–"
    low, middle, high = np.percentile(known, [25, 50, 75])
    return f"{middle:.4g} ({low:.4g}–{high:.4g})"


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.0f} %)" if whole else "0"


def _flow(table: Table, plan: SplitPlan, groups: Cells | None, used: Masks, labels: Cells) -> Iterator[Step]:
    rows = table.rows
    by_reason = Counter((item.status, item.code, item.detail.rstrip(".")) for item in table.left_out)
    codes: Counter[tuple[str, str]] = Counter()
    said: dict[tuple[str, str], str] = {}
    for (status, code, detail), n_files in sorted(by_reason.items()):
        codes[status, code] += n_files
        said.setdefault((status, code), detail)
    yield Step(
        name="Files found",
        n_images=len(table) + len(table.left_out),
        n_patients=None,
        leaving=tuple(
            Leaving(reason=f"{status}: {said[status, code]} ({code})", n_images=n_files)
            for (status, code), n_files in codes.items()
        ),
    )
    given = _cells(rows, "split")
    unlabelled = ~used & np.array([label is None for label in labels], dtype=bool)
    external = ~used & ~unlabelled & (given == "external")
    patientless = ~used & ~unlabelled & ~external & rows["patient_id"].isna().to_numpy()
    other = ~used & ~unlabelled & ~external & ~patientless
    reasons: Mapping[str, Masks] = {
        "no label": unlabelled,
        "external split, set aside": external,
        "no patient id": patientless,
        "not divided": other,
    }
    yield Step(
        name="Images that can be read",
        n_images=len(rows),
        n_patients=None,
        leaving=tuple(
            Leaving(reason=reason, n_images=int(mask.sum())) for reason, mask in reasons.items() if mask.any()
        ),
    )
    yield Step(name="Images used", n_images=int(used.sum()), n_patients=_count(groups, used))


def _parts(plan: SplitPlan, labels: Cells, groups: Cells | None) -> Iterator[Part]:
    def part(of: str, split: str, rows: npt.NDArray[np.intp]) -> Part:
        patients = None if groups is None else len(set(groups[rows]))
        return Part(of=of, split=split, n_images=len(rows), n_patients=patients)

    def splits(number: int) -> dict[str, npt.NDArray[np.intp]]:
        fold = plan.folds[number]
        tested = {"test": fold.test} if plan.tested_on == "test" else {}
        kept = {"calibration": fold.calibration} if len(fold.calibration) else {}
        return {"train": fold.train, "validation": fold.validation, **kept, **tested}

    if len(plan.folds) > 1:
        for number in range(len(plan.folds)):
            for split, rows in splits(number).items():
                yield part(f"Fold {number + 1}", split, rows)
        return
    found = splits(0)
    for label in sorted(set(labels[np.concatenate(list(found.values()))])):
        for split, rows in found.items():
            yield part(label, split, rows[labels[rows] == label])


def _came_divided(rows: pd.DataFrame, split: Cells, used: Masks) -> bool:
    """Whether every image is where the data put it, or in the validation split if they name none."""
    given = _cells(rows, "split")[used]
    kept = (given == split[used]) | (np.isin(given, ["train", "validation"]) & np.isin(split[used], PARTS[1:3]))
    return bool(len(given)) and bool(kept.all())


def _stored(rows: pd.DataFrame, used: Masks) -> tuple[tuple[str, int], ...]:
    """The most frequent layouts of the files."""
    facts = ("format", "bits", "width", "height")
    if not set(facts) <= set(rows.columns):
        return ()
    counts = Counter(zip(*(rows[name].to_numpy()[used] for name in facts), strict=True))
    return tuple(
        (f"{form}, {bits} bits, {width}x{height}", count)
        for (form, bits, width, height), count in counts.most_common(MOST_LAYOUTS)
    )


def _shared(plan: SplitPlan, groups: Cells) -> int:
    """Patients on two sides of one training at least."""
    shared: set[Any] = set()
    for fold in plan.folds:
        tested = fold.test if plan.tested_on == "test" else fold.test[:0]  # else the test rows are the validation's
        sides = Counter(
            group for rows in (fold.train, fold.validation, fold.calibration, tested) for group in set(groups[rows])
        )
        shared |= {group for group, count in sides.items() if count > 1}
    return len(shared)
