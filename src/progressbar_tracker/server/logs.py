"""The log of a server: one line for each change of state, as text for people or as JSON for programs.

All modules log under ``progressbar_tracker.server``; :func:`log_event` logs a change of state with fields.
:func:`configure` sets the output and the format for the server's process. Text of users cannot end a line or color a
terminal. Frequent lines cannot slow the server down: beyond :data:`MAX_LINES_PER_SECOND`, lines of a kind are counted,
and only their number is logged.
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

from progressbar_tracker._text import escape_unprintable

from .models import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LogFormat: TypeAlias = Literal["text", "json"]
LOG_FORMATS: Final[tuple[LogFormat, ...]] = ("text", "json")

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: Final[tuple[LogLevel, ...]] = ("debug", "info", "warning", "error")

EVENT_LOGGER: Final = "progressbar_tracker.server"
ACCESS_LOGGER: Final = "progressbar_tracker.server.access"
"""The loggers of changes of state and of requests."""

MAX_LINES_PER_SECOND: Final = 20
"""The most lines of a kind within :data:`RATE_WINDOW`. Lines of requests are not limited: the operator enables them."""

RATE_WINDOW: Final = 1.0
_MAX_LINE_KINDS: Final = 1000

REQUEST_ID: ContextVar[bytes] = ContextVar("request")
"""The id of the current request."""

_REQUEST_ID_PATTERN: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_PLAIN_VALUE: Final = re.compile(r"[\w.:/+@{}-]+")

# Request ids are not secret. On some systems, random numbers from the system cost as much as a small request.
random_bits: Final = random.Random(secrets.randbits(128)).getrandbits  # noqa: S311
_events: Final = logging.getLogger(EVENT_LOGGER)
_handlers: Final[list[RateLimitedOutput]] = []


def choose_request_id(candidate: bytes) -> bytes:
    """Return the request id of the client if it is safe to log, otherwise a new one."""
    return candidate if _REQUEST_ID_PATTERN.fullmatch(candidate) else b"%016x" % random_bits(64)


def log_event(event: str, /, **fields: object) -> None:
    """Log a change of state.

    Args:
        event: A few constant words, such as ``"item created"``.
        fields: The subjects of the event. Never a secret.
    """
    # Creating a record that is not written would cost 20 µs, thousands of times a second.
    if are_events_logged() and all(handler.admit(EVENT_LOGGER, logging.INFO, event) for handler in _handlers):
        _events.info(event, extra={"fields": fields, "admitted": True})


def are_events_logged() -> bool:
    """Return whether changes of state are logged."""
    return _events.isEnabledFor(logging.INFO)


def configure(log_format: LogFormat, level: LogLevel | None, stream: TextIO) -> logging.Handler:
    """Write all log lines of this process to a stream.

    Args:
        log_format: The format of a line.
        level: The lowest level. By default, text begins at warnings and JSON at changes of state.
        stream: The output.
    """
    level = level or ("info" if log_format == "json" else "warning")
    handler = RateLimitedOutput(stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    # Other libraries log warnings only: their lower levels may contain secrets, such as the URL of a webhook.
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
    """Formats a record as a JSON object in ASCII, so that users' text cannot imitate structure."""

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
    """Formats a record as a line for people; an error's traceback follows, each line with a bar."""

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


def _format_value(value: object) -> str:
    text = str(value)
    return text if _PLAIN_VALUE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class _LineCount:
    """Counts the lines of one kind since an instant, and those that were suppressed."""

    __slots__ = ("count", "started_at", "suppressed")

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.count = 0
        self.suppressed = 0


class RateLimitedOutput(logging.StreamHandler[TextIO]):
    """Writes a limited number of lines of each kind a second, then the number of suppressed ones.

    Args:
        stream: The output.
        clock: Returns monotonic seconds.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._line_counts: dict[tuple[str, int, str], _LineCount] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write or count a line."""
        with contextlib.suppress(LookupError):
            record.request = REQUEST_ID.get().decode("ascii")
        is_admitted = record.name == ACCESS_LOGGER or hasattr(record, "admitted")
        if is_admitted or self.admit(record.name, record.levelno, str(record.msg)):
            super().emit(record)

    def close(self) -> None:
        """Flush the numbers of suppressed lines, and stop."""
        if self in _handlers:
            _handlers.remove(self)
        self.flush_suppressed()
        super().close()

    def flush_suppressed(self) -> None:
        """Write the numbers of suppressed lines."""
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
        """Return whether a line may be written; a suppressed one is counted."""
        assert self.lock is not None
        with self.lock:
            now, key = self._clock(), (name, level, text)
            kind = self._line_counts.get(key)
            if kind is None or now - kind.started_at >= RATE_WINDOW:
                if (kind is not None and kind.suppressed) or len(self._line_counts) >= _MAX_LINE_KINDS:
                    self.flush_suppressed()
                kind = self._line_counts[key] = _LineCount(now)
            kind.count += 1
            if kind.count <= MAX_LINES_PER_SECOND:
                return True
            kind.suppressed += 1
            if self._timer is None:
                self._timer = threading.Timer(RATE_WINDOW, self.flush_suppressed)
                self._timer.daemon = True
                self._timer.start()
            return False
