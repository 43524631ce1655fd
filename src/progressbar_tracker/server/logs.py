"""What a server writes about itself: one line for each change of state, as text for people or JSON for programs.

The parts of the server log as any library does, under ``progressbar_tracker.server``; :func:`tell` does so for changes
of state, with fields. :func:`configure` is for the process that is the server: it decides where lines go and how they
look. No text of a user's can end a line or colour a terminal, and no kind of line can come so often that it is the
lines that cost: beyond :data:`MOST` a second the others of a kind are counted, and told as a number.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import re
import secrets
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal, TextIO, TypeAlias

from .models import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LogFormat: TypeAlias = Literal["text", "json"]
LOG_FORMATS: Final[tuple[LogFormat, ...]] = ("text", "json")

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: Final[tuple[LogLevel, ...]] = ("debug", "info", "warning", "error")

EVENT_LOGGER: Final = "progressbar_tracker.server"
ACCESS_LOGGER: Final = "progressbar_tracker.server.access"
"""The loggers of changes of state, and of requests."""

MAX_LINES_PER_SECOND: Final = 20
"""The most lines of a kind within :data:`WINDOW`; of requests, which are asked for, all are written."""

RATE_WINDOW: Final = 1.0
_MAX_LINE_KINDS: Final = 1000

REQUEST_ID: ContextVar[bytes] = ContextVar("request")
"""The id of the request that is being answered."""

_REQUEST_ID_PATTERN: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_PLAIN_VALUE: Final = re.compile(r"[\w.:/+@{}-]+")

# No secret, and to ask the system for each would cost as much as the rest of a small request.
random_bits: Final = random.Random(secrets.randbits(128)).getrandbits  # noqa: S311
_events: Final = logging.getLogger(EVENT_LOGGER)
_handlers: Final[list[RateLimitedOutput]] = []


def choose_request_id(candidate: bytes) -> bytes:
    """Return the id that a request came with, if it is one to be written down, else a new one."""
    return candidate if _REQUEST_ID_PATTERN.fullmatch(candidate) else b"%016x" % random_bits(64)


def log_event(event: str, /, **fields: object) -> None:
    """Log a change of state.

    Args:
        event: What has happened, in few words that are always the same, such as ``"item created"``.
        fields: To what. Never a secret.
    """
    # To make a record that is then not written would cost twenty microseconds, of thousands a second.
    if are_events_logged() and all(handler.admit(EVENT_LOGGER, logging.INFO, event) for handler in _handlers):
        _events.info(event, extra={"fields": fields, "admitted": True})


def are_events_logged() -> bool:
    """Say whether anybody wants to know of changes of state."""
    return _events.isEnabledFor(logging.INFO)


def configure(log_format: LogFormat, level: LogLevel | None, stream: TextIO) -> logging.Handler:
    """Write all lines of this process to a stream from now on.

    Args:
        log_format: How a line looks.
        level: From which level on; without one, text begins at warnings and JSON at changes of state.
        stream: Where to.
    """
    level = level or ("info" if log_format == "json" else "warning")
    handler = RateLimitedOutput(stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    # Other libraries tell their warnings only: what they say below that may hold what is none of a log's business,
    # such as the address of a webhook.
    logging.getLogger().addHandler(handler)
    _handlers.append(handler)
    for name in ("progressbar_tracker", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
    if level != "debug":
        logging.getLogger(ACCESS_LOGGER).setLevel(logging.INFO)
    return handler


def _record_fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    found = getattr(record, "request", None)
    return {**fields, "request_id": found} if found is not None else fields


class JsonFormatter(logging.Formatter):
    """A line is a JSON object in ASCII, so that nothing in it can be taken for anything but text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        document: dict[str, object] = {
            "ts": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= {name: value for name, value in _record_fields(record).items() if name not in document}
        if record.exc_info:
            document["error"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


class TextFormatter(logging.Formatter):
    """A line for people; that of an error is followed by its traceback, set off by a bar."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        parts = [rfc3339(record.created), record.levelname, record.getMessage()]
        parts += [
            f"{name}={_format_value(value)}" for name, value in _record_fields(record).items() if value is not None
        ]
        lines = [escape_unprintable(" ".join(parts))]
        if record.exc_info:
            lines += [f"  | {escape_unprintable(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


def escape_unprintable(text: str) -> str:
    r"""Return a text with all that moves, colours, breaks or hides escaped.

    >>> escape_unprintable("a" + chr(10) + "b")
    'a\\nb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _format_value(value: object) -> str:
    text = str(value)
    return text if _PLAIN_VALUE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class _LineCount:
    """Lines of one kind: how many since an instant, and how many of them were not written."""

    __slots__ = ("count", "started_at", "suppressed")

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.count = 0
        self.suppressed = 0


class RateLimitedOutput(logging.StreamHandler[TextIO]):
    """Writes lines, of each kind so many a second, and then how many others there were.

    Args:
        stream: Where to.
        clock: Seconds that only go forward.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._line_counts: dict[tuple[str, int, str], _LineCount] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it."""
        with contextlib.suppress(LookupError):
            record.request = REQUEST_ID.get().decode("ascii")
        known = record.name == ACCESS_LOGGER or hasattr(record, "admitted")
        if known or self.admit(record.name, record.levelno, str(record.msg)):
            super().emit(record)

    def close(self) -> None:
        """Tell what was left out, and stop."""
        if self in _handlers:
            _handlers.remove(self)
        self.flush_suppressed()
        super().close()

    def flush_suppressed(self) -> None:
        """Tell how many lines were left out."""
        assert self.lock is not None
        with self.lock:
            self._timer = None
            for (name, level, text), kind in self._line_counts.items():
                if kind.suppressed:
                    record = logging.LogRecord(name, level, "", 0, "%d more: %s", (kind.suppressed, text), None)
                    kind.suppressed = 0
                    super().emit(record)
            self._line_counts.clear()

    def admit(self, name: str, level: int, text: str) -> bool:
        """Say whether one more line of a kind is to be written; count it if not."""
        assert self.lock is not None
        with self.lock:
            now, place = self._clock(), (name, level, text)
            kind = self._line_counts.get(place)
            if kind is None or now - kind.started_at >= RATE_WINDOW:
                if (kind is not None and kind.suppressed) or len(self._line_counts) >= _MAX_LINE_KINDS:
                    self.flush_suppressed()
                kind = self._line_counts[place] = _LineCount(now)
            kind.count += 1
            if kind.count <= MAX_LINES_PER_SECOND:
                return True
            kind.suppressed += 1
            if self._timer is None:
                self._timer = threading.Timer(RATE_WINDOW, self.flush_suppressed)
                self._timer.daemon = True
                self._timer.start()
            return False
