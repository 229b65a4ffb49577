"""Decoding bytes that come one by one, in processes that stay and can be killed.

What a file can do is what it can do to a worker of `workers.decode_images`: end one process, which is replaced.
"""

from __future__ import annotations

import contextlib
import math
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from plainfilm.data.messages import Decoded, receive_decoded, refused, send
from plainfilm.data.workers import START_SECONDS, Job, end_process, greet, spawn
from plainfilm.errors import ResourceError

_WATCH_SECONDS = 0.1
_MOST_IMAGES = 2_000  # by one process: what a decoder leaks goes with it


class DecoderPool:
    """Some worker processes for the images of a service; `decode` may be called from any thread.

    Used as a context manager: the processes are there inside of it, and gone after it.

    Args:
        job: How images are read and fitted.
        workers: Processes, which is how many images are decoded at the same time.
    """

    def __init__(self, job: Job, workers: int) -> None:
        self._job = job
        self._decoders = [_Decoder(job) for _ in range(workers)]
        self._free: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._watch = threading.Thread(target=self._end_late, daemon=True, name="plainfilm-decoder-watch")

    def __enter__(self) -> Self:
        self._watch.start()
        try:
            for decoder in self._decoders:
                decoder.start()
                self._free.put(decoder)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; an image that is being decoded is refused as `IMG_DECODER_DIED`."""
        self._closing.set()
        for decoder in self._decoders:
            decoder.close()
        if self._watch.ident is not None:
            self._watch.join()

    @property
    def restarts(self) -> int:
        """Processes that had to be replaced because of what they were given."""
        return sum(decoder.restarts for decoder in self._decoders)

    def decode(self, data: bytes, *, view_side: int | None = None) -> Decoded:
        """Read one image from its bytes; waits for a free process.

        Refused are the same images as by `workers.decode_images`, with the same codes.

        Args:
            data: One encoded image.
            view_side: Give also `Decoded.view`, with at most so many pixels a side.

        Raises:
            ResourceError: `RES_WORKER` if a process cannot be started.
        """
        decoder = self._free.get()
        try:
            return decoder.decode(data, view_side)
        finally:
            self._free.put(decoder)

    def _end_late(self) -> None:
        while not self._closing.wait(_WATCH_SECONDS):
            for decoder in self._decoders:
                decoder.end_if_late()


class _Decoder:
    """One process, and another after it when it dies. Used by one thread at a time, watched by a second."""

    def __init__(self, job: Job) -> None:
        self.restarts = 0
        self._job = job
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline = math.inf
        self._was_late = False
        self._closed = False
        self._images = 0  # that the process has had

    def start(self) -> subprocess.Popen[bytes]:
        """A process that is ready."""
        with self._lock:
            if self._closed:
                raise ResourceError("The service is stopping.", code="RES_WORKER")
            self._process = process = spawn()
            self._images = 0
        with self._limited(START_SECONDS):
            greet(process, self._job)
        return process

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._end()

    def end_if_late(self) -> None:
        """Kill the process if its time is up."""
        with self._lock:
            if time.monotonic() > self._deadline and self._process is not None:
                self._was_late, self._deadline = True, math.inf
                self._process.kill()

    def decode(self, data: bytes, view_side: int | None) -> Decoded:
        if self._images >= _MOST_IMAGES:
            self._end()
        is_fresh = self._images == 0
        decoded = self._ask(data, view_side)
        if decoded.code == "IMG_MEMORY":
            # What is left of its memory may be in pieces: only a fresh process can tell whether an image is too large.
            self._end()
            if not is_fresh:
                decoded = self._ask(data, view_side)
        return decoded

    def _ask(self, data: bytes, view_side: int | None) -> Decoded:
        process = self._process or self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        self._images += 1
        try:
            with self._limited(self._job.limits.max_seconds):
                send(process.stdin, {"view_side": view_side}, data)
                return receive_decoded(process.stdout)
        except (EOFError, OSError):
            self._end()
            self.restarts += 1
            return refused(0, "IMG_TIMEOUT" if self._was_late else "IMG_DECODER_DIED")

    @contextlib.contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        with self._lock:
            self._was_late, self._deadline = False, time.monotonic() + seconds
        try:
            yield
        finally:
            with self._lock:
                self._deadline = math.inf

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            end_process(process)
