"""DICOM results: validators accept them, other software reads them, and nobody takes an abstention for a finding."""

import json
import logging
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from dicom_sources import dicom_bytes, dicom_dataset, dumped, faults_of, picture, source_image
from plainfilm.data.fitting import fit_image, unfit
from plainfilm.dicom_results import coding
from plainfilm.dicom_results.answers import Answer, ModelIdentity
from plainfilm.dicom_results.coding import class_codes
from plainfilm.dicom_results.header import as_file, new_uid
from plainfilm.dicom_results.options import DicomResultOptions
from plainfilm.dicom_results.reading import read_result
from plainfilm.dicom_results.secondary_capture import Heat, make_capture
from plainfilm.dicom_results.sources import by_series, read_source
from plainfilm.dicom_results.structured_report import make_report
from plainfilm.errors import DataError, TableError

CLASSES = ("healthy", "ill", "very ill")
ANSWERS = {
    "answer": Answer(classes=CLASSES, scores=(0.1, 0.7, 0.2), possible=("ill",), unlike=False),
    "several": Answer(classes=CLASSES, scores=(0.1, 0.5, 0.4), possible=("ill", "very ill"), unlike=False),
    "no class": Answer(classes=CLASSES, scores=(0.3, 0.4, 0.3), possible=(), unlike=False),
    "no rule": Answer(classes=CLASSES, scores=(0.1, 0.7, 0.2), unlike=False),
    "strange": Answer(classes=CLASSES, scores=(0.0, 1.0, 0.0), possible=("ill",), unlike=True, why="8 bits"),
    "strange, no rule": Answer(classes=CLASSES, scores=(0.0, 1.0, 0.0), unlike=True, why="8 bits"),
    "not known": Answer(classes=CLASSES, scores=(1 / 3, 1 / 3, 1 / 3)),
}


def model_of(classes) -> ModelIdentity:
    return ModelIdentity(
        name="plainfilm resnet1d",
        version="0.1.0 weights 0123456789ab",
        parameters=(f"classes={json.dumps(classes)}", "split_by=patient"),
        device_uid="2.25.123456789",
        caution="The model has no rule for abstaining: no patients were kept.",
    )


MODEL = model_of(CLASSES)


def report_of(answers, sources=None, options=None, classes=CLASSES, codes=None) -> Dataset:
    answers = list(answers)
    if sources is None:
        study, series = new_uid(None), new_uid(None)
        sources = [source_image(StudyInstanceUID=study, SeriesInstanceUID=series) for _ in answers]
    return make_report(sources, answers, model_of(classes), codes or class_codes(classes), options)


def saved(result, tmp_path, name="result.dcm"):
    path = tmp_path / name
    path.write_bytes(as_file(result))
    return path


def groups_of(path):
    return hd.sr.srread(path).content.get_image_measurement_groups()


# --- validators and other software --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_report_has_no_fault_for_the_validators(tmp_path, kind):
    path = saved(report_of([ANSWERS[kind]]), tmp_path)

    assert faults_of(path) == []
    assert dumped(path).count("Probability") == 3


def test_a_report_of_many_images_frames_and_strange_letters_has_no_fault(tmp_path):
    classes = ("gesund", "kräftig\\krank", "肺炎", "x" * 90)
    answer = Answer(classes=classes, scores=(0.1, 0.2, 0.3, 0.4), possible=("肺炎",), unlike=False)
    study, series = new_uid(None), new_uid(None)
    sources = [
        source_image(
            frame=frame,
            SOPClassUID=EnhancedCTImageStorage if frame else CTImageStorage,
            PatientName="Yamada^Tarou=山田^太郎",
            SpecificCharacterSet="ISO_IR 192",
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
        )
        for frame in (None, 1, 7)
    ]
    path = saved(report_of([answer] * 3, sources, classes=classes), tmp_path)

    assert faults_of(path) == []
    assert "山田" in dumped(path)
    found = read_result(path)
    assert [image.answer.classes for image in found.images] == [classes] * 3
    assert [image.frame for image in found.images] == [None, 1, 7]
    assert found.images[0].finding == "肺炎"


def test_a_name_in_another_character_set_is_kept_letter_by_letter():
    source = source_image(PatientName="Müller^Jürgen", SpecificCharacterSet="ISO_IR 100")

    report = report_of([ANSWERS["answer"]], [source])

    again = read_source(as_file(report)).header
    assert str(again.PatientName) == "Müller^Jürgen"
    assert again.SpecificCharacterSet == "ISO_IR 192"
    assert "SpecificCharacterSet" not in report_of([ANSWERS["answer"]])  # ASCII needs none


