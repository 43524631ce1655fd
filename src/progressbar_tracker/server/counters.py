"""Counters for ``/metrics``: plain numbers, because counting a request may cost only a microsecond.

One thread writes each counter. Other threads may read at any time, and may see a count that is one ahead of its sum.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DURATION_BOUNDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
"""Bucket bounds of durations in seconds: from an update in memory to a hanging disk."""

SIZE_BOUNDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0)
"""Bucket bounds of the number of writes in a commit."""


class Histogram:
    """Counts values by upper bounds, and sums them.

    Args:
        bounds: The upper bounds, ascending. Larger values are counted, too.

    Example:
        >>> histogram = Histogram((1.0, 10.0))
        >>> for value in (0.5, 3.0, 50.0):
        ...     histogram.observe(value)
        >>> histogram.buckets(), histogram.sum
        ([('1.0', 1), ('10.0', 2), ('+Inf', 3)], 53.5)
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self._counts)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, int]]:
        """Return each bound with the cumulative count, as Prometheus expects them."""
        return list(zip([*map(str, self._bounds), "+Inf"], accumulate(self._counts), strict=True))


class RouteStats:
    """Counts the responses of one route to one method.

    Attributes:
        counts: The number of responses, by the first digit of the status.
        durations: Seconds until a response could be sent.
    """

    __slots__ = ("counts", "durations")

    def __init__(self) -> None:
        self.counts = [0] * 6
        self.durations = Histogram(DURATION_BOUNDS)

    def record(self, status: int, seconds: float) -> None:
        """Count a response."""
        self.counts[status // 100] += 1
        self.durations.observe(seconds)


class CommitStats:
    """Counts the commits of a store.

    Attributes:
        sizes: The number of writes in each commit.
        durations: Seconds of each commit, failed ones included.
        failures: The number of failed commits.
        is_failing: The latest commit failed.
    """

    def __init__(self) -> None:
        self.sizes = Histogram(SIZE_BOUNDS)
        self.durations = Histogram(DURATION_BOUNDS)
        self.failures = 0
        self.is_failing = False

    def record(self, writes: int, seconds: float, *, failed: bool) -> bool:
        """Count a commit, and return whether the store began to fail or to work again with it."""
        self.sizes.observe(writes)
        self.durations.observe(seconds)
        self.failures += failed
        has_changed = failed is not self.is_failing
        self.is_failing = failed
        return has_changed


class RequestMetrics:
    """Counts the responses of one server."""

    def __init__(self) -> None:
        self._stats: dict[tuple[str, str], RouteStats] = {}

    def stats_of(self, method: str, route: str) -> RouteStats:
        """Return the counters of a route and a method, created on first use."""
        return self._stats.setdefault((method, route), RouteStats())

    def iter_stats(self) -> Iterator[tuple[str, str, RouteStats]]:
        """Yield method, route and counters of each route that has answered a request."""
        for (method, route), stats in self._stats.items():
            if any(stats.counts):
                yield method, route, stats
