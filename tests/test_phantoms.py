import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plainfilm.data.phantoms import (
    TURNS,
    Faults,
    PhantomOptions,
    Phantoms,
    phantom_image,
    write_phantoms,
)
from plainfilm.errors import DataError, UsageError

KINDS = pytest.mark.parametrize("kind", ["brain", "chest"])
SMALL = PhantomOptions(patients=10, images_per_patient=4, size=48)

Write = Callable[..., Phantoms]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    def write_somewhere(options: PhantomOptions = SMALL, **faults: object) -> Phantoms:
        folder = tmp_path_factory.mktemp("phantoms") / "set"
        return write_phantoms(folder, options, Faults(**faults))

    return write_somewhere


@pytest.fixture(scope="module")
def clean(write: Write) -> Phantoms:
    """The small set without a fault."""
    return write()


def read(phantoms: Phantoms, path: str) -> npt.NDArray[np.generic]:
    with Image.open(phantoms.folder / path) as image:
        return np.asarray(image)


def thumbnails(phantoms: Phantoms, side: int = 32) -> npt.NDArray[np.float32]:
    """`(images, side, side)`, each of mean 0 and norm 1."""
    size = Image.Resampling.BOX
    images = np.stack(
        [
            np.asarray(Image.fromarray(read(phantoms, path)).resize((side, side), size), np.float32)
            for path in phantoms.manifest["path"]
        ]
    )
    images -= images.mean(axis=(1, 2), keepdims=True)
    return images / np.linalg.norm(images, axis=(1, 2), keepdims=True)


def nearest_neighbour_accuracy(phantoms: Phantoms, *, across_patients: bool) -> float:
    """How often the most similar other image, of any or of another patient, has the same label."""
    pixels = thumbnails(phantoms).reshape(len(phantoms.manifest), -1)
    similarity = pixels @ pixels.T
    np.fill_diagonal(similarity, -2)
    patient = phantoms.manifest["patient_id"].to_numpy()
    if across_patients:
        similarity[patient[:, None] == patient[None, :]] = -2
    label = phantoms.manifest["label"].to_numpy()
    return float((label[similarity.argmax(axis=1)] == label).mean())


def files_of(phantoms: Phantoms) -> dict[str, bytes]:
    root = phantoms.folder
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.*"))}


# The set on disk


@KINDS
def test_the_same_options_give_the_same_bytes(write, kind):
    options = PhantomOptions(kind=kind, patients=4, images_per_patient=(1, 3), size=48)

    assert files_of(write(options, duplicates=0.5)) == files_of(write(options, duplicates=0.5))


def test_another_seed_gives_other_images():
    first, second = (phantom_image(PhantomOptions(seed=seed)) for seed in (0, 1))

    assert np.mean(first != second) > 0.5


@KINDS
def test_adding_patients_changes_no_other_file(write, kind):
    few, many = (write(PhantomOptions(kind=kind, patients=n, images_per_patient=(1, 4), size=48)) for n in (4, 10))
    kept = files_of(many)

    assert few.manifest["path"].isin(many.manifest["path"]).all()
    assert all(kept[path] == (few.folder / path).read_bytes() for path in few.manifest["path"])


@KINDS
@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
def test_files_hold_the_pixels_of_phantom_image_at_the_depth_asked_for(write, kind, bits, dtype):
    options = PhantomOptions(kind=kind, patients=2, images_per_patient=2, size=64, bits=bits)
    phantoms = write(options)
    drawn = phantom_image(options, patient=2, image=1)
    path = next(path for path in phantoms.manifest["path"] if path.endswith("P002_01.png"))

    assert drawn.dtype == dtype
    assert 2 ** (bits - 2) < drawn.max() < 2**bits
    assert np.array_equal(read(phantoms, path), drawn)


def test_the_manifest_on_disk_is_the_manifest_returned(clean):
    saved = pd.read_csv(clean.folder / "manifest.csv", dtype={"patient_id": str})

    assert list(saved.columns) == ["path", "label", "patient_id", "split", "site", "sex", "age"]
    pd.testing.assert_frame_equal(saved, clean.manifest, check_dtype=False)


def test_every_image_is_in_the_folder_of_its_class_and_nothing_else_is(clean):
    on_disk = {path.relative_to(clean.folder).as_posix() for path in clean.folder.rglob("*.png")}

    assert on_disk == set(clean.manifest["path"])
    assert (clean.manifest["path"].str.split("/").str[0] == clean.manifest["label"]).all()


