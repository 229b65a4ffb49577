"""Several processes beside one: how far their weights are apart, and how soon one that was killed is said.

    python -m benchmarks.team          phantoms of 32x32 on the processor of this machine; a minute or two

Batches of 15 are cut into 8 and 7, with augmentation, in 32-bit floats. The seconds after a kill are those until no
process is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.numpy import load_file

FLAGS = "--image-size 32 --batch-size 15 --workers 0 --device cpu --no-audit --no-gallery --precision 32-true"
OWN = [sys.executable, "-m", "plainfilm.cli"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", OWN[2]]


def main() -> None:
    """Print both tables."""
    from plainfilm.data.phantoms import PhantomOptions, write_phantoms

    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        options = PhantomOptions(patients=20, images_per_patient=4, size=32)
        data = write_phantoms(place / "phantoms", options).folder / "manifest.csv"
        for model in ("lenet5", "resnet1d"):
            runs = [place / f"{model}-{n}" for n in (1, 2)]
            for n, run in enumerate(runs, start=1):
                arguments = ["train", str(data), "-o", str(run), "--model", model, "--epochs", "2", "--devices", str(n)]
                subprocess.run([*OWN, *arguments, *FLAGS.split(), "-q"], check=True, stdout=subprocess.DEVNULL)
            print(f"{model}: largest difference of any weight {_apart(*runs):.1e} after 2 epochs", flush=True)
        for killed, launcher, more in (
            ("another process, of --devices", OWN, ["--devices", "2"]),
            ("the first process, of --devices", OWN, ["--devices", "2"]),
            ("another process, of torchrun", TORCHRUN, []),
            ("the first process, of torchrun", TORCHRUN, []),
        ):
            run = place / killed.replace(" ", "-")
            arguments = ["train", str(data), "-o", str(run), "--model", "lenet5", "--epochs", "5000", *more]
            seconds, status, said = _after_a_kill([*launcher, *arguments, *FLAGS.split()], killed)
            print(f"killed {killed}: all ended after {seconds:.1f} s, status {status}: {said}", flush=True)


def _apart(one: Path, other: Path) -> float:
    ours, theirs = (load_file(run / "bundle" / "model.safetensors") for run in (one, other))
    return max(float(abs(ours[name].astype(float) - theirs[name].astype(float)).max()) for name in ours)


def _after_a_kill(command: list[str], killed: str) -> tuple[float, int, str]:
    """Kill one process in its second epoch, and wait until all are gone."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch   2 "):
            break
    others = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    victim = process.pid if "the first process, of --devices" in killed else others[0]
    if "torchrun" in killed:
        ranks = {_variable(pid, "RANK"): pid for pid in others}
        victim = ranks["0" if "first" in killed else "1"]
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    said = [line.strip() for line in process.stderr if line.startswith("plainfilm: ")]
    process.wait()
    while any(map(_is_running, others)):
        time.sleep(0.05)
    return time.monotonic() - began, process.returncode, said[-1] if said else "nothing"


def _variable(pid: int, name: str) -> str | None:
    held = dict(each.split("=", 1) for each in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in each)
    return held.get(name)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main()
