"""Times in which no run could report its start: no server ran, or the clock jumped. Pure.

Gaps are disjoint and sorted. An expected start in a gap is never missed, and a grace stands still in a gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Gap: TypeAlias = tuple[float, float]
"""The beginning of a gap, excluded, and its end, excluded."""

MAX_GAPS: Final = 32
"""The most gaps to keep; the oldest two become one."""

GAP_RETENTION: Final = 15 * 86_400.0
"""Seconds for which a gap is kept: more than the longest grace."""


def add_gap(gaps: Iterable[Gap], gap: Gap, now: float) -> tuple[Gap, ...]:
    """Return gaps with a further one, without those that ended long ago."""
    merged = list[Gap]()
    for start, end in sorted([*(old for old in gaps if old[1] > now - GAP_RETENTION), gap]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    while len(merged) > MAX_GAPS:
        merged[:2] = [(merged[0][0], merged[1][1])]
    return tuple(merged)


def find_gap_end(gaps: Iterable[Gap], at: float) -> float | None:
    """Return the end of the gap that an instant lies in, or ``None``."""
    return next((end for start, end in gaps if start < at < end), None)


def add_seconds(gaps: Iterable[Gap], at: float, seconds: float) -> float:
    """Return the instant after some seconds that are not in a gap.

    >>> add_seconds([(10.0, 20.0)], 5.0, 7.0)
    22.0
    """
    end_at = at + seconds
    for start, end in gaps:
        if start >= end_at:
            break
        end_at += max(end - max(start, at), 0.0)
    return end_at


def subtract_seconds(gaps: tuple[Gap, ...], at: float, seconds: float) -> float:
    """Return the instant before some seconds that are not in a gap.

    >>> subtract_seconds(((10.0, 20.0),), 22.0, 7.0)
    5.0
    """
    start_at = at - seconds
    for start, end in reversed(gaps):
        if end <= start_at:
            break
        start_at -= max(min(end, at) - start, 0.0)
    return start_at
