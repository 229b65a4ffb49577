"""The Grad-CAM overlay of one image as a DICOM Secondary Capture, which every viewer shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from plainfilm.dicom_results.answers import RESEARCH, Answer, ModelIdentity
from plainfilm.dicom_results.coding import SOURCE_IMAGE
from plainfilm.dicom_results.header import equipment, keep_patient_and_study, new_uid
from plainfilm.dicom_results.options import DicomResultOptions
from plainfilm.dicom_results.sources import SourceImage
from plainfilm.dicom_results.unheard import unheard
from plainfilm.plots.explanation import overlay

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Bytes = npt.NDArray[np.uint8]

DESCRIPTION = "plainfilm AI heat map (research)"
LEAST_SIDE, LARGEST_SIDE = 512, 1024  # pixels of the longer side: words stay legible, and objects small
BAND = 1 / 14  # height of each band of words, as a share of the picture's longer side
WARNING, WORDS, GROUND = (255, 196, 64), (230, 230, 230), (0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Heat:
    """A heat map that may be shown.

    Attributes:
        image: `(height, width)`, what the model looked at, any depth.
        heat: `(height, width)`, 0 to 1.
        of_class: The class whose score it explains.
        method: Its name.
        check: Verdict of the randomisation check, in words.
    """

    image: npt.NDArray[np.generic]
    heat: npt.NDArray[np.floating]
    of_class: str
    method: str
    check: str


def make_capture(
    source: SourceImage,
    answer: Answer,
    shown: Heat,
    model: ModelIdentity,
    options: DicomResultOptions | None = None,
    *,
    series_uid: str,
    number: int,
) -> Dataset:
    """An RGB Secondary Capture in a new series of the source's study.

    Args:
        source: The image that was explained.
        answer: What is said of it.
        shown: The heat map.
        model: Which model was explained.
        options: Numbers and identifiers.
        series_uid: Series Instance UID; the overlays of one source series share it.
        number: Instance Number.
    """
    options = options or DicomResultOptions()
    picture = burnt_in(shown, answer, model)
    with unheard():
        capture = hd.sc.SCImage(
            pixel_array=picture,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),  # the library asks for one; the source's is put below
            study_instance_uid=source.series[0],
            series_instance_uid=series_uid,
            series_number=options.series_number + 1,
            sop_instance_uid=new_uid(options.uid_root),
            instance_number=number,
            series_description=DESCRIPTION,
            **equipment(model),
        )
        capture.PatientOrientation = source.header.get("PatientOrientation")
        capture.BurnedInAnnotation = "YES"
        capture.Laterality = source.header.get("Laterality") or source.header.get("ImageLaterality")
        capture.ConversionType = "SYN"
        capture.DerivationDescription = (
            f"{RESEARCH}. {shown.method} of the score of '{shown.of_class}' by {model.name} ({model.version}), drawn "
            f"over the image as the model was given it. Randomisation check: {shown.check}."
        )[:1024]
        capture.SourceImageSequence = [_reference(source)]
        capture.ImageComments = RESEARCH
    keep_patient_and_study(capture, source)
    return capture


def _reference(source: SourceImage) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.instance
    if source.frame is not None:
        item.ReferencedFrameNumber = source.frame
    item.PurposeOfReferenceCodeSequence = [hd.sr.CodedConcept.from_code(SOURCE_IMAGE)]
    return item


def burnt_in(shown: Heat, answer: Answer, model: ModelIdentity) -> Bytes:
    """`(height, width, 3)`: the overlay between two bands of words, which are part of its pixels."""
    picture = Image.fromarray(overlay(shown.image, shown.heat))
    longer = max(picture.size)
    wanted = min(max(longer, LEAST_SIDE), LARGEST_SIDE)
    if wanted != longer:
        width, height = (max(1, round(side * wanted / longer)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    band = round(wanted * BAND)
    sheet = Image.new("RGB", (max(picture.width, LEAST_SIDE), picture.height + 2 * band), GROUND)
    sheet.paste(picture, ((sheet.width - picture.width) // 2, band))
    draw = ImageDraw.Draw(sheet)
    score = answer.scores[answer.classes.index(shown.of_class)]
    said = {"answer": "", "abstains": "no answer; ", "withheld": "no answer, strange image; "}[answer.outcome]
    below = f"{shown.method}: {said}what speaks for {shown.of_class} ({score:.2f}), {model.name}"
    _write(draw, RESEARCH, top=0, height=band, width=sheet.width, colour=WARNING)
    _write(draw, below, top=sheet.height - band, height=band, width=sheet.width, colour=WORDS)
    return np.asarray(sheet, dtype=np.uint8)


def _write(
    draw: ImageDraw.ImageDraw, text: str, *, top: int, height: int, width: int, colour: tuple[int, int, int]
) -> None:
    """One line in the middle of a band, as large as fits."""
    size = height * 0.55
    font = _font(size)
    length = draw.textlength(text, font=font)
    if length > 0.96 * width:
        font = _font(max(9.0, size * 0.96 * width / length))
    draw.text((width / 2, top + height / 2), text, fill=colour, font=font, anchor="mm")


def _font(size: float) -> FreeTypeFont:
    return ImageFont.load_default(size)  # type: ignore[return-value]  # a bitmap font only without FreeType
