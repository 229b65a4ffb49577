"""What reading images costs: seconds, memory and disk for each image, and how they grow.

    python -m benchmarks.scan_cost                            PNG files of 64x64 in class folders, each size on its own
    python -m benchmarks.scan_cost --sizes 2000 8000 --workers 1

Files are noise on a ramp, each another. The memory of an image includes its pixels at 64x64, 4 KiB of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (2_000, 8_000, 32_000)
SIDE = 64
CLASSES = ("a", "b")


def main() -> None:
    """Print one line for each size, and what one image more costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(_scanned(asked.one, asked.workers)))
        return
    print(f"{'images':>8} {'listing':>8} {'reading':>8} {'images/s':>9} {'MiB':>7} {'table MiB':>10}")
    costs = []
    for n in asked.sizes:
        command = [sys.executable, "-m", "benchmarks.scan_cost", "--one", str(n)]
        command += [] if asked.workers is None else ["--workers", str(asked.workers)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        cost = json.loads(done.stdout)
        costs.append(cost)
        print(
            f"{n:>8} {cost['listing']:>8.2f} {cost['reading']:>8.2f} {n / cost['reading']:>9.0f} {cost['mib']:>7.0f} "
            f"{cost['table_mib']:>10.2f}",
            flush=True,
        )
    if len(asked.sizes) > 1:
        for name, unit, factor in (("mib", "KiB of memory", 1024), ("table_mib", "bytes of table.parquet", 1 << 20)):
            slope = float(np.polyfit(asked.sizes, [cost[name] for cost in costs], 1)[0])
            print(f"one image more: {slope * factor:.1f} {unit}")


def _scanned(n_images: int, workers: int | None) -> dict[str, Any]:
    """Scan files in this process, which should have done nothing else."""
    from plainfilm.data.scanning import scan_listing
    from plainfilm.data.sources import list_images
    from plainfilm.runs import Run

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write(place / "images", n_images)
        began = time.perf_counter()
        listing = list_images(place / "images")
        listed = time.perf_counter()
        table, _ = scan_listing(listing, size=(SIDE, SIDE), workers=workers)
        read = time.perf_counter()
        assert len(table) == n_images
        run = Run(place)
        run.write_table(table.rows)
        return {
            "listing": listed - began,
            "reading": read - listed,
            "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
            "table_mib": run.table.stat().st_size / 2**20,
        }


def _write(folder: Path, n_images: int) -> None:
    """Files under two classes, eight of each patient."""
    from PIL import Image

    rng = np.random.default_rng(0)
    ramp = np.linspace(40, 200, SIDE)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
    for index in range(n_images):
        noisy = (ramp + rng.normal(0, 12, (SIDE, SIDE))).clip(0, 255).astype(np.uint8)
        name = f"patient{index // 8:07d}_image{index % 8}.png"
        Image.fromarray(noisy).save(folder / CLASSES[index % 2] / name, compress_level=1)


if __name__ == "__main__":
    main()
