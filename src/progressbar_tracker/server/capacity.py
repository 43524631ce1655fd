"""How much room the process has: each connection is a file, and a process may have only so many."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

RESERVED_FILES: Final = 128
"""Files that are needed for other things than connections."""


MAX_OPEN_FILES: Final = 65_536
"""Files that are asked of the system."""


MAX_HEAD_BYTES: Final = 64 * 1024
"""The most bytes of a request's line and headers; what comes in one piece is let pass up to four times as many."""


def raise_open_file_limit() -> None:
    """Ask the system for as many files as this process may have; 1,024 are what most begin with."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a system may allow less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_connections() -> int:
    """Return how many connections there may be."""
    if sys.platform == "win32":
        return 1000
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 100_000 if files == resource.RLIM_INFINITY else max(files - RESERVED_FILES, files // 2)


def max_streams() -> int:
    """Return how many of them may be streams: whoever watches must leave some for who writes."""
    return max_connections() * 3 // 4
