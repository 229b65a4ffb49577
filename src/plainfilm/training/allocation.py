"""Memory that a training step gives back is kept for the next step.

By default glibc returns every large block to the system at once and asks for it again a moment later; each time the
system fills it with zeros, page by page. On a CPU that takes a tenth of a training or more. tcmalloc and jemalloc do
not do this, but must be there before the program starts; glibc can be told while it runs.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Of glibc's malloc.h, with its defaults.
_TRIM_THRESHOLD, _DEFAULT_TRIM_BYTES = -1, 128 << 10
_MMAP_MAX, _DEFAULT_MMAP_MAX = -4, 65_536
_NEVER = 2**31 - 1


@contextmanager
def memory_kept() -> Iterator[bool]:
    """Keep freed memory inside; afterwards it goes back to the system. Gives whether that can be had here."""
    libc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
    if libc is None or not (libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, _NEVER)):
        yield False
        return
    try:
        yield True
    finally:
        libc.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
        libc.mallopt(_TRIM_THRESHOLD, _DEFAULT_TRIM_BYTES)
        libc.malloc_trim(0)
