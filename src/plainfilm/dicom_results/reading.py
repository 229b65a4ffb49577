"""Reading plainfilm's own reports again: the answers, the model, and what they are about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainfilm.data.dicom.tags import OWN_MANUFACTURER
from plainfilm.dicom_results import coding
from plainfilm.dicom_results.answers import CLASSES, Answer, Outcome
from plainfilm.dicom_results.unheard import unheard
from plainfilm.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What a report says of one image.

    Attributes:
        sop_instance_uid: The source image.
        frame: Its frame, from 1; None for an image of one frame.
        answer: Scores, possible classes, and whether the image is strange.
        outcome: As written: an answer, an abstention, or an answer withheld from a strange image.
        finding: The class found; None without an answer.
        comment: What a person reads.
    """

    sop_instance_uid: str
    frame: int | None
    answer: Answer
    outcome: Outcome
    finding: str | None
    comment: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """One report.

    Attributes:
        model: Name of the model.
        version: plainfilm's version and the start of the hash of the weights.
        parameters: Further facts of the model, by name.
        preliminary: Preliminary Flag.
        verification: Verification Flag.
        study_instance_uid: The study of the source, and of the report.
        images: In the order of the report.
    """

    model: str
    version: str
    parameters: dict[str, str]
    preliminary: str
    verification: str
    study_instance_uid: str
    images: tuple[ImageResult, ...]


def read_result(path: str | Path) -> Result:
    """Read a report that plainfilm wrote.

    Raises:
        DataError: `SR_NOT_OURS` if it is something else, or damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        with unheard():
            report = _open(data)
            if str(report.get("Manufacturer")) != OWN_MANUFACTURER:
                raise ValueError("made by another")
            return _result(report)
    except Exception as error:  # the library fails in every way there is, and quotes what it read
        raise DataError(
            f"'{path.name}' is not a report of plainfilm's, or is damaged ({type(error).__name__}).",
            code="SR_NOT_OURS",
        ) from None


def _open(data: bytes) -> Any:
    import highdicom as hd

    return hd.sr.srread(BytesIO(data))


def _result(report: Any) -> Result:
    groups = report.content.get_image_measurement_groups()
    algorithm = {}
    parameters = {}
    for item in groups[0][0].ContentSequence:
        name, _ = _code(item.ConceptNameCodeSequence[0])
        if name in ("111001", "111003"):  # Algorithm Name and Version, of TID 4019
            algorithm[name] = str(item.TextValue)
        elif name == "111002":  # Algorithm Parameters
            key, _, value = str(item.TextValue).partition("=")
            parameters[key] = value
    classes = tuple(str(name) for name in json.loads(parameters[CLASSES.removesuffix("=")]))
    return Result(
        model=algorithm["111001"],
        version=algorithm["111003"],
        parameters=parameters,
        preliminary=str(report.PreliminaryFlag),
        verification=str(report.VerificationFlag),
        study_instance_uid=str(report.StudyInstanceUID),
        images=tuple(_image(group[0], classes) for group in groups),
    )


def _image(group: Dataset, classes: tuple[str, ...]) -> ImageResult:
    """One measurement group; the classes are known by the order of their scores, whatever their codes."""
    scores: list[float] = []
    codes: list[tuple[str, str]] = []
    possible: list[tuple[str, str]] = []
    unlike = answered = source = None
    comment = ""
    for item in group.ContentSequence:
        name = _code(item.ConceptNameCodeSequence[0])
        if name == _key(coding.PROBABILITY):
            scores.append(float(item.MeasuredValueSequence[0].FloatingPointValue))
            codes.append(_code(item.ContentSequence[0].ConceptCodeSequence[0]))
        elif name == _key(coding.ANSWER):
            answered = _code(item.ConceptCodeSequence[0])
        elif name == _key(coding.POSSIBLE):
            possible.append(_code(item.ConceptCodeSequence[0]))
        elif name == _key(coding.UNLIKE):
            unlike = _code(item.ConceptCodeSequence[0]) == _key(coding.YES)
        elif name == _key(coding.COMMENT):
            comment = str(item.TextValue)
        elif item.ValueType == "IMAGE":
            source = item.ReferencedSOPSequence[0]
    if len(codes) != len(classes) or source is None or answered is None:
        raise ValueError("incomplete")
    name_of = dict(zip(codes, classes, strict=True))
    outcome: Outcome = (
        "answer" if answered in name_of else "withheld" if answered == _key(coding.WITHHELD) else "abstains"
    )
    frames = source.get("ReferencedFrameNumber")
    has_rule = bool(possible) or outcome == "abstains"
    return ImageResult(
        sop_instance_uid=str(source.ReferencedSOPInstanceUID),
        frame=None if frames is None else int(frames),
        answer=Answer(
            classes=classes,
            scores=tuple(scores),
            possible=tuple(name_of[code] for code in possible) if has_rule else None,
            unlike=unlike,
        ),
        outcome=outcome,
        finding=name_of.get(answered),
        comment=comment,
    )


def _code(item: Any) -> tuple[str, str]:
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    return str(value), str(item.get("CodingSchemeDesignator", ""))


def _key(code: Any) -> tuple[str, str]:
    return str(code.value), str(code.scheme_designator)
