"""Small questions that come at the same time share one pass through the model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from plainfilm.web.limits import busy

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Batcher(Generic[Question, Answer]):
    """Collects questions for a few milliseconds, or until a batch is full, and asks them together.

    While one batch is being answered the next one fills, so that nobody waits under load for the sake of others.

    Args:
        ask: Answers some questions, in their order.
        most: Questions in one batch.
        wait_seconds: How long the first of a batch waits for others.
        most_waiting: Questions that wait at the same time; more are refused.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]],
        *,
        most: int,
        wait_seconds: float,
        most_waiting: int,
    ) -> None:
        self._ask = ask
        self._most = most
        self._wait_seconds = wait_seconds
        self._most_waiting = most_waiting
        self._waiting: asyncio.Queue[tuple[Question, asyncio.Future[Answer]]] = asyncio.Queue()

    @property
    def n_waiting(self) -> int:
        """Questions that no batch has taken yet."""
        return self._waiting.qsize()

    async def ask(self, question: Question) -> Answer:
        """The answer to one question.

        Raises:
            Refusal: 503 if too many wait already.
        """
        if self.n_waiting >= self._most_waiting:
            raise busy(f"{self._most_waiting} images wait for the model.")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((question, future))
        return await future

    async def run(self) -> None:
        """Answer until cancelled; whoever still waits then is told that the service stops."""
        batch: list[tuple[Question, asyncio.Future[Answer]]] = []
        try:
            while True:
                batch = await self._collect()
                try:
                    answers = await self._ask([question for question, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():  # its client may be gone
                        future.set_result(answer)
        finally:
            while not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            for _, future in batch:
                future.cancel()

    async def _collect(self) -> list[tuple[Question, asyncio.Future[Answer]]]:
        batch = [await self._waiting.get()]
        loop = asyncio.get_running_loop()
        end = loop.time() + self._wait_seconds
        while len(batch) < self._most:
            try:
                batch.append(self._waiting.get_nowait())
                continue
            except asyncio.QueueEmpty:
                pass
            left = end - loop.time()
            if left <= 0:
                break
            try:
                batch.append(await asyncio.wait_for(self._waiting.get(), left))
            except TimeoutError:
                break
        return [(question, future) for question, future in batch if not future.done()] or await self._collect()
