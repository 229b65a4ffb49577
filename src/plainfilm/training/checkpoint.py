"""The state of a training after an epoch, on disk: safetensors and JSON, committed by a manifest.

A checkpoint is a folder `epoch-0007`. Its manifest is written last, so a folder without a sound manifest does not
count and the one before it does. Random draws need no state: every epoch is seeded from the seed and its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from plainfilm.errors import BundleError
from plainfilm.storage import delete, make_folder, read_json, verify_manifest, write_bytes, write_json, write_manifest
from plainfilm.team import Team, spread_tensors

SCHEMA = 1
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


@dataclass(frozen=True)
class Checkpoint:
    """A training after `epoch` epochs.

    Attributes:
        epoch: Epochs finished, from 1.
        model: Weights by name.
        optimizer: State as `Optimizer.state_dict` gives it.
        schedule: State as `LRScheduler.state_dict` gives it.
        precision: State of the loss scaling; empty unless floats have 16 bits.
        history: One row per finished epoch.
        facts: What was decided at the start and must not be decided again: device, precision, threads, versions.
    """

    epoch: int
    model: Mapping[str, torch.Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    precision: dict[str, Any]
    history: list[dict[str, Any]]
    facts: dict[str, Any]


def checkpoint_folder(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch lies."""
    return folder / f"epoch-{epoch:04d}"


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint under `folder`; it counts once its manifest is there."""
    place = checkpoint_folder(folder, checkpoint.epoch)
    delete(place)  # one that was damaged, or never finished
    make_folder(place)
    tensors, scalars = _split_state(checkpoint.optimizer["state"])
    write_bytes(place / "model.safetensors", save(dict(checkpoint.model)))
    write_bytes(place / "optimizer.safetensors", save(tensors))
    write_json(
        place / "state.json",
        {
            "schema": SCHEMA,
            "epoch": checkpoint.epoch,
            "optimizer_state": scalars,
            "optimizer_groups": checkpoint.optimizer["param_groups"],
            "schedule": checkpoint.schedule,
            "precision": checkpoint.precision,
            "history": checkpoint.history,
            "facts": checkpoint.facts,
        },
    )
    write_manifest(place, FILES)
    return place


def load_checkpoint(place: Path) -> Checkpoint:
    """Read a checkpoint back, bit for bit.

    Raises:
        BundleError: If any file is missing, damaged or of another schema.
    """
    verify_manifest(place, required=FILES)
    state = read_json(place / "state.json")
    if state.get("schema") != SCHEMA:
        raise BundleError(
            f"{place.name}: written by another version (schema {state.get('schema')}).", code="BUN_SCHEMA"
        )
    try:
        model = load_file(place / "model.safetensors")
        tensors = load_file(place / "optimizer.safetensors")
    except SafetensorError:
        raise BundleError(f"{place.name}: not sound safetensors.", code="BUN_DAMAGED") from None
    optimizer = {
        "state": _join_state(tensors, state["optimizer_state"]),
        "param_groups": state["optimizer_groups"],
    }
    return Checkpoint(
        state["epoch"], model, optimizer, state["schedule"], state["precision"], state["history"], state["facts"]
    )


def share_checkpoint(team: Team, checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The leader's checkpoint in all processes; the others' disks are not asked."""
    own: dict[str, Any] | None = None
    model = state = None
    if checkpoint is not None:
        model = checkpoint.model
        state, scalars = _split_state(checkpoint.optimizer["state"])
        own = {**vars(checkpoint), "model": None, "optimizer": [scalars, checkpoint.optimizer["param_groups"]]}
    told = team.agree(own)
    if told is None:
        return None
    model, state = spread_tensors(team, model), spread_tensors(team, state)
    scalars, groups = told["optimizer"]
    optimizer = {"state": _join_state(state, scalars), "param_groups": groups}
    return Checkpoint(**{**told, "model": model, "optimizer": optimizer})


def sound_checkpoints(folder: Path) -> Iterator[Checkpoint]:
    """The checkpoints under `folder` that are whole, newest first."""
    for place in sorted(folder.glob("epoch-*"), reverse=True):
        try:
            yield load_checkpoint(place)
        except BundleError:
            continue


def is_sound(place: Path) -> bool:
    """Whether a checkpoint is whole."""
    try:
        verify_manifest(place, required=FILES)
    except BundleError:
        return False
    return True


def drop_checkpoints(folder: Path, *, keep: Iterable[int]) -> None:
    """Delete all checkpoints under `folder` but those of the epochs in `keep`."""
    kept = {checkpoint_folder(folder, epoch) for epoch in keep}
    for place in folder.glob("epoch-*"):
        if place not in kept:
            delete(place)


def _split_state(
    state: Mapping[int, Mapping[str, Any]],
) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Tensors for safetensors, the rest for JSON; both keyed by parameter number."""
    tensors, scalars = {}, {}
    for number, entries in state.items():
        scalars[str(number)] = {name: value for name, value in entries.items() if not torch.is_tensor(value)}
        tensors.update(
            {f"{number}.{name}": value.contiguous() for name, value in entries.items() if torch.is_tensor(value)}
        )
    return tensors, scalars


def _join_state(tensors: Mapping[str, torch.Tensor], scalars: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {int(number): dict(entries) for number, entries in scalars.items()}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state[int(number)][name] = value
    return state
