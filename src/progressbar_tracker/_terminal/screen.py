"""Redraws lines in place on one stream, without holding a lock of the program for long.

The output for a standard stream bypasses Python's buffers: it goes to the descriptor, and only when that is ready. A
thread that blocks in ``sys.stderr.write()`` holds the lock of the buffer, so the interpreter aborts at exit. A thread
that blocks in ``os.write()`` holds no lock. Any other stream is written through its ``write()``.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._fork import importing
from progressbar_tracker._text import display_width

if TYPE_CHECKING:
    from collections.abc import Sequence

STDERR_DESCRIPTOR: Final = 2  # polled for a stream without a descriptor, which most likely writes to stderr
READY_TIMEOUT: Final = 0.1  # seconds; not applied to a stream that was blocked before
CHUNK_SIZE: Final = 4096  # bytes that a ready pipe accepts without blocking
MAX_FINAL_LINES: Final = 100  # that wait for a stream; older ones are dropped
CURSOR_UP: Final = "\x1b[A"


def render_frame(shown_lines: Sequence[str], final_lines: Sequence[str], lines: Sequence[str]) -> str:
    r"""Return the output that replaces ``shown_lines`` by ``final_lines``, which stay, and ``lines`` below them.

    The cursor is in the first line before and after.

    >>> render_frame([], [], ["one", "two"])
    '\n\rtwo\x1b[A\rone'
    >>> render_frame(["one", "two"], ["done"], ["two"])
    '\rdone\n'
    """
    left = list(shown_lines)
    parts = [_render_line(0, final, left.pop(0) if left else "") + "\n" for final in final_lines]
    # From the bottom up, so that the cursor ends behind the text of the first line.
    for row in reversed(range(max(len(lines), len(left)))):
        old, new = left[row] if row < len(left) else "", lines[row] if row < len(lines) else ""
        if new != old:
            parts.append(_render_line(row, new, old) + ("" if new else "\r"))
    return "".join(parts)


def _render_line(row: int, text: str, old: str) -> str:
    blanks = " " * max(_visible_width(old) - _visible_width(text), 0)
    return "\n" * row + "\r" + text + blanks + CURSOR_UP * row


def _visible_width(text: str) -> int:
    first_part, *coloured_parts = text.split("\x1b[")
    return display_width(first_part) + sum(display_width(part.partition("m")[2]) for part in coloured_parts)


def _direct_descriptor(stream: Any) -> int | None:
    """Return the descriptor of a plain text stream, or ``None`` if ``write()`` may have side effects."""
    if os.name != "posix" or type(stream) is not io.TextIOWrapper:
        return None  # a class of the program may do more than write
    buffer = stream.buffer
    raw = getattr(buffer, "raw", buffer)
    if type(buffer) not in (io.BufferedWriter, io.BufferedRandom, io.FileIO) or type(raw) is not io.FileIO:
        return None
    try:
        is_ascii_compatible = "\r".encode(stream.encoding) == b"\r"
    except LookupError:
        return None
    return raw.fileno() if is_ascii_compatible else None


def _file_identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


class Screen:
    """A stream that lines are drawn on, used by the display thread only. Exceptions of the stream are not caught.

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
        self._descriptor = _direct_descriptor(stream)
        self._identity = None if self._descriptor is None else _file_identity(self._descriptor)
        self._polled_descriptor = STDERR_DESCRIPTOR if self._descriptor is None else self._descriptor
        if self._descriptor is None:
            with contextlib.suppress(Exception):  # the stream has no descriptor
                number = stream.fileno()
                self._polled_descriptor = number if isinstance(number, int) and number >= 0 else STDERR_DESCRIPTOR
        self._shown_lines: list[str] = []
        self._unwritten = b""  # rest of a frame that was written in part
        self._is_blocked = False
        self._final_lines: list[str] = []

    @property
    def supports_unicode(self) -> bool:
        """Whether the encoding has the characters of a smooth bar."""
        try:
            return self._encoding is not None and bool("\u2588\u258f".encode(self._encoding))
        except (UnicodeError, LookupError):
            return False

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Usable columns and lines; ``None`` if the stream is not a terminal."""
        if self._polled_descriptor == STDERR_DESCRIPTOR and self._descriptor is None:
            return None, None
        try:
            columns, rows = os.get_terminal_size(self._polled_descriptor)
        except (OSError, ValueError):
            return None, None
        return (columns - 1 if columns > 1 else None), (rows - 1 if rows > 1 else None)

    def add_final_line(self, text: str) -> None:
        """Queue a line that the next frame leaves permanently above all others."""
        self._final_lines.append(text)
        del self._final_lines[:-MAX_FINAL_LINES]

    def draw(self, lines: Sequence[str]) -> bool:
        """Show these lines. Return whether the stream accepted them; if not, call again later.

        Raises:
            BaseException: Any exception of the stream's ``write``.
        """
        lines = [self._replace_unencodable(line) for line in lines]
        text = render_frame(self._shown_lines, [self._replace_unencodable(final) for final in self._final_lines], lines)
        if text and not self._write(text):
            return False
        self._shown_lines = lines
        self._final_lines.clear()
        return True

    def _replace_unencodable(self, text: str) -> str:
        if self._encoding is None:
            return text
        try:
            return text.encode(self._encoding, "replace").decode(self._encoding, "replace")
        except LookupError:
            return text.encode("ascii", "replace").decode("ascii")

    def _write(self, text: str) -> bool:
        if self._descriptor is None:
            if not self._is_ready():
                return False
            try:
                self.stream.write(text)
                getattr(self.stream, "flush", _skip_flush)()
            except BlockingIOError:
                return False
            return True
        if self.stream.closed or _file_identity(self._descriptor) != self._identity:
            raise ValueError("the stream is closed")  # a file of the program may have this number now
        if self._unwritten:
            self._unwritten = self._write_available(self._descriptor, self._unwritten)
            if self._unwritten:
                return False
        data = text.encode(self._encoding or "ascii", "replace")
        rest = self._write_available(self._descriptor, data)
        if len(rest) == len(data):
            return False
        self._unwritten = rest
        return True

    def _write_available(self, descriptor: int, data: bytes) -> bytes:
        """Write as much as possible without blocking, and return the rest."""
        while data and self._is_ready():
            try:
                data = data[os.write(descriptor, data[:CHUNK_SIZE]) :]
            except BlockingIOError:
                self._is_blocked = True
                break
        return data

    def _is_ready(self) -> bool:
        if not hasattr(self._select, "poll"):
            return True
        poll = self._select.poll()
        poll.register(self._polled_descriptor, self._select.POLLOUT)
        # An error also counts as ready: the write raises it.
        ready = bool(poll.poll(0 if self._is_blocked else READY_TIMEOUT * 1000))
        self._is_blocked = not ready
        return ready


def _skip_flush() -> None:
    """Do nothing, for a stream without ``flush()``."""
