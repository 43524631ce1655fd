"""Bounds the time that the output of a program is read for progress, so that a flood of output does not wait for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_FACTOR: Final = 4.0
"""Pause after reading, in multiples of the time that it took: reading takes a fifth of the time at most."""

MAX_BACKLOG_BYTES: Final = 8192
"""Bytes that are kept during a pause: the last lines."""

_LINE_BREAK: Final = re.compile(rb"[\r\n]")


class FloodFilter:
    """Selects the chunks that are read; of the others, it keeps the last lines for the next reading.

    Args:
        clock: Returns the time in seconds; it never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._backlog = b""
        self._resumes_at = 0.0

    def read(self, data: bytes, read: Callable[[bytes], None]) -> None:
        """Pass a chunk to ``read`` with the backlog, or keep it during a pause."""
        started_at = self._clock()
        self._backlog += data
        if started_at < self._resumes_at:
            if len(self._backlog) > MAX_BACKLOG_BYTES:
                self._cut()
            return
        read(self.take_backlog())
        ended_at = self._clock()
        self._resumes_at = ended_at + PAUSE_FACTOR * (ended_at - started_at)

    def take_backlog(self) -> bytes:
        """Return the bytes that are not read yet."""
        backlog, self._backlog = self._backlog, b""
        return backlog

    def _cut(self) -> None:
        tail = self._backlog[-MAX_BACKLOG_BYTES:]
        start = _LINE_BREAK.search(tail)
        # The line that the reader has begun ends here; the rest of it is lost.
        self._backlog = b"\n" + tail[start.end() :] if start is not None else b"\n"
