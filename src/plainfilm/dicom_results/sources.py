"""The DICOM images that results are about: their headers, without pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from plainfilm.data.dicom.elements import walk_file
from plainfilm.dicom_results.unheard import unheard
from plainfilm.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
LONGEST_UID = 64
MAX_INFLATED = 512 << 20  # bytes that a deflated file may unpack to


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image, or one frame of one.

    Attributes:
        header: Its data set without pixels; never shown to anybody.
        frame: Number of the frame, from 1; None for a file of one frame.
    """

    header: Dataset
    frame: int | None = None

    @property
    def series(self) -> tuple[str, str]:
        """What a report is about: study and series."""
        return str(self.header.StudyInstanceUID), str(self.header.SeriesInstanceUID)

    @property
    def instance(self) -> tuple[str, str]:
        """SOP Class UID and SOP Instance UID."""
        return str(self.header.SOPClassUID), str(self.header.SOPInstanceUID)

    @property
    def patient(self) -> tuple[str, ...]:
        """What must be the same in all images of one report."""
        with unheard():
            return tuple(_text(self.header, name) for name in ("PatientID", "IssuerOfPatientID", "PatientName"))


def read_source(data: bytes, *, frame: int | None = None) -> SourceImage:
    """The header of a DICOM file, which the decoder has read before.

    Args:
        data: The file's bytes. Not a path: a length that the file declares and does not have then costs nothing.
        frame: Number of the frame that was scored, from 1.

    Raises:
        DataError: `SRC_NOT_DICOM`, or `SRC_NO_UID` without the identifiers that a result must refer to.
    """
    from pydicom import dcmread

    try:
        walk_file(data, max_inflated=MAX_INFLATED)  # bounds depth and lengths before pydicom, which does not
        with unheard():
            header = dcmread(BytesIO(data), stop_before_pixels=True, force=True)
            uids = {name: _text(header, name) for name in UIDS}
    except Exception as error:  # pydicom fails in every way there is, and quotes the header
        raise DataError(
            f"it is not a DICOM file ({type(error).__name__}); DICOM results are written for DICOM images alone.",
            code="SRC_NOT_DICOM",
        ) from None
    if not any(uids.values()):
        raise DataError(
            "it is not a DICOM file; DICOM results are written for DICOM images alone.", code="SRC_NOT_DICOM"
        )
    wrong = [name for name, uid in uids.items() if not _is_uid(uid)]
    if wrong:
        raise DataError(f"its {wrong[0]} is missing or no UID, so that nothing can refer to it.", code="SRC_NO_UID")
    return SourceImage(header, frame)


def by_series(sources: Sequence[SourceImage]) -> list[list[int]]:
    """Places of the images of each series, in the order they came; a report is about one series.

    Raises:
        DataError: `SRC_MIXED_PATIENTS` if images of one study name different patients.
    """
    series: dict[tuple[str, str], list[int]] = {}
    patient_of: dict[str, tuple[str, ...]] = {}
    for place, source in enumerate(sources):
        patient = patient_of.setdefault(source.series[0], source.patient)
        if patient != source.patient:
            raise DataError(
                "images of one study name different patients; a report must not mix them. Correct the files.",
                code="SRC_MIXED_PATIENTS",
            )
        series.setdefault(source.series, []).append(place)
    return list(series.values())


def _text(header: Dataset, name: str) -> str:
    return str(header.get(name) or "").strip(" \0")


def _is_uid(text: str) -> bool:
    return 0 < len(text) <= LONGEST_UID and all(part.isascii() and part.isdigit() for part in text.split("."))
