"""Named tensors in all processes of a team."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from plainfilm.team.members import Team

if TYPE_CHECKING:
    import torch


def spread_tensors(team: Team, tensors: Mapping[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
    """Named tensors of the leader, in all processes, on the CPU."""
    import torch

    own = None if tensors is None else {name: value.detach().cpu() for name, value in tensors.items()}
    names = team.agree(None if own is None else [(name, str(value.dtype)) for name, value in own.items()])
    found = {}
    for name, dtype in names:
        kind = getattr(torch, dtype.removeprefix("torch."))
        # As whole bytes: numpy has no name for bfloat16. A scalar has no bytes of its own to look at.
        shape = team.agree(None if own is None else list(own[name].shape))
        raw = None if own is None else own[name].contiguous().reshape(-1).view(torch.uint8).numpy()
        found[name] = torch.from_numpy(team.spread(raw)).view(kind).reshape(shape)
    return found
