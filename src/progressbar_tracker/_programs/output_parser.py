r"""Parses progress from the output of a program: percentages, ``45/120``, curl's table, ffmpeg's times.

Pure: bytes in, readings out. The bytes arrive in chunks of any size. A line may be overwritten (``\r``), coloured or
incomplete.

``Parser`` returns the progress that one stream shows. ``ProgressFilter`` decides whether the bar follows: it moves
forwards, and backwards only for a new phase, after the last phase was complete or after repeated lower readings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker._models import Number

MAX_LINE_BYTES: Final = 4096  # parsed at the end of a line
MAX_LINES_PER_CHUNK: Final = 16  # parsed; output of megabytes is not progress
PHASE_END_FRACTION: Final = 0.99  # a lower reading after it starts a new phase; many tools stop just before 100 %
REGRESSION_CONFIRMATIONS: Final = 5  # consecutive lower readings before one is accepted

# Cursor movements count as line ends. Colours and other escape sequences are removed.
_CURSOR_MOVES = re.compile(rb"\x1b\[[0-9;]*[ABEFGHJdf]|\x1b[DEM]")
_ESCAPE_SEQUENCES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~]|\[?[0-?]*$)")
_CONTROL_BYTES = bytes([*range(9), *range(14, 32)])
_LINE_ENDS = re.compile(rb"[\r\n]+")

_TRACEBACK_FRAME = re.compile(r"\+-[+-]*|\|")

_NUMBER_PATTERN = r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?"
_PERCENT_PATTERN = re.compile(r"(?<![\w.,/%+-])(\d{1,3}(?:[.,]\d+)?) ?%(?![\w%])")
# A terminator must follow "45/120", or an incomplete number would match.
_TOTAL_PATTERN = re.compile(
    rf"(?<![\w.,/:+-])({_NUMBER_PATTERN}) ?(?:/| of ) ?({_NUMBER_PATTERN})(?= ?[\])}}>|\[(]| "
    rf"+([kKMGT]?i?B)?\b|[;,] | ?: |\n)"
)
_TQDM_PATTERN = re.compile(r"(?<![\w.,/:+-])(\d+)/(\d+) \[")
_CURL_PATTERN = re.compile(
    r"^ *(\d{1,3}) +[\d.]+[kMGTP]? +\d{1,3} +[\d.]+[kMGTP]? +\d{1,3} +[\d.]+[kMGTP]? +[\d.]+[kMGTP]? +"
)
_FFMPEG_DURATION = re.compile(rb"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?),")
_RSYNC_CHECK = re.compile(r"\bto-che?c?k=(\d+)/(\d+)\)")
_FFMPEG_TIME = re.compile(r"\b(?:out_)?time=(\d+):(\d\d):(\d\d(?:\.\d+)?)(?=[^\d.])")


class Reading(NamedTuple):
    """Progress that a program shows: ``completed`` of ``total`` units."""

    completed: Number
    total: Number
    unit: str = ""

    @property
    def fraction(self) -> float:
        """Completed share, 0 to 1."""
        return self.completed / self.total


class Parser:
    r"""Parses one stream.

    Example:
        >>> parser = Parser()
        >>> parser.feed(b"Receiving objects:  4")
        >>> parser.feed(b"5% (9/20)\r")
        Reading(completed=9, total=20, unit='')
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._media_seconds = 0.0  # duration of ffmpeg's longest input
        self._counts_files = False  # for rsync, whose percentages are of single files

    def feed(self, data: bytes) -> Reading | None:
        """Parse the next chunk. Return the newest reading, or ``None`` if there is none."""
        if b"Duration: " in data or b"Duration: " in self._buffer:
            for hours, minutes, seconds in _FFMPEG_DURATION.findall(self._buffer + data):
                self._media_seconds = max(self._media_seconds, _parse_clock(hours, minutes, seconds))
        *lines, self._buffer = _LINE_ENDS.split(_CURSOR_MOVES.sub(b"\n", self._buffer + data))
        self._buffer = self._buffer[-MAX_LINE_BYTES:]
        for line, is_complete in self._newest_lines(lines):
            text = _strip_escapes(line[-MAX_LINE_BYTES:])
            reading = self._parse_line(text + "\n" if is_complete else text)
            if reading is not None:
                return reading
        return None

    def _newest_lines(self, lines: list[bytes]) -> Iterator[tuple[bytes, bool]]:
        yield self._buffer, False
        for line in reversed(lines[-MAX_LINES_PER_CHUNK:]):
            yield line, True

    def _parse_line(self, text: str) -> Reading | None:
        if count := _TQDM_PATTERN.search(text):
            return _make_reading(count[1], count[2])
        if self._media_seconds:
            time = _FFMPEG_TIME.search(text)
            return (
                Reading(min(_parse_clock(*time.groups()), self._media_seconds), self._media_seconds, "s")
                if time
                else None
            )
        percent, check = _PERCENT_PATTERN.search(text), _RSYNC_CHECK.search(text)
        done = float(percent[1].replace(",", ".")) if percent else None
        if check:
            self._counts_files = self._counts_files or (done == 100 and check[1] != "0")
        if self._counts_files:
            return _make_reading(str(int(check[2]) - int(check[1])), check[2], "files") if check else None
        counts = _TOTAL_PATTERN.search(text) if check is None else None
        reading = _make_reading(counts[1], counts[2], counts[3] or "") if counts else None
        if done is None:
            curl = None if reading else _CURL_PATTERN.search(text)
            return _make_percent(float(curl[1])) if curl else reading
        # git prints both: a count that agrees with the percentage is more exact. Any other count is unrelated.
        return reading if reading is not None and abs(reading.fraction * 100 - done) <= 1 else _make_percent(done)


