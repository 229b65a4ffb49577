"""The answers about DICOM images, as DICOM: for `predict` into a folder, for the bridge to whoever asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.data.fitting import unfit
from plainfilm.data.images import ImageRef
from plainfilm.data.pixels import PixelStore
from plainfilm.data.table import Table
from plainfilm.data.workers import decode_images
from plainfilm.dicom_results.answers import Answer, ModelIdentity, answers_of, identity_of
from plainfilm.dicom_results.options import DicomResultOptions
from plainfilm.errors import DataError, UsageError
from plainfilm.prediction import Predictions, safe_csv
from plainfilm.progress import Progress, Silent
from plainfilm.storage import MANIFEST, make_folder, write_bytes, write_text
from plainfilm.verbs.overlaying import METHOD, HeatPainter
from plainfilm.verbs.predicting import Predictor

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.sr.coding import Code

    from plainfilm.dicom_results.secondary_capture import Heat
    from plainfilm.dicom_results.sources import SourceImage

CONTENTS = "results.csv"  # which report and overlay belongs to which image
AT_ONCE = 64  # overlays that are in memory together
View = npt.NDArray[Any]


@dataclass(frozen=True)
class Result:
    """One DICOM object.

    Attributes:
        kind: A report, or the overlay of one image.
        rows: The images it is about.
        dataset: The object.
    """

    kind: Literal["report", "overlay"]
    rows: tuple[int, ...]
    dataset: Dataset


@dataclass(frozen=True)
class ResultMaker:
    """Makes objects of the answers of one model.

    Attributes:
        predictor: The model.
        options: What is written.
        codes: The code of each class.
        model: Who answers.
    """

    predictor: Predictor
    options: DicomResultOptions
    codes: Mapping[str, Code]
    model: ModelIdentity

    @classmethod
    def of(cls, predictor: Predictor, options: DicomResultOptions | None = None) -> ResultMaker:
        """What answers of this model become.

        Raises:
            TableError: `TAB_CODES` for a table of codes that cannot be used.
        """
        from plainfilm.dicom_results.coding import class_codes

        options = options or DicomResultOptions()
        return cls(
            predictor,
            options,
            class_codes(predictor.config.classes, options.codes),
            identity_of([bundle.config for bundle in predictor.bundles]),
        )

    def results(
        self,
        sources: Sequence[SourceImage],
        predictions: Predictions,
        pixels: PixelStore,
        *,
        painter: HeatPainter | None = None,
        views: Mapping[int, View] | None = None,
    ) -> Iterator[Result]:
        """The report of each series, and the overlay of each image where there is a painter.

        Args:
            sources: The images.
            predictions: What the model says of them.
            pixels: As the model was given them.
            painter: Draws heat maps.
            views: By row, an image as it is shown below its heat; else as the model was given it.
        """
        from plainfilm.dicom_results.header import new_uid
        from plainfilm.dicom_results.secondary_capture import make_capture
        from plainfilm.dicom_results.sources import by_series
        from plainfilm.dicom_results.structured_report import make_report

        answers = answers_of(predictions, [bundle.config for bundle in self.predictor.bundles])
        for rows in by_series(sources):
            report = make_report(
                [sources[row] for row in rows], [answers[row] for row in rows], self.model, self.codes, self.options
            )
            yield Result("report", tuple(rows), report)
            if painter is None:
                continue
            series_uid = new_uid(self.options.uid_root)
            for start in range(0, len(rows), AT_ONCE):
                some = rows[start : start + AT_ONCE]
                shown = self._overlays(some, answers, pixels, painter, views or {})
                for number, (row, heat) in enumerate(zip(some, shown, strict=True), start=start + 1):
                    capture = make_capture(
                        sources[row], answers[row], heat, self.model, self.options, series_uid=series_uid, number=number
                    )
                    yield Result("overlay", (row,), capture)

    def _overlays(
        self,
        rows: Sequence[int],
        answers: Sequence[Answer],
        pixels: PixelStore,
        painter: HeatPainter,
        views: Mapping[int, View],
    ) -> list[Heat]:
        """The heat of what is found in each image, or else of what is most probable."""
        from plainfilm.dicom_results.secondary_capture import Heat

        named = [answers[row].finding or answers[row].predicted for row in rows]
        classes = self.predictor.config.classes
        taken = pixels.take(np.array(rows))
        maps = painter.heat(taken, np.array([classes.index(name) for name in named], dtype=np.intp))
        found = []
        for place, (row, name) in enumerate(zip(rows, named, strict=True)):
            image: View = views.get(row, taken.stored(np.array([place]))[0][0])
            heat = maps[place]
            if row in views:
                fit = self.predictor.config.preprocessing.fit
                heat = unfit(heat, height=image.shape[0], width=image.shape[1], fit=fit)
            found.append(Heat(image=image, heat=heat, of_class=name, method=METHOD, check=painter.check))
        return found


# --- into a folder ------------------------------------------------------------------------------------------


def check_result_folder(folder: Path) -> None:
    """Refuse a folder in which something is already: results are never overwritten.

    Raises:
        UsageError: `OUT_EXISTS`, or `RUN_EXISTS` inside a finished run.
    """
    if any((place / MANIFEST).is_file() for place in (folder, folder.parent)):
        raise UsageError(f"'{folder}' is inside a finished run. Choose another --dicom-output.", code="RUN_EXISTS")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UsageError(
            f"'{folder}' is not empty, and DICOM results are never overwritten. Choose another --dicom-output.",
            code="OUT_EXISTS",
        )


def read_sources(table: Table) -> list[SourceImage]:
    """The headers of the images of a table.

    Raises:
        DataError: `SRC_NOT_DICOM` for an image of another format, `SRC_NO_UID`; located by the table's own name.
    """
    return [_read_source(str(name), ref) for name, ref in zip(table.rows["path"], table.refs, strict=True)]


def _read_source(name: str, ref: ImageRef) -> SourceImage:
    from plainfilm.dicom_results.sources import read_source

    try:
        if ref.member is not None:
            raise DataError(
                "it is not a DICOM file; DICOM results are written for DICOM images alone.", code="SRC_NOT_DICOM"
            )
        return read_source(ref.path.read_bytes(), frame=None if ref.row is None else ref.row + 1)
    except DataError as error:
        raise error.located(name) from None
    except OSError as error:
        raise DataError(f"{name}: it cannot be read ({error.strerror}).", code="SRC_NOT_DICOM") from None


def write_results(
    folder: Path,
    maker: ResultMaker,
    painter: HeatPainter | None,
    sources: Sequence[SourceImage],
    predictions: Predictions,
    table: Table,
    pixels: PixelStore,
    *,
    workers: int | None,
    progress: Progress | None,
) -> list[Path]:
    """Write each object as a file, and which belongs to which image as `results.csv`."""
    from plainfilm.dicom_results.header import as_file

    make_folder(folder)
    views = None if painter is None else _views(table, workers)
    n_series = len({source.series for source in sources})
    named: dict[str, list[str]] = {"report": [""] * len(sources), "overlay": [""] * len(sources)}
    written: list[Path] = []
    with (progress or Silent()).task("writing DICOM", n_series + (0 if painter is None else len(sources))) as advance:
        for result in maker.results(sources, predictions, pixels, painter=painter, views=views):
            number = 1 + sum(path.name.startswith(result.kind) for path in written)
            path = folder / f"{result.kind}-{number:05d}.dcm"
            write_bytes(path, as_file(result.dataset))
            written.append(path)
            for row in result.rows:
                named[result.kind][row] = path.name
            advance(1)
    columns = {name: values for name, values in named.items() if any(values)}
    write_text(folder / CONTENTS, safe_csv(pd.DataFrame({"path": list(table.rows["path"]), **columns})))
    return written


def _views(table: Table, workers: int | None) -> dict[int, View]:
    """Each image in its own proportions, no larger than a picture becomes; read again, several of a size at once."""
    from plainfilm.dicom_results.secondary_capture import LARGEST_SIDE

    of_size: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for row, (height, width) in enumerate(zip(table.rows["height"], table.rows["width"], strict=True)):
        scale = min(1.0, LARGEST_SIDE / max(height, width))
        of_size[max(1, round(height * scale)), max(1, round(width * scale))].append(row)
    views: dict[int, View] = {}
    for size, rows in of_size.items():
        for decoded in decode_images([table.refs[row] for row in rows], size=size, fit="stretch", workers=workers):
            if decoded.pixels is not None:
                views[rows[decoded.index]] = decoded.pixels
    return views
