"""What the processes of a team do that do not lead: one job after the other, until they are let go."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plainfilm.data.pixels import PixelStore
from plainfilm.data.shares import help_decoding
from plainfilm.errors import Helped, PlainfilmError
from plainfilm.prediction import help_scoring
from plainfilm.team import ALONE, Team, gathered, launched_place
from plainfilm.verbs.fitting import help_fitting
from plainfilm.verbs.head_fitting import help_featuring

JOBS: dict[str, Callable[..., None]] = {"fit": help_fitting, "features": help_featuring, "scores": help_scoring}


@contextmanager
def working_together(devices: int, device: str) -> Iterator[Team]:
    """The team of this process, if it leads one or is alone.

    Args:
        devices: Processes wanted on this machine; those that a launcher started come before.
        device: Where to compute.

    Raises:
        Helped: In a process that does not lead, once the others need it no more.
        ResourceError: `DEV_PROCESS_LOST`; UsageError: `DEV_TOO_MANY`, `DEV_LAUNCHER`, `DEV_ABSENT`.
    """
    if devices == 1 and launched_place() is None:
        yield ALONE
        return
    from plainfilm.training.device import choose_device

    with gathered(devices, choose_device(device)) as team:
        if not team.leads:
            _help(team)
            raise Helped("what the first process asked for is done.")
        yield team


def _help(team: Team) -> None:
    """Do what the leader asks for; keeps the images that were read last."""
    pixels: PixelStore | None = None
    try:
        for name, facts in team.jobs():
            if name == "scan":
                pixels = help_decoding(team)
            else:
                JOBS[name](team, pixels, **facts)
    except PlainfilmError:
        if not team.is_dismissed():  # else the leader says itself why it went
            raise


def main() -> None:
    """A process that the leader started on its own machine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the leader decides what an interrupt means
    try:
        place = launched_place()
        assert place is not None
        with working_together(1, place.accelerator):
            pass
    except Helped:
        return
    except PlainfilmError as error:
        raise SystemExit(error.exit_code) from error
