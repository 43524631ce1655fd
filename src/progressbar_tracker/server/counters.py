"""What is counted while it happens, for ``/metrics`` to tell: plain numbers, for each request may spend a microsecond.

One thread writes to each of them. Others may read at any time, and may then find a count that is one ahead of its sum.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DURATION_BOUNDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)
"""Bounds of durations: from an update in memory to a disk that hangs."""

SIZE_BOUNDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0)
"""Bounds of how many writes a commit holds."""


class Histogram:
    """How many values lay up to each of some bounds, and their sum.

    Args:
        bounds: In rising order; what lies above the last one is counted, too.

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
        """How many values there were."""
        return sum(self._counts)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, int]]:
        """Return each bound with the count of all up to it, as Prometheus has them."""
        return list(zip([*map(str, self._bounds), "+Inf"], accumulate(self._counts), strict=True))


class RouteStats:
    """The answers of one route to one method.

    Attributes:
        counts: How many, by the first digit of the status.
        durations: What they took, until they could be sent.
    """

    __slots__ = ("counts", "durations")

    def __init__(self) -> None:
        self.counts = [0] * 6
        self.durations = Histogram(DURATION_BOUNDS)

    def record(self, status: int, seconds: float) -> None:
        """Count an answer."""
        self.counts[status // 100] += 1
        self.durations.observe(seconds)


class CommitStats:
    """The commits of a store.

    Attributes:
        sizes: How many writes each held.
        durations: What each took, whether it succeeded or not.
        failures: How many failed.
        is_failing: Whether the latest one did.
    """

    def __init__(self) -> None:
        self.sizes = Histogram(SIZE_BOUNDS)
        self.durations = Histogram(DURATION_BOUNDS)
        self.failures = 0
        self.is_failing = False

    def record(self, writes: int, seconds: float, *, failed: bool) -> bool:
        """Count a commit; say whether the store began to fail with it, or to work again."""
        self.sizes.observe(writes)
        self.durations.observe(seconds)
        self.failures += failed
        turned = failed is not self.is_failing
        self.is_failing = failed
        return turned


class RequestMetrics:
    """What one server counts of its requests."""

    def __init__(self) -> None:
        self._stats: dict[tuple[str, str], RouteStats] = {}

    def stats_of(self, method: str, route: str) -> RouteStats:
        """Return where the answers of a route to a method are counted."""
        return self._stats.setdefault((method, route), RouteStats())

    def iter_stats(self) -> Iterator[tuple[str, str, RouteStats]]:
        """Yield method, route and answers of all that was ever asked for."""
        for (method, route), answers in self._stats.items():
            if any(answers.counts):
                yield method, route, answers
