"""From the bytes of a request to what is answered: decoded in processes, scored in batches, one model at work."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import TypeVar

from plainfilm.data.decoders import DecoderPool
from plainfilm.data.images import ImageLimits
from plainfilm.data.messages import Decoded
from plainfilm.data.workers import Job
from plainfilm.errors import ImageError
from plainfilm.prediction import BATCH
from plainfilm.web.batching import Batcher
from plainfilm.web.counters import Counters
from plainfilm.web.gallery import open_gallery
from plainfilm.web.limits import ServiceLimits
from plainfilm.web.model import Answer, Prepared, Served

logger = logging.getLogger("plainfilm.web")
T = TypeVar("T")


class Desk:
    """Takes images one by one and answers them.

    Decoding waits for one of a few processes. The model computes in one thread, so that nothing of it is touched
    twice at a time, and takes the images of all requests together.

    Args:
        served: The model.
        limits: Of the service.
        counters: Told of every image.
        decoders: Decoding processes.
    """

    def __init__(self, served: Served, limits: ServiceLimits, counters: Counters, *, decoders: int) -> None:
        preprocessing = served.config.preprocessing
        size = preprocessing.height, preprocessing.width
        image_limits = ImageLimits()
        self.served = served
        self.is_open = False
        self._counters = counters
        self._pool = DecoderPool(
            Job(image_limits, size, preprocessing.fit, preprocessing.resample, "grey", preprocessing.window), decoders
        )
        self._reading = ThreadPoolExecutor(decoders, thread_name_prefix="plainfilm-reading")
        self._model = ThreadPoolExecutor(1, thread_name_prefix="plainfilm-model")
        self._batcher: Batcher[Prepared, Answer] = Batcher(
            self._answer, most=BATCH, wait_seconds=limits.batch_wait_seconds, most_waiting=limits.max_waiting
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Processes and threads are there inside of it, and gone after it."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reading, self._pool.__enter__)
        batches = asyncio.create_task(self._batcher.run())
        self.is_open = True
        # A thread that nobody waits for: what it loads is a help, and stopping must not wait for it.
        threading.Thread(target=self._make_ready, daemon=True, name="plainfilm-gallery").start()
        try:
            yield
        finally:
            self.is_open = False
            batches.cancel()
            with suppress(asyncio.CancelledError):
                await batches
            self._pool.close()
            for threads in (self._reading, self._model):
                threads.shutdown(wait=True, cancel_futures=True)

    @property
    def n_waiting(self) -> int:
        """Images that wait for the model."""
        return self._batcher.n_waiting

    @property
    def restarts(self) -> int:
        """Decoding processes that were replaced."""
        return self._pool.restarts

    async def read(self, data: bytes, *, view_side: int | None = None) -> Decoded:
        """Decode one image in a process.

        Raises:
            ImageError: With its code, if it cannot be read.
        """
        decoded = await asyncio.get_running_loop().run_in_executor(
            self._reading, lambda: self._pool.decode(data, view_side=view_side)
        )
        if decoded.code is not None:
            self._counters.refused[decoded.code] += 1
            raise ImageError(decoded.detail, code=decoded.code)
        return decoded

    async def prepare(self, data: bytes) -> Prepared:
        """One image as the model takes it; raises as `read`."""
        return _prepared(await self.read(data))

    async def answer(self, data: bytes) -> Answer:
        """What the model says of one image; raises as `read`, or `Refusal` if too many wait."""
        return await self._batcher.ask(await self.prepare(data))

    async def with_model(self, work: Callable[[], T]) -> T:
        """Do something with the model that is no batch, in its turn."""
        return await asyncio.get_running_loop().run_in_executor(self._model, work)

    async def _answer(self, images: Sequence[Prepared]) -> Sequence[Answer]:
        answers = await self.with_model(lambda: self.served.answers(images))
        self._counters.images += len(images)
        self._counters.batches.add(len(images))
        return answers

    def _make_ready(self) -> None:
        """Load what heat maps need and the images of the run, while the service already answers."""
        import_module("pytorch_grad_cam")
        run = self.served.run
        if run is None:
            return
        try:
            found = open_gallery(run, self.served.config.preprocessing, is_wanted=lambda: self.is_open)
        except Exception as error:  # the service does without; no name of a file is said
            logger.warning("the images of the run could not be read (%s)", type(error).__name__)
            found = "The images of the run could not be read."
        self.served.gallery = found


def _prepared(decoded: Decoded) -> Prepared:
    assert decoded.pixels is not None
    assert decoded.record is not None
    return Prepared(decoded.pixels, decoded.record)
