"""Models on the hub: pushed to a server on this machine, fetched from it once, then used with the server gone."""

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hub_server import model_hub
from plainfilm import verbs
from plainfilm.bundle import read_config
from plainfilm.errors import BundleError, PlainfilmError, UsageError
from plainfilm.hub import HubModel, parse_model_id
from plainfilm.measures import Evaluation
from plainfilm.reporting.hub_card import hub_card
from plainfilm.runs import Run
from plainfilm.storage import read_json
from small_runs import train_small, write_bundle, write_small_data

MODEL = "clinic/brains"
CANARY = "Zephyrina-Quux-1938"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images whose folder, patients, file names and further columns all bear a name that must not get out."""
    manifest = write_small_data(tmp_path_factory.mktemp(CANARY) / CANARY)
    rows = pd.read_csv(manifest, dtype=str)
    for index, name in enumerate(rows["path"]):
        new = f"{Path(name).parent}/{CANARY}_{index}.png"
        (manifest.parent / name).rename(manifest.parent / new)
        rows.loc[index, "path"] = new
    rows["patient_id"] = CANARY + rows["patient_id"]
    rows["referring"] = CANARY
    rows.to_csv(manifest, index=False)
    return manifest


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return train_small(data, tmp_path_factory.mktemp("runs") / "run", epochs=1, model="lenet5", min_patients=2)


def code_of(call, *arguments, **options) -> str:
    try:
        call(*arguments, **options)
    except PlainfilmError as error:
        return error.code
    return "nothing was refused"


def visit(run: Path, other: Path, images: Path, home: Path) -> dict[str, object]:
    """Push, fetch, and go without; in a process of its own, since the hub's address is read at import."""
    with model_hub() as hub:
        os.environ.update(
            HF_ENDPOINT=hub.address,
            HF_HOME=str(home),
            HF_HUB_DISABLE_TELEMETRY="1",
            HF_HUB_DISABLE_PROGRESS_BARS="1",
            HF_HUB_DISABLE_XET="1",
        )
        for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "http_proxy", "HTTP_PROXY"):
            os.environ.pop(name, None)
        without_token = code_of(verbs.push, run, MODEL)
        dry = verbs.push(run, MODEL, dry_run=True)
        after_dry = dict(hub.commits)
        os.environ["HF_TOKEN"] = hub.token
        first = verbs.push(run, MODEL, licence="apache-2.0")
        after_push = list(hub.requests)
        sent = b"".join(hub.bodies)
        table, _ = verbs.predict(f"hf:{MODEL}", images, workers=0)
        second = verbs.push(other, MODEL)
        pinned, _ = verbs.predict(first.model, images, workers=0)
        newer, _ = verbs.predict(second.model, images, workers=0)
        evaluation = verbs.evaluate(f"hf:{MODEL}", images)
        asked = len(hub.requests)
        verbs.predict(f"hf:{MODEL}", images, workers=0)
        again = len(hub.requests) - asked
        refusals = {
            "absent": code_of(verbs.predict, "hf:clinic/nothing", images),
            "revision": code_of(verbs.predict, f"hf:{MODEL}@v9", images),
            "in place": code_of(verbs.export, f"hf:{MODEL}"),
        }
        spoilt = dict(hub.commits[MODEL][-1][1])
        spoilt["model.safetensors"] = b"\x80\x04" + spoilt["model.safetensors"][2:]
        spoilt["modeling.py"] = b"raise SystemExit"
        hub.commits["evil/brains"] = [("e" * 40, spoilt)]
        refusals["changed on the hub"] = code_of(verbs.predict, "hf:evil/brains", images)
        hub.commits["clinic/other"] = [("d" * 40, {"README.md": b"# Not ours"})]
        refusals["no bundle"] = code_of(verbs.predict, "hf:clinic/other", images)
        evil = sorted(path.name for path in home.glob("hub/models--evil--brains/snapshots/*/*"))
        pages, files = hub.pages, {name: len(data) for name, data in hub.files(MODEL, first.commit)[1].items()}
    offline, _ = verbs.predict(f"hf:{MODEL}", images, workers=0)
    offline_pinned, _ = verbs.predict(second.model, images, workers=0)
    return {
        "without token": without_token,
        "dry": (dry.commit, after_dry, dry.card),
        "requests": after_push,
        "sent": sent,
        "files": files,
        "pages": pages,
        "models": (first.model, second.model),
        "scores": [table.scores, pinned.scores, newer.scores, offline.scores, offline_pinned.scores],
        "asked again": again,
        "evaluation": evaluation.n_images,
        "fetched of the evil": evil,
        "gone": code_of(verbs.predict, "hf:clinic/unseen", images),
        **refusals,
    }