def test_highdicom_reads_finding_probabilities_and_sources(tmp_path):
    source = source_image(frame=2)
    path = saved(report_of([ANSWERS["several"]], [source]), tmp_path)

    (group,) = groups_of(path)

    assert group.finding_type == hd.sr.CodedConcept.from_code(coding.ABSTAINS)
    assert [measurement.value for measurement in group.get_measurements(name=coding.PROBABILITY)] == [0.1, 0.5, 0.4]
    names = [evaluation.name.meaning for evaluation in group.get_qualitative_evaluations()]
    assert names == ["Answer of the model", *["Class that it may be"] * 2, "Image unlike the training images"]
    assert group.source_images[0].referenced_sop_instance_uid == source.instance[1]
    assert list(group.source_images[0].referenced_frame_numbers) == [2]
    study, series, instance, sop_class = hd.sr.srread(path).get_evidence()[0]
    assert (study, series) == source.series
    assert (sop_class, instance) == source.instance


@pytest.mark.parametrize("kind", ANSWERS)
def test_what_is_written_is_read_back(tmp_path, kind):
    answer = ANSWERS[kind]

    found = read_result(saved(report_of([answer]), tmp_path))

    (image,) = found.images
    assert image.answer == replace(answer, why="")
    assert (image.outcome, image.finding) == (answer.outcome, answer.finding)
    assert (found.model, found.version) == (MODEL.name, MODEL.version)
    assert found.parameters["split_by"] == "patient"
    assert (found.preliminary, found.verification) == ("PRELIMINARY", "UNVERIFIED")


@pytest.mark.parametrize("content", [b"", b"no DICOM", dicom_bytes(), dicom_bytes()[:300]])
def test_what_is_no_report_of_ours_is_refused(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)

    with pytest.raises(DataError) as caught:
        read_result(path)
    assert caught.value.code == "SR_NOT_OURS"


# --- what a report says, and does not say -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["several", "no class", "strange", "strange, no rule"])
def test_no_class_stands_as_the_finding_where_the_model_gives_no_answer(tmp_path, kind):
    path = saved(report_of([ANSWERS[kind]]), tmp_path)
    codes = {code.value for code in class_codes(CLASSES).values()}

    (group,) = groups_of(path)

    assert group.finding_type.value not in codes
    assert group.finding_type.meaning.startswith("No answer")
    answered = [e.value.value for e in group.get_qualitative_evaluations() if e.name.value == coding.ANSWER.value]
    assert answered == [group.finding_type.value]
    assert "No answer" in dumped(path)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("answer", "Answer: ill, probability 0.700."),
        ("several", "No answer: the model abstains; it may be any of: ill, very ill."),
        ("no class", "No answer: the model abstains; no class fits it."),
        ("no rule", "Answer: ill, probability 0.700."),
        (
            "strange",
            "No answer: the image is unlike those that the model was trained on (8 bits). The scores mean little.",
        ),
    ],
)
def test_a_report_says_in_words_what_it_says_in_codes(tmp_path, kind, sentence):
    (image,) = read_result(saved(report_of([ANSWERS[kind]]), tmp_path)).images

    assert image.comment == f"{sentence} RESEARCH - NOT FOR CLINICAL USE."


def test_a_report_stands_in_the_study_of_its_source_in_a_new_series():
    source = source_image()
    report = report_of([ANSWERS["answer"]], [source])
    kept = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
            "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName")  # fmt: skip

    assert {name: report[name].value for name in kept} == {name: source.header[name].value for name in kept}
    assert report.SeriesInstanceUID != source.header.SeriesInstanceUID
    assert report.SOPInstanceUID != source.header.SOPInstanceUID
    assert report.SeriesNumber == 9001
    assert report.SeriesDescription == "plainfilm AI report (research)"
    assert report.Modality == "SR"
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    comments = [item.TextValue for item in report.ContentSequence if item.ValueType == "TEXT"]
    assert comments[-1].startswith("RESEARCH - NOT FOR CLINICAL USE. Preliminary and unverified")


def test_no_two_results_share_an_identifier():
    source = source_image()
    reports = [report_of([ANSWERS["answer"]], [source]) for _ in range(5)]

    assert len({report.SOPInstanceUID for report in reports} | {report.SeriesInstanceUID for report in reports}) == 10
    assert all(report.SOPInstanceUID.startswith("2.25.") for report in reports)


def test_identifiers_stand_under_a_root_of_ones_own():
    report = report_of([ANSWERS["answer"]], options=DicomResultOptions(uid_root="1.2.826.0.1"))

    assert report.SOPInstanceUID.startswith("1.2.826.0.1.")
    assert report.SeriesInstanceUID.startswith("1.2.826.0.1.")
    for wrong in ("1.2.", "x", "1.02", "3.4", "1" * 40):
        with pytest.raises(ValueError, match="root of UIDs"):
            DicomResultOptions(uid_root=wrong)


