"""How fast an item goes: smoothed exponentially by time, so that bursts and pauses weigh what they last."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from progressbar_tracker._models import Number
    from progressbar_tracker.server.models import Item

SMOOTHING_SECONDS: Final = 15.0
"""Seconds after which a former pace counts for about a third."""

MIN_RATE_INTERVAL: Final = 0.25
"""Seconds below which two positions are too close in time to tell a pace from."""

RATE_STALE_AFTER: Final = 15.0
"""Seconds that an item may stand still, at the least, before it is taken to have become slower."""


RateState: TypeAlias = "tuple[float | None, float, Number | None, float]"
"""The fields ``pace, pace_at, pace_n, pace_for`` of an item."""


def update_rate(before: Item, position: Number, now: float) -> RateState:
    """Return an item's pace, when it is at ``position`` at the instant ``now``.

    A pace is measured from movement to movement. A sign of life in between says nothing of it, or whoever goes one
    step in ten minutes would be taken for ever slower, and then for very fast.
    """
    start = before.pace_n
    elapsed = now - before.pace_at
    # A count that falls and a clock that is set back tell nothing: begin anew.
    if start is None or position < start or elapsed < 0:
        return new_rate(position, now)
    if position == start or elapsed < MIN_RATE_INTERVAL:
        return before.pace, before.pace_at, start, before.pace_for
    latest = (float(position) - float(start)) / elapsed
    if before.pace is not None:
        weight = -math.expm1(-elapsed / SMOOTHING_SECONDS)
        latest = before.pace + weight * (latest - before.pace)
    return latest or None, now, position, elapsed


def new_rate(position: Number, now: float) -> RateState:
    """Return a pace that is not known yet."""
    return None, now, position, 0.0


def rate(item: Item, now: float) -> float | None:
    """Return units per second, or ``None`` where that is unknown or the run has ended."""
    return None if item.status != "running" or item.completed is None else _decayed_rate(item, now)


def eta(item: Item, now: float) -> float | None:
    """Return the seconds left, or ``None`` where that is unknown or the run has ended."""
    if item.status != "running":
        return None
    pace = _decayed_rate(item, now)
    if not pace:
        return None
    if item.completed is None:
        left = 1.0 - item.value
    elif item.total is None or item.total <= 0:
        return None
    else:
        left = max(float(item.total) - float(item.completed), 0.0)
    seconds = left / pace
    return seconds if math.isfinite(seconds) else None


def _decayed_rate(item: Item, now: float) -> float | None:
    """Return the pace, less and less of it the longer an item stands still beyond what its last step took.

    What has stood still for thrice as long is taken to be three times as slow: so the time left grows with the wait,
    and nobody is told of a minute that never passes.
    """
    if item.pace is None:
        return None
    patience = max(item.pace_for, RATE_STALE_AFTER)
    still = now - item.pace_at
    return item.pace if still <= patience else item.pace * (patience / still)
