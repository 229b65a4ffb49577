"""Both sides of the bridge for the tests: a running bridge, receivers by C-STORE and DICOMweb, and senders."""

import re
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
import torch
from pydicom import Dataset, dcmread
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt

from plainfilm import verbs
from plainfilm.bridging.options import BridgeOptions
from plainfilm.bundle import Architecture, BundleConfig, save_bundle
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.dicom_results.unheard import silence_loggers
from plainfilm.models import create_model
from plainfilm.progress import Silent

CLASSES = ("healthy", "ill")


def write_tiny_bundle(folder: Path) -> Path:
    """A model that has learned nothing: what it answers does not matter here, only that it answers."""
    torch.manual_seed(0)
    config = BundleConfig(
        architecture=Architecture(name="resnet1d", adapter="conv1x1", num_classes=2, image_size=32),
        classes=CLASSES,
        preprocessing=Preprocessing(height=32, width=32, fit="pad", mean=0.25, std=0.125, source="a test"),
        data={"training_images": 3},
    )
    save_bundle(folder, create_model("resnet1d", num_classes=2, image_size=32).state_dict(), config, card="")
    return folder


class Listening(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


class Running:
    """A bridge in a thread of this process."""

    def __init__(self, run: Path, spool: Path, dicom=None, **options) -> None:
        self.spool, self.heard = spool, Listening()
        self._ready, self._stop, self._error = threading.Event(), threading.Event(), None
        settings = {"port": 0, "spool": spool, "retry_seconds": 0.2, "peer": "ARCHIVE@127.0.0.1:9", **options}
        self.options = BridgeOptions(**{name: value for name, value in settings.items() if value is not None})
        self._thread = threading.Thread(target=self._run, args=(run, dicom), daemon=True)

    def _run(self, run, dicom) -> None:
        try:
            verbs.bridge(
                run, self.options, dicom=dicom, ready=self._listens, stop=self._stop, device="cpu",
                progress=self.heard,
            )  # fmt: skip
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    def _listens(self, host, port) -> None:
        self.host, self.port = host, port
        self._ready.set()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(120)
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(90)
        assert not self._thread.is_alive()

    def waiting(self) -> list[Path]:
        return sorted((self.spool / "waiting").glob("*.dcm"))


class Archive:
    """A DICOM node that keeps what it is sent, and answers with `status`."""

    def __init__(self, port: int = 0, title: str = "ARCHIVE", status: int = 0) -> None:
        silence_loggers()
        self.stored: list[Dataset] = []
        self.status = status
        self._ae = AE(ae_title=title)
        self._ae.require_called_aet = True
        for context in AllStoragePresentationContexts:
            self._ae.add_supported_context(context.abstract_syntax)
        self._server = self._ae.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._keep)]
        )
        self.port = self._server.server_address[1]
        self.peer = f"{title}@127.0.0.1:{self.port}"

    def _keep(self, event) -> int:
        if self.status == 0:
            self.stored.append(dcmread(BytesIO(event.encoded_dataset())))
        return self.status

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()


class WebArchive:
    """A DICOMweb service that stores (STOW-RS), of the standard library; answers with each of `statuses` in turn."""

    def __init__(self, statuses=(200,), failed: bool = False) -> None:
        self.stored: list[Dataset] = []
        self.paths: list[str] = []
        archive, left = self, list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self._body()
                archive.paths.append(self.path)
                status = left.pop(0) if len(left) > 1 else left[0]
                if status < 300:
                    archive.stored += parts_of(self.headers["Content-Type"], body)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                answer = b'{"00081198": {"vr": "SQ", "Value": [{}]}}' if failed else b"{}"
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    data = b""
                    while size := int(self.rfile.readline(), 16):
                        data += self.rfile.read(size)
                        self.rfile.readline()
                    return data
                return self.rfile.read(int(self.headers["Content-Length"]))

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/dicom-web"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()


def parts_of(content_type: str, body: bytes) -> list[Dataset]:
    """The objects of a `multipart/related` body."""
    message = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    return [dcmread(BytesIO(part.get_payload(decode=True))) for part in message.get_payload()]


@contextmanager
def association(bridge: Running, *classes, called="PLAINFILM", calling="MODALITY"):
    """An association with a bridge, released in the end."""
    silence_loggers()
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    contexts = [build_context(uid, "1.2.840.10008.1.2.1") for uid in ("1.2.840.10008.1.1", *classes)]
    opened = ae.associate("127.0.0.1", bridge.port, contexts=contexts, ae_title=called)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def send(bridge: Running, *datasets: Dataset, **titles) -> list[tuple[int, str]]:
    """Send objects in one association; gives status and comment of each."""
    with association(bridge, *{dataset.SOPClassUID for dataset in datasets}, **titles) as opened:
        assert opened.is_established
        answers = [opened.send_c_store(dataset) for dataset in datasets]
    return [(answer.get("Status"), answer.get("ErrorComment", "")) for answer in answers]


def echoes(bridge: Running) -> bool:
    """Whether the bridge is there."""
    with association(bridge) as opened:
        return opened.is_established and opened.send_c_echo().Status == 0


def until(holds, *, seconds: float = 180):
    """Wait for something to become true; gives it."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program(name: str) -> str:
    """The path of a program of dcmtk, or the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} (dcmtk) is not on the path")
    return found


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))
