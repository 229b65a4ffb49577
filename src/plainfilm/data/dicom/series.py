"""Which DICOM series are wanted: conditions on a few tags."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from plainfilm.data.dicom.tags import ACQUISITION, ON_REQUEST, Tag
from plainfilm.errors import UsageError, nearest_name

_CONDITIONS = (
    "Modality", "SeriesDescription", "SeriesNumber", "StudyDescription", "ProtocolName", "BodyPartExamined",
    "ViewPosition", "ImageType", "Laterality", "ImageLaterality", "PhotometricInterpretation", "ConvolutionKernel",
    "PresentationIntentType", "SequenceName", "MRAcquisitionType",
)  # fmt: skip
_TAGS = {name.lower(): (ACQUISITION | ON_REQUEST)[name] for name in _CONDITIONS}


def parse_condition(text: str) -> tuple[Tag, str]:
    """The tag and the pattern of `Tag=pattern`; `*` and `?` stand for anything, case does not matter.

    Raises:
        UsageError: `OPT_SERIES`.
    """
    name, sign, pattern = text.partition("=")
    tag = _TAGS.get(name.strip().lower())
    if tag is None or not sign or not pattern.strip():
        raise UsageError(
            f"series takes conditions such as Modality=CT, not '{text}'.{nearest_name(name, _CONDITIONS)} Known: "
            f"{', '.join(_CONDITIONS)}.",
            code="OPT_SERIES",
        )
    return tag, pattern.strip()


def is_wanted(columns: dict[str, str | None], conditions: Sequence[tuple[Tag, str]]) -> bool:
    """Whether a file meets all conditions; one that does not say, does not."""
    return all(
        fnmatch.fnmatchcase((columns.get(tag.column) or "").casefold(), pattern.casefold())
        for tag, pattern in conditions
    )
