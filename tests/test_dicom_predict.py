"""`predict --dicom-output`: a folder of DICOM images becomes reports and overlays, which are not taken for images."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from bridge_peers import CLASSES, write_tiny_bundle
from dicom_sources import dicom_bytes, faults_of, picture
from plainfilm import verbs
from plainfilm.cli import run as cli
from plainfilm.data.images import read_image
from plainfilm.dicom_results.header import new_uid
from plainfilm.dicom_results.options import DicomResultOptions
from plainfilm.dicom_results.reading import read_result
from plainfilm.errors import DataError, UsageError

OVERLAY = DicomResultOptions(overlay=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two patients: one with a series of four and one of two, the other with one image."""
    folder = tmp_path_factory.mktemp("data") / "images"
    folder.mkdir()
    number = 0
    for patient, counts in {"CANARYone": (4, 2), "CANARYtwo": (1,)}.items():
        study = new_uid(None)
        for count in counts:
            series = new_uid(None)
            for _ in range(count):
                ids = {"PatientID": patient, "StudyInstanceUID": study, "SeriesInstanceUID": series}
                (folder / f"{number}.dcm").write_bytes(dicom_bytes(picture(96, seed=number), **ids))
                number += 1
    return folder


@pytest.fixture(scope="module")
def results(bundle, images, tmp_path_factory):
    """What the command writes, with overlays."""
    folder = tmp_path_factory.mktemp("results") / "out"
    csv_file = folder.parent / "scores.csv"
    arguments = ["predict", bundle, images, "-o", csv_file, "--dicom-output", folder, "--overlay", "--workers", 0, "-q"]
    assert cli([str(argument) for argument in arguments]) == 0
    return folder


def rows_of(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_series_gets_a_report_and_every_image_an_overlay(results):
    names = sorted(path.name for path in results.iterdir())

    assert [name for name in names if name.startswith("report")] == [f"report-{n:05d}.dcm" for n in (1, 2, 3)]
    assert [name for name in names if name.startswith("overlay")] == [f"overlay-{n:05d}.dcm" for n in range(1, 8)]
    rows = rows_of(results)
    assert len(rows) == 7
    assert sorted(sum(row["report"] == name for row in rows) for name in {row["report"] for row in rows}) == [1, 2, 4]
    assert len({row["overlay"] for row in rows}) == 7


def test_reports_have_the_scores_of_the_table_and_no_faults(results):
    with (results.parent / "scores.csv").open(newline="") as file:
        scores = {row["path"]: tuple(float(row[f"score_{name}"]) for name in CLASSES) for row in csv.DictReader(file)}
    of_report = {}
    for row in rows_of(results):
        of_report.setdefault(row["report"], []).append(scores[row["path"]])

    for name, expected in of_report.items():
        found = read_result(results / name)
        assert [image.answer.scores for image in found.images] == expected
    assert [faults_of(path) for path in sorted(results.glob("*.dcm"))] == [[]] * 10


def test_an_overlay_belongs_to_its_own_image(results, images):
    of_uid = {dcmread(path).SOPInstanceUID: dcmread(path) for path in images.iterdir()}
    reports = {row["overlay"]: read_result(results / row["report"]) for row in rows_of(results)}

    for name, report in reports.items():
        capture = dcmread(results / name)
        source = of_uid[capture.SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert (capture.PatientID, capture.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
        assert source.SOPInstanceUID in {image.sop_instance_uid for image in report.images}
        band = round(512 / 14)
        shown = capture.pixel_array[band:-band].astype(float).mean(axis=2)
        original = np.asarray(Image.fromarray(source.pixel_array.astype(np.float32)).resize((512, 512)))
        own = np.corrcoef(shown.ravel(), original.ravel())[0, 1]
        others = [
            np.corrcoef(
                shown.ravel(),
                np.asarray(Image.fromarray(other.pixel_array.astype(np.float32)).resize((512, 512))).ravel(),
            )[0, 1]
            for uid, other in of_uid.items()
            if uid != source.SOPInstanceUID
        ]
        assert own > 2 * max(others)


def test_results_are_never_taken_for_images(results, images, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(results, study)
    shutil.copy(images / "0.dcm", study)

    pixels, record = read_image(results / "overlay-00001.dcm")
    table = verbs.scan(study)

    assert pixels.shape == (record.height, record.width)  # by itself it is read as any other
    assert len(table) == 1
    assert sorted(item.code for item in table.left_out) == ["SKIP_DERIVED"] * 10 + ["SKIP_NOT_AN_IMAGE"]


def test_results_name_nobody_outside_of_dicom(results, capsys, bundle, images):
    with pytest.raises(UsageError):
        verbs.predict(bundle, images, dicom_output=results, workers=0)
    texts = [(results / "results.csv").read_text(), (results.parent / "scores.csv").read_text(), *capsys.readouterr()]

    assert not any("CANARY" in text for text in texts)
    assert dcmread(results / "report-00001.dcm").PatientID.startswith("CANARY")


def test_results_are_never_overwritten(bundle, images, results, tmp_path):
    before = {path.name: path.read_bytes() for path in results.iterdir()}

    with pytest.raises(UsageError) as caught:
        verbs.predict(bundle, images, dicom_output=results, workers=0)
    assert caught.value.code == "OUT_EXISTS"
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before


def test_images_that_are_no_dicom_are_refused_before_anything_is_written(bundle, images, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.dcm").write_bytes((images / "0.dcm").read_bytes())
    Image.fromarray(picture(64).astype(np.uint8)).save(mixed / "b.png")

    with pytest.raises(DataError) as caught:
        verbs.predict(bundle, mixed, dicom_output=tmp_path / "out", workers=0)
    assert caught.value.code == "SRC_NOT_DICOM"
    assert not (tmp_path / "out").exists()


def test_options_of_results_need_a_folder(bundle, images, capsys):
    assert cli(["predict", str(bundle), str(images), "--overlay", "-q"]) == 2
    assert "[OPT_INVALID]" in capsys.readouterr().err


def test_no_overlay_is_written_of_a_model_that_was_not_checked_or_failed(bundle, images, tmp_path):
    (one := tmp_path / "one").mkdir()
    (one / "a.dcm").write_bytes((images / "0.dcm").read_bytes())
    with pytest.raises(DataError) as caught:
        verbs.predict(bundle, one, dicom_output=tmp_path / "out", dicom=OVERLAY, workers=0)
    assert caught.value.code == "XAI_UNCHECKED"

    run = tmp_path / "run"
    (run / "examples").mkdir(parents=True)
    (run / "bundle").symlink_to(bundle, target_is_directory=True)
    verdict = {"method": "Grad-CAM", "verdict": "failed", "sentence": "failed: 0.9"}
    (run / "examples" / "heat.json").write_text(json.dumps(verdict))
    with pytest.raises(DataError, match=r"failed: 0\.9") as caught:
        verbs.predict(run, images, dicom_output=tmp_path / "out", dicom=OVERLAY, workers=0)
    assert caught.value.code == "XAI_FAILED"
    assert not (tmp_path / "out").exists()


def test_frames_are_named_in_the_report(bundle, tmp_path):
    frames = np.stack([picture(seed=number) for number in range(3)])
    (tmp_path / "a.dcm").write_bytes(dicom_bytes(frames, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1"))

    verbs.predict(bundle, tmp_path / "a.dcm", dicom_output=tmp_path / "out", workers=0)

    found = read_result(tmp_path / "out" / "report-00001.dcm")
    assert [image.frame for image in found.images] == [1, 2, 3]
    assert faults_of(tmp_path / "out" / "report-00001.dcm") == []
