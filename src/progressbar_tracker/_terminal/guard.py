"""Keeps the program's lines and the bars apart while bars are drawn on its terminal.

The program's thread clears the bars, writes its output and redraws the bars. Bytes reach a terminal when a buffer is
flushed, so the hooks are on the *buffer* of ``sys.stdout`` and ``sys.stderr``, as attributes of that object. The
streams themselves are unchanged: a log handler that was made earlier is covered, and ``isinstance()``, ``fileno()`` and
``reconfigure()`` work as before. Only streams on the terminal of the bars have hooks. Redirected output is not touched.

A hook must not stop the program. It waits for a frame in progress within a budget, and not at all for a lock of its own
thread, as in a signal handler. Without the lock, the output is written as if there were no guard.

These cannot be covered: other processes on the same terminal, ``os.write()``, and C code that writes to the descriptor.
Output that moves the cursor, such as that of another progress bar, is passed on unchanged.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .screen import find_direct_descriptor
from .tqdm_rows import find_first_free_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from .screen import Screen

T = TypeVar("T")

FRAME_LOCK_TIMEOUT: Final = 0.05  # seconds that the display thread waits for output of the program
LOCK_LOST_SECONDS: Final = 2.0  # after which a lock counts as lost: an exception came between two steps of its holder
OUTPUT_REDRAW_INTERVAL: Final = 0.1  # seconds in which output redraws the bars once; a frame follows within as long
MAX_UNFLUSHED_BYTES: Final = 4096  # a buffer of 8192 bytes with more than this may write before it is flushed
HOOK_NAMES: Final = ("write", "flush", "fileno")

_CURSOR_MOVEMENT: Final = re.compile(rb"\r(?!\r*\n)|\x08|\x0b|\x0c")
_HARMLESS_SEQUENCE: Final = re.compile(rb"\x1b\[[0-9;:]*m|\x1b\[[0-2]?K|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def moves_cursor(data: bytes) -> bool:
    r"""Return whether output does more than to append text with colours, links and titles.

    >>> [moves_cursor(data) for data in (b"one\r\n", b"\x1b[31mred\x1b[0m\n", b"\r50%", b"\x1b[2Aup")]
    [False, False, True, True]
    """
    if b"\x1b" in data and b"\x1b" in _HARMLESS_SEQUENCE.sub(b"", data):
        return True
    return _CURSOR_MOVEMENT.search(data) is not None


class LineGuard:
    """The state of one terminal that the program and the display thread share.

    Args:
        screen: The screen of the bars.
        wait_within_budget: Calls a function with a number of seconds that it may wait, and returns its result.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self, screen: Screen, wait_within_budget: Callable[[Callable[[float], bool]], bool], clock: Callable[[], float]
    ) -> None:
        self._screen = screen
        self._wait_within_budget = wait_within_budget
        self._clock = clock
        self._lock = threading.Lock()
        self._holder = 0  # id of the thread that holds the lock
        self._held_since: float | None = None  # as seen by the display thread
        self._hooks: dict[int, _BufferHooks] = {}
        self._stream_ids: tuple[int, ...] = ()
        self._redrawn_at = -OUTPUT_REDRAW_INTERVAL  # by output of the program

    def draw_frame(self, draw: Callable[[], bool]) -> bool:
        """Call the display thread's function while the program writes nothing. Return its result, or False."""
        lock = self._lock
        if not lock.acquire(timeout=FRAME_LOCK_TIMEOUT):
            now = self._clock()
            self._held_since = now if self._held_since is None else self._held_since
            if now > self._held_since + LOCK_LOST_SECONDS:
                self._lock, self._held_since = threading.Lock(), None
            return False
        self._held_since, self._holder = None, threading.get_ident()
        try:
            return draw()
        finally:
            self._holder = 0
            lock.release()

    def write(self, output: Callable[[], T], *, completes_line: bool) -> T:
        """Call a function that writes to the terminal, and return its result. The bars are cleared meanwhile.

        Args:
            output: Writes. Its exceptions are raised here.
            completes_line: Whether the output ends with a line break. If not, the bars are drawn below it later.
        """
        lock, me = self._lock, threading.get_ident()
        if self._holder == me or _has_tqdm_bars():
            return output()
        if not (
            lock.acquire(blocking=False) or self._wait_within_budget(lambda seconds: lock.acquire(timeout=seconds))
        ):
            return output()
        try:
            self._holder = me
            with contextlib.suppress(Exception):  # the next frame reports a broken stream
                self._screen.clear_lines()
            try:
                return output()
            finally:
                with contextlib.suppress(Exception):
                    # Many lines in a row find the bars cleared, and cost hardly more than without a guard.
                    now = self._clock()
                    may_redraw = now >= self._redrawn_at + OUTPUT_REDRAW_INTERVAL
                    if self._screen.end_output(completes_line=completes_line, may_redraw=may_redraw):
                        self._redrawn_at = now
        finally:
            self._holder = 0
            lock.release()

    def release_terminal(self) -> None:
        """Clear the bars until the next progress, because the program is about to read from the terminal."""
        self.write(self._screen.hold, completes_line=False)

    def watch_streams(self) -> None:
        """Put hooks on the standard streams that write to this terminal, if these have changed."""
        streams = [getattr(sys, name, None) for name in ("stdout", "stderr", "__stdout__", "__stderr__")]
        # A reference would keep a file open that the program has replaced: its last lines would not be written.
        stream_ids = tuple(map(id, streams))
        if stream_ids == self._stream_ids:
            return
        self._stream_ids = stream_ids
        for stream in streams:
            with contextlib.suppress(Exception):  # a stream that the program has closed or replaced
                buffer = _find_terminal_buffer(stream, self._screen)
                if buffer is not None and id(buffer) not in self._hooks:
                    self._hooks[id(buffer)] = _BufferHooks(buffer, self)

    def remove_hooks(self) -> None:
        """Restore the buffers. Hooks that the program has replaced or kept pass everything on."""
        hooks, self._hooks, self._stream_ids = self._hooks, {}, ()
        for hook in hooks.values():
            hook.remove()

    def covers(self, stream: Any) -> bool:
        """Return whether a stream writes to this terminal."""
        if stream is self._screen.stream:
            return True
        try:
            return _find_terminal_buffer(stream, self._screen) is not None
        except Exception:  # noqa: BLE001 - a stream of the program may raise anything
            return False

    def has_hooks_on(self, stream: Any) -> bool:
        """Return whether the output of a stream passes a hook of this guard."""
        return id(getattr(stream, "buffer", None)) in self._hooks


