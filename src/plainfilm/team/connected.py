"""A process that is connected to others, and notices when one of them is gone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from plainfilm import errors
from plainfilm.errors import PlainfilmError, ResourceError
from plainfilm.team.members import Array, Team
from plainfilm.team.place import Place

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

START_SECONDS = 300.0  # until all have come
SILENCE_SECONDS = 120.0  # that one may say nothing while others wait for it
COLLECTIVE_SECONDS = 600.0  # that one step together may take
_BEAT_SECONDS = 2.0
_POLL_SECONDS = 0.02
_LEAVING_SECONDS = 20.0
_BROKEN = re.compile(
    r"gloo|nccl|connection|peer|socket|broken pipe|recv|time.?out|timed out|process group", re.IGNORECASE
)


class Connected(Team):
    """A process that is connected to others."""

    def __init__(self, place: Place, store: Any, children: Sequence[subprocess.Popen[bytes]]) -> None:
        super().__init__()
        self.rank, self.size = place.rank, place.size
        self._place = place
        self._store = store
        self._children = children
        self._n_jobs = self._n_meetings = 0
        self._heard: dict[int, tuple[str, float]] = {}
        self._listened = 0.0
        self._leaving = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True, name="plainfilm-team")

    # --- coming and going ---

    def connect(self, accelerator: str) -> None:
        """Meet all others.

        Raises:
            ResourceError: `DEV_PROCESS_LOST` if some do not come.
        """
        import torch.distributed as dist

        self._beating.start()
        self._store.set(f"here/{self.rank}", "yes")
        self._wait([f"here/{rank}" for rank in range(self.size)], within=START_SECONDS, alive=False)
        with self.guarded():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if accelerator == "cuda" else "gloo",
                store=dist.PrefixStore("group", self._store),  # type: ignore[attr-defined]
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=COLLECTIVE_SECONDS),
            )

    def leave(self, *, in_order: bool) -> None:
        """Let the others go, if this one leads, and take the connections down.

        Args:
            in_order: Whether the work is done, so that the others are there to hear it.
        """
        import torch.distributed as dist

        self._leaving.set()
        with suppress(RuntimeError, PlainfilmError):
            if self.leads:
                self._store.set("dismissed", "yes")
            if self.leads and in_order:  # what they wait at goes with this process
                self._wait([f"gone/{rank}" for rank in range(1, self.size)], within=_LEAVING_SECONDS, alive=False)
            elif in_order:
                self._store.set(f"gone/{self.rank}", "yes")
        with suppress(RuntimeError, AssertionError):
            dist.destroy_process_group()
        until = time.monotonic() + _LEAVING_SECONDS
        for child in self._children:
            try:
                child.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def confess(self, error: BaseException) -> None:
        """Leave word of what ended this process, for the leader to say."""
        word = ["ResourceError", f"an error of plainfilm's own ({type(error).__name__}).", "INTERNAL"]
        if isinstance(error, PlainfilmError):
            word = [type(error).__name__, str(error), error.code]
        with suppress(RuntimeError):
            self._store.set(f"error/{self.rank}", json.dumps(word))

    def jobs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """See `Team.jobs`."""
        while True:
            found = self._wait([f"job/{self._n_jobs}"], unless="dismissed")
            if found == "dismissed":
                return
            name, facts = json.loads(self._store.get(f"job/{self._n_jobs}"))
            self._n_jobs += 1
            yield name, facts

    def is_dismissed(self) -> bool:
        """See `Team.is_dismissed`."""
        try:
            return bool(self._store.check(["dismissed"]))
        except RuntimeError:  # it is gone, and the store with it
            return False

    # --- what Team promises ---

    def fabric(self, *, accelerator: str, precision: Any, unused: bool = False) -> Fabric:
        """See `Team.fabric`."""
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy

        strategy = DDPStrategy(
            cluster_environment=_environment(self._place),
            timeout=timedelta(seconds=COLLECTIVE_SECONDS),
            find_unused_parameters=unused,
        )
        fabric = Fabric(
            accelerator=accelerator,
            devices=self._place.local_size,
            num_nodes=self.size // self._place.local_size,
            strategy=strategy,
            precision=precision,
        )
        threads = os.environ.get("OMP_NUM_THREADS")
        fabric.launch()
        if threads is None:  # it would stay in the environment of whoever called
            os.environ.pop("OMP_NUM_THREADS", None)
        return fabric

    def ask(self, job: str, **facts: Any) -> None:
        """See `Team.ask`."""
        assert self.leads
        with self.guarded():
            self._store.set(f"job/{self._n_jobs}", json.dumps([job, facts]))
        self._n_jobs += 1

    def agree(self, value: Any) -> Any:
        """See `Team.agree`."""
        return json.loads(self._bytes(json.dumps(value).encode() if self.leads else None, source=0))

    def total(self, values: Sequence[float]) -> list[float]:
        """See `Team.total`."""
        import torch
        import torch.distributed as dist

        sums = torch.tensor(values, dtype=torch.float64)
        with self.guarded():
            dist.all_reduce(sums)
        found: list[float] = sums.tolist()
        return found

    def meet(self, what: str) -> None:
        """See `Team.meet`."""
        self._n_meetings += 1
        with self.guarded():
            self._store.set(f"met/{self._n_meetings}/{self.rank}", what)
        self._wait([f"met/{self._n_meetings}/{rank}" for rank in range(self.size)])

    def join(self, value: Any) -> list[Any]:
        """See `Team.join`."""
        own = json.dumps(value).encode()
        return [
            json.loads(self._bytes(own if source == self.rank else None, source=source)) for source in range(self.size)
        ]

    def spread(self, array: Array | None, *, source: int = 0) -> Array:
        """See `Team.spread`."""
        import torch
        import torch.distributed as dist

        mine = source == self.rank
        assert (array is not None) == mine
        head = None if array is None else json.dumps([array.dtype.str, array.shape]).encode()
        dtype, shape = json.loads(self._bytes(head, source=source))
        sent = np.empty(shape, dtype=dtype) if array is None else np.ascontiguousarray(array)
        flat = sent.reshape(-1).view(np.uint8)
        with self.guarded():
            for start in range(0, len(flat), 1 << 26):
                part = flat[start : start + (1 << 26)]
                carried = torch.from_numpy(part.copy() if mine else part)
                dist.broadcast(carried, source)
        return sent

    def alike(self, tensors: Sequence[torch.Tensor]) -> None:
        """See `Team.alike`."""
        import torch.distributed as dist

        with self.guarded():
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    @contextmanager
    def apart(self, seed: int, device: torch.device) -> Iterator[None]:
        """See `Team.apart`."""
        import torch

        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]))
            yield

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """See `Team.guarded`."""
        try:
            yield
        except RuntimeError as error:
            if not _BROKEN.search(str(error)):
                raise
            raise self._lost() from error

    # --- how ---

    def _bytes(self, own: bytes | None, *, source: int) -> bytes:
        """Bytes of one process, in all of them."""
        import torch
        import torch.distributed as dist

        with self.guarded():
            length = torch.tensor([0 if own is None else len(own)])
            dist.broadcast(length, source)
            carried = torch.zeros(int(length), dtype=torch.uint8)
            if own is not None:
                carried = torch.frombuffer(bytearray(own), dtype=torch.uint8)
            if len(carried):
                dist.broadcast(carried, source)
        return carried.numpy().tobytes()

    def _wait(
        self, keys: Sequence[str], *, unless: str | None = None, within: float = np.inf, alive: bool = True
    ) -> str:
        """Wait until all `keys` are there, or the one key `unless`; gives the last that came."""
        until = time.monotonic() + within
        with self.guarded():
            for key in keys:
                while not self._store.check([key]):
                    if unless is not None and self._store.check([unless]):
                        return unless
                    if time.monotonic() > until or self._is_silent(alive=alive):
                        raise self._lost()
                    time.sleep(_POLL_SECONDS)
        return keys[-1]

    def _is_silent(self, *, alive: bool) -> bool:
        """Whether a process is seen to be gone: it left word, it ended, or it has said nothing for too long."""
        if not alive:
            return any(child.returncode or child.poll() for child in self._children)
        if any(child.poll() is not None for child in self._children):
            return True
        now = time.monotonic()
        if now - self._listened < _BEAT_SECONDS / 2:
            return False
        self._listened = now
        for rank in range(self.size):
            beat = self._store.get(f"beat/{rank}").decode() if self._store.check([f"beat/{rank}"]) else ""
            if self._heard.get(rank, (None, 0.0))[0] != beat:
                self._heard[rank] = (beat, now)
            if now - self._heard[rank][1] > SILENCE_SECONDS or self._store.check([f"error/{rank}"]):
                return True
        return False

    def _beat(self) -> None:
        """Say every other second that this process is alive."""
        number = 0
        while not self._leaving.wait(_BEAT_SECONDS):
            number += 1
            try:
                self._store.set(f"beat/{self.rank}", str(number))
            except RuntimeError:
                return

    def _lost(self) -> PlainfilmError:
        """What is known of why the others cannot be worked with any more."""
        for rank in range(self.size):
            with suppress(RuntimeError):
                if rank != self.rank and self._store.check([f"error/{rank}"]):
                    kind, text, code = json.loads(self._store.get(f"error/{rank}"))
                    raised: type[PlainfilmError] = getattr(errors, kind)
                    return raised(f"Process {rank} of {self.size}: {text}", code=code)
        for _ in range(10):  # one that was killed takes a moment to be seen as gone
            ended = [
                f"process {rank} ended with status {child.returncode}"
                for rank, child in enumerate(self._children, start=1)
                if child.poll() is not None
            ]
            if ended or not self._children:
                break
            time.sleep(0.1)
        why = f"; {', '.join(ended)}" if ended else ""
        return ResourceError(
            f"One of {self.size} processes is gone or does not answer{why}. What was finished is on disk; a training "
            "goes on with --resume.",
            code="DEV_PROCESS_LOST",
        )


def _environment(place: Place) -> Any:
    """The same for Fabric, which then starts no process and asks no variable."""
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

    class Standing(ClusterEnvironment):
        """Says where this process stands."""

        creates_processes_externally = True
        main_address = place.address
        main_port = place.port

        @staticmethod
        def detect() -> bool:
            return False

        def world_size(self) -> int:
            return place.size

        def set_world_size(self, size: int) -> None:
            pass

        def global_rank(self) -> int:
            return place.rank

        def set_global_rank(self, rank: int) -> None:
            pass

        def local_rank(self) -> int:
            return place.local_rank

        def node_rank(self) -> int:
            return place.rank // place.local_size

    return Standing()
