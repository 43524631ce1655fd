"""Redraws lines in place on one stream, without holding a lock of the program for long.

The output for a standard stream bypasses Python's buffers: it goes to the descriptor, and only when that is ready. A
thread that blocks in ``sys.stderr.write()`` holds the lock of the buffer, so the interpreter aborts at exit. A thread
that blocks in ``os.write()`` holds no lock. Any other stream is written through its ``write()``.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._fork import importing
from progressbar_tracker._text import display_width

if TYPE_CHECKING:
    from collections.abc import Sequence

STDERR_DESCRIPTOR: Final = 2  # polled for a stream without a descriptor, which most likely writes to stderr
READY_TIMEOUT: Final = 0.1  # seconds; not applied to a stream that was blocked before
CHUNK_SIZE: Final = 4096  # bytes that a ready pipe accepts without blocking
MAX_FINAL_LINES: Final = 100  # that wait for a stream; older ones are dropped
STALE_FRAMES: Final = 2  # after a hold, whose progress may be older than the hold
CURSOR_UP: Final = "\x1b[A"
MOVE_DOWN: Final = "\x1bD"  # one line down in the same column; scrolls at the bottom
SAVE_CURSOR: Final = "\x1b7"
RESTORE_CURSOR: Final = "\x1b8"


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


def render_frame_below(shown_lines: Sequence[str], lines: Sequence[str]) -> str:
    r"""Return the output that replaces ``shown_lines`` by ``lines``, below the line with the cursor.

    The cursor stays where it is, in an unfinished line of the program. A terminal saves the position on the screen, so
    the screen is scrolled first.

    >>> render_frame_below([], ["one"])
    '\x1bD\x1b[A\x1b7\n\rone\x1b8'
    """
    if list(lines) == list(shown_lines):
        return ""
    parts = [MOVE_DOWN * len(lines), CURSOR_UP * len(lines), SAVE_CURSOR]
    for row in range(max(len(lines), len(shown_lines))):
        old, new = shown_lines[row] if row < len(shown_lines) else "", lines[row] if row < len(lines) else ""
        parts.append("\n" + _render_line(0, new, old))
    return "".join([*parts, RESTORE_CURSOR])


def _render_line(row: int, text: str, old: str) -> str:
    blanks = " " * max(_visible_width(old) - _visible_width(text), 0)
    return "\n" * row + "\r" + text + blanks + CURSOR_UP * row


def _visible_width(text: str) -> int:
    first_part, *coloured_parts = text.split("\x1b[")
    return display_width(first_part) + sum(display_width(part.partition("m")[2]) for part in coloured_parts)


def find_direct_descriptor(stream: Any) -> int | None:
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


def is_stderr_terminal() -> bool:
    """Return whether ``sys.stderr`` is a terminal. Raises nothing."""
    try:
        return bool(sys.stderr.isatty())
    except (Exception, SystemExit):  # noqa: BLE001 - stderr is missing, closed, or an object of the program
        return False


def _file_identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


class Screen:
    """A stream that lines are drawn on. Exceptions of the stream are not caught.

    One thread at a time uses it: the display thread or, for output of the program, the holder of the guard's lock.

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
        self._descriptor = find_direct_descriptor(stream)
        self._identity = None if self._descriptor is None else _file_identity(self._descriptor)
        self._polled_descriptor = STDERR_DESCRIPTOR if self._descriptor is None else self._descriptor
        if self._descriptor is None:
            with contextlib.suppress(Exception):  # the stream has no descriptor
                number = stream.fileno()
                self._polled_descriptor = number if isinstance(number, int) and number >= 0 else STDERR_DESCRIPTOR
        self._shown_lines: list[str] = []
        self._cleared_lines: list[str] = []  # by output of the program that has not completed its line
        self._unwritten = b""  # rest of a frame that was written in part
        self._is_blocked = False
        self._final_lines: list[str] = []
        self._is_mid_line = False  # the program's line is unfinished: the lines are drawn below it
        self._is_read_from = False  # the program waits for a line of input
        self._is_held = False
        self._frames_since_read = 0

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

    @property
    def is_terminal(self) -> bool:
        """Whether the output goes directly to a terminal."""
        return self._descriptor is not None and os.isatty(self._descriptor)

    @property
    def is_in_use(self) -> bool:
        """Whether a program reads from the terminal with an editor of its own, or without an echo."""
        if self._descriptor is None:
            return False
        try:
            with importing:
                import termios
            flags = termios.tcgetattr(self._descriptor)[3]
        except Exception:  # noqa: BLE001 - not a terminal, or a system without termios
            return False
        return not (flags & termios.ICANON and flags & termios.ECHO)

    @property
    def has_lines(self) -> bool:
        """Whether lines are shown."""
        return bool(self._shown_lines)

    def is_on_terminal(self, descriptor: int) -> bool:
        """Return whether a descriptor is open on the terminal of this screen."""
        return self._descriptor is not None and os.fstat(descriptor).st_rdev == os.fstat(self._descriptor).st_rdev

    def clear_lines(self) -> None:
        """Clear the shown lines for output of the program, which is written next."""
        if self._unwritten or not self._shown_lines:
            return
        self._write_now(self._render([], []))
        self._cleared_lines, self._shown_lines = self._shown_lines, []

    def end_output(self, *, completes_line: bool, may_redraw: bool) -> bool:
        """Show the cleared lines again after output of the program, if they can be written without waiting.

        They stay hidden until the next progress if the program's line is unfinished.

        Args:
            completes_line: Whether the output ends with a line break.
            may_redraw: Whether to show the lines now. If not, the next frame shows them.

        Returns:
            Whether lines are shown again.
        """
        self._is_mid_line = self._is_held = not completes_line
        if not completes_line:
            return False
        self._is_read_from = False
        if not (may_redraw and self._cleared_lines and self._is_ready(0)):
            return False
        lines, self._cleared_lines = self._cleared_lines, []
        self._write_now(self._render([], lines))
        self._shown_lines = lines
        return True

    def hold(self) -> None:
        """Hide the lines until the next progress, because the program reads a line from the terminal."""
        self._is_read_from = True
        self._frames_since_read = 0

    def begin_frame(self, *, has_progress: bool, has_ended: bool) -> None:
        """End a hold if the program has made progress since.

        Args:
            has_progress: Whether a bar has changed since the latest frame. In the first two frames after a hold, this
                may be progress from before it, which the display thread had not sampled yet.
            has_ended: Whether a bar has ended.
        """
        self._frames_since_read += 1
        if has_ended or (has_progress and (not self._is_read_from or self._frames_since_read > STALE_FRAMES)):
            self._end_hold()

    def _end_hold(self) -> None:
        if self._is_read_from:
            self._is_mid_line = self._is_read_from = False  # the user has completed the line
        self._is_held = False

    def add_final_line(self, text: str) -> None:
        """Queue a line that the next frame leaves permanently above all others."""
        self._final_lines.append(text)
        del self._final_lines[:-MAX_FINAL_LINES]

    def draw(self, lines: Sequence[str], *, sequence: str = "") -> bool:
        """Show these lines. Return whether the stream accepted them; if not, call again later.

        Args:
            lines: The lines, from the top.
            sequence: A control sequence without width that is written as well.

        Raises:
            BaseException: Any exception of the stream's ``write``.
        """
        final_lines = [self._replace_unencodable(final) for final in self._final_lines]
        lines = [] if self._is_held else [self._replace_unencodable(line) for line in lines]
        text = sequence + self._render(final_lines, lines)
        if text and not self._write(text):
            return False
        self._is_mid_line = self._is_mid_line and not final_lines
        self._shown_lines = lines
        self._cleared_lines = self._cleared_lines if self._is_held else []
        self._final_lines.clear()
        return True

    def _render(self, final_lines: Sequence[str], lines: Sequence[str]) -> str:
        if not self._is_mid_line:
            return render_frame(self._shown_lines, final_lines, lines)
        if not final_lines:
            return render_frame_below(self._shown_lines, lines)
        return render_frame_below(self._shown_lines, []) + "\n" + render_frame([], final_lines, lines)

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
        self._check_descriptor(self._descriptor)
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

    def _write_now(self, text: str) -> None:
        """Write in the program's thread, which is about to write, or has written, to the same terminal."""
        if self._descriptor is None:
            self.stream.write(text)
            getattr(self.stream, "flush", _skip_flush)()
            return
        self._check_descriptor(self._descriptor)
        data = text.encode(self._encoding or "ascii", "replace")
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _check_descriptor(self, descriptor: int) -> None:
        if self.stream.closed or _file_identity(descriptor) != self._identity:
            raise ValueError("the stream is closed")  # a file of the program may have this number now

    def _write_available(self, descriptor: int, data: bytes) -> bytes:
        """Write as much as possible without blocking, and return the rest."""
        while data and self._is_ready():
            try:
                data = data[os.write(descriptor, data[:CHUNK_SIZE]) :]
            except BlockingIOError:
                self._is_blocked = True
                break
        return data

    def _is_ready(self, timeout: float = READY_TIMEOUT) -> bool:
        if not hasattr(self._select, "poll"):
            return True
        poll = self._select.poll()
        poll.register(self._polled_descriptor, self._select.POLLOUT)
        # An error also counts as ready: the write raises it.
        ready = bool(poll.poll(0 if self._is_blocked else timeout * 1000))
        self._is_blocked = not ready
        return ready


def _skip_flush() -> None:
    """Do nothing, for a stream without ``flush()``."""