def test_a_clean_set_splits_by_patient_with_equal_classes_and_nothing_planted(write):
    phantoms = write(PhantomOptions(patients=30, images_per_patient=2, classes=("a", "b", "c"), size=32))
    patients = phantoms.manifest.groupby("patient_id")

    assert (patients[["label", "split", "site", "sex", "age"]].nunique() == 1).all(axis=None)
    counts = patients.first().groupby(["label", "split"]).size().unstack()
    assert counts.to_dict("index") == {name: {"test": 2, "train": 6, "validation": 2} for name in "abc"}
    assert phantoms.planted == ()


def test_stacks_are_as_unequal_as_asked_for(write):
    phantoms = write(PhantomOptions(patients=40, images_per_patient=(1, 5), size=32))

    assert set(phantoms.manifest.groupby("patient_id").size()) == {1, 2, 3, 4, 5}


def test_interleaved_names_put_the_patients_of_a_class_a_fixed_lag_apart(write):
    phantoms = write(PhantomOptions(patients=10, images_per_patient=4, size=32, file_names="interleaved"))
    normal = phantoms.manifest[phantoms.manifest["label"] == "normal"]["patient_id"].to_list()

    assert normal == normal[:5] * 4
    assert not phantoms.manifest["path"].str.contains("P0").any()


def test_shuffled_names_tell_nothing_of_the_patient(write):
    phantoms = write(PhantomOptions(patients=10, images_per_patient=10, size=32, file_names="shuffled"))
    patient = phantoms.manifest["patient_id"].to_list()

    assert sum(first == second for first, second in pairwise(patient)) < 40  # of 99; about 20 by chance


# What the images hold


def test_fluid_in_the_brain_grows_with_severity():
    options = PhantomOptions(noise=0.0)
    middle = slice(44, 84)
    fluid = [
        np.mean(
            [
                (phantom_image(options, patient=patient, image=8, severity=severity)[middle, middle] < 80).mean()
                for patient in range(1, 9)
            ]
        )
        for severity in (0.0, 0.33, 0.67, 1.0)
    ]

    assert all(less < more for less, more in pairwise(fluid))


def test_lungs_grow_whiter_with_severity():
    options = PhantomOptions(kind="chest", noise=0.0, images_per_patient=1)
    brightness = [
        np.mean([phantom_image(options, patient=patient, severity=severity)[32:84].mean() for patient in range(1, 9)])
        for severity in (0.0, 0.33, 0.67, 1.0)
    ]

    assert all(less < more for less, more in pairwise(brightness))


def test_without_effect_the_class_leaves_no_trace():
    two, three = (PhantomOptions(effect=0.0, classes=classes) for classes in (("a", "b"), ("a", "b", "c")))

    for patient in range(1, 7):
        assert np.array_equal(phantom_image(two, patient=patient), phantom_image(three, patient=patient))


def test_slices_differ_more_the_further_apart_they_lie():
    options = PhantomOptions(images_per_patient=16, noise=0.0)
    stack = [phantom_image(options, image=image).astype(float) for image in range(16)]
    difference = [np.abs(stack[0] - other).mean() for other in stack[1::4]]

    assert all(near < far for near, far in pairwise(difference))


@pytest.mark.parametrize(
    "options",
    [
        PhantomOptions(kind="brain", patients=50, images_per_patient=5, size=48),
        PhantomOptions(kind="chest", patients=60, images_per_patient=4, size=48),
    ],
    ids=["brain", "chest"],
)
def test_a_nearest_neighbour_knows_the_patient_far_better_than_the_disease(write, options):
    phantoms = write(options)
    same_patients = nearest_neighbour_accuracy(phantoms, across_patients=False)
    new_patients = nearest_neighbour_accuracy(phantoms, across_patients=True)

    assert same_patients > 0.90
    assert 0.55 < new_patients < 0.85


@KINDS
def test_independent_phantoms_resemble_no_other_however_turned(write, kind):
    images = thumbnails(write(PhantomOptions(kind=kind, patients=80, images_per_patient=1, size=48)))
    flat = images.reshape(len(images), -1)
    for turn in range(len(TURNS)):
        flipped = images[:, :, ::-1] if turn >= 4 else images
        similarity = flat @ np.rot90(flipped, turn % 4, axes=(1, 2)).reshape(len(images), -1).T
        np.fill_diagonal(similarity, 0)
        assert similarity.max() < 0.985


