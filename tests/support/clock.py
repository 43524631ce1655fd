"""A clock that tests move by hand."""

from __future__ import annotations

START_TIME = 1_800_000_000.0


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = START_TIME) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
