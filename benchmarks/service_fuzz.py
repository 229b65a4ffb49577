"""Requests that nobody would send: does the service ever fail, rather than refuse?

    python -m benchmarks.service_fuzz           20,480 requests of our own, then schemathesis where it is installed
    python -m benchmarks.service_fuzz --requests 2560 --no-schemathesis

Every route is asked with 8 verbs; heads, parameters, bodies and bytes on the wire are changed at random. A failure is
an answer of 500 or more that is not 503 with its code, a word of an error of its own in the log, a process that is gone
or no longer right, or a file left behind. Then bodies over the limit, chunked and not, are sent to a service of this
process that counts what it reads before it answers. Exit code 1 if anything fails.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import socket
import string
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from benchmarks.service_traffic import BOUNDARY, KIND, ServerProcess, ask, code_of, multipart, write_images, write_model

VERBS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
ROUTES = (
    "/predict", "/explain", "/view", "/neighbours", "/card", "/metadata", "/health", "/ready", "/metrics", "/docs",
    "/openapi.json", "/", "/static/app.js", "/static/page.css", "/static/nothing", "/nothing",
)  # fmt: skip
PARAMETERS = ("of", "method", "format", "side", "url", "path", "x" * 300, "", "side[]", "__proto__")
VALUES = (
    "", "0", "-1", "16", "2048", "99999999999999999999", "1e9", "nan", "gradcam", "png", "json", "normal", "null",
    "../..", "%00", "%ff%fe", "' OR 1=1 --", "<script>", "{{7*7}}", "x" * 2000, "file:///etc/passwd", "🩻",
)  # fmt: skip
HEADERS = (
    "Content-Type", "Content-Encoding", "Transfer-Encoding", "Accept", "Accept-Encoding", "Range", "Origin", "Referer",
    "Sec-Fetch-Site", "Authorization", "Cookie", "If-None-Match", "Expect", "Upgrade", "Connection", "TE",
    "X-Forwarded-Host", "X-HTTP-Method-Override", "Content-Disposition", "Forwarded",
)  # fmt: skip
CONTENTS = (
    "", "gzip", "chunked", "100-continue", "websocket", "close", "keep-alive", "null", "bytes=0-5", "Bearer x", "*/*",
    KIND, "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 300,
    "application/json", "image/png", "text/html; charset=\xff", "a" * 9000, "DELETE", "evil.example",
)  # fmt: skip
LIMIT = 1 << 20
SLACK = 64 << 10
PATIENCE = 4.0  # seconds


# --- requests of our own making -----------------------------------------------------------------------------


class Maker:
    """Draws requests as bytes.

    Args:
        rng: What is drawn from.
        port: Of the service.
        images: Sound images, to be spoilt.
    """

    def __init__(self, rng: random.Random, port: int, images: list[bytes]) -> None:
        self._rng = rng
        self._port = port
        self._images = images

    def draw(self, verb: str, route: str) -> bytes:
        """One request, from nearly sound to noise."""
        rng = self._rng
        target = route + ("?" + self._query() if rng.random() < 0.3 else "")
        if rng.random() < 0.05:
            target = "".join(rng.choices("/.%2e\\?#@:;[]", k=rng.randint(1, 60))) or "/"
        body = self._body() if verb == "POST" or rng.random() < 0.2 else b""
        headers = {"Host": f"127.0.0.1:{self._port}", "Connection": "close"}
        if body:
            headers |= {"Content-Type": KIND, "Content-Length": str(len(body))}
        if rng.random() < 0.35:
            headers |= {rng.choice(HEADERS): rng.choice(CONTENTS) for _ in range(rng.randint(1, 4))}
        if rng.random() < 0.03:
            headers |= {"Host": rng.choice(("", "evil.example", "[::1", "127.0.0.1", "\xff"))}
        if rng.random() < 0.05 and body:
            headers["Content-Length"] = rng.choice(("0", "-1", "1", "5e3", str(len(body) + 100), str(1 << 40), "x"))
        if rng.random() < 0.1 and body:
            headers.pop("Content-Length", None)
            headers["Transfer-Encoding"] = "chunked"
            body = self._chunked(body)
        head = f"{verb} {target.replace(' ', '%20')} HTTP/1.1\r\n" + "".join(
            f"{n}: {v}\r\n" for n, v in headers.items()
        )
        data = head.encode("latin-1", "replace") + b"\r\n" + body
        return self._spoilt(data) if rng.random() < 0.12 else data

    def _query(self) -> str:
        pairs = [(self._rng.choice(PARAMETERS), self._rng.choice(VALUES)) for _ in range(self._rng.randint(1, 4))]
        said = "&".join(f"{name}={value}" for name, value in pairs)
        return said.encode("utf-8").decode("latin-1").replace("#", "%23")

    def _body(self) -> bytes:
        rng = self._rng
        kind = rng.random()
        image = rng.choice(self._images)
        if kind < 0.25:
            return multipart(image)
        if kind < 0.5:
            return multipart(self._spoilt(image))
        if kind < 0.6:
            return multipart(*[b""] * rng.choice((1, 2, 64, 65, 200)))
        if kind < 0.8:
            return self._spoilt(multipart(image[:2000]))
        if kind < 0.9:
            name = bytes(rng.choices(string.printable.encode(), k=rng.randint(0, 200)))
            return multipart(image, name=rng.choice((b"image", name)), filename=name)
        return rng.randbytes(rng.randint(0, 3000))

    def _chunked(self, body: bytes) -> bytes:
        size = self._rng.choice((1, 7, 100, 4000))
        parts = [body[at : at + size] for at in range(0, min(len(body), 300 * size), size)]
        end = self._rng.choice((b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"zz\r\n", b"-1\r\n\r\n"))
        return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end

    def _spoilt(self, data: bytes) -> bytes:
        """Bytes flipped, cut, doubled or put in."""
        rng = self._rng
        found = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            at = rng.randrange(len(found) + 1)
            what = rng.random()
            if what < 0.5 and at < len(found):
                found[at] ^= 1 << rng.randrange(8)
            elif what < 0.65:
                del found[at : at + rng.choice((1, 4, 100))]
            elif what < 0.8:
                found[at:at] = rng.choice((b"\r\n", b"\0", b"\xff" * 8, b"--" + BOUNDARY.encode(), b": ", b"9" * 20))
            elif what < 0.9:
                found[at:at] = found[max(0, at - 50) : at]
            else:
                del found[at:]
        return bytes(found)


def send_raw(port: int, data: bytes) -> tuple[int, bytes]:
    """Status and body of the answer; status 0 where none came.

    After a while without an answer the service is told that no more will come, so that nobody waits for the rest of a
    body that has none.
    """
    received = b""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        with suppress(OSError):
            client.sendall(data)
        for _ in range(2):
            with suppress(TimeoutError):
                while part := client.recv(65536):
                    received += part
                break
            client.shutdown(socket.SHUT_WR)
    while received.startswith(b"HTTP/1.1 1"):
        received = received.partition(b"\r\n\r\n")[2]
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head[9:12]) if head.startswith(b"HTTP/1.1 ") and head[9:12].isdigit() else 0), body


def fuzz(
    server: ServerProcess, images: list[bytes], count: int, concurrency: int, seed: int
) -> tuple[Counter[str], list[str]]:
    """Statuses by verb, and what failed."""
    rng = random.Random(seed)
    maker = Maker(rng, server.port, images)
    pairs = [(verb, route) for verb in VERBS for route in ROUTES]
    statuses: Counter[str] = Counter()
    failures: list[str] = []
    lock = threading.Lock()

    def one(request: tuple[str, str, bytes]) -> None:
        verb, route, data = request
        status, body = send_raw(server.port, data)
        with lock:
            statuses[f"{status}"] += 1
            if statuses.total() % 2000 == 0:
                print(f"{statuses.total():>7,} requests, {server.resident_mib():.0f} MiB", flush=True)
            if status >= 500 and not (status == 503 and (code_of(body) == "SRV_BUSY" or verb == "HEAD")):
                failures.append(f"{status} for {verb} {route}: {data[:300]!r}")

    drawn = ((*pair, maker.draw(*pair)) for pair in (pairs[n % len(pairs)] for n in range(count)))
    with ThreadPoolExecutor(concurrency) as threads:
        for _ in threads.map(one, drawn):
            pass
    return statuses, failures


# --- schemathesis -------------------------------------------------------------------------------------------


def run_schemathesis(port: int, examples: int) -> tuple[int, str]:
    """Its exit status, and the end of what it says; requests follow the service's own description."""
    program = Path(sys.executable).with_name("schemathesis")
    found = str(program) if program.exists() else shutil.which("schemathesis")
    if found is None:
        return 0, "not installed (extra fuzz)"
    done = subprocess.run(
        [found, "run", "http" + f"://127.0.0.1:{port}/openapi.json", "--checks", "not_a_server_error", "--max-examples",
         str(examples), "--no-color", "--generation-database", "none", "--seed", "0", "--workers", "2"],
        capture_output=True, text=True, check=False, timeout=3600,
    )  # fmt: skip
    return done.returncode, (done.stdout + done.stderr)[-1500:]


