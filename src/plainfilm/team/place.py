"""Where a process stands among the others, as torchrun, srun or a leader says."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Final

from plainfilm.errors import UsageError

OWN: Final = "PLAINFILM_TEAM"  # where a process that the leader started stands, as JSON


@dataclass(frozen=True)
class Place:
    """Where a process stands among the others.

    Attributes:
        rank: Its number; 0 leads.
        size: How many there are.
        local_rank: Its number on its machine, and so its GPU.
        local_size: How many there are on its machine.
        address: Host of the first.
        port: On which they find each other.
        hosted: Whether what started them also keeps that port open.
        attempt: How often they were started again.
        accelerator: What the leader that started this process computes on.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    hosted: bool = False
    attempt: int = 0
    accelerator: str = ""


def launched_place() -> Place | None:
    """Where torchrun, srun or a leader put this process; None if it was started by itself.

    Raises:
        UsageError: `DEV_LAUNCHER` if what srun says cannot be.
    """
    if OWN in os.environ:
        return Place(**json.loads(os.environ[OWN]))
    if "TORCHELASTIC_RUN_ID" not in os.environ and "SLURM_NTASKS" not in os.environ:
        return None
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    own = os.environ.get
    if TorchElasticEnvironment.detect():
        found: Any = TorchElasticEnvironment()
        local_size, hosted = int(own("LOCAL_WORLD_SIZE", "1")), own("TORCHELASTIC_USE_AGENT_STORE") == "True"
    elif own("SLURM_PROCID") is not None and int(own("SLURM_NTASKS", "1")) > 1 and SLURMEnvironment.detect():
        try:
            found = SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise UsageError(f"srun's tasks cannot be placed: {error}", code="DEV_LAUNCHER") from None
        local_size, hosted = int(own("SLURM_NTASKS_PER_NODE", "1")), False
    else:
        return None
    return Place(
        found.global_rank(),
        found.world_size(),
        found.local_rank(),
        local_size,
        found.main_address,
        found.main_port,
        hosted,
        int(own("TORCHELASTIC_RESTART_COUNT", "0")),
    )


def leads_here() -> bool:
    """Whether this process is the one that writes and speaks."""
    place = launched_place()
    return place is None or place.rank == 0