def _strip_escapes(line: bytes) -> str:
    return _ESCAPE_SEQUENCES.sub(b"", line).translate(None, _CONTROL_BYTES).decode("utf-8", "replace")


def _parse_clock(hours: str | bytes, minutes: str | bytes, seconds: str | bytes) -> float:
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _make_percent(done: float) -> Reading | None:
    return Reading(int(done) if done.is_integer() else done, 100, "%") if done <= 100 else None


def _make_reading(completed: str, total: str, unit: str = "") -> Reading | None:
    done, size = (float(text.replace(",", "")) for text in (completed, total))
    if not 0 <= done <= size or size == 0 or size > 1e15:
        return None
    return Reading(
        int(done) if done.is_integer() else done,
        int(size) if size.is_integer() else size,
        unit,
    )


class ProgressFilter:
    """Selects the readings that the bar shows.

    Attributes:
        phase: Number of the pass from 0 to 100 %, from 1.
    """

    def __init__(self) -> None:
        self.phase = 1
        self._accepted: Reading | None = None
        self._previous: Reading | None = None
        self._rejected_count = 0

    def accept(self, reading: Reading) -> Reading | None:
        """Return the reading for the bar to show, or ``None`` to ignore it."""
        if reading == self._previous:
            return None  # a repeated line, or the complete form of the last one
        self._previous, accepted = reading, self._accepted
        if accepted is not None and not _is_continuation(accepted, reading):
            if accepted.fraction >= PHASE_END_FRACTION and reading.fraction >= PHASE_END_FRACTION:
                return None  # a summary at the end
            self._rejected_count += 1
            if accepted.fraction < PHASE_END_FRACTION and self._rejected_count < REGRESSION_CONFIRMATIONS:
                return None
            self.phase += 1
        self._rejected_count = 0
        self._accepted = reading
        return reading


def _is_continuation(accepted: Reading, reading: Reading) -> bool:
    if (reading.total, reading.unit) == (accepted.total, accepted.unit):
        return reading.completed >= accepted.completed
    if "%" in (reading.unit, accepted.unit):
        return reading.fraction >= accepted.fraction - 0.01  # the same progress in another unit
    return False  # nested bars: the bar cannot follow both


def find_last_line(tail: bytes) -> str:
    r"""Return the last line with text in the last bytes that a program wrote.

    >>> find_last_line(b"one\n\x1b[31mtwo\x1b[0m\r\n\n")
    'two'
    >>> find_last_line(b"    | ValueError: bad row\n    +------------------------------------\n")
    'ValueError: bad row'
    """
    for line in reversed(_LINE_ENDS.split(_CURSOR_MOVES.sub(b"\n", tail))):
        text = _strip_escapes(line).strip().removeprefix("| ")  # Python frames the exceptions of a group
        if text and not _TRACEBACK_FRAME.fullmatch(text):
            return text
    return ""
