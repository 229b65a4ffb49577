"""The catalogue of public sets, and a download that never ends in a wrong file; from a server on this machine."""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from plainfilm import catalogue
from plainfilm.catalogue import RECEIPT, DataFile, DataSet, find_data_set, get_data_set, list_data_sets
from plainfilm.errors import DataError, ResourceError, UsageError
from plainfilm.storage import read_json

CONTENT = bytes(range(256)) * 20_000
NAMES = [entry.name for entry in list_data_sets()]


class Server:
    """Files served on this machine, with byte ranges; it can be told to stop in the middle."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.stop_after: int | None = None
        self.asked: list[tuple[str, str | None]] = []
        self.address = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        span = handler.headers.get("Range")
        self.asked.append((handler.path, span))
        content = self.files.get(handler.path)
        if content is None:
            handler.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", span)[1]) if span else 0
        if start >= len(content):
            handler.send_error(416)
            return
        handler.send_response(206 if span else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start:][: self.stop_after])


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    served = Server(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    served.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def offered(monkeypatch):
    """Puts one set of given files into the catalogue."""

    def offer(*files: DataFile) -> None:
        entry = DataSet(
            name="films",
            title="Films",
            depth="8-bit grey",
            classes=("a", "b"),
            patients="not named",
            licence="CC0",
            home="https://example.org",
            caution="Made up.",
            files=files,
        )
        monkeypatch.setattr(catalogue, "list_data_sets", lambda: (entry,))

    return offer


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def film(server: Server, name: str = "films.npz", **how) -> DataFile:
    return DataFile(name=name, url=f"{server.address}/{name}", **how)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


# --- what it lists ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_set_has_a_licence_a_caution_and_a_way_to_get_it(name):
    entry, _ = find_data_set(name)
    assert entry.licence
    assert entry.caution.endswith(".")
    assert entry.home.startswith("https://")
    assert entry.how != "by hand" or entry.by_hand.endswith(".")


def test_names_are_each_used_once():
    typed = [name for entry in list_data_sets() for name in entry.names]
    assert len(typed) == len(set(typed))


def test_published_hashes_have_the_form_of_a_hash():
    for entry in list_data_sets():
        for file in entry.files:
            assert file.md5 is None or re.fullmatch(r"[0-9a-f]{32}", file.md5)
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert (file.url or entry.hub) is not None


def test_every_medmnist_file_has_its_own_md5():
    hashes = [file.md5 for entry in list_data_sets() for file in entry.files if "mnist" in file.name]
    assert len(hashes) == len(set(hashes)) == 4 * 12


def test_a_size_is_part_of_the_name():
    entry, variant = find_data_set("pneumoniamnist_128")
    assert (entry.name, variant) == ("pneumoniamnist", "128")


def test_a_wrong_name_offers_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'pneumoniamnist'") as caught:
        get_data_set("pneumoniamist")
    assert caught.value.code == "UNKNOWN_DATA_SET"


@pytest.mark.parametrize("name", [name for name in NAMES if find_data_set(name)[0].how == "by hand"])
def test_what_no_program_may_download_says_where_to_go_and_where_to_put_it(name, tmp_path):
    with pytest.raises(UsageError) as caught:
        get_data_set(name, tmp_path / "here")
    assert caught.value.code == "DAT_BY_HAND"
    assert find_data_set(name)[0].by_hand in str(caught.value)
    assert str(tmp_path / "here") in str(caught.value)
    assert not (tmp_path / "here").exists()


# --- downloading --------------------------------------------------------------------------------------------


def test_a_file_is_downloaded_compared_and_noted(offered, tmp_path):
    with serving({"/films.npz": CONTENT}) as server:
        offered(film(server, md5=md5(CONTENT)))
        fetched = get_data_set("films", tmp_path / "films")
    assert (tmp_path / "films" / "films.npz").read_bytes() == CONTENT
    assert fetched.checked == ("films.npz",)
    receipt = read_json(tmp_path / "films" / RECEIPT)
    assert receipt["sha256"] == {"films.npz": hashlib.sha256(CONTENT).hexdigest()}
    assert receipt["compared_with_published"] == ["films.npz"]
    assert left_in(tmp_path / "films") == {"films.npz", RECEIPT}


def test_without_a_published_hash_the_receipt_says_that_nothing_was_compared(offered, tmp_path):
    with serving({"/films.npz": CONTENT}) as server:
        offered(film(server))
        fetched = get_data_set("films", tmp_path / "films")
    assert fetched.checked == ()
    assert fetched.sha256 == {"films.npz": hashlib.sha256(CONTENT).hexdigest()}


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_file_with_another_hash_is_not_kept(offered, tmp_path, kind):
    expected = hashlib.new(kind, b"another").hexdigest()
    with serving({"/films.npz": CONTENT}) as server:
        offered(film(server, **{kind: expected}))
        with pytest.raises(ResourceError, match="its hash differs") as caught:
            get_data_set("films", tmp_path / "films")
    assert caught.value.code == "RES_HASH"
    assert left_in(tmp_path / "films") == set()


def test_a_download_cut_short_goes_on_where_it_stopped(offered, tmp_path):
    with serving({"/films.npz": CONTENT}) as server:
        offered(film(server, md5=md5(CONTENT)))
        server.stop_after = 1_000_000
        with pytest.raises(ResourceError, match="Try again") as caught:
            get_data_set("films", tmp_path / "films")
        assert caught.value.code == "RES_DOWNLOAD"
        assert not (tmp_path / "films" / "films.npz").exists()
        server.stop_after = None
        get_data_set("films", tmp_path / "films")
    assert server.asked[-1] == ("/films.npz", "bytes=1000000-")
    assert (tmp_path / "films" / "films.npz").read_bytes() == CONTENT


def test_parts_of_two_different_files_are_never_joined(offered, tmp_path):
    with serving({"/films.npz": CONTENT}) as server:
        offered(film(server))  # no hash could tell
        server.stop_after = 1_000_000
        with pytest.raises(ResourceError):
            get_data_set("films", tmp_path / "films")
        server.stop_after = None
        server.files["/films.npz"] = CONTENT[::-1]
        get_data_set("films", tmp_path / "films")
    assert (tmp_path / "films" / "films.npz").read_bytes() == CONTENT[::-1]


def test_what_is_there_already_is_not_downloaded_again(offered, tmp_path):
    with serving({"/films.npz": CONTENT}) as server:
        offered(film(server))
        first = get_data_set("films", tmp_path / "films")
        asked = len(server.asked)
        again = get_data_set("films", tmp_path / "films")
    assert len(server.asked) == asked
    assert again == first


def test_a_file_that_was_changed_since_is_not_overwritten(offered, tmp_path):
    with serving({"/films.npz": CONTENT}) as server:
        offered(film(server))
        get_data_set("films", tmp_path / "films")
        (tmp_path / "films" / "films.npz").write_bytes(b"changed")
        with pytest.raises(DataError) as caught:
            get_data_set("films", tmp_path / "films")
    assert caught.value.code == "DAT_CHANGED"
    assert (tmp_path / "films" / "films.npz").read_bytes() == b"changed"


def test_an_absent_file_says_what_to_fetch_and_where_to_put_it(offered, tmp_path):
    with serving({}) as server:
        offered(film(server, md5=md5(CONTENT)))
        with pytest.raises(ResourceError, match="HTTP 404") as caught:
            get_data_set("films", tmp_path / "films")
    assert f"{server.address}/films.npz" in str(caught.value)
    assert str(tmp_path / "films" / "films.npz") in str(caught.value)


# --- archives -----------------------------------------------------------------------------------------------


def zipped(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def test_an_archive_is_unpacked_beside_itself(offered, tmp_path):
    archive = zipped(("films/TRAIN/a/1.png", b"1"), ("films/VAL/b/2.png", b"2"))
    with serving({"/films.zip": archive}) as server:
        offered(film(server, "films.zip", unpack=True))
        get_data_set("films", tmp_path / "here")
    assert (tmp_path / "here" / "films" / "VAL" / "b" / "2.png").read_bytes() == b"2"
    assert left_in(tmp_path / "here") == {"films", "films.zip", RECEIPT}


@pytest.mark.parametrize("name", ["../outside.png", "/outside.png", "a/../../outside.png", "..\\outside.png"])
def test_an_archive_that_leaves_its_folder_is_refused(offered, tmp_path, name):
    with serving({"/films.zip": zipped(("a/1.png", b"1"), (name, b"out"))}) as server:
        offered(film(server, "films.zip", unpack=True))
        with pytest.raises(DataError) as caught:
            get_data_set("films", tmp_path / "here")
    assert caught.value.code == "DAT_ARCHIVE"
    assert not list(tmp_path.rglob("*.png"))


def test_an_archive_that_is_none_is_refused(offered, tmp_path):
    with serving({"/films.zip": b"<html>not found</html>"}) as server:
        offered(film(server, "films.zip", unpack=True))
        with pytest.raises(DataError, match="not a sound zip file"):
            get_data_set("films", tmp_path / "here")
    assert left_in(tmp_path / "here") == {"films.zip"}


def test_an_archive_too_large_unpacked_is_refused(offered, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "MAX_UNPACKED_BYTES", 1000)
    with serving({"/films.zip": zipped(("bomb", bytes(2000)))}) as server:
        offered(film(server, "films.zip", unpack=True))
        with pytest.raises(DataError, match="unpacks to more"):
            get_data_set("films", tmp_path / "here")
