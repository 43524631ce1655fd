"""A clock that tests move by hand."""

from __future__ import annotations

START_TIME = 1_800_000_000.0


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = START_TIME) -> None:
        self.now = now
        self._seconds_back = 0.0

    def __call__(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now + self._seconds_back

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back; no time passes."""
        self.now, self._seconds_back = self.now - seconds, self._seconds_back + seconds

    def advance(self, seconds: float) -> None:
        self.now += seconds
