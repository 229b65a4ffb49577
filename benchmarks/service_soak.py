"""Many valid and hostile requests at the same time: is every answer right, and is anything left over?

    python -m benchmarks.service_soak                      10,000 valid and 2,000 hostile requests, 20 at a time
    python -m benchmarks.service_soak --valid 500 --hostile 100

Every valid answer is held against what `predict` gives for the same files, digit for digit. Then the same images are
asked one at a time, for comparison. Exit code 1 if anything is not as promised.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.service_traffic import KIND, ServerProcess, ask, code_of, multipart, write_images, write_model
from plainfilm import verbs

LIMIT_MB = 2
LIMIT = LIMIT_MB << 20
MOST_GROWTH = 50.0  # MiB of memory, from the 1,000th request on
WARM = 1_000


@dataclass
class Account:
    """What came of all requests."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    busy: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def expected_answers(bundle: Path, files: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """What `predict` says of each file."""
    predictions, _ = verbs.predict(bundle, files[0].parent, device="cpu")
    rows = predictions.to_frame().to_dict("records")
    of_name = {Path(str(row["path"])).name: row for row in rows}
    return {path: of_name[path.name] for path in files}


def is_right(answer: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether the service said what `predict` says, digit for digit."""
    return (
        all(value == row[f"score_{name}"] for name, value in answer["scores"].items())
        and answer["predicted"] == row["predicted"]
        and (answer["answer"] or "") == row["answer"]
        and " | ".join(answer["set"]) == row["set"]
        and answer["unlike_training"] == (row["unlike_training"] == "yes")
        and answer["unlike_why"] == row["unlike_why"]
    )


# --- valid requests -----------------------------------------------------------------------------------------


