"""Several processes that do one job: the first leads, writes and speaks, the others do what it asks of them.

They are started by torchrun, by SLURM's srun, or by the leader itself on its own machine. What they tell each other is
JSON and raw numbers; nothing is pickled. One that is gone, or silent for minutes, ends the work with one sentence.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from plainfilm import errors
from plainfilm.errors import Helped, PlainfilmError, ResourceError, UsageError

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

START_SECONDS = 300.0  # until all have come
SILENCE_SECONDS = 120.0  # that one may say nothing while others wait for it
COLLECTIVE_SECONDS = 600.0  # that one step together may take
_BEAT_SECONDS = 2.0
_POLL_SECONDS = 0.02
_LEAVING_SECONDS = 20.0
_OWN: Final = "PLAINFILM_TEAM"  # where a process that the leader started stands, as JSON
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from plainfilm.verbs.helping import main; main()"
_BROKEN = re.compile(
    r"gloo|nccl|connection|peer|socket|broken pipe|recv|time.?out|timed out|process group", re.IGNORECASE
)

Array = npt.NDArray[Any]


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
    if _OWN in os.environ:
        return Place(**json.loads(os.environ[_OWN]))
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


class _Together(Team):
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
    team = _Together(place, apart, children)
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
            env={**os.environ, _OWN: json.dumps(place), "OMP_NUM_THREADS": str(torch.get_num_threads())},
        )
    except OSError as error:
        raise ResourceError(
            f"A process could not be started: {error.strerror}. Free memory or processes, or take fewer --devices.",
            code="RES_WORKER",
        ) from error


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
