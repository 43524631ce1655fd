r"""How far a program is, read from what it prints: percentages, ``45/120``, curl's table, ffmpeg's times.

Pure: bytes in, readings out. The bytes come in any pieces; a line may be drawn over (``\r``), coloured, or half there.

Two questions are kept apart. ``Parser`` says what one stream shows at the moment. ``ProgressFilter`` says what to
make of it:
a bar that is followed goes forwards; back it goes only for a new phase, when the last one was through, or when
readings insist.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker._models import Number

MAX_LINE_BYTES: Final = 4096  # bytes of one line that are looked at; the end counts
MAX_LINES_PER_CHUNK: Final = 16  # of one piece that are looked at: what a program prints by the megabyte is no progress
PHASE_END_FRACTION: Final = (
    0.99  # of a phase, after which a lower reading is a new one; many a tool stops just short of its end
)
REGRESSION_CONFIRMATIONS: Final = 5  # readings in a row that are lower before one is believed

# Colours and other escapes are nothing; those that move the cursor begin something new.
_CURSOR_MOVES = re.compile(rb"\x1b\[[0-9;]*[ABEFGHJdf]|\x1b[DEM]")
_ESCAPE_SEQUENCES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~]|\[?[0-?]*$)")
_CONTROL_BYTES = bytes([*range(9), *range(14, 32)])
_LINE_ENDS = re.compile(rb"[\r\n]+")

_TRACEBACK_FRAME = re.compile(r"\+-[+-]*|\|")

_NUMBER_PATTERN = r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?"
_PERCENT_PATTERN = re.compile(r"(?<![\w.,/%+-])(\d{1,3}(?:[.,]\d+)?) ?%(?![\w%])")
# After "45/120" something has to come, or a number that is only half there would be believed.
_TOTAL_PATTERN = re.compile(
    rf"(?<![\w.,/:+-])({_NUMBER_PATTERN}) ?(?:/| of ) ?({_NUMBER_PATTERN})(?= ?[\])}}>|\[(]| "
    rf"+([kKMGT]?i?B)?\b|[;,] | ?: |\n)"
)
_TQDM_PATTERN = re.compile(r"(?<![\w.,/:+-])(\d+)/(\d+) \[")  # tqdm's
_CURL_PATTERN = re.compile(
    r"^ *(\d{1,3}) +[\d.]+[kMGTP]? +\d{1,3} +[\d.]+[kMGTP]? +\d{1,3} +[\d.]+[kMGTP]? +[\d.]+[kMGTP]? +"
)
_FFMPEG_DURATION = re.compile(rb"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?),")
_RSYNC_CHECK = re.compile(r"\bto-che?c?k=(\d+)/(\d+)\)")
_FFMPEG_TIME = re.compile(r"\b(?:out_)?time=(\d+):(\d\d):(\d\d(?:\.\d+)?)(?=[^\d.])")


class Reading(NamedTuple):
    """What a program shows: ``completed`` of ``total`` units."""

    completed: Number
    total: Number
    unit: str = ""

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        return self.completed / self.total


class Parser:
    r"""Reads one stream.

    Example:
        >>> parser = Parser()
        >>> parser.feed(b"Receiving objects:  4")
        >>> parser.feed(b"5% (9/20)\r")
        Reading(completed=9, total=20, unit='')
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._media_seconds = 0.0  # seconds, of ffmpeg's longest input
        self._counts_files = False  # rsync's percentages are those of single files

    def feed(self, data: bytes) -> Reading | None:
        """Take in what came next, and return the newest reading in it, or in the line that it continues."""
        if b"Duration: " in data or b"Duration: " in self._buffer:
            for hours, minutes, seconds in _FFMPEG_DURATION.findall(self._buffer + data):
                self._media_seconds = max(self._media_seconds, _parse_clock(hours, minutes, seconds))
        *lines, self._buffer = _LINE_ENDS.split(_CURSOR_MOVES.sub(b"\n", self._buffer + data))
        self._buffer = self._buffer[-MAX_LINE_BYTES:]
        for line, whole in self._newest_lines(lines):
            text = _strip_escapes(line[-MAX_LINE_BYTES:])
            found = self._parse_line(text + "\n" if whole else text)
            if found is not None:
                return found
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
        of = _TOTAL_PATTERN.search(text) if check is None else None
        reading = _make_reading(of[1], of[2], of[3] or "") if of else None
        if done is None:
            curl = None if reading else _CURL_PATTERN.search(text)
            return _make_percent(float(curl[1])) if curl else reading
        # Beside a percentage a count is the same thing and says more, as git has it; or it is something else.
        return reading if reading is not None and abs(reading.fraction * 100 - done) <= 1 else _make_percent(done)


def _strip_escapes(line: bytes) -> str:
    return _ESCAPE_SEQUENCES.sub(b"", line).translate(None, _CONTROL_BYTES).decode("utf-8", "replace")


def _parse_clock(hours: str | bytes, minutes: str | bytes, seconds: str | bytes) -> float:
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _make_percent(done: float) -> Reading | None:
    return Reading(int(done) if done.is_integer() else done, 100, "%") if done <= 100 else None


def _make_reading(completed: str, total: str, unit: str = "") -> Reading | None:
    done, whole = (float(text.replace(",", "")) for text in (completed, total))
    if not 0 <= done <= whole or whole == 0 or whole > 1e15:
        return None
    return Reading(
        int(done) if done.is_integer() else done,
        int(whole) if whole.is_integer() else whole,
        unit,
    )


class ProgressFilter:
    """Follows readings as a person would who looks at the bar.

    Attributes:
        phase: Which run from beginning to end this is, from 1.
    """

    def __init__(self) -> None:
        self.phase = 1
        self._accepted: Reading | None = None
        self._previous: Reading | None = None
        self._rejected_count = 0

    def accept(self, reading: Reading) -> Reading | None:
        """Return the reading if the bar should show it, else ``None``."""
        if reading == self._previous:
            return None  # the same line once more, or whole now
        self._previous, now = reading, self._accepted
        if now is not None and not _is_continuation(now, reading):
            if now.fraction >= PHASE_END_FRACTION and reading.fraction >= PHASE_END_FRACTION:
                return None  # the summary of what was seen
            self._rejected_count += 1
            if now.fraction < PHASE_END_FRACTION and self._rejected_count < REGRESSION_CONFIRMATIONS:
                return None
            self.phase += 1
        self._rejected_count = 0
        self._accepted = reading
        return reading


def _is_continuation(accepted: Reading, reading: Reading) -> bool:
    if (reading.total, reading.unit) == (accepted.total, accepted.unit):
        return reading.completed >= accepted.completed
    if "%" in (reading.unit, accepted.unit):
        return reading.fraction >= accepted.fraction - 0.01  # the same in other words
    return False  # two bars, one inside the other: to follow both would be to follow neither


def find_last_line(tail: bytes) -> str:
    r"""Return the last line with anything on it, of the last bytes that a program wrote.

    >>> find_last_line(b"one\n\x1b[31mtwo\x1b[0m\r\n\n")
    'two'
    >>> find_last_line(b"    | ValueError: bad row\n    +------------------------------------\n")
    'ValueError: bad row'
    """
    for line in reversed(_LINE_ENDS.split(_CURSOR_MOVES.sub(b"\n", tail))):
        text = _strip_escapes(line).strip().removeprefix("| ")  # Python draws a frame round the exceptions of a group
        if text and not _TRACEBACK_FRAME.fullmatch(text):
            return text
    return ""
