"""Every bad image, through the commands a user types: its stable code, an exit status, and never a traceback."""

import json
import shutil

import pandas as pd
import pytest
from PIL import Image

from bad_images import bad_images
from plainfilm.cli import run
from small_runs import SMALL_FLAGS, train_small, write_small_data

# One from each family of the catalogue, for the command that is too slow to try with all of them.
TRAINED_ON = 8


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """The bad images in one class folder, beside good images of two classes."""
    root = tmp_path_factory.mktemp("bad")
    return bad_images(root / "images")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    return train_small(write_small_data(root / "data"), root / "run", epochs=1).folder


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory):
    """Twelve good images in two classes, 32x32."""
    root = tmp_path_factory.mktemp("good")
    for label, shade in (("dark", 60), ("light", 180)):
        (root / label).mkdir()
        for number in range(6):
            picture = Image.linear_gradient("L").resize((32, 32)).point(lambda v, s=shade + number: (v + s) // 2)
            picture.save(root / label / f"{number}.png")
    return root


def test_the_catalogue_is_large_and_its_codes_are_stable(bad):
    assert len(bad) >= 45
    assert {case.code for case in bad} >= {"IMG_EMPTY", "IMG_NOT_AN_IMAGE", "IMG_TRUNCATED", "IMG_CONSTANT"}


def test_scan_refuses_each_with_its_code(bad, class_folders, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(class_folders, folder)
    for number, case in enumerate(bad):
        shutil.copyfile(case.path, folder / "dark" / f"bad{number:03d}{case.path.suffix}")

    status = run(["scan", str(folder), "-o", str(tmp_path / "account.csv"), "--quiet"])

    account = pd.read_csv(tmp_path / "account.csv", dtype=str, keep_default_na=False).set_index("path")
    assert status == 0
    assert "Traceback" not in capsys.readouterr().err
    wrong = {}
    for number, case in enumerate(bad):
        row = account.loc[f"dark/bad{number:03d}{case.path.suffix}"]
        if row["code"] != case.code and row["status"] != "skipped":  # a .pdf or .html says itself that it is no image
            wrong[case.name] = (row["code"], case.code)
    assert not wrong
    assert (account["status"] == "used").sum() == 12


@pytest.mark.parametrize("which", range(TRAINED_ON))
def test_train_refuses_to_go_on_without_it(which, bad, class_folders, tmp_path, capsys):
    families = {}
    for case in bad:
        families.setdefault(case.code, case)
    case = list(families.values())[which]
    folder = tmp_path / "data"
    shutil.copytree(class_folders, folder)
    shutil.copyfile(case.path, folder / "light" / "bad.png")

    status = run(["train", str(folder), "--patients", "image", *SMALL_FLAGS, "-o", str(tmp_path / "run"), "--quiet"])

    said = capsys.readouterr().err
    assert status == 3
    assert f"[{case.code}]" in said
    assert "light/bad.png" in said
    assert "Traceback" not in said
    assert str(tmp_path) not in said  # a message travels: no path outside the data


def test_predict_scores_the_good_and_lists_each_of_the_bad(bad, finished, class_folders, tmp_path, capsys):
    folder = tmp_path / "images"
    shutil.copytree(class_folders, folder)
    for number, case in enumerate(bad):
        shutil.copyfile(case.path, folder / f"bad{number:03d}.png")  # beside the class folders

    # One folder deep everything is an image of the table: predict takes a flat folder.
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in [*folder.glob("*/*.png"), *folder.glob("*.png")]:
        shutil.copyfile(path, flat / f"{path.parent.name}-{path.name}")
    status = run(["predict", str(finished), str(flat), "-o", str(tmp_path / "p.json"), "--quiet"])

    written = json.loads((tmp_path / "p.json").read_text())
    refused = {row["path"]: row["code"] for row in written["refused"]}
    assert status == 0
    assert len(written["predictions"]) == 12
    assert refused == {f"images-bad{number:03d}.png": case.code for number, case in enumerate(bad)}
    assert "Traceback" not in capsys.readouterr().err


def test_predict_on_a_single_bad_image_says_why(bad, finished, tmp_path, capsys):
    case = next(case for case in bad if case.code == "IMG_TRUNCATED")

    status = run(["predict", str(finished), str(case.path), "-o", str(tmp_path / "p.csv"), "--quiet"])

    assert status == 3
    assert "[IMG_TRUNCATED]" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()
