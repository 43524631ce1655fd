"""The statistics of the ended runs of an id: how often they succeed, how long they take, and when they start. Pure."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from progressbar_tracker.server.models import RunRow

MIN_STARTS: Final = 3
"""Runs from which a usual start is derived."""

MAX_STARTS: Final = 100
"""The newest runs from which a usual start is derived: its cost grows with their square."""

MAX_START_DEVIATION_SECONDS: Final = 1800.0
"""Half of the starts are at most this far from a usual start."""

LOW_QUANTILE: Final = 0.1
HIGH_QUANTILE: Final = 0.9

DAY_SECONDS: Final = 86400.0


class RunStatistics(NamedTuple):
    """The statistics of some runs.

    Attributes:
        run_count: The number of runs, without those that were deleted while they ran.
        success_rate: The fraction of them that succeeded; ``None`` without any.
        median_duration_seconds: The median duration of the succeeded runs; ``None`` without any.
        low_duration_seconds: The duration below which 10 % of them are.
        high_duration_seconds: The duration above which 10 % of them are.
        usual_start_seconds: The usual start in seconds after midnight, UTC; ``None`` if the starts are spread.
    """

    run_count: int
    success_rate: float | None
    median_duration_seconds: float | None
    low_duration_seconds: float | None
    high_duration_seconds: float | None
    usual_start_seconds: float | None


def compute_statistics(runs: Sequence[RunRow]) -> RunStatistics:
    """Return the statistics of runs, newest first."""
    ended = [run for run in runs if run.status != "deleted"]
    durations = sorted(run.duration for run in ended if run.status == "succeeded")
    return RunStatistics(
        len(ended),
        len(durations) / len(ended) if ended else None,
        median(durations) if durations else None,
        compute_quantile(durations, LOW_QUANTILE),
        compute_quantile(durations, HIGH_QUANTILE),
        find_usual_start([run.started_at for run in ended]),
    )


def compute_quantile(numbers: Sequence[float], fraction: float) -> float | None:
    """Return a quantile of sorted numbers, interpolated linearly; ``None`` without any.

    >>> compute_quantile([1.0, 2.0, 4.0], 0.75)
    3.0
    """
    if not numbers:
        return None
    index, rest = divmod(fraction * (len(numbers) - 1), 1.0)
    low, high = numbers[int(index)], numbers[min(int(index) + 1, len(numbers) - 1)]
    return low + (high - low) * rest


def find_usual_start(starts: Sequence[float]) -> float | None:
    """Return the usual time of day of starts, in seconds after midnight, UTC; ``None`` if they are spread.

    It is the start from which the others have the least distance around the clock.

    Args:
        starts: Seconds since the epoch, newest first.

    >>> find_usual_start([86400.0 - 60.0, 2 * 86400.0 + 60.0, 5 * 86400.0])
    0.0
    >>> find_usual_start([0.0, 30000.0, 60000.0])
    """
    times = sorted(start % DAY_SECONDS for start in starts[:MAX_STARTS])
    if len(times) < MIN_STARTS:
        return None
    best = min(times, key=lambda time: sum(_measure_distance(time, other) for other in times))
    deviation = median(_measure_distance(best, other) for other in times)
    return best if deviation <= MAX_START_DEVIATION_SECONDS else None


def _measure_distance(time: float, other: float) -> float:
    """Return the seconds between two times of day, around midnight if that is shorter."""
    distance = abs(time - other)
    return min(distance, DAY_SECONDS - distance)
