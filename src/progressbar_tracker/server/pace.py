"""How fast an item goes: smoothed exponentially by time, so that bursts and heartbeats weigh what they last."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from progressbar_tracker._models import Number

    from .records import Item

SMOOTHING: Final = 15.0
"""Seconds after which a former pace counts for about a third."""

SHORTEST: Final = 0.25
"""Seconds below which two positions are too close in time to tell a pace from."""


def measured(before: Item, position: Number, now: float) -> tuple[float | None, float, Number | None]:
    """Return ``pace, pace_at, pace_n`` for an item that is at ``position`` at the instant ``now``."""
    start = before.pace_n
    elapsed = now - before.pace_at
    # A count that falls and a clock that is set back tell nothing: begin anew.
    if start is None or position < start or elapsed < 0:
        return None, now, position
    if elapsed < SHORTEST:
        return before.pace, before.pace_at, start
    latest = (float(position) - float(start)) / elapsed
    if before.pace is None:
        # Nothing has moved yet: a pace of zero would only be an eta of never.
        return (latest or None), now, position
    weight = -math.expm1(-elapsed / SMOOTHING)
    return before.pace + weight * (latest - before.pace), now, position


def rate(item: Item) -> float | None:
    """Return units per second, or ``None`` where that is unknown or the run has ended."""
    return None if item.status != "running" or item.completed is None else item.pace


def eta(item: Item) -> float | None:
    """Return the seconds left, or ``None`` where that is unknown or the run has ended."""
    if item.status != "running" or not item.pace:
        return None
    if item.completed is None:
        left = 1.0 - item.value
    elif item.total is None:
        return None
    else:
        left = max(float(item.total) - float(item.completed), 0.0)
    seconds = left / item.pace
    return seconds if math.isfinite(seconds) else None
