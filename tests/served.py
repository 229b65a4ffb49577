"""A tiny model behind a real socket, for the tests of the service and of the page."""

import http.client
import io
import json
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from plainfilm.abstention import Abstention, ClassThreshold
from plainfilm.bundle import Architecture, BundleConfig, save_bundle
from plainfilm.calling import CallingRule
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.models import create_model
from plainfilm.novelty import Gate
from plainfilm.web.serving import Service

CLASSES = ("healthy", "ill")
SIDE = 32
BOUNDARY = "b0undary"


def write_bundle(folder: Path, **changes) -> Path:
    """A model that was never trained, with a rule for abstaining and a gate for files."""
    torch.manual_seed(0)
    threshold = ClassThreshold(threshold=0.5, n_patients=20, coverage_low=0.8, coverage_high=0.99)
    config = BundleConfig(
        architecture=Architecture(name="resnet1d", adapter="conv1x1", num_classes=2, image_size=SIDE),
        classes=CLASSES,
        preprocessing=Preprocessing(height=SIDE, width=SIDE, fit="pad", mean=0.25, std=0.125, source="a test"),
        data={"training_images": 3, "validation_images": 2},
        abstention=Abstention(classes=dict.fromkeys(CLASSES, threshold), reason=""),
        calling=CallingRule(positive=("ill",), threshold=0.5, rule="youden", n_positive=30, n_negative=40, reason=""),
        novelty=Gate(bits=(8,), smallest=24, largest=64, longest=1.5),
    )
    save_bundle(
        folder,
        create_model("resnet1d", num_classes=2, image_size=SIDE).state_dict(),
        config.model_copy(update=changes),
        card="# A model of a test\n",
    )
    return folder


def picture(number: int = 0, height: int = 40, width: int = 36, dtype=np.uint8) -> bytes:
    """A PNG, another for each number."""
    rng = np.random.default_rng(number)
    waves = np.add.outer(np.sin(np.arange(height) / (2 + number % 7)), np.cos(np.arange(width) / (3 + number % 5)))
    grey = (waves - waves.min()) / np.ptp(waves) * 0.8 + rng.uniform(0, 0.2, waves.shape)
    stream = io.BytesIO()
    Image.fromarray((grey * np.iinfo(dtype).max).astype(dtype)).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def serving(run: Path, **options):
    """A service in a thread of this process, once it answers."""
    service = Service(run, **{"port": 0, "device": "cpu", "decoders": 2, **options})
    ready = threading.Event()
    thread = threading.Thread(target=lambda: service.run(on_ready=ready.set), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield service
    finally:
        service.stop()
        thread.join(30)
        assert not thread.is_alive()


def multipart(*images: bytes, filename: bytes = b"image.png", name: bytes = b"image") -> bytes:
    """The body of an upload."""
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n%b\r\n'
        % (BOUNDARY.encode(), name, filename, data)
        for data in images
    ]
    return b"".join(parts) + b"--%b--\r\n" % BOUNDARY.encode()


def ask(port: int, method: str, path: str, body=None, **headers) -> tuple[int, dict, bytes]:
    """One request on a connection of its own: status, headers in lower case, body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def upload(port: int, path: str, *images: bytes, **headers) -> tuple[int, dict, bytes]:
    """Images to a route."""
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return ask(port, "POST", path, multipart(*images), **{"Content_Type": kind, **headers})


def asked(port: int, path: str, *images: bytes, status: int = 200, **headers):
    """The JSON that a route answers."""
    found, _, body = upload(port, path, *images, **headers)
    assert found == status, body
    return json.loads(body)


def raw(port: int, data: bytes, *, seconds: float = 10) -> bytes:
    """What comes back for bytes that are sent as they are, until the service hangs up."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as client:
        with suppress(OSError):  # refused while it is sent
            client.sendall(data)
        with suppress(OSError):
            while part := client.recv(65536):
                received += part
    return received
