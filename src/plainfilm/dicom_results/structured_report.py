"""The answers about one series as a DICOM Structured Report, by template TID 1500.

One report for each source series: its images are of one patient and one acquisition, and a viewer shows it beside
them. Each image (or frame) is a measurement group (TID 1501) with the probability of each class, the answer, and its
source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import highdicom as hd
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from plainfilm.dicom_results import coding
from plainfilm.dicom_results.answers import PRELIMINARY, RESEARCH, Answer, ModelIdentity
from plainfilm.dicom_results.header import equipment, keep_patient_and_study, nameless, new_uid, series_of
from plainfilm.dicom_results.options import DicomResultOptions
from plainfilm.dicom_results.sources import SourceImage, by_series
from plainfilm.dicom_results.unheard import unheard
from plainfilm.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

DESCRIPTION = "plainfilm AI report (research)"


def make_report(
    sources: Sequence[SourceImage],
    answers: Sequence[Answer],
    model: ModelIdentity,
    class_codes: Mapping[str, Code],
    options: DicomResultOptions | None = None,
) -> Dataset:
    """An Enhanced SR about images of one series; preliminary, unverified, and in a new series of the same study.

    Args:
        sources: The images, all of one series.
        answers: What is said of each.
        model: Who says it.
        class_codes: The code of each class.
        options: Numbers and identifiers.

    Raises:
        DataError: `SRC_MIXED_PATIENTS`, or `SRC_MIXED_SERIES`.
    """
    options = options or DicomResultOptions()
    if len(by_series(sources)) != 1:
        raise DataError("a report is about one series; these images are of several.", code="SRC_MIXED_SERIES")
    with unheard():
        evidence = {source.instance: nameless(source) for source in sources}
        report = hd.sr.EnhancedSR(
            evidence=list(evidence.values()),
            content=_content(sources, answers, model, class_codes, options),
            **series_of(options),
            sop_instance_uid=new_uid(options.uid_root),
            instance_number=1,
            is_complete=True,
            is_final=False,
            is_verified=False,
            series_description=DESCRIPTION,
            **equipment(model),
        )
    keep_patient_and_study(report, sources[0])
    return report


def _content(
    sources: Sequence[SourceImage],
    answers: Sequence[Answer],
    model: ModelIdentity,
    class_codes: Mapping[str, Code],
    options: DicomResultOptions,
) -> hd.sr.MeasurementReport:
    algorithm = hd.sr.AlgorithmIdentification(
        name=model.name, version=model.version, parameters=model.parameters, manufacturer="plainfilm"
    )
    groups = [
        _group(number, source, answer, algorithm, class_codes, options)
        for number, (source, answer) in enumerate(zip(sources, answers, strict=True), start=1)
    ]
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=_device(model)),
        procedure_reported=coding.IMAGING,
        imaging_measurements=groups,
    )
    # The template may be extended; what a person must read first stands at the root.
    content[0].ContentSequence.append(_comment(f"{RESEARCH}. {PRELIMINARY} {model.caution}"))
    return content


def _device(model: ModelIdentity) -> hd.sr.ObserverContext:
    return hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=model.device_uid,
            name="plainfilm",
            manufacturer_name="plainfilm",
            model_name=model.name,
            serial_number=model.version,
        ),
    )


def _group(
    number: int,
    source: SourceImage,
    answer: Answer,
    algorithm: hd.sr.AlgorithmIdentification,
    class_codes: Mapping[str, Code],
    options: DicomResultOptions,
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """What is said of one image."""
    sop_class, instance = source.instance
    found = _finding(answer, class_codes)
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=new_uid(options.uid_root), identifier=f"image {number}"),
        finding_type=found,
        algorithm_id=algorithm,
        measurements=[
            _probability(class_codes[name], score) for name, score in zip(answer.classes, answer.scores, strict=True)
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(coding.ANSWER, found),
            *(hd.sr.QualitativeEvaluation(coding.POSSIBLE, class_codes[name]) for name in answer.possible or ()),
            *(
                [hd.sr.QualitativeEvaluation(coding.UNLIKE, coding.YES if answer.unlike else coding.NO)]
                if answer.unlike is not None
                else []
            ),
        ],
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(sop_class, instance, None if source.frame is None else [source.frame])
        ],
    )
    group[0].ContentSequence.append(_comment(f"{answer.in_words()} {RESEARCH}."))
    return group


def _finding(answer: Answer, class_codes: Mapping[str, Code]) -> Code:
    """What stands as the finding: never a class where the model gives no answer."""
    if answer.finding is not None:
        return class_codes[answer.finding]
    return coding.WITHHELD if answer.outcome == "withheld" else coding.ABSTAINS


def _probability(of_class: Code, score: float) -> hd.sr.Measurement:
    """The probability (122157, DCM) of one class, which is a modifier of its name."""
    measurement = hd.sr.Measurement(name=coding.PROBABILITY, value=float(score), unit=coding.NO_UNITS)
    measurement[0].ContentSequence = hd.sr.ContentSequence(
        [
            hd.sr.CodeContentItem(
                coding.FINDING, of_class, relationship_type=hd.sr.RelationshipTypeValues.HAS_CONCEPT_MOD
            )
        ]
    )
    return measurement


def _comment(text: str) -> hd.sr.TextContentItem:
    return hd.sr.TextContentItem(
        name=coding.COMMENT, value=text, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )
