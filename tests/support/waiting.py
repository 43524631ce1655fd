"""Waits for a condition that sends no event."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_INTERVAL = 0.005  # seconds


def wait_until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Poll ``condition`` until it is true.

    Raises:
        TimeoutError: It is still false after ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"the condition is still false after {timeout:g} s")
        time.sleep(POLL_INTERVAL)
