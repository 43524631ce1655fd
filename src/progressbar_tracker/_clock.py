"""A monotonic clock that also counts while the machine is suspended, as the wall clock does.

The start and the end of a run are read from it. All processes of a machine have the same clock, so a time that is read
before a fork is valid after it.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


def select_clock() -> Callable[[], float]:
    """Return a function that reads the clock in seconds."""
    # On macOS CLOCK_MONOTONIC counts suspended time, but time.monotonic() does not.
    name = "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    number: int | None = getattr(time, name, None)
    if number is None:
        return time.monotonic
    read: Callable[[], float] = partial(time.clock_gettime, number)
    try:
        read()
    except OSError:  # an older kernel
        return time.monotonic
    return read


read_clock: Final = select_clock()
"""Return seconds of the clock."""