@pytest.fixture(scope="module")
def visited(run, data, tmp_path_factory):
    place = tmp_path_factory.mktemp("hub")
    other = write_bundle(place / "other", classes=read_config(run.folder / "bundle").classes, seed=4)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(visit, run.folder, other, data, place / "home").result(timeout=900)


def test_a_model_is_pushed_and_gives_the_same_scores_by_its_id(visited, run, data):
    expected, _ = verbs.predict(run.folder, data, workers=0)

    assert np.array_equal(visited["scores"][0], expected.scores)
    assert visited["evaluation"] == 80


def test_large_files_go_apart_and_all_is_one_commit(visited):
    requests = visited["requests"]
    assert "POST /api/repos/create" in requests
    assert f"POST /{MODEL}.git/info/lfs/objects/batch" in requests
    assert sum(request.startswith("PUT /upload/") for request in requests) == 1
    assert sum("/commit/" in request for request in requests) == 1


def test_nothing_but_the_bundle_and_its_page_is_pushed(visited):
    assert set(visited["files"]) == {"README.md", "config.json", "manifest.json", "model.safetensors"}


def test_no_name_of_the_clinic_leaves_it(visited):
    assert CANARY.encode() not in visited["sent"]
    for part in CANARY.split("-")[:2]:
        assert part.lower().encode() not in visited["sent"].lower()
    assert len(visited["sent"]) > 10_000  # there was something to search


def test_a_commit_stays_what_it_was(visited):
    unpinned, pinned, newer, offline, offline_pinned = visited["scores"]

    assert np.array_equal(pinned, unpinned)
    assert not np.array_equal(newer, pinned)
    assert visited["models"][0] != visited["models"][1]
    assert np.array_equal(offline, unpinned)
    assert np.array_equal(offline_pinned, newer)


def test_a_model_in_the_cache_is_not_asked_for_again(visited):
    assert visited["asked again"] == 0
    assert visited["gone"] == "RES_DOWNLOAD"


def test_a_dry_run_sends_nothing(visited):
    commit, commits, card = visited["dry"]
    assert (commit, commits) == ("", {})
    assert "plainfilm predict hf:clinic/brains" in card


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("without token", "RES_UPLOAD"),
        ("absent", "RES_DOWNLOAD"),
        ("revision", "RES_DOWNLOAD"),
        ("in place", "OPT_OUTPUT"),
        ("changed on the hub", "BUN_DAMAGED"),
        ("no bundle", "BUN_MISSING"),
    ],
)
def test_what_cannot_be_is_refused_with_its_code(visited, what, code):
    assert visited[what] == code


def test_of_a_repository_only_the_files_of_a_bundle_are_fetched(visited):
    assert "model.safetensors" in visited["fetched of the evil"]
    assert "modeling.py" not in visited["fetched of the evil"]


# --- the page -----------------------------------------------------------------------------------------------


def page_of(run: Run, evaluation: Evaluation | None, card: str | None = None, licence: str | None = None):
    from huggingface_hub import ModelCard  # it reads its settings when it is imported

    bundle = run.folder / "bundle"
    text = (bundle / "README.md").read_text() if card is None else card
    page, notes = hub_card(
        text, read_config(bundle), repository=MODEL, licence=licence, base_model=None, evaluation=evaluation
    )
    return page, ModelCard(page, ignore_metadata_errors=False).data, notes


@pytest.fixture(scope="module")
def evaluation(run):
    return Evaluation.from_json(read_json(run.evaluation))


