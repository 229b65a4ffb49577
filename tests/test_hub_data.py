"""Data sets named by their hub id: fetched once from a server on this machine, then read without it."""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest

from plainfilm.data.hub import CONVERTED, HubDataset, fetch_dataset, is_hub_id, parse_hub_id
from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.data.sources import list_images
from plainfilm.errors import DataError, PlainfilmError, ResourceError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BRAINS = "someone/brains"
PICTURES = "someone/pictures"


@contextmanager
def hub_serving(data_sets: dict[str, dict[str, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that answers for some data sets as the Hugging Face hub does."""
    requests: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            requests.append(f"{self.command} {path}")
            content = self.found(path)
            self.send_response(404 if content is None else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            if content is None:
                known = any(f"/datasets/{name}" in path for name in data_sets)
                self.send_header("X-Error-Code", "RevisionNotFound" if known else "RepoNotFound")
            else:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body and content:
                self.wfile.write(content)

        def found(self, path: str) -> bytes | None:
            for name, files in data_sets.items():
                if path in (f"/api/datasets/{name}", f"/api/datasets/{name}/revision/main"):
                    siblings = [{"rfilename": file} for file in files]
                    return json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
                if path == f"/api/datasets/{name}/tree/{COMMIT}":
                    tree = [
                        {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for file, content in files.items()
                    ]
                    return json.dumps(tree).encode()
                for file, content in files.items():
                    if path == f"/datasets/{name}/resolve/{COMMIT}/{file}":
                        return content
            return None

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(name: str) -> tuple[str, str]:
    """Code and text of the error that fetching ends in."""
    try:
        fetch_dataset(parse_hub_id(name))
    except PlainfilmError as error:
        return error.code, str(error)
    raise AssertionError(f"{name} was fetched")


def visit_a_hub(shards: dict[str, bytes], home: Path) -> dict[str, object]:
    """Download, then go without; runs in a process of its own, since the hub's address is read at import."""
    files = {**shards, "README.md": b"# Brains", "weights.bin": b"never asked for"}
    with hub_serving({BRAINS: files, PICTURES: {"images/1.png": b""}}) as (address, requests):
        os.environ.update(
            HF_ENDPOINT=address, HF_HOME=str(home), HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1"
        )
        for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "http_proxy", "HTTP_PROXY"):
            os.environ.pop(name, None)
        dataset = parse_hub_id(f"hf:{BRAINS}")
        first = fetch_dataset(dataset)
        after_download = list(requests)
        copy = fetch_dataset(dataset, folder=home / "copy")
        refusals = {
            "absent": refusal("hf:someone/nothing"),
            "no shards": refusal(f"hf:{PICTURES}"),
            "revision": refusal(f"hf:{BRAINS}@v9"),
        }
    again = fetch_dataset(dataset)
    listing = list_images(again)
    return {
        **refusals,
        "requests": after_download,
        "same folder": first == again,
        "copied": sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*.parquet")),
        "splits": {split: int(count) for split, count in listing.rows["split"].value_counts().items()},
        "readable": all(ref.path.read_bytes() in shards.values() for ref in listing.refs[:1]),
        "unreachable": refusal("hf:someone/other"),
    }


def parquet(images: Path, rows: pd.DataFrame, path: Path) -> bytes:
    """The rows as the hub keeps images: bytes in a column."""
    cells = [{"bytes": (images / name).read_bytes(), "path": name} for name in rows["path"]]
    pd.DataFrame({"image": cells, "label": list(rows["label"])}).to_parquet(path, index=False)
    return path.read_bytes()


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    phantoms = write_phantoms(folder / "images", PhantomOptions(patients=4, images_per_patient=2, size=32))
    shards = {
        f"data/{split}-00000-of-00001.parquet": parquet(phantoms.folder, rows, folder / f"{split}.parquet")
        for split, rows in (("train", phantoms.manifest[:6]), ("test", phantoms.manifest[6:]))
    }
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(visit_a_hub, shards, folder / "home").result(timeout=120)


def test_a_data_set_is_downloaded_once_and_then_read_without_the_hub(visit):
    assert f"GET /datasets/{BRAINS}/resolve/{COMMIT}/data/train-00000-of-00001.parquet" in visit["requests"]
    assert visit["same folder"]
    assert visit["readable"]
    assert visit["splits"] == {"train": 6, "test": 2}


def test_only_parquet_files_are_downloaded(visit):
    fetched = [request for request in visit["requests"] if "/resolve/" in request]
    assert fetched
    assert all(request.endswith(".parquet") for request in fetched)


def test_a_data_set_can_be_put_into_a_folder(visit):
    assert visit["copied"] == ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]


def test_a_wrong_id_says_that_the_hub_has_no_such_data_set(visit):
    code, text = visit["absent"]
    assert code == "RES_DOWNLOAD"
    assert "hf:someone/nothing" in text
    assert "the hub has no such data set" in text


def test_a_wrong_revision_is_named(visit):
    code, text = visit["revision"]
    assert code == "RES_DOWNLOAD"
    assert f"hf:{BRAINS}@v9" in text
    assert "no such revision" in text


def test_a_data_set_without_parquet_is_refused_with_the_hubs_own_copy_named(visit):
    code, text = visit["no shards"]
    assert code == "TAB_NO_SHARDS"
    assert f"hf:{PICTURES}@{CONVERTED}" in text


def test_an_unreachable_hub_says_what_to_fetch_and_where_to_put_it(visit):
    code, text = visit["unreachable"]
    assert code == "RES_DOWNLOAD"
    assert "hf download someone/other --repo-type dataset" in text
    assert "datasets--someone--other" in text
    assert "HF_HUB_CACHE" in text


def test_offline_is_said_at_once(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ResourceError, match="HF_HUB_OFFLINE is set"):
        fetch_dataset(HubDataset(BRAINS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:Falah/Alzheimer_MRI", HubDataset("Falah/Alzheimer_MRI")),
        ("hf:a/b@v1.0", HubDataset("a/b", "v1.0")),
        (f"hf:a/b@{CONVERTED}", HubDataset("a/b", CONVERTED)),
    ],
)
def test_an_id_is_owner_and_name_and_perhaps_a_revision(text, expected):
    assert is_hub_id(text)
    assert is_hub_id(Path(text))
    assert parse_hub_id(Path(text)) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text", ["hf:", "hf:brains", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b@", "hf:a/b c", "hf:a/b@x/../y"]
)
def test_what_is_not_an_id_is_refused(text):
    with pytest.raises(DataError, match="hf:OWNER/NAME") as caught:
        parse_hub_id(text)
    assert caught.value.code == "TAB_HUB_ID"


def test_a_place_on_this_machine_is_no_id():
    assert not is_hub_id("data/images")
    assert not is_hub_id(Path("/data/hf:x"))
