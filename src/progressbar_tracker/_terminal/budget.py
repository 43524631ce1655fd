"""A limit for the time that the library makes the program's threads wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAIT_SECONDS: Final = 0.5  # of the program's threads at once
WAIT_FRACTION: Final = 0.05  # maximum share of elapsed time that is spent waiting


class WaitBudget:
    """Limits the waits of the program's threads to half a second, plus a twentieth of the time that passes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._remaining = MAX_WAIT_SECONDS
        self._updated_at = clock()

    def wait(self, wait: Callable[[float], bool], max_seconds: float) -> bool:
        """Call ``wait`` with the seconds that it may take, at most ``max_seconds``. Return its result."""
        started_at = self._clock()
        self._remaining = min(MAX_WAIT_SECONDS, self._remaining + (started_at - self._updated_at) * WAIT_FRACTION)
        timeout = min(self._remaining, max_seconds)
        is_set = wait(timeout) if timeout > 0 else False
        self._updated_at = self._clock()
        self._remaining -= self._updated_at - started_at
        return is_set