def test_a_site_changes_the_images_of_its_own_patients_only(write):
    one, three = (PhantomOptions(sites=sites, patients=12, images_per_patient=1, size=48) for sites in (1, 3))
    site = write(three).manifest.set_index("patient_id")["site"]

    assert set(site) == {"site1", "site2", "site3"}
    for patient in range(1, 13):
        unchanged = np.array_equal(phantom_image(one, patient=patient), phantom_image(three, patient=patient))
        assert unchanged == (site[f"P{patient:03d}"] == "site1")


# Faults


def test_straddling_patients_lie_in_two_splits_and_the_truth_names_their_images(write):
    phantoms = write(straddling_patients=0.3)
    splits = phantoms.manifest.groupby("patient_id")["split"].nunique()
    moved = phantoms.manifest.set_index("path").loc[phantoms.paths("straddling_patient")]

    assert (splits == 2).sum() == 3
    assert set(moved["patient_id"]) == set(splits[splits == 2].index)
    assert all(
        fault.detail != moved.loc[fault.path, "split"]
        for fault in phantoms.planted
        if fault.kind == "straddling_patient"
    )


@settings(max_examples=12, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_any_share_of_patients_can_straddle(tmp_path_factory, share, seed):
    folder = tmp_path_factory.mktemp("straddling")
    options = PhantomOptions(patients=6, images_per_patient=2, size=32, seed=seed)
    phantoms = write_phantoms(folder, options, Faults(straddling_patients=share))
    splits = phantoms.manifest.groupby("patient_id")["split"].nunique()

    assert (splits == 2).sum() == (max(1, round(share * 6)) if share > 0 else 0)


def test_a_duplicate_is_its_original_turned_under_another_id_in_another_split(write):
    phantoms = write(duplicates=0.25)
    rows = phantoms.manifest.set_index("path")
    copies = [fault for fault in phantoms.planted if fault.kind == "duplicate"]

    assert len(copies) == 10
    for copy in copies:
        original, turn = copy.detail.split(", ", 1)
        pixels = read(phantoms, original)
        pixels = pixels[:, ::-1] if turn.startswith("mirrored") else pixels
        assert np.array_equal(read(phantoms, copy.path), np.rot90(pixels, TURNS.index(turn) % 4))
        assert rows.loc[copy.path, "split"] != rows.loc[original, "split"]
        assert rows.loc[copy.path, "patient_id"] not in set(rows.loc[rows.index != copy.path, "patient_id"])
        assert rows.loc[copy.path, "label"] == rows.loc[original, "label"]


def test_a_class_augmented_on_disk_has_twice_the_images_and_stays_with_its_patients(write):
    phantoms = write(duplicates_in_class="abnormal")
    counts = phantoms.manifest["label"].value_counts()

    assert counts["abnormal"] == 2 * counts["normal"]
    assert len(phantoms.paths("class_duplicate")) == counts["normal"]
    assert (phantoms.manifest.groupby("patient_id")["split"].nunique() == 1).all()


def test_markers_are_burnt_into_an_upper_corner_of_the_positive_classes_only(write, clean):
    marked = write(markers=0.6)
    rows = marked.manifest.set_index("path")
    found = marked.paths("marker")

    assert 6 <= len(found) <= 18  # of 20
    assert set(rows.loc[found, "label"]) == {"abnormal"}
    for path in rows.index:
        changed = read(clean, path) != read(marked, path)
        assert changed[:12].any() == (path in found)
        assert not changed[12:].any()


def test_label_noise_moves_whole_patients_and_keeps_their_true_label_on_file(write, clean):
    noisy = write(label_noise=0.2)
    truth = clean.manifest.groupby("patient_id")["label"].first()
    seen = noisy.manifest.groupby("patient_id")["label"].first()
    wrong = set(truth.index[truth != seen])

    assert len(wrong) == 2
    rows = noisy.manifest.set_index("path")
    for fault in noisy.planted:
        assert rows.loc[fault.path, "patient_id"] in wrong
        assert fault.detail == truth[rows.loc[fault.path, "patient_id"]]


def test_a_size_fault_enlarges_one_class_only(write):
    phantoms = write(size_fault_class="normal")
    shapes = {
        label: {read(phantoms, path).shape for path in rows["path"]}
        for label, rows in phantoms.manifest.groupby("label")
    }

    assert shapes == {"normal": {(60, 60)}, "abnormal": {(48, 48)}}


def test_a_quality_fault_saves_a_share_of_one_class_as_jpeg(write):
    phantoms = write(quality_fault_class="abnormal", class_share=0.5)
    jpegs = phantoms.manifest[phantoms.manifest["path"].str.endswith(".jpg")]

    assert len(jpegs) == 10
    assert set(jpegs["label"]) == {"abnormal"}
    assert sorted(jpegs["path"]) == sorted(phantoms.paths("quality"))
    assert read(phantoms, jpegs["path"].iloc[0]).shape == (48, 48)


def test_turned_images_are_the_clean_ones_turned(write, clean):
    turned = write(turned=0.5)

    assert len(turned.paths("turned")) == 20
    for path in clean.manifest["path"]:
        before, after = read(clean, path), read(turned, path)
        assert np.array_equal(np.sort(before, axis=None), np.sort(after, axis=None))
        assert np.array_equal(before, after) == (path not in turned.paths("turned"))


def test_sites_can_be_made_to_tell_the_class(write):
    manifest = write(sites_follow_class=1.0).manifest

    assert manifest.groupby("label")["site"].unique().map(list).to_dict() == {
        "normal": ["site1"],
        "abnormal": ["site2"],
    }


def test_the_truth_is_on_file(write):
    phantoms = write(markers=0.5, straddling_patients=0.2)
    truth = json.loads((phantoms.folder / "truth.json").read_text(encoding="utf-8"))

    assert truth["faults"]["markers"] == 0.5
    assert truth["options"]["patients"] == 10
    assert [tuple(fault.values()) for fault in truth["planted"]] == [
        (fault.kind, fault.path, fault.detail) for fault in phantoms.planted
    ]
    assert truth["severity"] == phantoms.severity


# Refusals


def test_a_folder_that_holds_anything_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("kept", encoding="utf-8")

    with pytest.raises(DataError, match="not an empty folder") as refused:
        write_phantoms(tmp_path, SMALL)
    assert refused.value.code == "PHA_FOLDER_NOT_EMPTY"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_every_impossible_option_is_named_at_once():
    with pytest.raises(UsageError, match=r"patients is 1 or more.*bits is 8, 12 or 16.*noise is from 0"):
        PhantomOptions(patients=0, bits=9, noise=2.0)


@pytest.mark.parametrize("classes", [("one",), ("a", "A"), ("a", ""), ("a", "b/c"), ("a", ".."), ("a", " b")])
def test_classes_that_cannot_be_folders_are_refused(classes):
    with pytest.raises(UsageError, match="classes"):
        PhantomOptions(classes=classes)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(UsageError, match="duplicates is from 0 to 1"):
        Faults(duplicates=share)


def test_a_fault_in_an_unknown_class_is_refused(write):
    with pytest.raises(UsageError, match="size_fault_class is one of"):
        write(size_fault_class="nobody")


def test_sixteen_bits_cannot_be_jpeg(write):
    options = PhantomOptions(patients=2, images_per_patient=1, bits=16)

    with pytest.raises(UsageError, match="needs bits=8"):
        write(options, quality_fault_class="normal")


@pytest.mark.parametrize("wrong", [{"patient": 0}, {"image": 16}, {"image": -1}])
def test_an_image_no_patient_has_is_refused(wrong):
    with pytest.raises(UsageError):
        phantom_image(PhantomOptions(images_per_patient=16), **wrong)


def test_the_command_writes_them_and_says_what_was_planted(tmp_path, capsys):
    from plainfilm.cli import run

    few = ["--patients", "4", "--images-per-patient", "2", "--size", "32"]
    status = run(["phantoms", str(tmp_path / "set"), *few, "--classes", "a", "--classes", "b", "--markers", "1"])

    said = capsys.readouterr().out
    assert status == 0
    assert "8 images of 4 patients" in said
    assert "planted: 4 marker" in said
    assert sorted(path.name for path in (tmp_path / "set").iterdir() if path.is_dir()) == ["a", "b"]
