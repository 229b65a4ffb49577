"""The service on a real socket: the answers of `predict`, bit for bit, and no request that hurts."""

import base64
import io
import json
import logging
import signal
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from bad_images import bad_images
from plainfilm import verbs
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.errors import BundleError, ResourceError, UsageError
from plainfilm.web.limits import ServiceLimits
from plainfilm.web.serving import Service
from plainfilm.web.sockets import BoundedProtocol
from served import BOUNDARY, CLASSES, SIDE, ask, asked, multipart, picture, raw, serving, upload, write_bundle
from small_runs import start

ROUTES = [
    ("POST", "/predict"),
    ("POST", "/explain"),
    ("POST", "/view"),
    ("POST", "/neighbours"),
    ("GET", "/card"),
    ("GET", "/metadata"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/"),
    ("GET", "/static/page.css"),
]
VERBS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]
KIND = f"multipart/form-data; boundary={BOUNDARY}"
TIGHT = ServiceLimits(head_seconds=0.6, body_seconds=0.6, max_images=8)
LIMIT = 1 << 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("served") / "bundle")


@pytest.fixture(scope="module")
def service(bundle):
    with serving(bundle) as running:
        yield running


@pytest.fixture(scope="module")
def tight(bundle):
    """The same with a limit of 1 MiB, of 8 images, and little patience."""
    with serving(bundle, limits=TIGHT, max_upload_mb=1) as running:
        yield running


@pytest.fixture
def port(service):
    return service.port


def code_of(body: bytes) -> str:
    fault = json.loads(body)
    assert set(fault) == {"code", "detail"}
    return fault["code"]


def status_of(response: bytes) -> int:
    assert response.startswith(b"HTTP/1.1 "), response[:80]
    return int(response[9:12])


def alive(service) -> bool:
    """Whether images are still answered, and nothing is left over from before."""
    load = service.door.load
    end = time.monotonic() + 10
    while (load.requests or load.held_bytes) and time.monotonic() < end:
        time.sleep(0.02)
    return (load.requests, load.held_bytes) == (0, 0) and upload(service.port, "/predict", picture())[0] == 200


# --- answers ------------------------------------------------------------------------------------------------


def test_the_same_bytes_get_what_predict_gives_bit_for_bit(bundle, port, tmp_path):
    files = [picture(n, 20 + n, 50 - n, np.uint16 if n % 3 == 0 else np.uint8) for n in range(21)]
    for number, data in enumerate(files):
        (tmp_path / f"{number:02d}.png").write_bytes(data)
    predictions, _ = verbs.predict(bundle, tmp_path, device="cpu", workers=1)
    frame = predictions.to_frame()

    together = asked(port, "/predict", *files)["predictions"]
    with ThreadPoolExecutor(7) as threads:  # batches of all sizes
        alone = list(threads.map(lambda data: asked(port, "/predict", data)["predictions"][0], files))

    for row, one, other in zip(frame.to_dict("records"), together, alone, strict=True):
        assert {**other, "index": one["index"]} == one
        assert one["scores"] == {name: row[f"score_{name}"] for name in CLASSES}
        assert (one["predicted"], one["answer"] or "") == (row["predicted"], row["answer"])
        assert (one["abstains"], one["unlike_training"]) == (row["abstains"] == "yes", row["unlike_training"] == "yes")
        assert (one["call"], one["call"] in one["words"]) == (row["call"], True)
        assert (" | ".join(one["set"]), one["unlike_why"]) == (row["set"], row["unlike_why"])


def test_dicom_is_seen_through_the_window_of_the_model(tmp_path):
    data = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "slice.dcm").write_bytes(data)
    seen = {}
    for window in ("file", "lung"):
        bundle = write_bundle(
            tmp_path / window,
            preprocessing=Preprocessing(height=SIDE, width=SIDE, fit="pad", mean=0.3, std=0.2, window=window),
        )
        row = verbs.predict(bundle, tmp_path / "images", device="cpu", workers=1)[0].to_frame().iloc[0]
        with serving(bundle, decoders=1) as service:
            answer = asked(service.port, "/predict", data)["predictions"][0]
        assert answer["scores"] == {name: row[f"score_{name}"] for name in CLASSES}
        seen[window] = answer["image"]["pixel_sha256"]

    assert seen["file"] != seen["lung"]


def test_questions_at_the_same_time_share_passes_through_the_model(service):
    before = service.door.counters.batches._counts[:]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: asked(service.port, "/predict", picture(number)), range(64)))
    passes = sum(service.door.counters.batches._counts) - sum(before)

    assert passes < 48


