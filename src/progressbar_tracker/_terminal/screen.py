"""Lines that are redrawn in place on one stream, written so that no lock of the program's is held for long.

A standard stream is written past Python's buffers, straight to its descriptor, and only when the descriptor is ready. A
thread that hangs in ``sys.stderr.write()`` holds the lock of its buffer, and the interpreter aborts at its end because
of that; a thread that hangs in ``os.write()`` holds nothing. Any other stream is written through its ``write()``.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._fork import importing
from progressbar_tracker._text import width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

STDERR: Final = 2  # the descriptor that an unknown stream most likely ends in
READY_TIMEOUT: Final = 0.1  # seconds that a stream which was ready before may take
CHUNK_SIZE: Final = 4096  # bytes; a pipe that is ready takes as many without blocking
MAX_FINAL_LINES: Final = 100  # last frames that wait for a stream; older ones are dropped
UP: Final = "\x1b[A"


def frame(shown: Sequence[str], finals: Sequence[str], lines: Sequence[str]) -> str:
    r"""Return what turns the lines ``shown`` into ``finals``, which stay for good, and ``lines`` below them.

    The cursor rests in the first line, before and after.

    >>> frame([], [], ["one", "two"])
    '\n\rtwo\x1b[A\rone'
    >>> frame(["one", "two"], ["done"], ["two"])
    '\rdone\n'
    """
    left = list(shown)
    parts = [_line(0, final, left.pop(0) if left else "") + "\n" for final in finals]
    # From below, so that the cursor ends in the first line, behind its text.
    for row in reversed(range(max(len(lines), len(left)))):
        old, new = left[row] if row < len(left) else "", lines[row] if row < len(lines) else ""
        if new != old:
            parts.append(_line(row, new, old) + ("" if new else "\r"))
    return "".join(parts)


def _line(row: int, text: str, old: str) -> str:
    blanks = " " * max(_width(old) - _width(text), 0)
    return "\n" * row + "\r" + text + blanks + UP * row


def _width(text: str) -> int:
    plain, *coloured = text.split("\x1b[")
    return width_of(plain) + sum(width_of(part.partition("m")[2]) for part in coloured)


def _descriptor(stream: Any) -> int | None:
    """Return the descriptor of a stream that is nothing but a way to it, or ``None``."""
    if os.name != "posix" or type(stream) is not io.TextIOWrapper:
        return None  # a class of the program's own may do more than write
    buffer = stream.buffer
    raw = getattr(buffer, "raw", buffer)
    if type(buffer) not in (io.BufferedWriter, io.BufferedRandom, io.FileIO) or type(raw) is not io.FileIO:
        return None
    try:
        ascii_too = "\r".encode(stream.encoding) == b"\r"
    except LookupError:
        return None
    return raw.fileno() if ascii_too else None


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


class Screen:
    """A stream that lines are drawn on. Used by the display's thread only, and nothing is caught here.

    Args:
        stream: Any object with ``write()``.
    """

    def __init__(self, stream: Any) -> None:
        with importing:
            import select
        self._select = select
        self.stream = stream
        if getattr(stream, "closed", False) is True:
            raise ValueError("the stream is closed")
        encoding = getattr(stream, "encoding", None)
        self._encoding = encoding if isinstance(encoding, str) else None
        self._descriptor = _descriptor(stream)
        self._identity = None if self._descriptor is None else _identity(self._descriptor)
        self._watched = STDERR if self._descriptor is None else self._descriptor
        if self._descriptor is None:
            with contextlib.suppress(Exception):  # it has none
                number = stream.fileno()
                self._watched = number if isinstance(number, int) and number >= 0 else STDERR
        self._shown: list[str] = []
        self._rest = b""  # what a descriptor took only a part of
        self._behind = False
        self._finals: list[str] = []

    @property
    def unicode(self) -> bool:
        """Whether it takes the characters that a smooth bar is made of."""
        try:
            return self._encoding is not None and bool("\u2588\u258f".encode(self._encoding))
        except (UnicodeError, LookupError):
            return False

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Columns and lines of the terminal; ``None`` where it is none."""
        if self._watched == STDERR and self._descriptor is None:
            return None, None
        try:
            columns, rows = os.get_terminal_size(self._watched)
        except (OSError, ValueError):
            return None, None
        return (columns - 1 if columns > 1 else None), (rows - 1 if rows > 1 else None)

    def leave(self, text: str) -> None:
        """Leave a line above all others for good, with the next frame."""
        self._finals.append(text)
        del self._finals[:-MAX_FINAL_LINES]

    def draw(self, lines: Sequence[str]) -> bool:
        """Show these lines. Return whether the stream took them; a stream that is not ready is tried again later.

        Raises:
            BaseException: What the stream raises.
        """
        lines = [self._fit(line) for line in lines]
        text = frame(self._shown, [self._fit(final) for final in self._finals], lines)
        if text and not self._write(text):
            return False
        self._shown = lines
        self._finals.clear()
        return True

    def _fit(self, text: str) -> str:
        if self._encoding is None:
            return text
        try:
            return text.encode(self._encoding, "replace").decode(self._encoding, "replace")
        except LookupError:
            return text.encode("ascii", "replace").decode("ascii")

    def _write(self, text: str) -> bool:
        if self._descriptor is None:
            if not self._ready():
                return False
            try:
                self.stream.write(text)
                getattr(self.stream, "flush", _nothing)()
            except BlockingIOError:
                return False
            return True
        if self.stream.closed or _identity(self._descriptor) != self._identity:
            raise ValueError("the stream is closed")  # the number may be that of a file of the program's by now
        if self._rest:
            self._rest = self._push(self._descriptor, self._rest)
            if self._rest:
                return False
        data = text.encode(self._encoding or "ascii", "replace")
        rest = self._push(self._descriptor, data)
        if len(rest) == len(data):
            return False
        self._rest = rest
        return True

    def _push(self, descriptor: int, data: bytes) -> bytes:
        """Write what the descriptor takes without blocking, and return the rest."""
        while data and self._ready():
            try:
                data = data[os.write(descriptor, data[:CHUNK_SIZE]) :]
            except BlockingIOError:
                self._behind = True
                break
        return data

    def _ready(self) -> bool:
        if not hasattr(self._select, "poll"):
            return True
        poll = self._select.poll()
        poll.register(self._watched, self._select.POLLOUT)
        # An error makes it ready, too: the write says which.
        ready = bool(poll.poll(0 if self._behind else READY_TIMEOUT * 1000))
        self._behind = not ready
        return ready


def _nothing() -> None:
    """Stand for a flush."""
