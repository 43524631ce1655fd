"""How much room the process has: each connection is a file, and a process may have only so many."""

from __future__ import annotations

import sys
from typing import Final

SPARE: Final = 128
"""Files that are needed for other things than connections."""


def connections() -> int:
    """Return how many connections there may be."""
    if sys.platform == "win32":
        return 1000
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 100_000 if files == resource.RLIM_INFINITY else max(files - SPARE, files // 2)


def streams() -> int:
    """Return how many of them may be streams: whoever watches must leave some for who writes."""
    return connections() * 3 // 4
