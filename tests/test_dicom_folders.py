"""Trees of DICOM files as DATA: patients, frames, series, labels, and names that say nothing."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.uid import generate_uid

import plainfilm
from bad_dicom import bad_dicom
from dicom_files import dicom, item, ramp, save, sequence
from plainfilm import verbs
from plainfilm.auditing.appearance import container_facts
from plainfilm.config import RunOptions
from plainfilm.data.choosing import choose
from plainfilm.data.images import read_image
from plainfilm.errors import DataError, TableError, UsageError
from small_runs import SMALL, train_small, write_small_data


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


def image(number: int = 0, **elements):
    pixels = np.random.default_rng(number).integers(0, 4096, (32, 32)).astype("u2")
    return dicom(pixels, seed=str(number), **{"BitsStored": 12, "PatientID": f"MRN{number // 2}", **elements})


def tree(folder: Path, n_images: int = 8, **elements) -> Path:
    """Two images of each patient, in folders with the patients' names."""
    for number in range(n_images):
        save(image(number, **elements), folder / f"DOE_{number // 2}" / "CT" / f"IM{number:04d}")
    return folder


def scanned(data: Path, **options):
    return plainfilm.scan(data, options=RunOptions.from_flat({"workers": 0, **options}))


# --- patients and names -------------------------------------------------------------------------------------


def test_a_tree_becomes_a_table_of_patients_whose_ids_are_hashed(tmp_path):
    table = scanned(tree(tmp_path / "data"))

    assert len(table) == 8
    assert table.rows["label"].isna().all()
    assert table.rows["patient_id"].nunique() == 4
    shown = table.rows.to_csv() + str(table.understood)
    assert "MRN" not in shown
    assert "DOE" not in shown
    assert table.rows["path"].is_unique


def test_the_same_data_get_the_same_names_and_another_key_gives_others(tmp_path):
    data = tree(tmp_path / "data")
    first, again = scanned(data), scanned(data)
    other = scanned(data, id_key=tmp_path / "other" / "key")

    pd.testing.assert_frame_equal(first.rows, again.rows)
    assert not set(first.rows["patient_id"]) & set(other.rows["patient_id"])
    assert (tmp_path / "other" / "key").stat().st_mode & 0o077 == 0


def test_ids_are_kept_where_that_is_asked_for(tmp_path):
    table = scanned(tree(tmp_path / "data"), ids="kept")

    assert set(table.rows["patient_id"]) == {"MRN0", "MRN1", "MRN2", "MRN3"}
    assert table.rows["path"].iat[0] == "DOE_0/CT/IM0000"
    assert table.rows["instance"].iat[0] == generate_uid(entropy_srcs=["0", "instance"])


def test_the_account_alone_says_which_file_is_which(tmp_path):
    data = tree(tmp_path / "data")
    (data / "DOE_0" / "notes of Jane.txt").write_text("x")
    (data / "DOE_0" / "CT" / "broken").write_bytes((data / "DOE_0" / "CT" / "IM0000").read_bytes()[:-9])
    plainfilm.scan(data, options=RunOptions.from_flat({"workers": 0}), output=tmp_path / "account.csv")
    account = pd.read_csv(tmp_path / "account.csv", dtype=str)

    assert set(account["file"]) == {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()}
    assert not account["path"].str.contains("DOE|Jane").any()
    assert account.set_index("file")["code"]["DOE_0/CT/broken"] == "DCM_TRUNCATED"


def test_a_key_file_that_is_too_short_is_refused(tmp_path):
    (tmp_path / "key").write_text("secret")
    with pytest.raises(DataError) as caught:
        scanned(tree(tmp_path / "data"), id_key=tmp_path / "key")
    assert caught.value.code == "DCM_ID_KEY"


def test_a_file_in_a_wrong_folder_makes_no_classes_of_patients(tmp_path):
    data = tree(tmp_path / "data")
    save(image(99), data / "DOE_1" / "CT" / "stray")

    assert scanned(data).rows["label"].isna().all()


# --- classes ------------------------------------------------------------------------------------------------


