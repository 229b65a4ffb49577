"""What the service counts, in the words of Prometheus. No label holds anything that a client wrote."""

from __future__ import annotations

import bisect
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)


class Histogram:
    """Counts by size, as Prometheus has them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one more."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        """The lines of one metric."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {total}"


class Counters:
    """Everything that `/metrics` shows but the moment's own state."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.images = 0
        self.refused: Counter[str] = Counter()
        self.seconds = Histogram(SECONDS)
        self.batches = Histogram(SIZES)

    def text(self, **now: float) -> str:
        """The Prometheus text format.

        Args:
            now: Gauges by name, as they are at this moment.
        """
        return "\n".join(self._lines(now)) + "\n"

    def _lines(self, now: dict[str, float]) -> Iterator[str]:
        yield from _head("plainfilm_requests_total", "counter", "Requests by route and status.")
        for (route, status), count in sorted(self.requests.items()):
            yield f'plainfilm_requests_total{{route="{route}",status="{status}"}} {count}'
        yield from _head("plainfilm_request_seconds", "histogram", "Time to answer a request.")
        yield from self.seconds.lines("plainfilm_request_seconds")
        yield from _head("plainfilm_images_total", "counter", "Images that were scored.")
        yield f"plainfilm_images_total {self.images}"
        yield from _head("plainfilm_images_refused_total", "counter", "Images that could not be read, by code.")
        for code, count in sorted(self.refused.items()):
            yield f'plainfilm_images_refused_total{{code="{code}"}} {count}'
        yield from _head("plainfilm_batch_images", "histogram", "Images in one pass through the model.")
        yield from self.batches.lines("plainfilm_batch_images")
        for name, value in {**now, "resident_bytes": float(resident_bytes())}.items():
            yield from _head(f"plainfilm_{name}", "gauge", f"{name.replace('_', ' ').capitalize()} now.")
            yield f"plainfilm_{name} {value:g}"


def resident_bytes() -> int:
    """Memory of this process that is in use; 0 where that is not told."""
    if sys.platform != "linux":
        return 0
    import resource

    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"
