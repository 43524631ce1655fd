"""The package's logger. ``logging`` is imported with the first line: it would double the import time of the package.

All lines go to the logger ``progressbar_tracker``. Its NullHandler prevents output in a program without logging.
"""

from __future__ import annotations

import contextlib
from typing import Final

from ._fork import importing

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40


def log(level: int, message: str, *args: object, exc_info: bool = False) -> None:
    """Log a line; ``level`` and ``args`` are those of ``logging``.

    The line is lost if a handler or filter of the program raises, or the import has no free file descriptor.
    """
    with contextlib.suppress(Exception):
        with importing:
            import logging

        logger = logging.getLogger("progressbar_tracker")
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        logger.log(level, message, *args, exc_info=exc_info, stacklevel=2)