def test_class_folders_of_dicom_files_are_classes(tmp_path):
    for number in range(8):
        save(image(number), tmp_path / ("ill" if number % 4 < 2 else "well") / f"{number}.dcm")
    table = scanned(tmp_path)

    assert table.classes == ("ill", "well")
    assert table.rows["patient_id"].nunique() == 4


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("SOPInstanceUID", lambda number: generate_uid(entropy_srcs=[str(number), "instance"])),
        ("series_instance_uid", lambda number: generate_uid(entropy_srcs=[str(number), "series"])),
        ("StudyInstanceUID", lambda number: generate_uid(entropy_srcs=[str(number), "study"])),
        ("AccessionNumber", lambda number: f"A{number}"),
        ("PatientID", lambda number: f"MRN{number // 2}"),
        ("file_name", lambda number: f"IM{number:04d}"),
    ],
)
def test_classes_come_from_a_table_by_any_id(tmp_path, column, cell):
    for number in range(8):
        save(image(number, AccessionNumber=f"A{number}"), tmp_path / "data" / f"P{number}" / f"IM{number:04d}")
    rows = {cell(number): ("ill" if number // 2 % 2 else "well") for number in range(8)}
    pd.DataFrame({column: rows.keys(), "label": rows.values(), "site": "A"}).to_csv(tmp_path / "l.csv", index=False)
    table = scanned(tmp_path / "data", labels=tmp_path / "l.csv", label_columns=("site",))

    assert sorted(table.rows["label"]) == ["ill"] * 4 + ["well"] * 4
    assert set(table.rows["site"]) == {"A"}


def test_rows_that_match_nothing_are_said(tmp_path):
    data = tree(tmp_path / "data")
    (tmp_path / "l.csv").write_text("PatientID,label\nMRN0,ill\nMRN1,well\nMRN77,well\n")
    table = scanned(data, labels=tmp_path / "l.csv")

    assert "1 of its 3 rows match no file." in table.understood
    assert "4 DICOM files have no row in it, so no class." in table.understood


def test_one_id_with_two_classes_is_refused(tmp_path):
    (tmp_path / "l.csv").write_text("PatientID,label\nMRN0,ill\nMRN0,well\n")
    with pytest.raises(TableError) as caught:
        scanned(tree(tmp_path / "data"), labels=tmp_path / "l.csv")
    assert caught.value.code == "TAB_CONFLICT"


# --- frames, series, columns --------------------------------------------------------------------------------


def test_a_file_of_several_frames_gives_a_row_for_each(tmp_path):
    frames = np.stack([np.roll(ramp("u1", 255), shift) for shift in range(7)])
    save(dicom(frames), tmp_path / "ill" / "film.dcm")
    table = scanned(tmp_path)

    assert list(table.rows["frame"]) == [str(number) for number in range(7)]
    for number, ref in enumerate(table.refs):
        np.testing.assert_array_equal(read_image(ref)[0], frames[number])
    assert list(scanned(tmp_path, frames="middle").rows["frame"]) == ["3"]
    assert list(scanned(tmp_path, frames="every:3").rows["frame"]) == ["1", "4"]


@pytest.mark.parametrize(
    ("rule", "chosen"), [("all", [0, 1, 2, 3, 4]), ("first", [0]), ("middle", [2]), ("central:0.6", [1, 2, 3])]
)
def test_frames_are_chosen_by_a_rule(rule, chosen):
    assert choose(5, rule) == chosen


def test_series_are_chosen_by_what_they_say(tmp_path):
    for number, (modality, said) in enumerate([("CT", "Lung axial"), ("CT", "Scout"), ("SR", "Dose")]):
        save(image(number, Modality=modality, SeriesDescription=said), tmp_path / f"{number}.dcm")
    table = scanned(tmp_path, series="Modality=CT,SeriesDescription=*axial*", ids="kept")

    assert list(table.rows["path"]) == ["0.dcm"]
    assert [item.code for item in table.left_out] == ["SKIP_SERIES"] * 2


def test_reports_and_segmentations_are_skipped_and_an_image_without_pixels_is_not(tmp_path):
    save(image(0), tmp_path / "a.dcm")
    save(image(1, PixelData=None, Rows=None, Columns=None, Modality="SR"), tmp_path / "b.dcm")
    save(image(2, Modality="SEG"), tmp_path / "c.dcm")
    save(image(3, PixelData=None), tmp_path / "d.dcm")
    table = scanned(tmp_path)

    assert [item.code for item in table.skipped] == ["SKIP_NO_PIXELS"] * 2
    assert [item.code for item in table.refused] == ["DCM_NO_PIXELS"]


def test_how_it_was_taken_becomes_columns_that_the_audit_looks_at(tmp_path):
    for number in range(4):
        save(image(number, KVP=80 + number, ViewPosition="AP", Manufacturer="Acme"), tmp_path / f"{number}.dcm")
    rows = scanned(tmp_path).rows

    assert list(rows["kvp"]) == ["80", "81", "82", "83"]
    assert set(rows["view_position"]) == {"AP"}
    assert "kvp" in container_facts(rows)
    assert "patient_sex" not in rows.columns


def test_further_tags_are_columns_on_request_and_names_never(tmp_path):
    save(image(0, PatientSex="F", PatientAge="093Y", InstitutionName="Mercy", BurnedInAnnotation="YES"), tmp_path / "a")
    table = scanned(tmp_path, tags="PatientSex,PatientAge,InstitutionName")

    assert table.rows[["patient_sex", "patient_age", "burnt_in"]].iloc[0].tolist() == ["F", "90", "YES"]
    assert table.rows["institution_name"].iat[0] != "Mercy"
    assert any("burnt into" in said for said in table.understood)
    for tag in ("PatientName", "PatientBirthDate", "StudyDate", "ReferringPhysicianName", "Nonsense"):
        with pytest.raises(UsageError, match="may become a column"):
            scanned(tmp_path, tags=tag)


def test_a_table_of_paths_may_name_dicom_files(tmp_path):
    for number in range(4):
        save(image(number), tmp_path / f"{number}.dcm")
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"{n}.dcm,{'ab'[n % 2]}\n" for n in range(4)))
    rows = scanned(tmp_path / "t.csv").rows

    assert list(rows["path"]) == ["0.dcm", "1.dcm", "2.dcm", "3.dcm"]
    assert rows["patient_id"].nunique() == 2