# --- how much is read before the answer ---------------------------------------------------------------------


def measure_limit(bundle: Path, count: int, seed: int) -> tuple[int, int]:
    """Bodies over the limit that got 413, and the most bytes over the limit that were read before the answer."""
    from plainfilm.web.serving import Service
    from plainfilm.web.sockets import BoundedProtocol

    rng = random.Random(seed)
    read: list[int] = []
    received: Callable[[BoundedProtocol, bytes], None] = BoundedProtocol.data_received

    def counted(self: BoundedProtocol, data: bytes) -> None:
        if not self._lingers:
            read.append(len(data))
        received(self, data)

    BoundedProtocol.data_received = counted  # type: ignore[method-assign]
    service = Service(bundle, port=0, device="cpu", max_upload_mb=1, decoders=1)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: service.run(on_ready=ready.set), daemon=True)
    thread.start()
    ready.wait(120)
    refused = most = 0
    try:
        for _ in range(count):
            read.clear()
            size = rng.choice((1, 1000, 0x4000, 0x10000, 0x100000))
            total = LIMIT + rng.choice((1, 1 << 16, 1 << 20, 8 << 20))
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Type: {KIND}\r\n".encode()
            body = multipart(bytes(total))
            if rng.random() < 0.8:
                size = max(size, total // 4000)
                pieces = (body[at : at + size] for at in range(0, len(body), size))
                body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
                head += b"Transfer-Encoding: chunked\r\n\r\n"
            else:
                head += f"Content-Length: {len(body)}\r\n\r\n".encode()
            refused += send_raw(service.port, head + body)[0] == 413
            most = max(most, sum(read) - len(head) - LIMIT)
    finally:
        BoundedProtocol.data_received = received  # type: ignore[method-assign]
        service.stop()
        thread.join(60)
    return refused, most


def main() -> None:
    """Run it, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_480)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--too-large", type=int, default=60, help="bodies over the limit")
    parser.add_argument("--examples", type=int, default=100, help="of schemathesis, for each route and phase")
    parser.add_argument("--no-schemathesis", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="plainfilm-fuzz-") as place:
        folder = Path(place)
        bundle = write_model(folder / "bundle", 32)
        images = [path.read_bytes() for path in write_images(folder, 12)]
        with ServerProcess(bundle, folder / "temporary", "--max-upload-mb", "1", "--quiet") as server:
            statuses, failures = fuzz(server, images, given.requests, given.concurrency, given.seed)
            status, said = (0, "left out") if given.no_schemathesis else run_schemathesis(server.port, given.examples)
            still_right = ask(server.port, "POST", "/predict", multipart(images[0]), Content_Type=KIND)[0] == 200
            is_alive, log, left = server.is_alive, server.log(), server.temporary_files()
        refused, over = measure_limit(bundle, given.too_large, given.seed)
    own_errors = re.findall(r"an error of plainfilm's own \((\w+)\)", log)
    report = {
        "requests": statuses.total(),
        "routes x verbs": len(ROUTES) * len(VERBS),
        "statuses": dict(sorted(statuses.items())),
        "failures": failures[:10],
        "errors of its own in the log": dict(Counter(own_errors)),
        "alive, and answers an image": is_alive and still_right,
        "temporary files left": left,
        "schemathesis": "no failure" if status == 0 and not given.no_schemathesis else said,
        "bodies over the limit refused with 413": f"{refused} of {given.too_large}",
        "most bytes read beyond the limit": over,
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(report, indent=2))
    if status == 0 and not given.no_schemathesis:
        print(said)
    is_good = not failures and not own_errors and is_alive and still_right and not left and status == 0
    sys.exit(0 if is_good and refused == given.too_large and over <= SLACK else 1)


if __name__ == "__main__":
    main()