def test_what_cannot_be_read_is_named_beside_what_can(port, tmp_path):
    bad = bad_images(tmp_path)[::20]

    answer = asked(port, "/predict", picture(), *(one.path.read_bytes() for one in bad))
    assert [one["index"] for one in answer["predictions"]] == [0]
    assert [(one["index"], one["code"]) for one in answer["refused"]] == [
        (number, one.code) for number, one in enumerate(bad, start=1)
    ]
    assert all(str(tmp_path) not in one["detail"] for one in answer["refused"])


@pytest.mark.parametrize("path", ["/predict", "/explain", "/view", "/neighbours"])
def test_an_unreadable_image_is_refused_with_its_code(port, path):
    assert asked(port, path, b"GIF89a" + bytes(40), status=422)["code"] == "IMG_FORMAT_NOT_ALLOWED"
    assert asked(port, path, b"", status=422)["code"] == "IMG_EMPTY"


def test_warnings_say_what_to_beware_of(port):
    deep = asked(port, "/predict", picture(dtype=np.uint16))["predictions"][0]
    large = asked(port, "/predict", picture(height=300, width=300))["predictions"][0]

    assert {one["code"] for one in deep["warnings"]} == {"WRONG_DEPTH", "UNLIKE_TRAINING"}
    assert [one["code"] for one in large["warnings"]] == ["UNLIKE_TRAINING"]
    assert "larger than any" in large["warnings"][0]["text"]
    assert deep["image"]["bits"] == 16


def test_plain_words_follow_the_set(port):
    answers = asked(port, "/predict", *(picture(number) for number in range(12)))["predictions"]

    for one in answers:
        assert one["abstains"] == (len(one["set"]) != 1)
        if one["set"]:
            assert all(name in one["words"] for name in one["set"])


def test_a_heat_map_comes_as_numbers_and_as_a_picture(port):
    found = asked(port, "/explain", picture(height=40, width=20))
    heat = np.frombuffer(base64.b64decode(found["map"]), "<f4").reshape(found["height"], found["width"])
    layer = Image.open(io.BytesIO(base64.b64decode(found["layer"])))
    other = asked(port, f"/explain?of={CLASSES[0]}&method=hirescam", picture())
    status, headers, body = upload(port, "/explain?format=png", picture())

    assert heat.shape == (SIDE, SIDE // 2)  # of the image alone, without the borders beside it
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert layer.size == (SIDE // 2, SIDE)
    assert (found["verdict"], found["method"]) == ("unchecked", "Grad-CAM")
    assert (other["explained"], other["method"]) == (CLASSES[0], "HiResCAM")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(body)).size == (SIDE, SIDE)


def test_a_view_is_what_was_read(port):
    for dtype in (np.uint8, np.uint16):
        data = picture(dtype=dtype)
        found = asked(port, "/view", data)
        pixels = np.frombuffer(base64.b64decode(found["pixels"]), np.dtype(dtype).newbyteorder("<"))
        assert np.array_equal(pixels.reshape(found["height"], found["width"]), np.asarray(Image.open(io.BytesIO(data))))
        assert found["high"] == np.iinfo(dtype).max
    assert asked(port, "/view?side=20", picture(height=40, width=30))["height"] == 20


def test_the_service_says_what_it_serves(port):
    told = json.loads(ask(port, "GET", "/metadata")[2])

    assert told["classes"] == list(CLASSES)
    assert told["preprocessing"]["height"] == SIDE
    assert told["test"]["level"] is None
    assert "A model of a test" in told["card"]
    assert ask(port, "GET", "/card")[2].startswith(b"# A model of a test")
    assert json.loads(ask(port, "GET", "/ready")[2]) == {"status": "ready"}
    assert b'plainfilm_requests_total{route="/card",status="200"}' in ask(port, "GET", "/metrics")[2]
    described = json.loads(ask(port, "GET", "/openapi.json")[2])
    assert set(described["paths"]) >= {"/predict", "/explain", "/metadata"}
    docs = ask(port, "GET", "/docs")[2].decode()
    assert all(path in docs for path in described["paths"])
    assert "http" not in docs.replace("http-equiv", "")


# --- requests that must not hurt ----------------------------------------------------------------------------


def test_every_route_answers_every_verb_as_json_or_as_meant(port):
    for method in VERBS:
        for verb, path in ROUTES:
            status, headers, body = ask(port, method, path)
            assert status < 500, (method, path)
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in headers
            if method not in (verb, "HEAD"):
                assert (status, code_of(body)) == (405, "REQ_METHOD"), (method, path)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2f..%2fapp.py",
        "/static//etc/passwd",
        "/static/%2e%2e/%2e%2e/bundle.py",
        "//evil.example/static/page.css",
        "/../../etc/passwd",
        "/static/page.css%00.png",
        "/runs/first/table.parquet",
        "/model/other/predict",
    ],
)
def test_no_path_leads_to_a_file(port, path):
    status, _, body = ask(port, "GET", path)

    assert (status, code_of(body)) == (404, "REQ_NO_ROUTE")


