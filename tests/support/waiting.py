"""Waits for a condition that sends no event."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_INTERVAL, MAX_INTERVAL = 0.005, 0.05  # seconds
INTERVAL_GROWTH = 1.2
"""A wait ends at most a fifth later than its condition is true, and a long one leaves the processor to others."""


def wait_until(condition: Callable[[], object], timeout: float = 60.0, interval: float = MIN_INTERVAL) -> None:
    """Poll ``condition`` until it is true, first after ``interval`` seconds, then less often.

    Raises:
        TimeoutError: It is still false after ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"the condition is still false after {timeout:g} s")
        time.sleep(interval)
        interval = max(interval, min(interval * INTERVAL_GROWTH, MAX_INTERVAL))
