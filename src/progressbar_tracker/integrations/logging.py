"""logging: log lines that do not tear the terminal bar, and bars as log lines where there is no terminal.

    import logging
    from progressbar_tracker.integrations.logging import lines, redirect

    logging.basicConfig(level=logging.INFO)
    with redirect():  # what is logged to the terminal stands above the bars
        for row in track(rows):
            logging.info("at %s", row)

    lines(interval=30)  # "import: 45 % 450/1000 it, 12.3 it/s, 00:45 left", for Docker and CI

Both are for the bars of ``track()``, of tqdm and of these integrations; ``lines()`` knows tqdm's bars by the drop-in or
its ``install()``. No server is needed.
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
    """A terminal's stream that writes above the bars, of tqdm or of rich."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        for now in (sys.stdout, sys.stderr):
            if getattr(now, "rich_proxied_file", None) is self._stream:  # while bars of rich's are on the screen
                return now.write(text)
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
    except Exception:  # noqa: BLE001 - a stream that is closed, or is none
        return False


@contextlib.contextmanager
def redirect(loggers: Iterable[logging.Logger] | None = None) -> Iterator[None]:
    """Let what is logged to the terminal stand above the bars while the block runs.

    The handlers stay as they are, with their formats and levels: only where they write to is another.

    Args:
        loggers: Whose handlers; by default those of all loggers, and those that are added in the block.

    Raises:
        TypeError: There is one that is no logger.

    Example:
        >>> with redirect():
        ...     logging.getLogger("import").info("begun")
    """
    if loggers is None:
        known = list(logging.root.manager.loggerDict.values())
        chosen = [logging.root, *(logger for logger in known if isinstance(logger, logging.Logger))]
    else:
        chosen = list(loggers)
    for logger in chosen:
        if not isinstance(logger, logging.Logger):
            raise TypeError(f"loggers must be loggers, not {format_value(logger)}")
    with contextlib.ExitStack() as stack:

        def above(handler: logging.Handler) -> None:
            if _writes_to_terminal(handler):
                terminal = cast("logging.StreamHandler[TextIO]", handler)
                stack.callback(_restore_stream, terminal, terminal.stream)
                terminal.setStream(cast("TextIO", _AboveBarsStream(terminal.stream)))

        for handler in dict.fromkeys(handler for logger in chosen for handler in logger.handlers):
            above(handler)
        if loggers is None:
            # What the block configures, or logging itself when it is first used and nobody has.
            add = logging.Logger.addHandler

            def adding(logger: logging.Logger, hdlr: logging.Handler) -> None:
                above(hdlr)
                add(logger, hdlr)

            stack.callback(setattr, logging.Logger, "addHandler", add)
            logging.Logger.addHandler = adding  # type: ignore[method-assign, assignment]
            last = logging.StreamHandler(cast("TextIO", _AboveBarsStream(sys.stderr)))
            last.setLevel(logging.WARNING)
            stack.callback(setattr, logging, "lastResort", logging.lastResort)
            logging.lastResort = last
        yield


def _restore_stream(handler: logging.StreamHandler[TextIO], stream: TextIO) -> None:
    if isinstance(handler.stream, _AboveBarsStream):  # else somebody has changed it meanwhile
        handler.setStream(stream)


def lines(interval: float = 30.0, *, logger: logging.Logger | str | None = None, level: int = logging.INFO) -> Lines:
    """Write a line to a log for each bar: one an interval while it runs, and one at its end that says how it ended.

    Of the bars inside others only those that live as long as an interval are told of. A failure is a warning at least.
    At most 1000 bars at a time are followed. Called once more for the same logger it takes the place of the first.

    Args:
        interval: Seconds between two lines of a bar, 0.1 to 86400.
        logger: A logger or its name; by default ``progressbar_tracker.lines``.
        level: The level of the lines. The logger has to let it through: ``logging.basicConfig(level=logging.INFO)``.

    Returns:
        A handle to ``close()``, or to use as a block; without it they are written until the program ends.

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