def test_the_page_holds_figures_with_interval_and_count(run, evaluation, visited):
    page, data, _ = page_of(run, evaluation, licence="apache-2.0")

    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "plainfilm", "image-classification")
    assert {"medical-imaging", "research-only"} <= set(data.tags)
    assert len(data.eval_results) == len([row for row in page.splitlines() if "95% CI" in row])
    for result in data.eval_results:
        assert {"low", "high", "n_images", "n_patients", "confidence"} <= result.metric_args.keys()
        assert result.metric_args["n_images"] > 0
        assert result.metric_value is not None
    assert data.metrics == sorted({result.metric_type for result in data.eval_results})
    assert visited["pages"][0] == page


def test_a_figure_that_may_not_stand_is_shown_struck_and_not_listed(run, evaluation):
    from dataclasses import replace

    page, data, notes = page_of(run, replace(evaluation, struck="the split was by image."))

    assert data.eval_results is None
    assert "model-index" not in page
    assert "~~" in page
    assert "Not a result" in page
    assert any("may not stand" in note for note in notes)


def test_a_figure_that_is_withheld_is_named_with_its_reason(run, evaluation):
    from dataclasses import replace

    headline = replace(evaluation.headline, value=None, low=None, high=None, reason="too few patients")
    page, data, _ = page_of(run, replace(evaluation, headline=headline, measures=()))

    assert data.eval_results is None
    assert "not given (too few patients)" in page


def test_a_bundle_by_itself_has_no_figures(run):
    page, data, notes = page_of(run, None)

    assert data.eval_results is None
    assert data.license == "unknown"
    assert any("--license" in note for note in notes)
    assert "## Figures" not in page


def test_what_the_authors_wrote_stays(run, evaluation):
    card = "---\nlicense: cc-by-4.0\ntags: [chest]\nlanguage: [de]\n---\n\n# Ours\n\nMade for adults only.\n"
    page, data, _ = page_of(run, evaluation, card)

    assert data.license == "cc-by-4.0"
    assert {"chest", "plainfilm"} <= set(data.tags)
    assert data.language == ["de"]
    assert "Made for adults only." in page


def test_a_head_that_is_no_yaml_is_refused(run):
    with pytest.raises(UsageError) as caught:
        page_of(run, None, "---\n: [\n---\n# x\n")
    assert caught.value.code == "HUB_CARD"


# --- ids ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["hf:", "hf:brains", "hf:a/b/c", "hf:../b", "hf:a/b@", "hf:a/b c", "hf:a/b@x/../y"])
def test_what_is_not_an_id_is_refused(text):
    with pytest.raises(BundleError, match="hf:OWNER/NAME") as caught:
        parse_model_id(text)
    assert caught.value.code == "BUN_HUB_ID"


def test_an_id_is_owner_and_name_and_perhaps_a_revision():
    assert parse_model_id("hf:a/b@v1") == HubModel("a/b", "v1") == parse_model_id(Path("a/b@v1"))
    assert str(HubModel("a/b", "v1")) == "hf:a/b@v1"


def test_a_link_in_a_bundle_is_not_followed_to_the_hub(tmp_path):
    folder = write_bundle(tmp_path / "b")
    secret = tmp_path / "id_ed25519"
    secret.write_text("secret")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(secret)

    with pytest.raises(BundleError) as caught:
        verbs.push(folder, MODEL, dry_run=True)
    assert caught.value.code == "BUN_OUTSIDE"


def test_of_several_folds_one_is_pushed(tmp_path):
    one = write_bundle(tmp_path / "run" / "folds" / "1" / "bundle")
    shutil.copytree(one, tmp_path / "run" / "folds" / "2" / "bundle")

    with pytest.raises(BundleError, match="Push one") as caught:
        verbs.push(tmp_path / "run", MODEL, dry_run=True)
    assert caught.value.code == "BUN_FOLDS"
    assert set(verbs.push(one, MODEL, dry_run=True).files) == {
        "README.md",
        "config.json",
        "manifest.json",
        "model.safetensors",
    }
