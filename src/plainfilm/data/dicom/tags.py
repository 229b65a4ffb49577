"""Which tags may become columns: acquisition facts always, some of the patient on request, nothing that identifies."""

from __future__ import annotations

import re
from typing import NamedTuple

from plainfilm.errors import UsageError, nearest_name

OWN_MANUFACTURER = "plainfilm (research software)"  # of what plainfilm itself writes as DICOM


class Tag(NamedTuple):
    """One element that may become a column."""

    keyword: str
    number: int
    vr: str

    @property
    def column(self) -> str:
        """The column's name: `PixelSpacing` becomes `pixel_spacing`, `KVP` `kvp`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.keyword).lower()


def _tags(listed: str) -> dict[str, Tag]:
    rows = (line.split() for line in listed.strip().splitlines())
    return {keyword: Tag(keyword, int(number, 16), vr) for number, vr, keyword in rows}


# How the picture was taken and stored; columns whenever a file has them. Free text that a person types is not here.
ACQUISITION = _tags("""
    00080008 CS ImageType
    00080060 CS Modality
    00080064 CS ConversionType
    00080068 CS PresentationIntentType
    00080070 LO Manufacturer
    00081090 LO ManufacturerModelName
    00181020 LO SoftwareVersions
    00180015 CS BodyPartExamined
    00185101 CS ViewPosition
    00185100 CS PatientPosition
    00200060 CS Laterality
    00200062 CS ImageLaterality
    00180060 DS KVP
    00181150 IS ExposureTime
    00181151 IS XRayTubeCurrent
    00181152 IS Exposure
    00181153 IS ExposureInuAs
    00181110 DS DistanceSourceToDetector
    00181160 SH FilterType
    00181166 CS Grid
    00181190 DS FocalSpots
    00187004 CS DetectorType
    00181210 SH ConvolutionKernel
    00180020 CS ScanningSequence
    00180021 CS SequenceVariant
    00180023 CS MRAcquisitionType
    00180080 DS RepetitionTime
    00180081 DS EchoTime
    00180082 DS InversionTime
    00180087 DS MagneticFieldStrength
    00181314 DS FlipAngle
    00180050 DS SliceThickness
    00180088 DS SpacingBetweenSlices
    00280030 DS PixelSpacing
    00181164 DS ImagerPixelSpacing
    00280002 US SamplesPerPixel
    00280004 CS PhotometricInterpretation
    00280100 US BitsAllocated
    00280101 US BitsStored
    00280103 US PixelRepresentation
    00281050 DS WindowCenter
    00281051 DS WindowWidth
    00281052 DS RescaleIntercept
    00281053 DS RescaleSlope
    00281054 LO RescaleType
    00282110 CS LossyImageCompression
""")
BURNT_IN = Tag("BurnedInAnnotation", 0x00280301, "CS")

# On request (`--tags`). Of these, text that a person types may name somebody: look at it before you share it.
ON_REQUEST = _tags("""
    0008103E LO SeriesDescription
    00081030 LO StudyDescription
    00181030 LO ProtocolName
    00180010 LO ContrastBolusAgent
    00180022 CS ScanOptions
    00180024 SH SequenceName
    00180083 DS NumberOfAverages
    00180091 IS EchoTrainLength
    00180095 DS PixelBandwidth
    00181100 DS ReconstructionDiameter
    00181120 DS GantryDetectorTilt
    00181405 IS RelativeXRayExposure
    00181400 LO AcquisitionDeviceProcessingDescription
    00187050 CS FilterMaterial
    00200011 IS SeriesNumber
    00200012 IS AcquisitionNumber
    00200013 IS InstanceNumber
    00201041 DS SliceLocation
    00100040 CS PatientSex
    00101010 AS PatientAge
    00101020 DS PatientSize
    00101030 DS PatientWeight
    00102160 SH EthnicGroup
    001021A0 CS SmokingStatus
    001021C0 US PregnancyStatus
    00280303 CS LongitudinalTemporalInformationModified
    00120062 CS PatientIdentityRemoved
""")
# On request too, and hashed unless ids are kept: they tell sites and devices apart without naming them.
HASHED = _tags("""
    00080080 LO InstitutionName
    00081010 SH StationName
    00181000 LO DeviceSerialNumber
    00080050 SH AccessionNumber
""")
PATIENT_ID, ACCESSION = Tag("PatientID", 0x00100020, "LO"), HASHED["AccessionNumber"]
STUDY, SERIES, INSTANCE = (
    Tag("StudyInstanceUID", 0x0020000D, "UI"),
    Tag("SeriesInstanceUID", 0x0020000E, "UI"),
    Tag("SOPInstanceUID", 0x00080018, "UI"),
)
ACQUISITION_COLUMNS = (*(tag.column for tag in ACQUISITION.values()), "transfer_syntax")

_ALLOWED = ACQUISITION | ON_REQUEST | HASHED
_BY_NAME = {re.sub(r"[\W_]", "", keyword).lower(): tag for keyword, tag in _ALLOWED.items()}


def find_tag(name: str) -> Tag:
    """A tag that may become a column, by its keyword (`PatientAge`) or its column (`patient_age`).

    Raises:
        UsageError: `OPT_TAGS` if there is no such tag, or it may name a person.
    """
    tag = _BY_NAME.get(re.sub(r"[\W_]", "", name).lower())
    if tag is None:
        raise UsageError(
            f"'{name}' is not a tag that may become a column: names, dates and addresses never do."
            f"{nearest_name(name, _ALLOWED)}",
            code="OPT_TAGS",
        )
    return tag


_CODES = re.compile(r"[A-Z0-9_ \\-]+")


def clean_value(tag: Tag, text: str, most: int = 64) -> str | None:
    """A value as a column has it: what is no number where a number must be, or no code, is left out."""
    text = "\\".join(part.strip() for part in text.split("\\"))[:most].strip("\\ ")
    if not text:
        return None
    if tag.vr in ("DS", "IS"):
        return _numbers(text)
    if tag.vr == "CS" and not _CODES.fullmatch(text):
        return None
    return _years(text) if tag.vr == "AS" else text


def _numbers(text: str) -> str | None:
    """Numbers in one spelling, whoever wrote them: `80.00` and `80` are one value."""
    try:
        return "\\".join(f"{float(part):.6g}" for part in text.split("\\"))
    except ValueError:
        return None


def _years(age: str) -> str | None:
    """`045Y` as `45`, `006M` as `0.5`; above 89 as `90`, because such an age may name a person."""
    found = re.fullmatch(r"(\d{1,3})([DWMY])", age.upper())
    if found is None:
        return None
    years = int(found[1]) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1}[found[2]]
    return f"{min(years, 90):.3g}"
