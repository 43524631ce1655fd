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

Format: TypeAlias = Literal["text", "json"]
FORMATS: Final[tuple[Format, ...]] = ("text", "json")

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")

EVENTS: Final = "progressbar_tracker.server"
ACCESS: Final = "progressbar_tracker.server.access"
"""The loggers of changes of state, and of requests."""

MOST: Final = 20
"""The most lines of a kind within :data:`WINDOW`; of requests, which are asked for, all are written."""

WINDOW: Final = 1.0
_KINDS: Final = 1000

REQUEST: ContextVar[bytes] = ContextVar("request")
"""The id of the request that is being answered."""

_GIVEN: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_PLAIN: Final = re.compile(r"[\w.:/+@{}-]+")

# No secret, and to ask the system for each would cost as much as the rest of a small request.
bits: Final = random.Random(secrets.randbits(128)).getrandbits  # noqa: S311
_events: Final = logging.getLogger(EVENTS)
_handlers: Final[list[Lines]] = []


def request_id(given: bytes) -> bytes:
    """Return the id that a request came with, if it is one to be written down, else a new one."""
    return given if _GIVEN.fullmatch(given) else b"%016x" % bits(64)


def tell(event: str, /, **fields: object) -> None:
    """Log a change of state.

    Args:
        event: What has happened, in few words that are always the same, such as ``"item created"``.
        fields: To what. Never a secret.
    """
    # To make a record that is then not written would cost twenty microseconds, of thousands a second.
    if telling() and all(handler.admits(EVENTS, logging.INFO, event) for handler in _handlers):
        _events.info(event, extra={"fields": fields, "admitted": True})


def telling() -> bool:
    """Say whether anybody wants to know of changes of state."""
    return _events.isEnabledFor(logging.INFO)


def configure(form: Format, level: Level | None, stream: TextIO) -> logging.Handler:
    """Write all lines of this process to a stream from now on.

    Args:
        form: How a line looks.
        level: From which level on; without one, text begins at warnings and JSON at changes of state.
        stream: Where to.
    """
    level = level or ("info" if form == "json" else "warning")
    handler = Lines(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    # Other libraries tell their warnings only: what they say below that may hold what is none of a log's business,
    # such as the address of a webhook.
    logging.getLogger().addHandler(handler)
    _handlers.append(handler)
    for name in ("progressbar_tracker", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
    if level != "debug":
        logging.getLogger(ACCESS).setLevel(logging.INFO)
    return handler


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
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
        document |= {name: value for name, value in _fields(record).items() if name not in document}
        if record.exc_info:
            document["error"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


class TextFormatter(logging.Formatter):
    """A line for people; that of an error is followed by its traceback, set off by a bar."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        parts = [rfc3339(record.created), record.levelname, record.getMessage()]
        parts += [f"{name}={_shown(value)}" for name, value in _fields(record).items() if value is not None]
        lines = [printable(" ".join(parts))]
        if record.exc_info:
            lines += [f"  | {printable(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


def printable(text: str) -> str:
    r"""Return a text with all that moves, colours, breaks or hides escaped.

    >>> printable("a" + chr(10) + "b")
    'a\\nb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _shown(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class _Kind:
    """Lines of one kind: how many since an instant, and how many of them were not written."""

    __slots__ = ("begun", "count", "left_out")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.count = 0
        self.left_out = 0


class Lines(logging.StreamHandler[TextIO]):
    """Writes lines, of each kind so many a second, and then how many others there were.

    Args:
        stream: Where to.
        clock: Seconds that only go forward.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._kinds: dict[tuple[str, int, str], _Kind] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it."""
        with contextlib.suppress(LookupError):
            record.request = REQUEST.get().decode("ascii")
        known = record.name == ACCESS or hasattr(record, "admitted")
        if known or self.admits(record.name, record.levelno, str(record.msg)):
            super().emit(record)

    def close(self) -> None:
        """Tell what was left out, and stop."""
        if self in _handlers:
            _handlers.remove(self)
        self.settle()
        super().close()

    def settle(self) -> None:
        """Tell how many lines were left out."""
        assert self.lock is not None
        with self.lock:
            self._timer = None
            for (name, level, text), kind in self._kinds.items():
                if kind.left_out:
                    record = logging.LogRecord(name, level, "", 0, "%d more: %s", (kind.left_out, text), None)
                    kind.left_out = 0
                    super().emit(record)
            self._kinds.clear()

    def admits(self, name: str, level: int, text: str) -> bool:
        """Say whether one more line of a kind is to be written; count it if not."""
        assert self.lock is not None
        with self.lock:
            now, place = self._clock(), (name, level, text)
            kind = self._kinds.get(place)
            if kind is None or now - kind.begun >= WINDOW:
                if (kind is not None and kind.left_out) or len(self._kinds) >= _KINDS:
                    self.settle()
                kind = self._kinds[place] = _Kind(now)
            kind.count += 1
            if kind.count <= MOST:
                return True
            kind.left_out += 1
            if self._timer is None:
                self._timer = threading.Timer(WINDOW, self.settle)
                self._timer.daemon = True
                self._timer.start()
            return False