def test_bad_files_in_a_folder_are_left_out_with_their_codes(tmp_path):
    listed = [bad for bad in bad_dicom(tmp_path / "data") if bad.code != "IMG_MULTIFRAME"]
    table = scanned(tmp_path / "data", ids="kept", workers=1)
    found = {item.path: item.code for item in table.left_out}
    skipped = {"report.dcm", "index_that_points_outside.dcm", "nothing_after_the_mark.dcm"}

    assert {name: found.get(name) for name in skipped} == dict.fromkeys(skipped, "SKIP_NO_PIXELS")
    assert {bad.name: found.get(bad.name) for bad in listed if bad.name not in skipped} == {
        bad.name: bad.code for bad in listed if bad.name not in skipped
    }


# --- canaries -----------------------------------------------------------------------------------------------

NAMES = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "PatientAddress",
    "PatientTelephoneNumbers", "PatientComments", "AdditionalPatientHistory", "MilitaryRank", "CountryOfResidence",
    "Occupation", "ReferringPhysicianName", "ReferringPhysicianAddress", "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy", "OperatorsName", "PhysiciansOfRecord", "InstitutionName", "InstitutionAddress",
    "InstitutionalDepartmentName", "StationName", "StudyDescription", "SeriesDescription", "ProtocolName",
    "RequestedProcedureDescription", "PerformedProcedureStepDescription", "AdmittingDiagnosesDescription", "StudyID",
    "AccessionNumber", "DeviceSerialNumber", "ImageComments", "DerivationDescription", "RequestingService",
    "CurrentPatientLocation", "ResponsiblePerson", "MedicalAlerts", "Allergies", "InterpretationText",
    "IdentifyingComments", "PatientID",
)  # fmt: skip


def with_canaries(number: int, label: int):
    """An image with a text of its own in every tag that may name somebody, in private and in nested ones."""
    pixels = np.random.default_rng(number).integers(0, 2000, (32, 32)).astype("u2")
    pixels[8:24, 8:24] += 2000 * label
    patient = number // 2
    made = dicom(pixels, seed=str(number), BitsStored=12, WindowCenter=2000, WindowWidth=4000)
    for place, keyword in enumerate(NAMES):
        setattr(made, keyword, f"CNR{place:02d}" + (f"P{patient}" if keyword == "PatientID" else ""))
    block = made.private_block(0x0009, "CNR50", create=True)
    block.add_new(1, "LO", "CNR41")
    block.add_new(2, "UN", b"CNR42 ")
    made.RequestAttributesSequence = sequence(
        item(ScheduledProcedureStepDescription="CNR43", RequestedProcedureID="CNR44"),
    )
    made.ReferencedPatientSequence = sequence(
        item(PatientName="CNR45", AuthorObserverSequence=sequence(item(PersonName="CNR46")))
    )
    return made


