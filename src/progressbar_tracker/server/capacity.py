"""Limits that follow from the process's limit of open files: each connection is a file."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

RESERVED_FILES: Final = 128
"""Files that are reserved for other uses than connections."""


MAX_OPEN_FILES: Final = 65_536
"""The limit of open files that is requested from the system."""


FALLBACK_OPEN_FILES: Final = 10_240
"""The limit that macOS grants for certain, although its hard limit may be infinite."""


MAX_HEAD_BYTES: Final = 64 * 1024
"""The most bytes of a request line and headers. A request that arrives in one read may use up to four times this."""


def raise_open_file_limit() -> None:
    """Raise the limit of open files to the hard limit; the usual soft limit is 1,024."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    for limit in (wanted, min(wanted, FALLBACK_OPEN_FILES)):
        if soft == resource.RLIM_INFINITY or soft >= limit:
            return
        with contextlib.suppress(OSError, ValueError):  # the system may allow less than the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            return


def max_connections() -> int:
    """Return the most connections at a time."""
    if sys.platform == "win32":
        return 1000
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 100_000 if files == resource.RLIM_INFINITY else max(files - RESERVED_FILES, files // 2)


def max_streams() -> int:
    """Return the most connections that may be streams: viewers must leave capacity for writers."""
    return max_connections() * 3 // 4
