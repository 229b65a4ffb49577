"""Decoding many images in processes that can be killed.

A hostile or broken file may make a decoder hang, crash or take all memory. So each decoder is a
process of its own, a fresh Python running `main` below, and the worst a file can do is to end it: the file
is refused, a new process takes its place, the other files go on.

The two sides speak over pipes in length-prefixed messages of JSON and raw pixels. Nothing is pickled, and
no import of the caller's script takes place, so no `if __name__ == "__main__"` is needed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from plainfilm.data.fitting import Fit, Resample, check_fit, fit_image
from plainfilm.data.grey import Channel
from plainfilm.data.images import REASONS, DecodeRecord, ImageLimits, ImageRef, read_image
from plainfilm.errors import ImageError, ResourceError, UsageError

_MAX_BATCH = 16  # images per message: the cost of a message is shared, and little is repeated after a death
_IN_FLIGHT = 2  # batches per worker, waiting or done: bounds memory when the caller is slow
_START_SECONDS = 120.0
_WATCH_SECONDS = 0.1
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from plainfilm.data.workers import main; main()"


@dataclass(frozen=True, eq=False)
class Decoded:
    """What became of one image.

    Attributes:
        index: Its place in the sequence given.
        record: How it was stored; None if it was refused.
        pixels: `(height, width)`, fitted; None if it was refused or no size was given.
        code: Why it was refused (a key of `images.REASONS`), or None.
        detail: The same in a sentence, without a path; empty if it was read.
    """

    index: int
    record: DecodeRecord | None = None
    pixels: NDArray[Any] | None = None
    code: str | None = None
    detail: str = ""


def decode_images(
    refs: Sequence[ImageRef],
    *,
    limits: ImageLimits | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit = "pad",
    resample: Resample = "smooth",
    channel: Channel = "grey",
    workers: int | None = None,
) -> Iterator[Decoded]:
    """Read each image once, in worker processes; results come in any order, each index exactly once.

    An image that takes over `limits.max_seconds` is refused as `IMG_TIMEOUT`, one that ends its process
    as `IMG_DECODER_DIED`, one that needs over `limits.max_memory_bytes` as `IMG_MEMORY` (Linux only).
    Close the iterator to stop early; that, and Ctrl-C, ends the processes.

    Args:
        refs: Where the images are.
        limits: What one image may cost.
        size: `(height, width)` to fit the pixels to; without it only records are returned.
        fit: How they are fitted, see `fitting.fit_image`.
        resample: How values between pixels are found, see there.
        channel: What of a colour image is kept, see `images.read_image`.
        workers: Processes; by default one per processor this process may use. 0 decodes here, one after
            the other, and holds neither the time nor the memory limit.

    Raises:
        UsageError: If `size` or `fit` cannot be.
        ResourceError: If a worker process cannot be started.
    """
    check_fit(fit)  # here, not once in each process
    if size is not None and min(size) < 1:
        raise UsageError(f"The size must be at least 1 x 1, got {size[0]} x {size[1]} (height x width).")
    job = _Job(limits or ImageLimits(), size, fit, resample, channel)
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers <= 0:
        return (job.decode(index, ref) for index, ref in enumerate(refs))
    return _decode_in_processes(refs, job, workers)


@dataclass(frozen=True)
class _Job:
    """What is the same for all images; sent once to each worker."""

    limits: ImageLimits
    size: tuple[int, int] | None
    fit: Fit
    resample: Resample
    channel: Channel

    def decode(self, index: int, ref: ImageRef) -> Decoded:
        try:
            pixels, record = read_image(ref, limits=self.limits, channel=self.channel)
            if self.size is None:
                return Decoded(index, record)
            height, width = self.size
            fitted = fit_image(pixels, height=height, width=width, fit=self.fit, resample=self.resample)
            return Decoded(index, record, fitted)
        except ImageError as error:
            return Decoded(index, code=error.code, detail=str(error))
        except MemoryError:
            return _refused(index, "IMG_MEMORY")

    def to_json(self) -> dict[str, Any]:
        return {
            "limits": asdict(self.limits),
            "size": self.size,
            "fit": self.fit,
            "resample": self.resample,
            "channel": self.channel,
        }

    @classmethod
    def from_json(cls, message: dict[str, Any]) -> _Job:
        size = message["size"]
        how = (message["fit"], message["resample"], message["channel"])
        return cls(ImageLimits(**message["limits"]), tuple(size) if size else None, *how)


def _refused(index: int, code: str) -> Decoded:
    return Decoded(index, code=code, detail=REASONS[code])


# --- The calling side -------------------------------------------------------------------------------------

_Task = tuple[int, ImageRef]
_Todo = queue.SimpleQueue[list[_Task] | None]
_Done = queue.SimpleQueue[Decoded | None | BaseException]  # None: a batch is finished


def _decode_in_processes(refs: Sequence[ImageRef], job: _Job, workers: int) -> Iterator[Decoded]:
    """Hand batches to the lanes and pass on what they finish, with a few batches under way at a time."""
    batches = _batches(refs, workers)
    todo: _Todo = queue.SimpleQueue()
    done: _Done = queue.SimpleQueue()
    lanes = [_Lane(job, todo, done) for _ in range(min(workers, len(refs)))]
    under_way = 0
    try:
        for lane in lanes:
            lane.start()
        for batch in itertools.islice(batches, _IN_FLIGHT * len(lanes)):
            todo.put(batch)
            under_way += 1
        while under_way:
            decoded = _next_done(done, lanes)
            if decoded is not None:
                yield decoded
            elif batch := next(batches, []):
                todo.put(batch)
            else:
                under_way -= 1
    finally:
        for lane in lanes:
            lane.stop()
            todo.put(None)
        for lane in lanes:
            lane.join()


def _batches(refs: Sequence[ImageRef], workers: int) -> Iterator[list[_Task]]:
    """Cut the work small enough that all workers finish at about the same time."""
    size = max(1, min(_MAX_BATCH, len(refs) // (4 * workers)))
    tasks = enumerate(refs)
    while batch := list(itertools.islice(tasks, size)):
        yield batch


def _next_done(done: _Done, lanes: Sequence[_Lane]) -> Decoded | None:
    """Wait for an image or the end of a batch, and meanwhile end the workers whose time is up."""
    while True:
        for lane in lanes:
            lane.end_if_late()
        try:
            item = done.get(timeout=_WATCH_SECONDS)
        except queue.Empty:
            continue
        if isinstance(item, BaseException):
            raise item
        return item


class _Lane:
    """A thread that gives batches to one worker process, and starts another when that one dies.

    The thread only waits on pipes. `stop` and `end_if_late` are called by the other side; a lock keeps
    them from meeting a half-started process, or one that has moved on to the next image.
    """

    def __init__(self, job: _Job, todo: _Todo, done: _Done) -> None:
        self._job = job
        self._todo = todo
        self._done = done
        self._thread = threading.Thread(target=self._run, daemon=True, name="plainfilm-decoder")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._current: int | None = None  # index of the image the worker is at
        self._fresh = True  # the worker has answered nothing yet
        self._deadline = math.inf
        self._late: int | None = None  # index of the image the worker was ended for
        self._stopped = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the worker; the thread follows."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def end_if_late(self) -> None:
        """Kill the worker if it has been at one image for too long."""
        with self._lock:
            if time.monotonic() > self._deadline and self._process is not None:
                self._late, self._deadline = self._current, math.inf
                self._process.kill()

    def _run(self) -> None:
        try:
            while (batch := self._todo.get()) is not None and not self._stopped:
                self._decode_batch(deque(batch))
                self._done.put(None)
        except BaseException as error:  # raised again in the caller's thread
            self._done.put(error)
        finally:
            self._end_process()

    def _decode_batch(self, tasks: deque[_Task]) -> None:
        """Decode a batch, with as many processes as it takes; answers come in the order of the tasks."""
        while tasks and not self._stopped:
            try:
                self._ask(tasks)
            except (EOFError, OSError):  # the process is gone, and the first unanswered image is to blame
                self._end_process()
                index = tasks[0][0]
                if self._late is None:
                    self._done.put(_refused(index, "IMG_DECODER_DIED"))
                    tasks.popleft()
                elif self._late == index:
                    self._done.put(_refused(index, "IMG_TIMEOUT"))
                    tasks.popleft()
                self._late = None  # if another was late, its answer came at the last moment: nobody is to blame

    def _ask(self, tasks: deque[_Task]) -> None:
        """Send the tasks, and take each off the list as its answer comes."""
        process = self._process or self._start_process()
        assert process.stdin is not None
        assert process.stdout is not None
        seconds = self._job.limits.max_seconds
        try:
            self._set_deadline(tasks[0][0], seconds)
            _send(process.stdin, {"tasks": [_to_task(index, ref) for index, ref in tasks]})
            while tasks:
                self._set_deadline(tasks[0][0], seconds)
                decoded = _from_message(*_receive(process.stdout))
                was_fresh, self._fresh = self._fresh, False
                out_of_memory = decoded.code == "IMG_MEMORY"
                if was_fresh or not out_of_memory:
                    self._done.put(decoded)
                    tasks.popleft()
                if out_of_memory:
                    # What is left of its memory may be in pieces, or filled by the images before: only a
                    # fresh process can tell whether an image is too large.
                    self._end_process()
                    return
        finally:
            self._set_deadline(None, math.inf)

    def _set_deadline(self, index: int | None, seconds: float) -> None:
        with self._lock:
            self._current, self._deadline = index, time.monotonic() + seconds

    def _start_process(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise EOFError
            try:
                self._process = _spawn()
            except OSError as error:
                raise _cannot_start(error.strerror or "unknown reason") from error
            process, self._fresh = self._process, True
        self._set_deadline(None, _START_SECONDS)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, self._job.to_json())
            _receive(process.stdout)
        except (EOFError, OSError) as error:
            if self._stopped:
                raise EOFError from error
            raise _cannot_start("it ended while starting") from error
        return process

    def _end_process(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError), process:  # leaving flushes what a dead process will not read
                process.kill()


def _spawn() -> subprocess.Popen[bytes]:
    """A worker that finds its modules where this process does, whatever the current folder holds."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _BOOT, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **one_thread},
    )


