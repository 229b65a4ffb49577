"""Where to compute, and in which precision."""

from __future__ import annotations

from typing import Literal

import torch

from plainfilm.errors import UsageError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def choose_device(wanted: str) -> str:
    """`cpu`, `cuda` or `mps`; auto takes the best there is.

    Raises:
        UsageError: `DEV_ABSENT` if a device was asked for by name and is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there.get(wanted, False):
        raise UsageError(f"This machine has no '{wanted}' device. Use --device auto or cpu.", code="DEV_ABSENT")
    return wanted


def choose_precision(wanted: str, device: str) -> Precision:
    """Auto: bfloat16 where it is computed in hardware, else 32 bits.

    Raises:
        UsageError: `DEV_PRECISION` for 16-bit floats on a CPU, which no library computes in.
    """
    if wanted == "16-mixed" and device == "cpu":
        raise UsageError(
            "A CPU cannot train in '16-mixed'. Use --precision bf16-mixed or 32-true.", code="DEV_PRECISION"
        )
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if device == "cpu" and cpu_computes_bfloat16() else "32-true"


def choose_scoring_precision(wanted: str, device: str) -> Precision:
    """As `choose_precision`, but 32 bits where auto would take 16-bit floats, whose range is small.

    Raises:
        UsageError: `DEV_PRECISION` for anything but auto, bfloat16 and 32 bits.
    """
    if wanted not in ("auto", "32-true", "bf16-mixed"):
        raise UsageError(f"Scores cannot be computed in '{wanted}'. Use bf16-mixed or 32-true.", code="DEV_PRECISION")
    chosen = choose_precision(wanted, device)
    return "32-true" if chosen == "16-mixed" else chosen


def cpu_computes_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices itself (AVX-512 BF16 or AMX)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)