@pytest.mark.parametrize("query", ["url=http://127.0.0.1/x.png", "path=/etc/passwd", "file=..", "model=other", "x"])
def test_there_is_no_parameter_for_a_place(port, query):
    assert asked(port, f"/predict?{query}", picture(), status=400)["code"] == "REQ_PARAMETER"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_at_once(tight, monkeypatch, chunked):
    read = []
    received = BoundedProtocol.data_received

    def counted(self, data):
        if not self._lingers:
            read.append(len(data))
        received(self, data)

    monkeypatch.setattr(BoundedProtocol, "data_received", counted)
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{tight.port}\r\nContent-Type: {KIND}\r\n".encode()
    start = multipart(b"x")[: -len(f"\r\n--{BOUNDARY}--\r\n")]
    if chunked:
        part = start + b"x" * (8 * LIMIT)
        data = head + b"Transfer-Encoding: chunked\r\n\r\n"
        data += b"".join(
            b"4000\r\n" + part[at : at + 0x4000].ljust(0x4000, b"x") + b"\r\n" for at in range(0, len(part), 0x4000)
        )
    else:
        data = head + b"Content-Length: %d\r\n\r\n" % (8 * LIMIT) + start + b"x" * (8 * LIMIT - len(start))

    response = raw(tight.port, data)

    assert status_of(response) == 413
    assert b"REQ_TOO_LARGE" in response
    assert sum(read) <= (LIMIT + 65536 if chunked else 65536)
    assert alive(tight)


def test_a_body_of_just_the_limit_passes(tight):
    image = picture()
    rest = LIMIT - len(multipart(image, b""))
    body = multipart(image, b"\0" * rest)
    assert len(body) == LIMIT

    assert ask(tight.port, "POST", "/predict", body, Content_Type=KIND)[0] == 200
    assert ask(tight.port, "POST", "/predict", body + b" ", Content_Type=KIND)[0] == 413


@pytest.mark.parametrize(
    ("sent", "wait"),
    [
        (b"", 0),
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-Slow: ", 0.1),
        (b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Type: " + KIND.encode()
         + b"\r\nContent-Length: 5000\r\n\r\n--b0undary\r\nX-Slow: ", 0.1),
    ],
    ids=["silence", "head", "body"],
)  # fmt: skip
def test_who_sends_too_slowly_is_let_go(tight, sent, wait):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", tight.port), timeout=10) as client:
        client.sendall(sent.replace(b"PORT", str(tight.port).encode()))
        client.settimeout(0.1)
        received = b""
        while time.monotonic() < began + 8:
            try:
                if not (part := client.recv(65536)):
                    break
                received += part
            except TimeoutError:
                if wait:
                    client.sendall(b"x")
            except OSError:
                break

    assert time.monotonic() - began < 5
    assert status_of(received) == 408
    assert alive(tight)


def test_a_connection_that_was_good_once_gets_no_more_time(tight):
    with socket.create_connection(("127.0.0.1", tight.port), timeout=10) as client:
        client.sendall(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{tight.port}\r\n\r\n".encode())
        answered = b""
        while b'{"status":"ok"}' not in answered:
            answered += client.recv(65536)
        client.sendall(b"GET /hea")
        began = time.monotonic()
        rest = b""
        while part := client.recv(65536):
            rest += part

    assert status_of(rest) == 408
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (multipart(*[b"x"] * 10_000), KIND, 413, "REQ_TOO_MANY"),
        (multipart(picture(), name=b"photo"), KIND, 400, "REQ_FIELD"),
        (b'--b0undary\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx\r\n--', KIND, 400, "REQ_FIELD"),
        (b"--b0undary\r\n\r\nx\r\n--b0undary--\r\n", KIND, 400, "REQ_FIELD"),
        (b"--b0undary--\r\n", KIND, 400, "REQ_NO_IMAGE"),
        (b"", KIND, 400, "REQ_INVALID"),
        (multipart(picture())[:-20], KIND, 400, "REQ_INVALID"),
        (b"hello", KIND, 400, "REQ_INVALID"),
        (b"--b0undary\r\n" + b"X-A: b\r\n" * 50 + b"\r\nx\r\n--b0undary--\r\n", KIND, 400, "REQ_INVALID"),
        (b"--b0undary\r\nX-A: " + b"b" * 20_000 + b"\r\n\r\nx\r\n--b0undary--\r\n", KIND, 400, "REQ_INVALID"),
        (picture(), "image/png", 415, "REQ_TYPE"),
        (b"{}", "application/json", 415, "REQ_TYPE"),
        (b"url=http%3A%2F%2Fx", "application/x-www-form-urlencoded", 415, "REQ_TYPE"),
        (b"x", "multipart/form-data", 415, "REQ_TYPE"),
        (b"x", f"multipart/form-data; boundary={'b' * 5000}", 400, "REQ_INVALID"),
    ],
)  # fmt: skip
def test_a_body_that_is_not_an_upload_is_refused(tight, body, kind, status, code):
    found, _, said = ask(tight.port, "POST", "/predict", body, Content_Type=kind)

    assert (found, code_of(said)) == (status, code)
    assert alive(tight)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP, identity"])
