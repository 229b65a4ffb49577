"""How processes come together, and go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from plainfilm.errors import Helped, ResourceError, UsageError
from plainfilm.team.connected import START_SECONDS, Connected
from plainfilm.team.members import ALONE, Team
from plainfilm.team.place import OWN, Place, launched_place

_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from plainfilm.verbs.helping import main; main()"


@contextmanager
def gathered(devices: int, accelerator: str) -> Iterator[Team]:
    """The processes that work together here: those that a launcher started, or `devices` on this machine.

    In all but the first, what stands inside must do no more than what the first asks for.

    Args:
        devices: Processes wanted on this machine where no launcher started any.
        accelerator: `cpu`, `cuda` or `mps`.

    Raises:
        UsageError: `DEV_TOO_MANY` for more processes than GPUs.
        ResourceError: `DEV_PROCESS_LOST` if some do not come.
    """
    place = launched_place()
    if (place is None and devices == 1) or (place is not None and place.size == 1):
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    local_size = devices if place is None else place.local_size
    _check_devices(local_size, accelerator)
    if accelerator == "cuda":  # what asks for no GPU by number gets that of this process
        torch.cuda.set_device(0 if place is None else place.local_rank)
    hosts = place is None or (place.rank == 0 and not place.hosted)
    store = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1" if place is None else place.address,
        0 if place is None else place.port,
        devices if place is None else place.size,
        is_master=hosts,
        timeout=timedelta(seconds=START_SECONDS),
        wait_for_workers=False,
    )
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, threads // local_size))
    children: list[subprocess.Popen[bytes]] = []
    if place is None:
        place = Place(0, devices, 0, devices, "127.0.0.1", store.port, accelerator=accelerator)
        children = [_spawn(place, rank) for rank in range(1, devices)]
    apart = dist.PrefixStore(f"plainfilm/{place.attempt}", store)  # type: ignore[attr-defined]
    team = Connected(place, apart, children)
    in_order = False
    try:
        team.connect(accelerator)
        yield team
        in_order = True
    except BaseException as error:
        in_order = isinstance(error, Helped)
        if not (team.leads or isinstance(error, Helped)):
            team.confess(error)
        for child in children:
            child.kill()
        raise
    finally:
        team.leave(in_order=in_order)
        torch.set_num_threads(threads)


def _check_devices(local_size: int, accelerator: str) -> None:
    import torch

    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(accelerator)
    if there is not None and local_size > there:
        raise UsageError(
            f"{local_size} processes on this machine, and {there} '{accelerator}' devices. Take as many as there are, "
            "or --device cpu.",
            code="DEV_TOO_MANY",
        )


def _spawn(leader: Place, rank: int) -> subprocess.Popen[bytes]:
    """Another process on this machine, which finds its modules where this one does."""
    import torch

    place = {**vars(leader), "rank": rank, "local_rank": rank}
    heard = None if os.environ.get("PLAINFILM_TRACEBACK") else subprocess.DEVNULL
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=heard,
            stderr=heard,
            env={**os.environ, OWN: json.dumps(place), "OMP_NUM_THREADS": str(torch.get_num_threads())},
        )
    except OSError as error:
        raise ResourceError(
            f"A process could not be started: {error.strerror}. Free memory or processes, or take fewer --devices.",
            code="RES_WORKER",
        ) from error
