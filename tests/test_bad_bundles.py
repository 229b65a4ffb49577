"""Every bad bundle and ONNX file, as `predict` meets them: its code, nothing run, little time, little memory."""

import resource
import shutil
import time

import pytest

from bad_bundles import BUNDLES, ONNX_FILES
from plainfilm.bundle import load_bundle
from plainfilm.cli import run as cli
from plainfilm.errors import BundleError
from plainfilm.models.families import find_architecture
from plainfilm.verbs.gating import NoveltyCheck
from small_runs import write_bundle

MOST_SECONDS, MOST_BYTES = 5.0, 512 << 20


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = write_bundle(tmp_path_factory.mktemp("sound") / "bundle")
    load_bundle(folder)
    find_architecture("timm:resnet18")  # what importing costs is not the cases' to pay
    return folder


@pytest.fixture(scope="module")
def exported(sound, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from plainfilm import verbs

    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    verbs.export(sound, output=path)
    return path.read_bytes()


def test_there_are_many():
    assert len({case.name for case in [*BUNDLES, *ONNX_FILES]}) >= 25
    assert len(BUNDLES) + len(ONNX_FILES) >= 100


@pytest.mark.parametrize("case", BUNDLES, ids=lambda case: case.name)
def test_a_bad_bundle_is_refused(case, sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "bundle")
    case.spoil(folder)

    def load():
        bundle = load_bundle(folder)
        NoveltyCheck.load(folder, bundle, device="cpu")

    said = refused(load)

    assert said.code == case.code, said
    assert str(tmp_path) not in str(said)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("case", ONNX_FILES, ids=lambda case: case.name)
def test_a_bad_onnx_file_is_refused(case, exported, tmp_path):
    from plainfilm.exporting.reading import read_onnx

    path = tmp_path / "model.onnx"
    path.write_bytes(case.spoil(exported))

    said = refused(lambda: read_onnx(path))

    assert said.code == case.code, said
    assert str(tmp_path) not in str(said)


def refused(load) -> BundleError:
    """The error it ends in, within time of the processor and memory of the process."""
    began, before = time.process_time(), _most_memory()
    with pytest.raises(BundleError) as caught:
        load()
    assert time.process_time() - began < MOST_SECONDS
    assert _most_memory() - before < MOST_BYTES
    return caught.value


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("which", [0, 9, 12, 21, 26, 35, 40, 52])
def test_the_command_says_it_in_one_line(which, sound, tmp_path, capsys):
    case = BUNDLES[which]
    folder = shutil.copytree(sound, tmp_path / "bundle")
    case.spoil(folder)
    (tmp_path / "images").mkdir()
    from PIL import Image

    Image.linear_gradient("L").save(tmp_path / "images" / "a.png")

    status = cli(["predict", str(folder), str(tmp_path / "images"), "-o", str(tmp_path / "p.csv"), "-q"])

    err = capsys.readouterr().err
    assert status == 3
    assert err.endswith(f"[{case.code}]\n")
    assert err.count("\n") == 1
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize("ending", [".pt", ".pth", ".ckpt", ".bin"])
def test_foreign_weights_are_refused_by_their_name(ending, tmp_path):
    from plainfilm.models.weights import read_weights

    (tmp_path / f"w{ending}").write_bytes(b"\x80\x04.")
    with pytest.raises(BundleError) as caught:
        read_weights(tmp_path / f"w{ending}", shown="w")
    assert caught.value.code == "BUN_FORMAT"