def _cannot_start(reason: str) -> ResourceError:
    mend = "Free memory or processes, or decode with workers=0."
    return ResourceError(f"A decoding process could not be started: {reason}. {mend}", code="RES_WORKER")


# --- Messages ---------------------------------------------------------------------------------------------

_LENGTHS = struct.Struct(">IQ")  # bytes of JSON, bytes of pixels


def _send(stream: IO[bytes], message: dict[str, Any], pixels: NDArray[Any] | None = None) -> None:
    text = json.dumps(message).encode()  # ASCII: names that are not valid Unicode survive as escapes
    stream.write(_LENGTHS.pack(len(text), 0 if pixels is None else pixels.nbytes) + text)
    if pixels is not None:
        stream.write(np.ascontiguousarray(pixels).data)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytearray]:
    """The next message and its pixels; EOFError if the other side is gone."""
    text_bytes, pixel_bytes = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    message: dict[str, Any] = json.loads(_exactly(stream, text_bytes))
    return message, _exactly(stream, pixel_bytes)


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    data = bytearray(count)
    if stream.readinto(data) != count:  # type: ignore[attr-defined]
        raise EOFError
    return data


def _to_task(index: int, ref: ImageRef) -> tuple[int, str, str | None, int | None]:
    # Absolute: this process may change its folder while a worker runs.
    return index, str(ref.path.absolute()), ref.member, ref.row