class _BufferHooks:
    """The hooks on the buffer of one stream."""

    def __init__(self, buffer: Any, guard: LineGuard) -> None:
        self._buffer = buffer
        self._guard: LineGuard | None = guard
        self._write, self._flush, self._fileno = buffer.write, buffer.flush, buffer.fileno
        self._is_direct = not hasattr(buffer, "raw")  # without a buffer, as by python -u
        self._unflushed = 0  # bytes
        self._moves_cursor = False
        self._completes_line = True
        self._reading_thread = 0  # that asked for the descriptor last, as input() does before it reads
        self._replaced = {name: vars(buffer)[name] for name in HOOK_NAMES if name in vars(buffer)}
        self._installed = {"write": self.write, "flush": self.flush, "fileno": self.fileno}
        vars(buffer).update(self._installed)

    def remove(self) -> None:
        self._guard = None
        attributes = vars(self._buffer)
        for name, hook in self._installed.items():
            if attributes.get(name) is hook:
                del attributes[name]
                if name in self._replaced:
                    attributes[name] = self._replaced[name]

    def write(self, data: Any, /) -> Any:
        self._reading_thread = 0
        if self._guard is None:
            return self._write(data)
        try:
            text = data if type(data) is bytes else memoryview(data).tobytes()
        except Exception:  # noqa: BLE001 - the buffer raises what it raises for such data
            return self._write(data)
        self._unflushed += len(text)
        if text:
            self._moves_cursor = self._moves_cursor or moves_cursor(text)
            self._completes_line = text.endswith(b"\n")
        if not self._is_direct and self._unflushed <= MAX_UNFLUSHED_BYTES:
            return self._write(data)
        return self._output(lambda: self._write(data))

    def flush(self) -> Any:
        reads, self._reading_thread = self._reading_thread == threading.get_ident(), 0
        if self._unflushed:
            return self._output(self._flush)
        if reads and self._guard is not None:
            self._guard.release_terminal()
        return self._flush()

    def fileno(self) -> Any:
        self._reading_thread = threading.get_ident()
        return self._fileno()

    def _output(self, output: Callable[[], T]) -> T:
        guard, is_plain, self._moves_cursor, self._unflushed = self._guard, self._moves_cursor, False, 0
        if guard is None or is_plain:
            return output()
        return guard.write(output, completes_line=self._completes_line)


def _has_tqdm_bars() -> bool:
    try:
        return find_first_free_row() > 0
    except Exception:  # noqa: BLE001 - the program changes tqdm's bars at this moment
        return True


def _find_terminal_buffer(stream: Any, screen: Screen) -> Any:
    """Return the buffer of a plain text stream on the terminal of ``screen``, or ``None``."""
    descriptor = find_direct_descriptor(stream)
    if descriptor is None or stream.closed or not os.isatty(descriptor) or not screen.is_on_terminal(descriptor):
        return None
    return stream.buffer
