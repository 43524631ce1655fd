"""The package's logger. ``logging`` is imported with the first line: it would double the import time of the package.

All lines go to the logger ``progressbar_tracker``. Its NullHandler prevents output in a program without logging.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final, Literal

from ._fork import importing

if TYPE_CHECKING:
    from logging import LogRecord

LOGGER_NAME: Final = "progressbar_tracker"
DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40


def find_destination() -> Literal["muted", "elsewhere", "stderr"] | None:
    """Return where a warning of the package goes; ``None`` if the program has not configured logging."""
    with importing:
        import logging

    logger: logging.Logger | None = logging.getLogger(LOGGER_NAME)
    if logger is not None and not logger.isEnabledFor(WARNING):
        return "muted"
    destination: Literal["elsewhere"] | None = None
    while logger is not None:
        for handler in logger.handlers:
            if isinstance(handler, logging.NullHandler):
                continue
            destination = "elsewhere"
            is_on_stderr = getattr(handler, "stream", None) in (sys.stderr, sys.__stderr__)
            if is_on_stderr and sys.stderr is not None and handler.level <= WARNING:
                return "stderr"
        logger = logger.parent if logger.propagate else None
    return destination


def log(level: int, message: str, *args: object, exc_info: bool = False) -> None:
    """Log a line; ``level`` and ``args`` are those of ``logging``.

    The line is lost if a handler or filter of the program raises, or the import has no free file descriptor.
    """
    with contextlib.suppress(Exception):
        with importing:
            import logging

        logger = logging.getLogger(LOGGER_NAME)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        logger.log(level, message, *args, exc_info=exc_info, stacklevel=2)


def _is_foreign_record(record: LogRecord) -> bool:
    """Return whether a log record of httpx is about the program's own requests, and not the sender's."""
    return record.threadName != "progressbar-sender"


def silence_httpx() -> None:
    """Suppress the lines of httpx about the sender's requests, whose URLs are in them."""
    import logging

    for name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy", "httpcore.socks"):
        logging.getLogger(name).addFilter(_is_foreign_record)  # the same filter twice is one filter