def test_patients_are_not_mixed():
    study, series = new_uid(None), new_uid(None)
    sources = [
        source_image(PatientID=patient, StudyInstanceUID=study, SeriesInstanceUID=series) for patient in ("1", "2")
    ]

    for attempt in (lambda: by_series(sources), lambda: report_of([ANSWERS["answer"]] * 2, sources)):
        with pytest.raises(DataError) as caught:
            attempt()
        assert caught.value.code == "SRC_MIXED_PATIENTS"


def test_a_report_is_about_one_series():
    study = new_uid(None)
    sources = [source_image(StudyInstanceUID=study) for _ in range(2)]

    assert by_series(sources) == [[0], [1]]
    with pytest.raises(DataError) as caught:
        report_of([ANSWERS["answer"]] * 2, sources)
    assert caught.value.code == "SRC_MIXED_SERIES"


@pytest.mark.parametrize("name", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
@pytest.mark.parametrize("value", ["", "1.2.x", "1." + "2" * 70])
def test_a_source_without_an_identifier_is_refused(name, value):
    with pytest.raises(DataError) as caught:
        read_source(dicom_bytes(**{name: value}))
    assert caught.value.code == "SRC_NO_UID"


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 200, b"words\n" * 100])
def test_a_source_that_is_no_dicom_is_refused(content):
    with pytest.raises(DataError) as caught:
        read_source(content)
    assert caught.value.code == "SRC_NOT_DICOM"


def test_a_source_that_says_little_still_gets_a_sound_report(tmp_path):
    little = dict.fromkeys(
        ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
         "StudyDescription", "AccessionNumber", "ReferringPhysicianName")
    )  # fmt: skip

    path = saved(report_of([ANSWERS["answer"]], [source_image(**little)]), tmp_path)

    assert faults_of(path) == []


# --- codes --------------------------------------------------------------------------------------------------


def test_classes_get_the_codes_of_a_table(tmp_path):
    table = tmp_path / "codes.csv"
    table.write_text("class, value, scheme, meaning\nill, 39104002, SCT, Illness\n")
    codes = class_codes(CLASSES, table)

    path = saved(report_of([ANSWERS["answer"]], codes=codes), tmp_path)

    (group,) = groups_of(path)
    assert tuple(codes["ill"])[:3] == ("39104002", "SCT", "Illness")
    assert codes["healthy"].scheme_designator == "99PLAINFILM"
    assert (group.finding_type.value, group.finding_type.scheme_designator) == ("39104002", "SCT")
    assert read_result(path).images[0].finding == "ill"
    assert faults_of(path) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "class,value,scheme\nill,1,SCT\n",
        "class,value,scheme,meaning\nunknown,1,SCT,x\n",
        "class,value,scheme,meaning\nill,,SCT,x\n",
        "class,value,scheme,meaning\nill,1,SCT,x\nill,2,SCT,y\n",
        "class,value,scheme,meaning\nill,1,a scheme that is too long,x\n",
    ],
)
def test_a_table_of_codes_that_cannot_be_used_is_refused(tmp_path, text):
    table = tmp_path / "codes.csv"
    table.write_text(text)

    with pytest.raises(TableError) as caught:
        class_codes(CLASSES, table)
    assert caught.value.code == "TAB_CODES"


def test_two_classes_never_share_a_code():
    names = [f"{'x' * 100}{number}" for number in range(50)]

    assert len({code.value for code in class_codes(names).values()}) == 50


# --- the picture --------------------------------------------------------------------------------------------


def heat_of(shape=(64, 64), of_class="ill") -> Heat:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    heat = np.exp(-((rows - 20) ** 2 + (columns - 30) ** 2) / 100)
    image = np.random.default_rng(0).integers(0, 4096, shape, dtype=np.uint16)
    return Heat(image=image, heat=heat, of_class=of_class, method="Grad-CAM", check="passed: 0.1")


def capture_of(source=None, answer=ANSWERS["answer"], heat=None) -> Dataset:
    return make_capture(source or source_image(), answer, heat or heat_of(), MODEL, series_uid=new_uid(None), number=1)


@pytest.mark.parametrize(
    ("shape", "kind"), [((64, 64), "answer"), ((40, 600), "several"), ((700, 30), "strange"), ((1500, 1200), "no rule")]
)
def test_a_capture_has_no_fault_for_the_validator(tmp_path, shape, kind):
    path = saved(capture_of(answer=ANSWERS[kind], heat=heat_of(shape)), tmp_path)

    assert faults_of(path) == []
    assert max(dcmread(path).pixel_array.shape) <= 1024 + 2 * 80


