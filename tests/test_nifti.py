"""NIfTI volumes: upright slices at full depth, patients from names, participants joined."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

import plainfilm
from bad_nifti import SHAPE, bad_nifti, patched, volume
from plainfilm.config import RunOptions
from plainfilm.data.images import ImageRef, read_image
from plainfilm.data.sources import list_images
from plainfilm.data.workers import decode_images
from plainfilm.errors import ImageError


def slice_of(path: Path, axis: str = "axial", number: int = 8, window: str = "file"):
    return read_image(ImageRef(path, axis, number, window))[0]


def scanned(folder: Path, **options):
    return plainfilm.scan(folder, options=RunOptions.from_flat({"workers": 0, **options}))


def voxels(dtype="int16"):
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)


def saved(path: Path, values, affine=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def test_slices_lie_as_a_radiologist_looks_at_them(tmp_path):
    values = voxels()
    path = saved(tmp_path / "a.nii.gz", values)  # voxels run to the right, front and top

    np.testing.assert_array_equal(slice_of(path, "axial"), values[::-1, ::-1, 8].T)
    np.testing.assert_array_equal(slice_of(path, "coronal"), values[::-1, 8, ::-1].T)
    np.testing.assert_array_equal(slice_of(path, "sagittal"), values[8, ::-1, ::-1].T)


def test_the_way_a_volume_is_stored_does_not_change_its_slices(tmp_path):
    values = voxels()
    straight = saved(tmp_path / "ras.nii", values)
    to_lps = np.diag([-1.0, -1, 1, 1])
    turned = saved(tmp_path / "lps.nii", values[::-1, ::-1], to_lps)
    swapped = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    other = saved(tmp_path / "yzx.nii", np.moveaxis(values, 0, 2), swapped)

    for axis in ("axial", "coronal", "sagittal"):
        np.testing.assert_array_equal(slice_of(turned, axis), slice_of(straight, axis))
        np.testing.assert_array_equal(slice_of(other, axis), slice_of(straight, axis))


@pytest.mark.parametrize(("stored", "kept"), [("uint8", "uint8"), ("uint16", "uint16"), ("int16", "float32")])
def test_depth_is_kept(tmp_path, stored, kept):
    values = voxels(stored)

    assert slice_of(saved(tmp_path / "a.nii", values)).dtype == kept
    np.testing.assert_array_equal(slice_of(tmp_path / "a.nii"), values[::-1, ::-1, 8].T)


def test_the_slope_is_applied_and_a_given_window_after_it(tmp_path):
    image = nibabel.Nifti1Image(voxels(), np.eye(4))
    image.header.set_slope_inter(2.0, -100.0)
    nibabel.save(image, tmp_path / "a.nii")
    expected = voxels()[::-1, ::-1, 8].T * 2.0 - 100.0
    shown, record = read_image(ImageRef(tmp_path / "a.nii", "axial", 8, "40/81"))

    np.testing.assert_allclose(slice_of(tmp_path / "a.nii"), expected)
    np.testing.assert_array_equal(shown, np.round(np.clip((expected - 39.5) / 80 + 0.5, 0, 1) * 65535))
    assert record.notes == ("rescale", "given-window")


def test_colour_voxels_and_pairs_are_read(tmp_path):
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name in "RGB":
        colour[name] = voxels("uint8")
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "rgb.nii")
    nibabel.save(nibabel.Nifti1Pair(voxels("uint8"), np.eye(4)), tmp_path / "pair.hdr")

    np.testing.assert_array_equal(slice_of(tmp_path / "rgb.nii"), slice_of(tmp_path / "pair.hdr"))


def test_a_bids_tree_becomes_a_table_of_slices(tmp_path):
    for number in (1, 2, 3):
        saved(tmp_path / f"sub-0{number}" / "anat" / f"sub-0{number}_T1w.nii.gz", voxels() + number)
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tgroup\tage\nsub-01\tpatient\t70\nsub-02\tcontrol\tn/a\nsub-03\tpatient\t65\n"
    )
    table = scanned(tmp_path, frames="central:0.5")

    assert len(table) == 3 * 10
    assert set(table.rows["patient_id"]) == {"sub-01", "sub-02", "sub-03"}
    assert dict(zip(table.rows["patient_id"], table.rows["label"], strict=True))["sub-02"] == "control"
    assert table.rows["age"].isna().sum() == 10
    assert set(table.rows["stored_as"]) == {"RAS"}
    assert set(table.rows["slice"]) == {str(number) for number in range(5, 15)}


def test_empty_slices_are_skipped_and_said(tmp_path):
    values = voxels()
    values[:, :, :4] = 0
    saved(tmp_path / "normal" / "a.nii", values)
    saved(tmp_path / "ill" / "b.nii.gz", voxels() + 1)
    table = scanned(tmp_path)

    assert len(table) == 2 * 20 - 4
    assert {item.code for item in table.left_out} == {"SKIP_EMPTY_SLICE"}
    assert table.classes == ("ill", "normal")
    assert set(table.rows["patient_id"]) == {"a", "b"}


def test_several_volumes_are_refused_or_the_first_is_taken(tmp_path):
    saved(tmp_path / "ill" / "film.nii", np.stack([voxels(), voxels() + 1], axis=-1))

    assert [item.code for item in scanned(tmp_path).refused] == ["NII_VOLUMES"]
    table = scanned(tmp_path, volumes="first", frames="middle")
    assert len(table) == 1
    np.testing.assert_array_equal(read_image(table.refs[0])[0], voxels()[::-1, ::-1, 10].T)


def test_every_bad_volume_is_refused_with_its_code(tmp_path):
    listed = bad_nifti(tmp_path)

    assert len(listed) >= 25
    for bad in listed:
        with pytest.raises(ImageError) as caught:
            read_image(bad.path)
        assert (bad.name, caught.value.code) == (bad.name, bad.code)
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [(80, "<f", -1.0), (80, "<f", 0.0), (252, "<h", 255), (254, "<h", 2050), (108, "<f", 360.0)],
    ids=["spacing below 0", "no spacing", "qform code", "sform code", "offset of voxels"],
)
def test_what_nibabel_mends_in_a_header_is_not_told_to_the_terminal(tmp_path, caplog, offset, form, value):
    path = tmp_path / "odd.nii"
    path.write_bytes(patched(volume(), offset, form, value) + bytes(16))

    assert slice_of(path).shape == (18, 16)
    assert caplog.text == ""


def test_slices_in_workers_are_those_read_here(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(volume()))
    refs = [ImageRef(path, "coronal", number) for number in range(6)]
    found = {decoded.index: decoded.record for decoded in decode_images(refs, workers=1)}

    assert [found[number].pixel_sha256 for number in range(6)] == [read_image(ref)[1].pixel_sha256 for ref in refs]


@pytest.mark.parametrize("name", ["dimension_overflow.nii", "gz_bomb.nii.gz", "cut.nii", "header_only.nii"])
def test_a_volume_that_cannot_be_there_is_one_refusal_not_one_for_each_slice(name, tmp_path):
    (case,) = (case for case in bad_nifti(tmp_path) if case.name == name)

    listing = list_images(case.path)

    assert len(listing.refs) == 1
    with pytest.raises(ImageError) as caught:
        read_image(listing.refs[0])
    assert caught.value.code == case.code