def test_no_text_of_a_header_or_file_name_is_found_anywhere_after_a_whole_run(tmp_path, monkeypatch, caplog, capfd):
    data, out, cache = tmp_path / "data", tmp_path / "out", tmp_path / "cache"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("PLAINFILM_CACHE", str(cache))
    monkeypatch.setenv("TMPDIR", str(temporary))
    caplog.set_level(logging.DEBUG)
    logging.getLogger().addHandler(logging.FileHandler(tmp_path / "debug.log"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(40):
            save(with_canaries(number, number // 2 % 2), data / f"CNR47 {number // 2}" / f"CNR48 {number}.dcm")
    (data / "CNR49.txt").write_text("CNR49")
    (data / "CNR47 0" / "CNR48 cut.dcm").write_bytes(next(data.rglob("*.dcm")).read_bytes()[:-100])
    rows = "".join(f"CNR39P{patient},{('ill', 'well')[patient % 2]},CNR51\n" for patient in range(20))
    labels = tmp_path / "labels.csv"
    labels.write_text("PatientID,label,name\n" + rows)
    options = {**SMALL, "epochs": 1, "labels": labels, "max_bad": 1, "gallery": False}

    verbs.scan(data, options=RunOptions.from_flat({"labels": labels, "workers": 0}))
    run = verbs.train(data, options, output=out / "run")
    verbs.predict(run.folder, data, output=out / "predictions.csv", workers=0)
    verbs.audit(data, options=RunOptions.from_flat({"labels": labels, "workers": 0}), output=out / "audit")
    logging.getLogger().handlers[-1].flush()

    written = [path for folder in (out, cache, temporary) for path in folder.rglob("*") if path.is_file()]
    written.append(tmp_path / "debug.log")
    said = capfd.readouterr()
    assert len(written) > 15
    assert [
        path.name for path in written if b"CNR" in path.read_bytes() or "CNR" in str(path.relative_to(tmp_path))
    ] == []
    assert "CNR" not in caplog.text + said.out + said.err


# --- twins --------------------------------------------------------------------------------------------------


def as_tiff(manifest: Path) -> Path:
    """The same images as TIFF, in place of the PNG files."""
    rows = pd.read_csv(manifest, dtype=str)
    for name in rows["path"]:
        with Image.open(manifest.parent / name) as opened:
            opened.save((manifest.parent / name).with_suffix(".tiff"), compression="tiff_deflate")
        (manifest.parent / name).unlink()
    rows.assign(path=rows["path"].str.replace(".png", ".tiff", regex=False)).to_csv(manifest, index=False)
    return manifest


@pytest.mark.long
@pytest.mark.parametrize(("bits", "window"), [(16, "file"), (12, "none")])
def test_phantoms_as_dicom_give_the_scores_of_their_png_and_tiff_twins(tmp_path, bits, window):
    scores = {}
    for format in ("png", "tiff", "dicom", "dicom-monochrome1", "dicom-ct", "dicom-multiframe"):
        made = "png" if format == "tiff" else format
        manifest = write_small_data(tmp_path / format, format=made, bits=bits, patients=12)
        if format == "tiff":
            as_tiff(manifest)
        run = train_small(manifest, tmp_path / "runs" / format, epochs=1, window=window)
        table = pd.read_csv(run.predictions)
        ending = ".dcm" if format.startswith("dicom") else f".{format}"
        assert table.pop("path").str.contains(ending, regex=False).all()
        scores[format] = table

    for format in ("tiff", "dicom", "dicom-monochrome1", "dicom-multiframe"):
        pd.testing.assert_frame_equal(scores[format], scores["png"])
    # Without a window CT is in Hounsfield units: its percentiles round elsewhere.
    pd.testing.assert_frame_equal(scores["dicom-ct"], scores["png"], atol=0 if window == "file" else 1e-7, rtol=0)


def test_12_bit_phantoms_are_alike_in_every_kind_of_dicom_and_as_the_png_without_a_window(tmp_path):
    made = {
        format: write_small_data(tmp_path / format, format=format, bits=12, patients=2).parent
        for format in ("png", "dicom", "dicom-monochrome1", "dicom-ct", "dicom-multiframe")
    }
    digests = {format: list(scanned(folder / "manifest.csv").rows["pixel_sha256"]) for format, folder in made.items()}
    plain = scanned(made["dicom"] / "manifest.csv", window="none").rows["pixel_sha256"]

    assert digests["dicom"] == digests["dicom-monochrome1"] == digests["dicom-ct"] == digests["dicom-multiframe"]
    assert list(plain) == digests["png"]
