"""What a person sees while work goes on: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from plainfilm.progress import Advance


class Terminal:
    """Draws progress on standard error; standard output stays for results.

    Args:
        quiet: Only warnings.
        bars: Moving bars; by default where standard error is a terminal.
    """

    def __init__(self, *, quiet: bool = False, bars: bool | None = None) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._bars = (self.console.is_terminal if bars is None else bars) and not quiet

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """See `progress.Progress.task`."""
        if not self._bars:
            yield from self._plain_task(title, total)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", style="dim"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            number = bar.add_task(title, total=total, facts="")

            def advance(steps: int = 1, **facts: Any) -> None:
                shown = "  ".join(f"{name} {value:.3f}" for name, value in facts.items())
                bar.update(number, advance=steps, facts=shown)

            yield advance

    def _plain_task(self, title: str, total: int) -> Iterator[Advance]:
        """A line when a long task ends; nothing in between, so that logs stay short."""
        started, done = time.monotonic(), 0

        def advance(steps: int = 1, **facts: Any) -> None:
            nonlocal done
            del facts
            done += steps

        yield advance
        if not self._quiet and not title.startswith("epoch "):
            self.say(f"{title}: {done} of {total} in {time.monotonic() - started:.1f} s")

    def epoch(self, row: dict[str, Any]) -> None:
        """See `progress.Progress.epoch`."""
        self.say(
            f"epoch {row['epoch']:>3}   loss {row['train_loss']:.3f} / {row['validation_loss']:.3f}   "
            f"accuracy {row['train_accuracy']:.3f} / {row['validation_accuracy']:.3f} (train / validation)   "
            f"{row['seconds']:.0f} s"
        )

    def say(self, sentence: str) -> None:
        """See `progress.Progress.say`."""
        if not self._quiet:
            self.console.print(sentence, markup=False)

    def warn(self, sentence: str) -> None:
        """See `progress.Progress.warn`."""
        self.console.print(f"note: {sentence}", style="yellow", markup=False)
