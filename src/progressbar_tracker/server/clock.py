"""The two clocks of a server, and what it makes of it when the one that people set does not go with the other.

The wall clock says which instant it is. People, NTP and hypervisors set it, by years at times. The monotonic clock only
counts seconds. What is deleted or ended after a period is deleted by the wall clock, which outlives a restart, and
never before the period has passed by the monotonic clock since the wall clock was last set.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

JUMP_SECONDS: Final = 2.0
"""Seconds by which the wall clock may be off the monotonic one before it counts as set: leap seconds are less."""

_MONOTONIC_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""The clock that goes on while the machine sleeps: the wall clock does, too."""


class SystemClock:
    """The clocks of the machine: called, the seconds since the epoch."""

    def __call__(self) -> float:
        """Return seconds since the epoch, by the clock that people set."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since an instant that does not change while the process runs."""
        return read_monotonic()


def read_monotonic() -> float:
    """Return the machine's monotonic clock: seconds since some instant, those of its sleep included."""
    return time.monotonic() if _MONOTONIC_CLOCK is None else time.clock_gettime(_MONOTONIC_CLOCK)


def monotonic_of(clock: Callable[[], float]) -> Callable[[], float]:
    """Return the monotonic clock that belongs to a wall clock; the clock itself if it has none: nobody sets it."""
    found: Callable[[], float] = getattr(clock, "monotonic", clock)
    return found


class ClockJumpDetector:
    """Notices when the wall clock is set.

    Args:
        clock: Seconds since the epoch; its ``monotonic`` counts seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic_of(clock)
        self._started_at = clock()
        self._started_monotonic = self._monotonic()
        self._offset = self._started_at - self._started_monotonic
        self._jumped_at = -math.inf

    def poll(self) -> float:
        """Return by how many seconds the wall clock was set since the last look; 0.0 if it was not."""
        now = self._monotonic()
        ahead = self._clock() - now
        seconds = ahead - self._offset
        if abs(seconds) <= JUMP_SECONDS:
            return 0.0
        self._offset, self._jumped_at = ahead, now
        return seconds

    def is_settled(self, period: float) -> bool:
        """Return whether the wall clock has not been set for a period of seconds, by the monotonic clock."""
        return self._monotonic() - self._jumped_at >= period

    def latest_now(self) -> float:
        """Return the latest instant that it may be: a clock that is set back does not make it earlier."""
        return max(self._clock(), self._started_at + self._monotonic() - self._started_monotonic)