def test_an_encoded_body_is_refused(port, encoding):
    assert asked(port, "/predict", picture(), status=415, Content_Encoding=encoding)["code"] == "REQ_ENCODED"


@pytest.mark.parametrize(
    "name",
    [b"../../etc/passwd", b"x.png\r\nSet-Cookie: a=b", b"a\0b", b"n" * 4096, b"<img src=x onerror=alert(1)>.png",
     "Müller^Anna_1950.png".encode(), b"\xff\xfe", b'quote\\".png', b"con", b"-rf"],
)  # fmt: skip
def test_a_file_name_is_never_looked_at(service, name, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    status, headers, body = ask(
        service.port, "POST", "/predict", multipart(picture(), filename=name), Content_Type=KIND
    )

    if b"\r\n" in name or b"\0" in name:
        assert status in (200, 400)  # a header of its own, or none at all
    else:
        assert status == 200
    assert "set-cookie" not in headers
    told = body.decode() + caplog.text
    assert "passwd" not in told
    assert "Anna" not in told


def test_a_name_that_comes_twice_is_two_images(port):
    assert len(asked(port, "/predict", picture(1), picture(1))["predictions"]) == 2


def test_a_head_that_is_too_large_is_refused(port):
    head = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()

    assert status_of(raw(port, head + b"X-Big: " + b"a" * (10 << 20) + b"\r\n\r\n")) == 431
    assert status_of(raw(port, head + b"X-Many: a\r\n" * 10_000 + b"\r\n")) == 431


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Type: " + KIND.encode()
        + b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_told_so(service, data):
    response = raw(service.port, data.replace(b"PORT", str(service.port).encode()))

    assert status_of(response) in (400, 421)
    assert alive(service)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{}", "127.0.0.1:1", "127.0.0.1.evil.example:{}", "", "[::1"]
)
def test_another_name_is_not_answered(port, host):
    status, _, body = ask(port, "GET", "/metadata", Host=host.format(port))

    assert (status, code_of(body)) == (421, "REQ_HOST")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_its_own_names_are_answered(port, host):
    assert ask(port, "GET", "/metadata", Host=f"{host}:{port}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "https://127.0.0.1:1"},
     {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}],
)  # fmt: skip
def test_a_page_of_another_origin_may_not_ask(port, headers):
    assert asked(port, "/predict", picture(), status=403, **headers)["code"] == "REQ_ORIGIN"


def test_its_own_page_may_ask(port):
    asked(port, "/predict", picture(), Origin=f"http://127.0.0.1:{port}", Sec_Fetch_Site="same-origin")


def test_a_hundred_at_once_are_answered_or_asked_to_wait(bundle):
    with serving(bundle, limits=ServiceLimits(max_requests=20)) as service, ThreadPoolExecutor(100) as threads:
        found = list(threads.map(lambda n: upload(service.port, "/predict", *[picture(n % 5)] * 4), range(100)))

        assert {status for status, _, _ in found} <= {200, 503}
        assert sum(status == 200 for status, _, _ in found) >= 20
        for status, headers, body in found:
            if status == 503:
                assert (headers["retry-after"], code_of(body)) == ("1", "SRV_BUSY")
        assert alive(service)


def test_connections_are_counted(bundle):
    with serving(bundle, limits=ServiceLimits(max_connections=5)) as service:
        idle = [socket.create_connection(("127.0.0.1", service.port), timeout=10) for _ in range(5)]
        time.sleep(0.2)
        assert status_of(raw(service.port, b"")) == 503
        for client in idle:
            client.close()
        time.sleep(0.2)
        assert ask(service.port, "GET", "/health")[0] == 200


