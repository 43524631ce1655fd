"""Rate and ETA: an exponential moving average by time, so that bursts and pauses weigh by their duration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from progressbar_tracker._models import Number
    from progressbar_tracker.server.models import Item

SMOOTHING_SECONDS: Final = 15.0
"""Seconds after which a former rate has a weight of about a third."""

MIN_RATE_INTERVAL: Final = 0.25
"""Minimum seconds between two positions that a rate is computed from."""

RATE_STALE_AFTER: Final = 15.0
"""Minimum seconds without progress before the rate decays."""


RateState: TypeAlias = "tuple[float | None, float, Number | None, float]"
"""The fields ``smoothed_rate, rate_at, rate_position, rate_seconds`` of an item."""


def update_rate(before: Item, position: Number, now: float) -> RateState:
    """Return an item's rate when it is at ``position`` at the instant ``now``.

    The rate is measured from movement to movement. Signs of life in between do not count: an item with one step in ten
    minutes would seem to become slower and slower, and then very fast.
    """
    start = before.rate_position
    elapsed = now - before.rate_at
    # A decreasing count, or a clock that was set back: restart the measurement.
    if start is None or position < start or elapsed < 0:
        return new_rate(position, now)
    if position == start or elapsed < MIN_RATE_INTERVAL:
        return before.smoothed_rate, before.rate_at, start, before.rate_seconds
    latest = (float(position) - float(start)) / elapsed
    if before.smoothed_rate is not None:
        weight = -math.expm1(-elapsed / SMOOTHING_SECONDS)
        latest = before.smoothed_rate + weight * (latest - before.smoothed_rate)
    return latest or None, now, position, elapsed


def new_rate(position: Number, now: float) -> RateState:
    """Return the state of an unknown rate, measured from ``position`` on."""
    return None, now, position, 0.0


def rate(item: Item, now: float) -> float | None:
    """Return units per second; ``None`` if the rate is unknown or the run has ended."""
    return None if item.status != "running" or item.completed is None else _decayed_rate(item, now)


def eta(item: Item, now: float) -> float | None:
    """Return the seconds left; ``None`` if the rate or the total is unknown, or the run has ended."""
    if item.status != "running":
        return None
    rate = _decayed_rate(item, now)
    if not rate:
        return None
    if item.completed is None:
        left = 1.0 - item.value
    elif item.total is None or item.total <= 0:
        return None
    else:
        left = max(float(item.total) - float(item.completed), 0.0)
    seconds = left / rate
    return seconds if math.isfinite(seconds) else None


def _decayed_rate(item: Item, now: float) -> float | None:
    """Return the rate, reduced the longer an item makes no progress beyond the duration of its last step.

    An item without progress for three times that duration counts as three times as slow. The ETA therefore grows with
    the wait, instead of promising the same minute.
    """
    if item.smoothed_rate is None:
        return None
    tolerated = max(item.rate_seconds, RATE_STALE_AFTER)
    idle = now - item.rate_at
    return item.smoothed_rate if idle <= tolerated else item.smoothed_rate * (tolerated / idle)
