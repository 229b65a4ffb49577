"""Decoding many images in processes that can be killed.

A hostile or broken file may make a decoder hang, crash or take all memory. So each decoder is a
process of its own, a fresh Python running `main` below, and the worst a file can do is to end it: the file
is refused, a new process takes its place, the other files go on.

The two sides speak over pipes (`messages`). No import of the caller's script takes place, so no
`if __name__ == "__main__"` is needed. `decode_images` reads many files; `decoders.DecoderPool` keeps such processes for
bytes that come one by one.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from plainfilm.data.fitting import Fit, Resample, check_fit, fit_image
from plainfilm.data.grey import Channel
from plainfilm.data.images import ImageLimits, ImageRef, read_image
from plainfilm.data.messages import PIPE_BYTES, Decoded, receive, receive_decoded, refused, send, send_decoded
from plainfilm.data.windows import FILE
from plainfilm.errors import ImageError, ResourceError, UsageError

_MAX_BATCH = 16  # images per message: the cost of a message is shared, and little is repeated after a death
_IN_FLIGHT = 2  # batches per worker, waiting or done: bounds memory when the caller is slow
START_SECONDS = 120.0
_WATCH_SECONDS = 0.1
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from plainfilm.data.workers import main; main()"


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
    job = Job(limits or ImageLimits(), size, fit, resample, channel)
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers <= 0:
        return (job.decode(index, ref) for index, ref in enumerate(refs))
    return _decode_in_processes(refs, job, workers)


@dataclass(frozen=True)
class Job:
    """How images are read and fitted: the same for all of them, sent once to each worker.

    `window` is for images that come as bytes; an `ImageRef` has its own.
    """

    limits: ImageLimits
    size: tuple[int, int] | None
    fit: Fit
    resample: Resample
    channel: Channel
    window: str = FILE

    def decode(self, index: int, source: ImageRef | bytes, *, view_side: int | None = None) -> Decoded:
        """Read and fit one image, here; with `view_side` also as a screen shows it, at most so many pixels a side."""
        try:
            pixels, record = read_image(source, limits=self.limits, channel=self.channel, window=self.window)
            view = None if view_side is None else _reduced(pixels, view_side)
            if self.size is None:
                return Decoded(index, record, view=view)
            height, width = self.size
            fitted = fit_image(pixels, height=height, width=width, fit=self.fit, resample=self.resample)
            return Decoded(index, record, fitted, view=view)
        except ImageError as error:
            return Decoded(index, code=error.code, detail=str(error))
        except MemoryError:
            return refused(index, "IMG_MEMORY")

    def to_json(self) -> dict[str, Any]:
        """For the message that a worker begins with."""
        return {
            "limits": asdict(self.limits),
            "size": self.size,
            "fit": self.fit,
            "resample": self.resample,
            "channel": self.channel,
            "window": self.window,
        }

    @classmethod
    def from_json(cls, message: dict[str, Any]) -> Job:
        """What `to_json` told."""
        size = message["size"]
        how = (message["fit"], message["resample"], message["channel"], message["window"])
        return cls(ImageLimits(**message["limits"]), tuple(size) if size else None, *how)


def _reduced(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    """The image with its longer side at most `side`; never enlarged."""
    height, width = pixels.shape
    scale = min(1.0, side / max(height, width))
    return fit_image(pixels, height=max(1, round(height * scale)), width=max(1, round(width * scale)), fit="stretch")


# --- The calling side -------------------------------------------------------------------------------------

_Task = tuple[int, ImageRef]
_Todo = queue.SimpleQueue[list[_Task] | None]
_Done = queue.SimpleQueue[Decoded | None | BaseException]  # None: a batch is finished


def _decode_in_processes(refs: Sequence[ImageRef], job: Job, workers: int) -> Iterator[Decoded]:
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

    def __init__(self, job: Job, todo: _Todo, done: _Done) -> None:
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
                    self._done.put(refused(index, "IMG_DECODER_DIED"))
                    tasks.popleft()
                elif self._late == index:
                    self._done.put(refused(index, "IMG_TIMEOUT"))
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
            send(process.stdin, {"tasks": [_to_task(index, ref) for index, ref in tasks]})
            while tasks:
                self._set_deadline(tasks[0][0], seconds)
                decoded = receive_decoded(process.stdout)
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
            self._process = process = spawn()
            self._fresh = True
        self._set_deadline(None, START_SECONDS)
        try:
            greet(process, self._job)
        except ResourceError as error:
            if self._stopped:
                raise EOFError from error
            raise
        return process

    def _end_process(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            end_process(process)


def spawn() -> subprocess.Popen[bytes]:
    """A worker that finds its modules where this process does, whatever the current folder holds.

    Raises:
        ResourceError: `RES_WORKER` if there is no memory or process for it.
    """
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, *sys.path],
            bufsize=PIPE_BYTES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **one_thread},
        )
    except OSError as error:
        raise _cannot_start(error.strerror or "unknown reason") from error


def greet(process: subprocess.Popen[bytes], job: Job) -> None:
    """Tell a new worker its job, and wait until it is ready.

    Raises:
        ResourceError: `RES_WORKER` if it ends before that.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        send(process.stdin, job.to_json())
        receive(process.stdout)
    except (EOFError, OSError) as error:
        raise _cannot_start("it ended while starting") from error


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a worker and wait for it."""
    with contextlib.suppress(OSError), process:  # leaving flushes what a dead process will not read
        process.kill()


def _cannot_start(reason: str) -> ResourceError:
    mend = "Free memory or processes, or decode with workers=0."
    return ResourceError(f"A decoding process could not be started: {reason}. {mend}", code="RES_WORKER")


def _to_task(index: int, ref: ImageRef) -> tuple[int, str, str | None, int | None, str]:
    # Absolute: this process may change its folder while a worker runs.
    return index, str(ref.path.absolute()), ref.member, ref.row, ref.window


# --- The worker -------------------------------------------------------------------------------------------


def main() -> None:
    """Serve decode requests from standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides what an interrupt means
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a decoder that prints must not print into a message
    job = Job.from_json(receive(incoming)[0])
    _bound_memory(job.limits.max_memory_bytes)
    send(outgoing, {"ready": True})
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            message, data = receive(incoming)
            for index, path, member, row, window in message.get("tasks", ()):
                _bound_time(job.limits.max_seconds)
                send_decoded(outgoing, job.decode(index, ImageRef(Path(path), member, row, window)))
            if "view_side" in message:  # bytes that came along
                _bound_time(job.limits.max_seconds)
                send_decoded(outgoing, job.decode(0, bytes(data), view_side=message["view_side"]))


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
        signal.setitimer(signal.ITIMER_REAL, max_seconds + START_SECONDS)


if __name__ == "__main__":
    main()