def test_who_hangs_up_leaves_nothing_behind(service):
    body = multipart(picture())
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Type: {KIND}\r\n".encode()
    for cut in (10, len(body) // 2, len(body)):
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
            client.sendall(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:cut])

    assert alive(service)
    assert ("/predict", 500) not in service.door.counters.requests


@pytest.mark.parametrize("method", ["HEAD", "POST", "GET"])
@pytest.mark.parametrize("path", ["/predict", "/metadata", "/health", "/nothing"])
def test_a_broken_body_is_refused_once_and_is_no_error_of_the_service(port, caplog, method, path):
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = raw(port, f"{head}zz\r\n".encode())

    assert status_of(said) == 400
    assert said.count(b"HTTP/1.1") == 1
    assert said.endswith(b"\r\n\r\n") is (method == "HEAD")
    time.sleep(0.1)
    assert caplog.text == ""


def test_nothing_is_written_anywhere(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = sorted(bundle.iterdir())
    with serving(bundle) as service:
        large = np.random.default_rng(0).integers(0, 65536, (1500, 1500), dtype=np.uint16)
        stream = io.BytesIO()
        Image.fromarray(large).save(stream, "PNG")
        asked(service.port, "/predict", stream.getvalue(), picture())
        asked(service.port, "/explain", stream.getvalue())
        assert list(tmp_path.iterdir()) == []

    assert sorted(bundle.iterdir()) == before


# --- who may ask, and starting and stopping -----------------------------------------------------------------


def test_with_a_token_only_who_knows_it_is_answered(bundle):
    token = "a-token-of-some-length"
    with serving(bundle, token=token) as service:
        for given in (None, "", "Bearer", "Bearer wrong", f"Basic {token}", f"Bearer {token}x", f"Bearer {token[:-1]}"):
            headers = {} if given is None else {"Authorization": given}
            status, said, body = ask(service.port, "GET", "/metadata", **headers)
            assert (status, code_of(body), said["www-authenticate"]) == (401, "REQ_TOKEN", "Bearer")
        assert upload(service.port, "/predict", picture())[0] == 401
        assert upload(service.port, "/predict", picture(), Authorization=f"Bearer {token}")[0] == 200
        assert ask(service.port, "GET", "/metadata", Authorization=f"bearer {token}")[0] == 200
        assert ask(service.port, "GET", "/health")[0] == 200
        assert ask(service.port, "GET", "/")[0] == 200  # the page, which knows nothing


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_no_other_address_without_a_token(bundle, host):
    with pytest.raises(UsageError) as caught:
        Service(bundle, host=host)
    assert caught.value.code == "SRV_TOKEN"


@pytest.mark.parametrize("token", ["short", "with a space in it", "umläute-und-mehr-davon", ""])
def test_a_token_that_can_be_guessed_is_refused(bundle, token):
    with pytest.raises(UsageError, match="16"):
        Service(bundle, token=token)


def test_an_address_that_cannot_be_had_is_said(bundle, service):
    with pytest.raises(ResourceError, match=str(service.port)) as caught:
        Service(bundle, port=service.port)
    assert caught.value.code == "SRV_ADDRESS"


def test_what_is_no_model_is_not_served(tmp_path):
    with pytest.raises(BundleError):
        Service(tmp_path)


def test_without_its_libraries_the_command_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setattr("plainfilm.web.serving.EXTRA", ("fastapi", "no_such_library"))
    with pytest.raises(UsageError, match=r"needs no_such_library\. Install with: pip install 'plainfilm\[serve\]'"):
        Service(bundle)


def test_what_is_under_way_is_finished_when_the_service_stops(bundle):
    found = []
    with serving(bundle) as service:
        clients = [
            threading.Thread(target=lambda n=n: found.append(upload(service.port, "/predict", *[picture(n)] * 60)[0]))
            for n in range(4)
        ]
        for client in clients:
            client.start()
        while service.door.load.requests < 4 and len(found) < 4:
            time.sleep(0.005)
    for client in clients:
        client.join()

    assert found == [200] * 4


def test_the_command_serves_and_stops_by_signal(bundle):
    process = start("serve", bundle, "--port", 0, "--decoders", 1, "--device", "cpu")
    try:
        said = process.stdout.readline()
        assert said.startswith("serving at http://127.0.0.1:")
        port = int(said.split(":")[2].split("/")[0])
        assert upload(port, "/predict", picture())[0] == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 143
    assert "POST /predict 200" in errors
    assert "Traceback" not in errors
