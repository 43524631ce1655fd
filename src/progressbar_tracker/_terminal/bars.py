"""The bars on one terminal as lines of text, used by the display thread only.

tqdm only formats a line. Its bars, their lock and most of their environment variables are not used: the lock stays
locked after a failed write, and many invalid values raise.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._config import PRINT_GUARD_VARIABLE, is_turned_off
from progressbar_tracker._fork import importing
from progressbar_tracker._text import truncate

from .guard import LineGuard
from .pace import Pace
from .screen import Screen
from .taskbar import CLEAR_SEQUENCE, render_taskbar, supports_taskbar
from .tqdm_rows import find_first_free_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from progressbar_tracker._sender.snapshot import Snapshot

    from .budget import WaitBudget
    from .display import DisplayedRun

METER_FORMAT: Final = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{seconds_left}, {rate_fmt}{postfix}]"
"""tqdm's own format with an estimate of the time left. tqdm divides the rest by the current speed."""

ERROR_WIDTH: Final = 40  # columns
REDRAW_INTERVAL: Final = 1.0  # seconds; updates the elapsed time of a bar without progress
MAX_GUARD_WAIT_SECONDS: Final = 0.05  # of one print() for a frame in progress
MAX_COLUMNS: Final = 1000
MAX_CHARSET_LENGTH: Final = 20


class MeterSettings(NamedTuple):
    """The settings that are read from tqdm's environment variables."""

    ascii: bool | str | None = None
    columns: int | None = None


def read_meter_settings(environ: Mapping[str, str]) -> MeterSettings:
    """Return the settings in ``TQDM_ASCII`` and ``TQDM_NCOLS``. Invalid values are ignored.

    >>> read_meter_settings({"TQDM_ASCII": " .oO", "TQDM_NCOLS": "x"}), read_meter_settings({"TQDM_ASCII": "1"})
    (MeterSettings(ascii=' .oO', columns=None), MeterSettings(ascii=True, columns=None))
    """
    text, columns = environ.get("TQDM_ASCII", ""), environ.get("TQDM_NCOLS", "")
    charset: bool | str | None = None
    if text.lower() in ("1", "true", "yes", "on"):
        charset = True
    elif text.lower() not in ("", "0", "false", "no", "off") and 2 <= len(text) <= MAX_CHARSET_LENGTH:
        charset = text if text.isprintable() else None
    is_valid = columns.isascii() and columns.isdecimal() and len(columns) < 5 and 0 < int(columns) <= MAX_COLUMNS
    return MeterSettings(charset, int(columns) if is_valid else None)


