"""What this machine has for training, and what to change."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata

LIBRARIES = ("torch", "torchvision", "timm", "lightning-fabric", "kornia", "scikit-learn", "pandas", "pillow")


def examine() -> list[tuple[str, str, str]]:
    """Rows of `(what, found, advice)`; advice is empty where nothing should change."""
    import torch

    from plainfilm import __version__
    from plainfilm.training.device import choose_device, choose_precision, cpu_computes_bfloat16

    device = choose_device("auto")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    rows = [
        ("plainfilm", __version__, ""),
        ("Python", platform.python_version(), ""),
        ("system", f"{platform.system()} {platform.machine()}", ""),
        ("processors", f"{cores}", ""),
        ("threads", f"{threads}", "" if threads <= cores else f"set OMP_NUM_THREADS={cores}"),
        ("processor flags", torch.backends.cpu.get_cpu_capability(), ""),
        ("bfloat16 on CPU", "yes" if cpu_computes_bfloat16() else "no: 32 bits are used", ""),
        ("memory", *_memory()),
        ("device", device, "" if device != "cpu" else "training from scratch on large images wants a GPU"),
        ("precision", choose_precision("auto", device), ""),
        ("free disk here", *_disk()),
        ("allocator", *_allocator()),
        ("offline", "yes" if os.environ.get("HF_HUB_OFFLINE") == "1" else "no", ""),
    ]
    return rows + [_library(name) for name in LIBRARIES]


def _memory() -> tuple[str, str]:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, AttributeError, OSError):
        return "unknown", ""
    return f"{total:.0f} GiB", "" if total >= 4 else "less than 4 GiB: use small batches"


def _disk() -> tuple[str, str]:
    free = shutil.disk_usage(".").free / 2**30
    return f"{free:.0f} GiB", "" if free >= 2 else "less than 2 GiB: a run may not fit"


def _allocator() -> tuple[str, str]:
    preloaded = os.environ.get("LD_PRELOAD", "")
    if any(name in preloaded for name in ("tcmalloc", "jemalloc")):
        return "tcmalloc or jemalloc", ""
    return "system", "on Linux, preloading tcmalloc or jemalloc can speed up training"


def _library(name: str) -> tuple[str, str, str]:
    try:
        return name, metadata.version(name), ""
    except metadata.PackageNotFoundError:
        return name, "absent", f"pip install {name}"
