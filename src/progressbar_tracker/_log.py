"""The package's logger, found when the first line is written: ``logging`` is half the cost of importing a package.

Everything is logged under ``progressbar_tracker``. A NullHandler keeps a program that never configured logging quiet.
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
    """Write a line to the logger ``progressbar_tracker``; ``level`` and ``args`` are those of ``logging``.

    A handler or a filter of the program that raises, or an import without a free file descriptor, costs the line only.
    """
    with contextlib.suppress(Exception):
        with importing:
            import logging

        logger = logging.getLogger("progressbar_tracker")
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        logger.log(level, message, *args, exc_info=exc_info, stacklevel=2)
