"""torchvision, imported without torch's compiler, which it asks for by the way and nothing here uses."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo.utils"


class _Later(ModuleType):
    """Stands for a module until something else of it is asked for than what it is given."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the machinery of imports asks of any module
            raise AttributeError(name)
        return getattr(_real(self), name)


def _real(stand_in: ModuleType) -> ModuleType:
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]
    return importlib.import_module(stand_in.__name__)


@contextmanager
def compiler_postponed() -> Iterator[None]:
    """Import what stands inside without `torch._dynamo`, which takes as long to import as the rest of torch.

    torchvision's `roi_align` imports one function of it, and calls that function only where boxes are pooled on an
    accelerator. Here it gets one that fetches the real one when it is called. Whatever else is asked for in the
    meantime is the real module's, so that another version of torchvision costs time and breaks nothing.
    """
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = _Later(_COMPILER)

    def is_compile_supported(device_type: Any) -> Any:
        return _real(stand_in).is_compile_supported(device_type)

    stand_in.is_compile_supported = is_compile_supported  # type: ignore[attr-defined]
    sys.modules[_COMPILER] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


def import_torchvision() -> Any:
    """The package `torchvision`."""
    with compiler_postponed():
        return importlib.import_module("torchvision")
