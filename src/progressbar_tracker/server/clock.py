"""The wall clock and the monotonic clock of a server, and how changes of the wall clock are detected.

The wall clock returns the instant. People, NTP and hypervisors set it, sometimes by years. The monotonic clock only
counts seconds. A period ends by the wall clock, because that survives a restart. But it never ends before it has also
passed by the monotonic clock since the wall clock was last set.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from progressbar_tracker._clock import read_clock

if TYPE_CHECKING:
    from collections.abc import Callable

JUMP_SECONDS: Final = 2.0
"""The greatest drift, in seconds, between the two clocks that is not a jump. A leap second is less."""


class SystemClock:
    """The clocks of the machine; a call returns the wall clock."""

    def __call__(self) -> float:
        """Return seconds since the epoch, by the wall clock."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since an instant that is fixed while the process runs."""
        return read_monotonic()


def read_monotonic() -> float:
    """Return seconds of the machine's monotonic clock, sleep included."""
    return read_clock()


def is_superseded(at: float, newest_at: float, now: float) -> bool:
    """Return whether something of an instant is older than the newest of its kind.

    An instant after ``now`` was read before the wall clock was set back, so it says nothing about the order.

    >>> is_superseded(10.0, 20.0, now=30.0), is_superseded(10.0, 3600.0, now=30.0)
    (True, False)
    """
    return at < newest_at <= now


def get_monotonic(clock: Callable[[], float]) -> Callable[[], float]:
    """Return ``clock.monotonic``, or the clock itself if it has none, as the fake clocks of tests."""
    monotonic: Callable[[], float] = getattr(clock, "monotonic", clock)
    return monotonic


class ClockJumpDetector:
    """Detects that the wall clock was set.

    Args:
        clock: Returns seconds since the epoch; its ``monotonic`` counts seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = get_monotonic(clock)
        self._started_at = clock()
        self._started_monotonic = self._monotonic()
        self._offset = self._started_at - self._started_monotonic
        self._jumped_at = -math.inf

    def poll(self) -> float:
        """Return the seconds by which the wall clock was set since the last call; 0.0 if it was not."""
        now = self._monotonic()
        ahead = self._clock() - now
        seconds = ahead - self._offset
        if abs(seconds) <= JUMP_SECONDS:
            return 0.0
        self._offset, self._jumped_at = ahead, now
        return seconds

    def is_settled(self, period: float) -> bool:
        """Return whether the wall clock has not been set for a period of monotonic seconds."""
        return self._monotonic() - self._jumped_at >= period

    def latest_now(self) -> float:
        """Return the latest possible instant: setting the clock back does not make it earlier."""
        return max(self._clock(), self._started_at + self._monotonic() - self._started_monotonic)
