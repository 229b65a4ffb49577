"""How long work tells whoever watches: the library reports, the command line draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Progress(Protocol):
    """What a watcher of long work implements; `Silent` watches nothing."""

    def task(self, title: str, total: int) -> Any:
        """A context manager giving a callable `advance(steps, **facts)`."""

    def epoch(self, row: dict[str, Any]) -> None:
        """One finished epoch: the row of `history.csv`."""

    def say(self, sentence: str) -> None:
        """A sentence on what is being done."""

    def warn(self, sentence: str) -> None:
        """A sentence the user should not miss."""


class Advance(Protocol):
    """Tells a watcher that `steps` more are done."""

    def __call__(self, steps: int = 1, **facts: Any) -> None:
        """Report progress; `facts` are shown beside the bar."""


class Silent:
    """Says nothing; the default of every call of the library."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """See `Progress.task`."""
        del title, total
        yield lambda steps=1, **facts: None

    def epoch(self, row: dict[str, Any]) -> None:
        """See `Progress.epoch`."""

    def say(self, sentence: str) -> None:
        """See `Progress.say`."""

    def warn(self, sentence: str) -> None:
        """See `Progress.warn`."""
