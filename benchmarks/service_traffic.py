"""A service in a process of its own, images for it, and requests to it: what the soak and the fuzzer share.

All traffic goes to 127.0.0.1.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from plainfilm.abstention import Abstention, ClassThreshold
from plainfilm.bundle import Architecture, BundleConfig, save_bundle
from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.models import create_model
from plainfilm.novelty import Gate

CLASSES = ("normal", "abnormal")
BOUNDARY = "plainfilm-boundary"
KIND = f"multipart/form-data; boundary={BOUNDARY}"


def write_model(folder: Path, side: int, name: str = "resnet1d") -> Path:
    """A network that was never trained: an answer can be right or wrong, whatever it is worth."""
    torch.manual_seed(0)
    threshold = ClassThreshold(threshold=0.5, n_patients=20, coverage_low=0.8, coverage_high=0.99)
    config = BundleConfig(
        architecture=Architecture(name=name, adapter="conv1x1", num_classes=2, image_size=side),
        classes=CLASSES,
        preprocessing=Preprocessing(height=side, width=side, fit="pad", mean=0.3, std=0.25, source="a benchmark"),
        data={"training_images": 1, "validation_images": 1},
        abstention=Abstention(classes=dict.fromkeys(CLASSES, threshold), reason=""),
        novelty=Gate(bits=(8,), smallest=32, largest=256, longest=2.0),
    )
    weights = create_model(name, num_classes=2, image_size=side).state_dict()
    save_bundle(folder, weights, config, card="# A model of a benchmark\n")
    return folder


def write_images(folder: Path, count: int) -> list[Path]:
    """Phantoms as PNG, JPEG, TIFF and 16-bit PNG, of several sizes."""
    made = write_phantoms(folder / "drawn", PhantomOptions(kind="chest", patients=count, images_per_patient=1, size=96))
    paths = []
    (folder / "sent").mkdir()
    for number, name in enumerate(made.manifest["path"]):
        grey = np.asarray(Image.open(made.folder / name).convert("L"))
        picture = Image.fromarray(grey).resize((64 + 16 * (number % 7), 64 + 8 * (number % 11)))
        kind = ("PNG", "JPEG", "TIFF", "PNG")[number % 4]
        if number % 4 == 3:
            picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 200)
        paths.append(folder / "sent" / f"{number:04d}.{kind.lower()}")
        picture.save(paths[-1], kind)
    return paths


class ServerProcess:
    """`plainfilm serve` in a process of its own; a context manager.

    Args:
        bundle: The model.
        temporary: Its folder for temporary files.
        flags: Further arguments.
    """

    def __init__(self, bundle: Path, temporary: Path, *flags: str) -> None:
        temporary.mkdir(exist_ok=True)
        self._temporary = temporary
        self._log = (temporary.parent / "service.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "plainfilm.cli", "serve", str(bundle), "--port", "0", "--device", "cpu", *flags],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        self.port = 0

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", said)
        if found is None:
            sys.exit(f"the service did not start: {self.log()[-1000:]}")
        self.port = int(found[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._log.close()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs and answers."""
        if self._process.poll() is not None:
            return False
        return ask(self.port, "GET", "/ready")[0] == 200

    def resident_mib(self) -> float:
        """Memory of the process in use, without its decoders."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def open_files(self) -> int:
        """Its open files and sockets."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def temporary_files(self) -> list[str]:
        """What lies in its folder for temporary files, but for the empty one that importing torch makes."""
        names = sorted(path.relative_to(self._temporary).as_posix() for path in self._temporary.rglob("*"))
        return [name for name in names if not name.startswith("torchinductor_") or "/" in name]

    def log(self) -> str:
        """All it has said on standard error."""
        self._log.flush()
        return Path(self._log.name).read_text()


def multipart(*images: bytes, name: bytes = b"image", filename: bytes = b"a.png") -> bytes:
    """The body of an upload."""
    head = b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n' % (
        BOUNDARY.encode(),
        name,
        filename,
    )
    return b"".join(head + data + b"\r\n" for data in images) + b"--%b--\r\n" % BOUNDARY.encode()


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """One request on a connection of its own; status 0 where the service hung up without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def code_of(body: bytes) -> str:
    """The stable code of an error; empty where there is none."""
    try:
        told: Any = json.loads(body)
        return str(told.get("code", "")) if isinstance(told, dict) else ""
    except ValueError:
        return ""