def test_a_capture_says_what_it_is_and_refers_to_its_source():
    source = source_image(frame=4, ImageLaterality="L", PatientOrientation=["L", "F"])
    capture = capture_of(source)

    assert capture.BurnedInAnnotation == "YES"
    assert capture.DerivationDescription.startswith("RESEARCH - NOT FOR CLINICAL USE. Grad-CAM of the score of 'ill'")
    assert "passed: 0.1" in capture.DerivationDescription
    reference = capture.SourceImageSequence[0]
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == source.instance
    assert reference.ReferencedFrameNumber == 4
    assert capture.ImageType == ["DERIVED", "SECONDARY", "OTHER"]
    assert (capture.Laterality, list(capture.PatientOrientation)) == ("L", ["L", "F"])
    assert capture.SeriesNumber == 9002
    assert capture.StudyInstanceUID == source.series[0]
    assert capture.SeriesInstanceUID != source.series[1]


def test_the_warning_is_in_the_pixels():
    capture = capture_of()
    pixels = capture.pixel_array
    band = round(512 / 14)
    yellow = (pixels[:band].reshape(-1, 3).astype(int) @ [1, 1, -2]) > 200

    assert pixels.shape == (512 + 2 * band, 512, 3)
    assert yellow.sum() > 800  # the strokes of 31 letters
    assert (pixels[:band, 0] == 0).all()  # nothing is cut off at the edge
    assert (pixels[-band:].max(axis=2) > 200).sum() > 800


def test_the_picture_shows_the_heat_where_it_is():
    pixels = capture_of().pixel_array.astype(int)
    band = round(512 / 14)
    hot, cold = (pixels[band + 8 * row, 8 * column] for row, column in ((20, 30), (60, 60)))

    assert hot[0] - hot[2] > 80
    assert abs(cold[0] - cold[2]) <= 2


@pytest.mark.parametrize("shape", [(64, 64), (30, 90), (90, 31), (200, 100)])
@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_heat_at_the_model_s_size_comes_back_to_its_place_in_the_image(shape, fit):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = (1000 * rows / shape[0] + 3000 * columns / shape[1]).astype(np.float32)  # smooth: resizing loses little

    again = unfit(fit_image(image, height=64, width=64, fit=fit), height=shape[0], width=shape[1], fit=fit)

    assert again.shape == shape
    assert np.abs(again - image).max() < 0.04 * (image.max() - image.min())


# --- patients -----------------------------------------------------------------------------------------------

NAMES = ["PatientName", "PatientID", "IssuerOfPatientID", "EthnicGroup", "StudyID", "StudyDescription",
         "AccessionNumber", "ReferringPhysicianName", "PatientComments", "InstitutionName", "InstitutionAddress",
         "OperatorsName", "PerformingPhysicianName", "StationName", "SeriesDescription", "ProtocolName",
         "OtherPatientNames", "PatientAddress", "MilitaryRank", "PatientTelephoneNumbers", "ImageComments",
         "RequestingPhysician", "DeviceSerialNumber", "ResponsiblePerson", "PatientMotherBirthName"]  # fmt: skip


def test_what_names_the_patient_is_in_the_result_and_nowhere_else(caplog, capfd):
    canaries = {name: f"CANARY{number:02d}x" for number, name in enumerate(NAMES)}
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("highdicom").setLevel(logging.DEBUG)
        logging.getLogger("pydicom").setLevel(logging.DEBUG)
        source = source_image(**canaries, PatientBirthDate="CANARYdate", PatientSex="CANARYsex", PatientAge="CANARY")
        report, capture = report_of([ANSWERS["answer"]], [source]), capture_of(source)
        written = [as_file(report), as_file(capture)]

    for data in written:
        kept = {name for name, canary in canaries.items() if canary.encode() in data}
        assert kept == {"PatientName", "PatientID", "IssuerOfPatientID", "EthnicGroup", "StudyID", "StudyDescription",
                        "AccessionNumber", "ReferringPhysicianName", "ResponsiblePerson"}  # fmt: skip
        assert b"CANARYsex" in data
    output = "".join(capfd.readouterr()) + caplog.text
    assert "CANARY" not in output
    assert source.instance[1] not in output


def test_errors_name_nobody():
    study, series = new_uid(None), new_uid(None)
    mixed = [
        source_image(PatientName=f"CANARY{number}", StudyInstanceUID=study, SeriesInstanceUID=series)
        for number in range(2)
    ]
    attempts = [
        lambda: by_series(mixed),
        lambda: read_source(dicom_bytes(StudyInstanceUID="CANARY", PatientName="CANARY")),
        lambda: read_source(b"CANARY" * 100),
    ]
    for attempt in attempts:
        with pytest.raises(DataError) as caught:
            attempt()
        assert "CANARY" not in str(caught.value)


def test_pixels_are_never_part_of_a_source():
    assert "PixelData" not in read_source(dicom_bytes(picture())).header
    assert "PixelData" in dicom_dataset()
