"""What the processes of a team can do together; of one alone, nothing is exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

Array = npt.NDArray[Any]


class Team:
    """One of one or more processes that work together. Made by `gathered`; of one, nothing is exchanged.

    Attributes:
        rank: Number of this process.
        size: How many there are.
    """

    def __init__(self) -> None:
        self.rank, self.size = 0, 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def own(self, n: int, *, rank: int | None = None) -> slice:
        """The part of `n` things in a row that is this process's, or another's: the first ones may be longer by one."""
        ends = np.cumsum([0, *(n // self.size + (number < n % self.size) for number in range(self.size))])
        own = self.rank if rank is None else rank
        return slice(int(ends[own]), int(ends[own + 1]))

    def fabric(self, *, accelerator: str, precision: Any, unused: bool = False) -> Fabric:
        """What puts a model on devices.

        Args:
            accelerator: Kind of device.
            precision: What numbers are computed in.
            unused: Whether some parameters get no gradient in some steps.
        """
        from lightning_fabric import Fabric  # brings torch's compiler with it: seconds

        del unused
        return Fabric(accelerator=accelerator, devices=1, precision=precision)

    def ask(self, job: str, **facts: Any) -> None:
        """Set the others to a job, if there are others; what is large follows by `spread`. Only the leader asks."""

    def jobs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the leader asks for, one after the other, until it dismisses this process."""
        return iter(())

    def is_dismissed(self) -> bool:
        """Whether the leader let this process go."""
        return False

    def agree(self, value: Any) -> Any:
        """What the leader says, as JSON; whatever the others say."""
        return value

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes."""
        return list(values)

    def meet(self, what: str) -> None:
        """Wait until all have come here, however long that takes, as long as they are alive."""

    def join(self, value: Any) -> list[Any]:
        """What each process says, as JSON, in their order."""
        return [value]

    def spread(self, array: Array | None, *, source: int = 0) -> Array:
        """An array of one process, in all of them; the others give None."""
        assert array is not None
        return array

    def alike(self, tensors: Sequence[torch.Tensor]) -> None:
        """Make the numbers of a model's buffers the leader's in all."""

    @contextmanager
    def apart(self, seed: int, device: torch.device) -> Iterator[None]:
        """Random draws that differ between processes, and leave no trace in those that must be the same in all."""
        del seed, device
        yield

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn what breaks where another process is gone into a sentence."""
        yield


ALONE = Team()
