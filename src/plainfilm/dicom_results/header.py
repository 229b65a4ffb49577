"""What results have in common: new identifiers in the study of their source."""

from __future__ import annotations

import uuid
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

from plainfilm import __version__
from plainfilm.data.dicom.tags import OWN_MANUFACTURER
from plainfilm.dicom_results.unheard import unheard

if TYPE_CHECKING:
    from pydicom import Dataset

    from plainfilm.dicom_results.answers import ModelIdentity
    from plainfilm.dicom_results.options import DicomResultOptions
    from plainfilm.dicom_results.sources import SourceImage

UTF8 = "ISO_IR 192"
TEXTS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")  # the value representations that a character set is about

# Patient, Clinical Trial Subject, General Study, Patient Study and Clinical Trial Study, as PS3.3 has them.
KEPT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDsSequence",
    "EthnicGroup",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "QualityControlSubject",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientSexNeutered",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "LongitudinalTemporalInformationModified",
)
REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


def new_uid(root: str | None) -> str:
    """A UID that no other object has: of a UUID (PS3.5, B.2), or under a root of one's own."""
    from pydicom.uid import generate_uid

    return f"2.25.{uuid.uuid4().int}" if root is None else str(generate_uid(prefix=f"{root}."))


def nameless(source: SourceImage) -> Dataset:
    """What the library is shown of a source: identifiers alone, so that it can repeat nothing else."""
    from pydicom import Dataset

    shown = Dataset()
    for name in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(shown, name, str(source.header[name].value))
    for name in REQUIRED:
        setattr(shown, name, None)
    return shown


def equipment(model: ModelIdentity) -> dict[str, Any]:
    """Who made a result."""
    return {
        "manufacturer": OWN_MANUFACTURER,
        "manufacturer_model_name": model.name[:64],
        "software_versions": __version__,
        "device_serial_number": model.device_uid.removeprefix("2.25.")[:64],
        "specific_character_set": UTF8,
    }


def keep_patient_and_study(result: Dataset, source: SourceImage) -> None:
    """Copy patient and study from the source as they are, but for the character set, which becomes UTF-8."""
    from pydicom import DataElement
    from pydicom.valuerep import PersonName

    with unheard():
        for name in KEPT:
            with suppress(Exception):  # an element that cannot be read; the others are kept
                element = source.header[name]
                value = PersonName(str(element.value)) if element.VR == "PN" and element.VM <= 1 else element.value
                result.add(DataElement(element.tag, element.VR, value))
        for name in REQUIRED:
            if name not in result:
                setattr(result, name, None)
        if _is_ascii(result):  # then the default repertoire says all, and every reader knows it
            del result.SpecificCharacterSet


def _is_ascii(dataset: Dataset) -> bool:
    """Whether every text in a data set, and in its sequences, is ASCII."""
    return all(
        all(map(_is_ascii, element.value or ()))
        if element.VR == "SQ"
        else element.VR not in TEXTS or str(element.value).isascii()
        for element in dataset
    )


def as_file(result: Dataset) -> bytes:
    """The bytes of a DICOM file."""
    buffer = BytesIO()
    with unheard():
        result.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def series_of(options: DicomResultOptions, *, after: int = 0) -> dict[str, Any]:
    """A new series."""
    return {
        "series_instance_uid": new_uid(options.uid_root),
        "series_number": options.series_number + after,
    }