class Client:
    """One connection that is kept, as a program would."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def predict(self, body: bytes) -> tuple[int, bytes, float]:
        """Status, answer and seconds; a connection that the service closed while it was idle is opened again."""
        for attempt in (1, 2):
            began = time.perf_counter()
            try:
                self._connection.request("POST", "/predict", body, {"Content-Type": KIND})
                response = self._connection.getresponse()
                return response.status, response.read(), time.perf_counter() - began
            except (OSError, http.client.HTTPException):
                self._connection.close()
                if attempt == 2:
                    raise
        raise AssertionError


def ask_valid(client: Client, chosen: Sequence[Path], rows: dict[Path, dict[str, Any]], account: Account) -> None:
    """Ask for some files, again where the service is busy, and judge the answer."""
    body = multipart(*(path.read_bytes() for path in chosen))
    for _ in range(60):
        status, said, seconds = client.predict(body)
        if status != 503:
            break
        with account.lock:
            account.busy += 1
        time.sleep(1)
    with account.lock:
        account.seconds.append(seconds)
        if status != 200:
            account.unexpected[f"valid: {status} {code_of(said)}"] += 1
            return
        answers = json.loads(said)["predictions"]
        wrong = [path.name for path, answer in zip(chosen, answers, strict=True) if not is_right(answer, rows[path])]
        account.wrong += wrong
        account.right += not wrong


# --- hostile ones -------------------------------------------------------------------------------------------


def hostile_requests(port: int, image: bytes) -> dict[str, Callable[[], tuple[int, bytes]]]:
    """By name: something that must be refused, or do no harm."""

    def post(body: bytes, **headers: str) -> tuple[int, bytes]:
        return ask(port, "POST", "/predict", body, **{"Content_Type": KIND, **headers})

    def sent(data: bytes, *, hang_up: bool = False) -> tuple[int, bytes]:
        received = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            with suppress(OSError):
                client.sendall(data)
            if hang_up:
                return 0, b""
            with suppress(OSError):
                while part := client.recv(65536):
                    received += part
        head, _, body = received.partition(b"\r\n\r\n")
        return (int(head[9:12]) if head[:5] == b"HTTP/" else 0), body

    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {KIND}\r\n".encode()
    good = multipart(image)
    return {
        "no image": lambda: post(multipart(b"hello")),
        "truncated image": lambda: post(multipart(image[: len(image) // 2])),
        "flipped byte": lambda: post(multipart(image[:60] + bytes([image[60] ^ 255]) + image[61:])),
        "empty part": lambda: post(multipart(b"")),
        "65 parts": lambda: post(multipart(*[image] * 65)),
        "10,000 parts": lambda: post(multipart(*[b""] * 10_000)),
        "other field": lambda: post(multipart(image, name=b"file")),
        "path as name": lambda: post(multipart(image, filename=b"../../etc/passwd")),
        "long name": lambda: post(multipart(image, filename=b"n" * 4096)),
        "gzip": lambda: post(good, Content_Encoding="gzip"),
        "JSON": lambda: post(b"{}", Content_Type="application/json"),
        "too large, declared": lambda: post(multipart(bytes(LIMIT + 1))),
        "too large, chunked": lambda: sent(
            head
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + (b"8000\r\n" + bytes(0x8000) + b"\r\n") * (LIMIT // 0x8000 + 9)
        ),
        "large head": lambda: sent(head + b"X-Big: " + b"a" * 100_000 + b"\r\n\r\n"),
        "no HTTP": lambda: sent(b"\x16\x03\x01\x00\xff" + bytes(200)),
        "broken chunk": lambda: sent(head + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        "hang up in head": lambda: sent(head[:40], hang_up=True),
        "hang up in body": lambda: sent(
            head + f"Content-Length: {len(good)}\r\n\r\n".encode() + good[: len(good) // 2], hang_up=True
        ),
        "hang up before the answer": lambda: sent(
            head + f"Content-Length: {len(good)}\r\n\r\n".encode() + good, hang_up=True
        ),
        "other host": lambda: ask(port, "GET", "/metadata", Host="evil.example"),
        "other origin": lambda: post(good, Origin="http" + "://evil.example"),
        "no such route": lambda: ask(port, "GET", "/../../etc/passwd"),
        "no such verb": lambda: ask(port, "DELETE", "/predict"),
        "URL as parameter": lambda: ask(port, "POST", "/predict?url=file:///etc/passwd", good, Content_Type=KIND),
    }


HARMLESS = {"path as name", "long name"}  # images all the same


def ask_hostile(name: str, request: Callable[[], tuple[int, bytes]], account: Account) -> None:
    """Ask something bad, and see that it is refused in words."""
    status, body = request()
    with account.lock:
        if status == 503 and code_of(body) == "SRV_BUSY":
            account.busy += 1
        elif (
            (name in HARMLESS and status == 200)
            or (name.startswith("hang up") and status == 0)
            or (400 <= status < 500 and code_of(body))
        ):
            account.refused[name] += 1
        else:
            account.unexpected[f"{name}: {status or 'no answer'} {code_of(body)}"] += 1


# --- the whole ----------------------------------------------------------------------------------------------


def plan(rng: random.Random, files: Sequence[Path], names: Sequence[str], valid: int, hostile: int) -> Iterator[Any]:
    """All requests in random order: a list of files, or the name of something hostile."""
    kinds = [True] * valid + [False] * hostile
    rng.shuffle(kinds)
    for is_valid in kinds:
        yield rng.sample(list(files), rng.choice((1, 1, 1, 2, 4))) if is_valid else rng.choice(list(names))


def main() -> None:
    """Run it, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--valid", type=int, default=10_000)
    parser.add_argument("--hostile", type=int, default=2_000)
    parser.add_argument("--concurrency", type=int, default=20)
    parser.add_argument("--alone", type=int, default=300, help="requests one at a time, for comparison")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=96, help="pixels a side that the model takes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, account = random.Random(given.seed), Account()
    with tempfile.TemporaryDirectory(prefix="plainfilm-soak-") as place:
        folder = Path(place)
        bundle = write_model(folder / "bundle", given.side)
        files = write_images(folder, given.images)
        rows = expected_answers(bundle, files)
        with ServerProcess(bundle, folder / "temporary", "--max-upload-mb", str(LIMIT_MB), "--quiet") as server:
            before = server.temporary_files(), server.open_files()
            hostile = hostile_requests(server.port, files[0].read_bytes())
            clients = threading.local()
            memory: list[tuple[int, float]] = []
            done = 0

            def work(item: Any) -> None:
                nonlocal done
                if isinstance(item, str):
                    ask_hostile(item, hostile[item], account)
                else:
                    if not hasattr(clients, "own"):
                        clients.own = Client(server.port)
                    ask_valid(clients.own, item, rows, account)
                with account.lock:
                    done += 1
                    if done % 250 == 0 or done == given.valid + given.hostile:
                        memory.append((done, server.resident_mib()))
                        print(f"{done:>7,} requests, {memory[-1][1]:.0f} MiB", flush=True)

            began = time.perf_counter()
            with ThreadPoolExecutor(given.concurrency) as threads:
                for found in threads.map(work, plan(rng, files, list(hostile), given.valid, given.hostile)):
                    del found
            took = time.perf_counter() - began
            together = np.array(account.seconds)
            alone = measure_alone(server.port, files, given.alone)
            time.sleep(3)
            after = server.temporary_files(), server.open_files()
            is_alive, log = server.is_alive, server.log()
    growth = memory_growth(memory)
    own_errors = log.count("an error of plainfilm's own")
    report = {
        "valid right": account.right,
        "valid wrong": len(account.wrong),
        "hostile refused or harmless": account.refused.total(),
        "unexpected": dict(account.unexpected),
        "asked to wait (503)": account.busy,
        "errors of its own in the log": own_errors,
        "alive at the end": is_alive,
        "memory growth from request 1,000 on, MiB": round(growth, 1),
        "temporary files before, after": (before[0], after[0]),
        "open files before, after": (before[1], after[1]),
        "valid requests a second, together": round(given.valid / took, 1),
        "p50, p99 together, ms": [round(1000 * float(q), 1) for q in np.percentile(together, (50, 99))],
        "requests a second, one at a time": round(len(alone) / float(alone.sum()), 1),
        "p50, p99 one at a time, ms": [round(1000 * float(q), 1) for q in np.percentile(alone, (50, 99))],
        "seconds": round(took, 1),
    }
    print(json.dumps(report, indent=2))
    is_good = (
        account.right == given.valid
        and not account.unexpected
        and not own_errors
        and is_alive
        and growth <= MOST_GROWTH
        and before[0] == after[0]
    )
    sys.exit(0 if is_good else 1)


def measure_alone(port: int, files: Sequence[Path], count: int) -> Any:
    """Seconds of each of `count` requests of one image, one after the other."""
    client = Client(port)
    return np.array([client.predict(multipart(files[n % len(files)].read_bytes()))[2] for n in range(max(1, count))])


def memory_growth(memory: Sequence[tuple[int, float]]) -> float:
    """MiB between the first sample from `WARM` requests on and the largest after it."""
    later = [used for count, used in memory if count >= WARM] or [used for _, used in memory]
    return max(later) - later[0] if later else 0.0


if __name__ == "__main__":
    main()
