"""logging: log output above the terminal bar, and bars as log lines where there is no terminal.

    import logging
    from progressbar_tracker.integrations.logging import lines, redirect

    logging.basicConfig(level=logging.INFO)
    with redirect():  # log output on the terminal appears above the bars
        for row in track(rows):
            logging.info("at %s", row)

    lines(interval=30)  # "import: 45 % 450/1000 it, 12.3 it/s, 00:45 left", for Docker and CI

Both support the bars of ``track()``, of tqdm and of the integrations. ``lines()`` supports tqdm's bars through the
drop-in or its ``install()``. No server is needed.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Final, TextIO, cast

from tqdm.std import tqdm as std_tqdm

from progressbar_tracker._models import format_value

from ._log_lines import Lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Lines", "lines", "redirect"]

MIN_LINE_INTERVAL: Final = 0.1  # seconds between two lines of a bar
MAX_LINE_INTERVAL: Final = 86400.0


class _AboveBarsStream:
    """A terminal stream that writes above the bars of tqdm or rich."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        for current in (sys.stdout, sys.stderr):
            if getattr(current, "rich_proxied_file", None) is self._stream:  # during a live display of rich
                return current.write(text)
        with std_tqdm.external_write_mode(file=self._stream):
            return self._stream.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _writes_to_terminal(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)
    if not isinstance(handler, logging.StreamHandler) or stream is None or isinstance(stream, _AboveBarsStream):
        return False
    try:
        return stream in (sys.stdout, sys.stderr) or bool(stream.isatty())
    except Exception:  # noqa: BLE001 - closed, or not a stream
        return False


@contextlib.contextmanager
def redirect(loggers: Iterable[logging.Logger] | None = None) -> Iterator[None]:
    """Write log output on the terminal above the bars while the block runs.

    Only the streams of the handlers are replaced; formats and levels stay.

    Args:
        loggers: The loggers whose handlers are redirected. By default all loggers, and handlers added in the block.

    Raises:
        TypeError: An element is not a logger.

    Example:
        >>> with redirect():
        ...     logging.getLogger("import").info("begun")
    """
    if loggers is None:
        all_loggers = list(logging.root.manager.loggerDict.values())
        selected = [logging.root, *(logger for logger in all_loggers if isinstance(logger, logging.Logger))]
    else:
        selected = list(loggers)
    for logger in selected:
        if not isinstance(logger, logging.Logger):
            raise TypeError(f"loggers must be loggers, not {format_value(logger)}")
    with contextlib.ExitStack() as stack:

        def redirect_handler(handler: logging.Handler) -> None:
            if _writes_to_terminal(handler):
                terminal = cast("logging.StreamHandler[TextIO]", handler)
                stack.callback(_restore_stream, terminal, terminal.stream)
                terminal.setStream(cast("TextIO", _AboveBarsStream(terminal.stream)))

        for handler in dict.fromkeys(handler for logger in selected for handler in logger.handlers):
            redirect_handler(handler)
        if loggers is None:
            # Handlers that the block adds, and logging's last resort if none is configured.
            original = logging.Logger.addHandler

            def add_handler(logger: logging.Logger, hdlr: logging.Handler) -> None:
                redirect_handler(hdlr)
                original(logger, hdlr)

            stack.callback(setattr, logging.Logger, "addHandler", original)
            logging.Logger.addHandler = add_handler  # type: ignore[method-assign, assignment]
            last_resort = logging.StreamHandler(cast("TextIO", _AboveBarsStream(sys.stderr)))
            last_resort.setLevel(logging.WARNING)
            stack.callback(setattr, logging, "lastResort", logging.lastResort)
            logging.lastResort = last_resort
        yield


def _restore_stream(handler: logging.StreamHandler[TextIO], stream: TextIO) -> None:
    if isinstance(handler.stream, _AboveBarsStream):  # else the program has replaced it
        handler.setStream(stream)


def lines(interval: float = 30.0, *, logger: logging.Logger | str | None = None, level: int = logging.INFO) -> Lines:
    """Log the progress of each bar once an interval, and its result at the end.

    Nested bars are logged only if they run for at least one interval. A failure has at least level WARNING. At most
    1000 bars are followed at a time. A second call for the same logger replaces the first.

    Args:
        interval: Seconds between two lines of a bar, 0.1 to 86400.
        logger: A logger or its name; by default ``progressbar_tracker.lines``.
        level: Log level of the lines. Enable it in the logger: ``logging.basicConfig(level=logging.INFO)``.

    Returns:
        A handle with ``close()``, usable as a ``with`` block. Without a close, lines are logged until the program ends.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``interval`` is out of range.

    Example:
        >>> with lines(interval=60):
        ...     pass
    """
    if isinstance(interval, bool) or not isinstance(interval, int | float):
        raise TypeError(f"interval must be a number of seconds, not {format_value(interval)}")
    if not MIN_LINE_INTERVAL <= interval <= MAX_LINE_INTERVAL:
        raise ValueError(
            f"interval must be from {MIN_LINE_INTERVAL} to {MAX_LINE_INTERVAL:.0f} seconds, not "
            f"{format_value(interval)}"
        )
    if logger is None or isinstance(logger, str):
        logger = logging.getLogger(logger or "progressbar_tracker.lines")
    if not isinstance(logger, logging.Logger):
        raise TypeError(f"logger must be a logger or its name, not {format_value(logger)}")
    if isinstance(level, bool) or not isinstance(level, int):
        raise TypeError(f"level must be an int, as logging.INFO is, not {format_value(level)}")
    return Lines(logger, float(interval), level)
