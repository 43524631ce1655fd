r"""The last lines of a program's output, without control characters and with masked secrets.

Writers only append: reading the lines is the work of :meth:`OutputTail.read`, in the sender's thread, every few
seconds. A line is masked as a whole, after all of its chunks have arrived, so that no secret escapes at a chunk
boundary. A line that has not ended is not part of the tail yet.

A line shows what a terminal would show: after a carriage return the next text replaces it, and a cursor that moves up
replaces earlier lines. So a progress bar is one line, in its last state.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import itertools
import operator
import re
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from ._models import DEFAULT_TAIL_LINES, MAX_TAIL_BYTES, MAX_TAIL_LINES
from ._text import remove_hidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._masking import SecretMasker

MAX_LINE_LENGTH: Final = 2000
"""Characters of a line; a longer one is cut."""

MAX_READ_LENGTH: Final = 16 * 1024
"""Characters of a line that are read: much more than are shown, so that a secret that is cut here is not shown."""

MAX_PENDING_BYTES: Final = 256 * 1024
"""Output that waits for a reading; the oldest is dropped."""

SMALL_CHUNK_BYTES: Final = 4096
"""A waiting chunk below this grows by the next one: a program may write byte by byte."""

MAX_PENDING_LINES: Final = 1000

# Patterns stay strings until their first use, and the masks are imported then: most programs need none of them.
_ROW_BREAK: Final = r"\n|\r|\x1b\[([0-9]{0,3})A"
_ESCAPE_SEQUENCE: Final = (
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|[ -/]*[0-~]|\[?[0-?]*$)|\x9b[0-?]*[ -/]*[@-~]"
)


def clean_line(text: str) -> str:
    r"""Return a line without escape sequences and hidden characters; a backspace removes the character before it.

    >>> clean_line("\x1b[31mre\x1b[0md\x07"), clean_line("12\b3")
    ('red', '13')
    """
    if text.isprintable():
        return text
    text = re.sub(_ESCAPE_SEQUENCE, "", text)
    if "\b" in text:
        kept: list[str] = []
        for character in text:
            if character != "\b":
                kept.append(character)
            elif kept:
                kept.pop()
        text = "".join(kept)
    return remove_hidden(text, keep="\t")


def clean_tail(text: str, *, max_lines: int = MAX_TAIL_LINES) -> str:
    r"""Return the last lines of a whole text, as an :class:`OutputTail` would keep them.

    >>> clean_tail("10 %\r20 %\npassword=hunter2\n")
    '20 %\npassword=***'
    """
    tail = OutputTail(max_lines=max_lines)
    writer = tail.make_writer()
    data = text.encode("utf-8", "replace")
    for start in range(0, len(data), MAX_PENDING_BYTES):
        writer(data[start : start + MAX_PENDING_BYTES])
        tail.read()
    tail.finish()
    return tail.read()


class OutputTail:
    """The last lines of the streams of one run.

    Args:
        max_lines: Lines to keep, from 1 to 1000.
        make_masker: Returns a masker, for each stream its own; called at the first reading.
    """

    def __init__(
        self,
        *,
        max_lines: int = DEFAULT_TAIL_LINES,
        make_masker: Callable[[], SecretMasker] | None = None,
    ) -> None:
        if not 1 <= max_lines <= MAX_TAIL_LINES:
            raise ValueError(f"the number of lines must be from 1 to {MAX_TAIL_LINES}, not {max_lines}")
        self._make_masker = make_masker or _make_plain_masker
        self._lines: deque[str] = deque(maxlen=max_lines)
        self._max_lines = max_lines
        self._streams: list[_Stream] = []
        self._pending: deque[tuple[_Stream, bytearray | None]] = deque()
        self._pending_bytes = 0
        self._losses: dict[_Stream, bytes | bytearray] = {}  # before all that is pending
        self._pending_lines: deque[str] = deque(maxlen=MAX_PENDING_LINES)
        self._line_stream = _Stream(self._make_masker, max_lines=self._max_lines)  # of add_line()
        self._feed_lock = threading.Lock()  # each stream has its own thread
        self._text = ""
        self.version = 0
        """Grows when :meth:`read` returns another text than before."""

    def make_writer(self) -> Callable[[bytes], None]:
        """Return a function that takes the chunks of one more stream, from any thread."""
        stream = _Stream(self._make_masker, max_lines=self._max_lines)
        self._streams.append(stream)

        def write(data: bytes) -> None:
            with self._feed_lock:
                last = self._pending[-1] if self._pending else None
                if last is not None and last[0] is stream and last[1] is not None and len(last[1]) < SMALL_CHUNK_BYTES:
                    last[1].extend(data)
                else:
                    self._pending.append((stream, bytearray(data)))
                self._pending_bytes += len(data)
                while self._pending_bytes > MAX_PENDING_BYTES:
                    former, lost = self._pending.popleft()
                    if lost is not None:
                        self._pending_bytes -= len(lost)
                        # The last key that begins or ends decides whether the text after the loss is part of one.
                        self._losses[former] = lost if b"PRIVATE KEY" in lost else self._losses.get(former, b"")

        return write

    def add_line(self, text: str) -> None:
        """Add lines that are complete. It takes no lock, so that any thread and any signal handler may call it."""
        self._pending_lines.append(text[: 4 * MAX_READ_LENGTH])

    def finish(self) -> None:
        """End the last line of each stream."""
        for stream in self._streams:
            with self._feed_lock:
                self._pending.append((stream, None))

    def read(self) -> str:
        """Return the lines now. For one thread at a time."""
        has_changed = False
        with contextlib.suppress(IndexError):
            while True:
                lines = self._pending_lines.popleft().replace("\r\n", "\n").split("\n")
                for line in lines[-self._max_lines :]:
                    self._lines.append(self._mask(self._line_stream, line.rpartition("\r")[2]))
                has_changed = True
        with self._feed_lock:
            pending, self._pending, self._pending_bytes = self._pending, deque(), 0
            losses, self._losses = self._losses, {}
        for stream, lost in losses.items():
            stream.skip(lost)
        for stream, group in itertools.groupby(pending, key=operator.itemgetter(0)):
            has_changed = True
            chunks = [data for _, data in group]
            moves = stream.split(b"".join(filter(None, chunks)))
            for text, move in moves if None not in chunks else [*moves, *stream.split_end()]:
                self._draw(stream, text, move)
        if has_changed:
            text = self._render()
            if text != self._text:
                self._text = text
                self.version += 1
        return self._text

    def _mask(self, stream: _Stream, text: str) -> str:
        line = stream.masker.mask(clean_line(text[:MAX_READ_LENGTH]))
        return line if len(line) <= MAX_LINE_LENGTH else line[: MAX_LINE_LENGTH - 1] + "…"

    def _draw(self, stream: _Stream, text: str, move: int) -> None:
        """Show a text in the row of the cursor, then move it: 1 is the next row, 0 its start, -1 the row above."""
        if text:
            line = self._mask(stream, text)
            if not stream.rows_up:
                stream.open_line = line
            elif stream.rows_up <= len(self._lines):
                self._lines[-stream.rows_up] = line
        if move < 0:
            stream.rows_up = min(stream.rows_up - move, self._max_lines)
        elif move and stream.rows_up:
            stream.rows_up -= 1
        elif move:
            self._lines.append(stream.open_line)
            stream.open_line = ""

    def _render(self) -> str:
        rows = [*self._lines, *(stream.open_line for stream in self._streams if stream.open_line)][-self._max_lines :]
        size, kept = 0, list[str]()
        for row in reversed(rows):
            size += len(row.encode("utf-8", "replace")) + 1
            if size > MAX_TAIL_BYTES + 1:
                break
            kept.append(row)
        return "\n".join(reversed(kept)).rstrip("\n")


class _Stream:
    """One stream: the text since its last line break, and the row of its cursor.

    Attributes:
        rows_up: Rows of the cursor above the last one.
        open_line: The text of the last row, which a program may still replace.
    """

    def __init__(self, make_masker: Callable[[], SecretMasker], *, max_lines: int) -> None:
        self._make_masker = make_masker
        self._max_lines = max_lines
        self.open_line = ""
        self.rows_up = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""
        self._is_skipping = False  # until the next line break: the start of the line is lost

    @functools.cached_property
    def masker(self) -> SecretMasker:
        """Masks the lines of the stream."""
        return self._make_masker()

    def skip(self, lost: bytes | bytearray) -> None:
        """Note bytes that are dropped: the rest of their last line is dropped, too."""
        self._decoder.reset()
        self._partial, self._is_skipping = "", True
        if b"PRIVATE KEY" in lost:
            self.masker.skip(lost.decode("utf-8", "replace"))

    def split(self, data: bytes) -> list[tuple[str, int]]:
        """Return the texts that the next bytes end, each with the movement of the cursor."""
        text = self._partial + self._decoder.decode(data)
        parts = text.rsplit("\n", 2 * self._max_lines)
        if len(parts) > 2 * self._max_lines:  # a flood: only its end is kept, with the lines that a cursor may change
            self.masker.skip(parts[0])
            text = text[len(parts[0]) + 1 :]
            self._is_skipping = False
        found, position = list[tuple[str, int]](), 0
        for match in re.finditer(_ROW_BREAK, text):
            segment = text[position : match.start()]
            position = match.end()
            if self._is_skipping:
                segment, self._is_skipping = "", False
            move = 1 if match[0] == "\n" else 0 if match[0] == "\r" else -max(int(match[1] or 1), 1)
            if found and found[-1][1] == 0 and (segment or move == 0):
                if not segment:
                    continue
                found.pop()  # this text replaces it
            found.append((segment, move))
        self._partial = text[position:][:MAX_READ_LENGTH]
        return found

    def split_end(self) -> list[tuple[str, int]]:
        """Return the text of the last line, at the end of the stream."""
        text, self._partial = self._partial + self._decoder.decode(b"", final=True), ""
        is_lost, self._is_skipping = self._is_skipping, False
        return [("" if is_lost else text, 1)] if text or self.open_line else []


def _make_plain_masker() -> SecretMasker:
    from ._masking import SecretMasker

    return SecretMasker()
