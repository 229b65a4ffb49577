"""An image that is unlike the training images is called so, by its file or by what the model makes of it."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plainfilm import verbs
from plainfilm.bundle import load_bundle, load_reference, read_config
from plainfilm.errors import BundleError
from plainfilm.novelty import Gate, Reference, beyond, file_gate, limits, refusals
from small_runs import train_small, write_small_data


def cloud(n, *, d=8, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return (rng.normal(size=(n, d)) + 3 * y[:, None] + shift).astype(np.float32), y


def test_one_in_a_hundred_images_of_new_patients_is_called_unlike():
    features, y = cloud(600)
    reference = Reference.fit(features, y, most=600, seed=0)
    held_out = reference.distances(cloud(2000, seed=1)[0], neighbours=5)
    near, away = limits(held_out, np.arange(2000), quantile=0.99)
    gate = Gate(neighbour_limit=near, class_limit=away)

    new = beyond(reference.distances(cloud(4000, seed=2)[0], neighbours=5), gate)
    assert new.mean() == pytest.approx(0.01, abs=0.006)
    assert beyond(reference.distances(cloud(200, shift=20)[0], neighbours=5), gate).all()


def test_distance_to_the_nearest_class_is_that_of_mahalanobis():
    features, y = cloud(4000, d=3)
    reference = Reference.fit(features, y, most=100, seed=0)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    means = np.stack([scaled[y == c].mean(axis=0) for c in (0, 1)])
    inverse = np.linalg.inv(np.cov((scaled - means[y]).T, bias=True))
    away = scaled[:50, None] - means[None]
    expected = np.sqrt(np.einsum("nci,ij,ncj->nc", away, inverse, away)).min(axis=1)

    assert reference.distances(features[:50], neighbours=3)[:, 1] == pytest.approx(expected, rel=0.02)


def test_the_file_alone_can_be_unlike():
    gate = file_gate(np.array([8, 8]), np.array([512, 400]), np.array([512, 512]))
    said = refusals(
        gate,
        np.array([8, 16, 8, 8, 8]),
        *np.array([[512, 512], [512, 512], [90, 90], [4000, 4000], [512, 2000]]).T[[0, 1]],
    )

    assert said[0] == ""
    assert said[1] == "16 bits"
    assert [sentence.rsplit(" ", 3)[-3:] for sentence in said[2:4]] == [
        ["smaller", "than", "any"],
        ["larger", "than", "any"],
    ]
    assert "longer than any" in said[4]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms", patients=60, images_per_patient=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return train_small(
        data, tmp_path_factory.mktemp("runs") / "run", split="patient", validation_fraction=0.4, gallery=False
    )


def test_a_bundle_knows_its_images_and_says_how_well(run):
    gate = read_config(run.folder / "bundle").novelty

    assert gate.reason == ""
    assert gate.bits == (8,)
    assert gate.n_patients >= 10
    assert set(gate.far_auc) == {"noise", "text", "inverted", "upside_down", "brain_phantom", "chest_phantom"}
    assert gate.far_auc["noise"] > 0.9
    assert gate.far_auc["chest_phantom"] > 0.9 > gate.far_auc["brain_phantom"]  # the images are brains themselves
    facts = json.loads(run.facts.read_text())
    assert facts["folds"][0]["novelty"]["neighbour_limit"] == gate.neighbour_limit


def test_a_page_of_noise_is_called_unlike_and_a_patient_is_not(run, data, tmp_path):
    strange = tmp_path / "strange"
    strange.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(noise).save(strange / "noise.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 65536, (32, 32), dtype=np.uint16)).save(strange / "deep.png")
    unlike, _ = verbs.predict(run.folder, strange, workers=0)
    usual, _ = verbs.predict(run.folder, data, output=tmp_path / "predictions.csv", workers=0)

    assert unlike.table["unlike_training"].tolist() == ["yes", "yes"]
    assert "16 bits" in unlike.table["unlike_why"][0]
    assert (usual.table["unlike_training"] == "no").mean() > 0.9
    assert "unlike_training" in pd.read_csv(tmp_path / "predictions.csv").columns


def test_a_changed_reference_is_noticed(run, tmp_path):
    import shutil

    bundle = shutil.copytree(run.folder / "bundle", tmp_path / "bundle")
    data = bytearray((bundle / "novelty.safetensors").read_bytes())
    data[-1] ^= 1
    (bundle / "novelty.safetensors").write_bytes(data)

    with pytest.raises(BundleError):
        load_reference(bundle)
    with pytest.raises(BundleError):
        load_bundle(bundle)
