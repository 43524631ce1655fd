r"""Splits the output of a program into frames: the states of a line, as a terminal shows them.

Pure: bytes in, frames out, and the same frames for chunks of any size. A frame ends when the program starts the next
line (``\n``), redraws the line (``\r``, backspaces, cursor movements) or extends a chain such as ``10...20...``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE_BYTES: Final = 4096
"""Bytes at the end of a line that are kept."""

MAX_FRAME_LENGTH: Final = 512
"""Characters at the end of a frame that are read: a line of a wide terminal. It bounds the time for patterns."""

MAX_CHAIN_LENGTH: Final = 256
"""Characters of a line in which each part of a chain is a frame."""

FLOOD_BYTES: Final = 1 << 15
"""Bytes of a chunk from which the program writes data, not progress."""

MAX_FLOOD_FRAMES: Final = 32
"""Frames that are read at the end of such a chunk; the others must not delay the program."""

_FRAME_SEPARATORS: Final = re.compile(
    rb"\r*\n|\r+|\x08+|\x1b\[[0-9;]{0,12}[ABDEFGHJdf]|\x1b[DEM]|(?<=[0-9%])\.\.\.(?!\.)"
)
_CURSOR_LEFT: Final = re.compile(rb"\x1b\[([0-9]{0,3})D")
_CURSOR_RIGHT: Final = re.compile(rb"\x1b\[[0-9]*C")
_ESCAPE_SEQUENCES: Final = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~]|\[?[0-?]*$)"
)
_CONTROL_BYTES: Final = bytes([*range(9), *range(10, 32), 127])
_TRACEBACK_FRAME: Final = re.compile(r"\+-[+-]*|\|")


class Frame(NamedTuple):
    """A state of a line.

    Attributes:
        text: The text, without escape sequences.
        is_redrawn: The program replaces or extends it, instead of starting the next line.
    """

    text: str
    is_redrawn: bool


class FrameReader:
    r"""Reads the frames of one stream.

    Example:
        >>> reader = FrameReader()
        >>> [frame.text for frame in reader.feed(b"inodes: 1/8\b\b\b2/")]
        ['inodes: 1/8']
        >>> [frame.text for frame in reader.feed(b"8\n")]
        ['inodes: 2/8']
    """

    def __init__(self) -> None:
        self._start = ""  # of the line, in front of the pending bytes
        self._pending = b""  # since the last separator

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that the next chunk completes. Of a flood, return the last ones."""
        if len(data) < FLOOD_BYTES:
            return list(self._split(data))
        # The start of the last line that the reader needs, with some more for empty lines.
        end = len(data)
        for _ in range(MAX_FLOOD_FRAMES):
            end = max(data.rfind(b"\n", 0, end), data.rfind(b"\r", 0, end), 0)
        start = max(end, len(data) - MAX_LINE_BYTES * MAX_FLOOD_FRAMES // 4)
        return [*self._split(data[:1024]), *self._split(b"\n" + data[max(start, 1024) :])][-MAX_FLOOD_FRAMES:]

    def finish(self) -> list[Frame]:
        """Return the last frame, at the end of the stream."""
        return list(self._split(b"\n"))

    @property
    def visible_text(self) -> str:
        """The text of a line that has not ended yet; empty without new text."""
        return (self._start + _clean(self._pending))[-MAX_FRAME_LENGTH:] if self._pending else ""

    def _split(self, data: bytes) -> Iterator[Frame]:
        data = self._pending + data
        position = 0
        for match in _FRAME_SEPARATORS.finditer(data):
            separator = match[0]
            if match.end() == len(data) and separator[-1:] in b"\r.":
                break  # the next byte decides its meaning
            segment = data[position : match.start()]
            position = match.end()
            text = self._start
            if segment:
                text = (text + _clean(segment[-MAX_LINE_BYTES:]))[-MAX_FRAME_LENGTH:]
                if separator != b"..." or len(text) <= MAX_CHAIN_LENGTH:
                    yield Frame(text, separator[-1:] != b"\n")
            self._start = _keep_start(text, separator)
        self._pending = data[position:][-MAX_LINE_BYTES:]


def _keep_start(text: str, separator: bytes) -> str:
    """Return the part of a line that stays in front of the cursor."""
    if separator[0] == 8:
        return text[: -len(separator)]
    if separator == b"...":
        return text + "..."
    if left := _CURSOR_LEFT.fullmatch(separator):
        return text[: -max(int(left[1] or 1), 1)]
    return ""


def _clean(data: bytes) -> str:
    if b"\x1b" in data:
        data = _ESCAPE_SEQUENCES.sub(b"", _CURSOR_RIGHT.sub(b" ", data))
    return data.translate(None, _CONTROL_BYTES).decode("utf-8", "replace")


def find_last_line(text: str) -> str:
    r"""Return the last line with text of the output of a program, without control characters.

    >>> find_last_line("one\n two\n\n")
    'two'
    >>> find_last_line("    | ValueError: bad row\n    +------------------------------------")
    'ValueError: bad row'
    """
    for line in reversed(text.split("\n")):
        found = line.strip().removeprefix("| ")  # Python frames the exceptions of a group
        if found and not _TRACEBACK_FRAME.fullmatch(found):
            return found
    return ""