class Terminal:
    """A stream with its bars."""

    def __init__(
        self, stream: object, environ: Mapping[str, str], guard_budget: WaitBudget, clock: Callable[[], float]
    ) -> None:
        self.stream = stream
        self.screen = Screen(stream)
        self.guard = LineGuard(self.screen, lambda wait: guard_budget.wait(wait, MAX_GUARD_WAIT_SECONDS), clock)
        self.bars: list[BarLine] = []
        self.settings = read_meter_settings(environ)
        self.first_row = 0
        self.is_drawn = False
        self.has_progress = False  # since the latest frame
        self.has_ended = False  # a bar, since the latest frame
        self._has_hooks = not is_turned_off(environ, PRINT_GUARD_VARIABLE)
        self._has_taskbar = self.screen.is_terminal and supports_taskbar(environ)
        self._taskbar = ""  # the sequence for the outermost bar
        self._shown_taskbar = ""
        with contextlib.suppress(Exception):  # the program may change tqdm's bars at this moment
            self.first_row = find_first_free_row()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to draw, now or at exit: a failure stays in the taskbar until then."""
        return self.is_drawn and not self.bars and self._taskbar == ""

    def draw(self, *, hidden: bool) -> None:
        """Draw all bars, or clear them. ``is_drawn`` shows whether the stream accepted the output."""
        if self._has_hooks and self.bars:
            self.guard.watch_streams()
        self.is_drawn = self.guard.draw_frame(lambda: self._draw(hidden=hidden))
        if not self.bars:
            self.guard.remove_hooks()

    def _draw(self, *, hidden: bool) -> bool:
        has_progress, self.has_progress = self.has_progress, False
        has_ended, self.has_ended = self.has_ended, False
        self.screen.begin_frame(has_progress=has_progress, has_ended=has_ended)
        is_idle = not has_progress and not has_ended
        if is_idle and self.bars and self.screen.has_lines and not hidden and self.screen.is_in_use:
            return True  # an editor or a password prompt: the elapsed time is not updated
        _, rows = self.screen.size
        lines = [] if hidden else [bar.text for bar in self.bars]
        sequence = "" if self._taskbar == self._shown_taskbar else self._taskbar or CLEAR_SEQUENCE
        is_drawn = self.screen.draw([*[""] * self.first_row, *lines][:rows] if lines else [], sequence=sequence)
        if is_drawn:
            self._shown_taskbar = self._taskbar
        return is_drawn

    def update_taskbar(self, bar: BarLine, snapshot: Snapshot) -> None:
        """Show a run in the taskbar if it is the outermost one. A failed run stays until the next one, or the exit."""
        if not self._has_taskbar or next((other for other in self.bars if not other.is_nested), bar) is not bar:
            return
        if not bar.is_nested:
            self._taskbar = "" if snapshot.status in ("succeeded", "stopped") else render_taskbar(snapshot)

    def clear_taskbar(self) -> None:
        """Remove the progress from the taskbar with the next frame."""
        self._taskbar = ""


class BarLine:
    """One run as a line of text."""

    def __init__(self, terminal: Terminal, run: DisplayedRun, clock: Callable[[], float]) -> None:
        with importing:
            from tqdm.std import tqdm
        self._format_meter: Callable[..., str] = tqdm.format_meter
        self._format_interval: Callable[[float], str] = tqdm.format_interval
        self._terminal = terminal
        self._clock = clock
        self.is_nested = run.is_nested
        self._unit = run.get_static_fields().unit
        self._started_at = run.started_at
        self._pace = Pace(self._started_at)
        self._drawn_at = -REDRAW_INTERVAL
        self._last_snapshot: Snapshot | None = None
        self.text = ""
        terminal.bars.append(self)

    @property
    def stream(self) -> object:
        return self._terminal.stream

    def draw(self, snapshot: Snapshot) -> None:
        now = self._clock()
        self._pace.update(snapshot.completed, now)
        if snapshot == self._last_snapshot and now < self._drawn_at + REDRAW_INTERVAL:
            return
        self._terminal.has_progress = self._terminal.has_progress or snapshot != self._last_snapshot
        self._last_snapshot, self._drawn_at = snapshot, now
        self._terminal.update_taskbar(self, snapshot)
        self.text = self._render_meter(snapshot, now)

    def end(self, snapshot: Snapshot) -> None:
        self._terminal.update_taskbar(self, snapshot)
        self._terminal.bars.remove(self)
        self._terminal.has_ended = True
        if not self.is_nested:
            self._terminal.screen.add_final_line(self._render_meter(snapshot, self._clock(), is_final=True))

    def _render_meter(self, snapshot: Snapshot, now: float, *, is_final: bool = False) -> str:
        screen, settings = self._terminal.screen, self._terminal.settings
        columns, _ = screen.size
        total = snapshot.total
        if total is not None and not 0 <= snapshot.completed <= total:
            total = None  # avoids a warning of tqdm
        failed = snapshot.status == "failed"
        # A final line shows the speed of the whole run.
        rate = None if is_final else self._pace.get_rate(now)
        seconds_left = None if rate is None else self._pace.estimate_seconds_left(total, now)
        return self._format_meter(
            n=snapshot.completed,
            total=total,
            elapsed=max(now - self._started_at, 0.0),
            ncols=settings.columns or columns,
            prefix=f"{snapshot.title}: {snapshot.description}" if snapshot.description else snapshot.title,
            ascii=not screen.supports_unicode if settings.ascii is None else settings.ascii,
            unit=self._unit,
            unit_scale=self._unit == "B",
            unit_divisor=1024,
            rate=rate,
            bar_format=None if seconds_left is None else METER_FORMAT,
            seconds_left="" if seconds_left is None else self._format_interval(seconds_left),
            colour="red" if failed else None,
            postfix=truncate(snapshot.error or "failed", ERROR_WIDTH) if failed else None,
        )