def _to_message(decoded: Decoded) -> dict[str, Any]:
    message: dict[str, Any] = {"index": decoded.index, "code": decoded.code, "detail": decoded.detail}
    if decoded.record is not None:
        message["record"] = vars(decoded.record)
    if decoded.pixels is not None:
        message["dtype"], message["shape"] = decoded.pixels.dtype.name, decoded.pixels.shape
    return message


def _from_message(message: dict[str, Any], data: bytearray) -> Decoded:
    record = pixels = None
    if "record" in message:
        record = DecodeRecord(**{**message["record"], "notes": tuple(message["record"]["notes"])})
    if "shape" in message:
        pixels = np.frombuffer(data, dtype=message["dtype"]).reshape(message["shape"])
    return Decoded(message["index"], record, pixels, message["code"], message["detail"])


# --- The worker -------------------------------------------------------------------------------------------


def main() -> None:
    """Serve decode requests from standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides what an interrupt means
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a decoder that prints must not print into a message
    job = _Job.from_json(_receive(incoming)[0])
    _bound_memory(job.limits.max_memory_bytes)
    _send(outgoing, {"ready": True})
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            for index, path, member, row in _receive(incoming)[0]["tasks"]:
                _bound_time(job.limits.max_seconds)
                decoded = job.decode(index, ImageRef(Path(path), member, row))
                _send(outgoing, _to_message(decoded), decoded.pixels)


def _bound_memory(max_bytes: int) -> None:
    """Let the process grow by `max_bytes` of address space and no more; leave no core dump of patients."""
    if sys.platform == "linux":
        import resource

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = now + max_bytes if hard == resource.RLIM_INFINITY else min(now + max_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _bound_time(max_seconds: float) -> None:
    """End this process should it hang while nobody is left to end it; its caller is sooner otherwise."""
    if sys.platform != "win32" and math.isfinite(max_seconds):
        signal.setitimer(signal.ITIMER_REAL, max_seconds + _START_SECONDS)


if __name__ == "__main__":
    main()
