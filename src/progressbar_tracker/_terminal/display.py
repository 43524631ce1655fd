"""The terminal bar: looks like tqdm's and is drawn only by the display thread.

A failure of the terminal never reaches the program. The program's thread adds a run. When the run has ended, it waits
for the last frame, because later output of the program must follow that frame. The wait is short (see ``_WaitBudget``)
and takes no lock. A stream that fails is disabled: one line is logged, and the loop continues without its bar.

tqdm only formats a line. Its bars, their lock and most of their environment variables are not used: the lock stays
locked after a failed write, and many invalid values raise. Rows of tqdm's own bars on the same terminal are left free.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from progressbar_tracker._fork import importing
from progressbar_tracker._log import WARNING, log
from progressbar_tracker._sender.worker import WakeEvent, Worker
from progressbar_tracker._text import truncate

from .screen import Screen
from .tqdm_rows import Row, find_first_free_row, register_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from progressbar_tracker._sender.snapshot import Snapshot, StaticFields

    class DisplayedRun(Protocol):
        """A run that has a terminal bar."""

        @property
        def started_at(self) -> float:
            """Seconds since the epoch."""

        @property
        def is_nested(self) -> bool:
            """Whether the run is inside another one; then its bar disappears at the end."""

        def sample(self) -> Snapshot:
            """Return the current state."""

        def get_static_fields(self) -> StaticFields:
            """Return the fields that never change."""

    class Bar(Protocol):
        """The display of one run, used by the display thread only. An exception removes the bar."""

        @property
        def stream(self) -> object:
            """The output stream; bars on one stream fail together."""

        def draw(self, snapshot: Snapshot) -> None:
            """Show the current state."""

        def end(self, snapshot: Snapshot) -> None:
            """Show the last state."""


FRAME_INTERVAL: Final = 0.1  # seconds
ERROR_WIDTH: Final = 40  # columns
REDRAW_INTERVAL: Final = 1.0  # seconds; updates the elapsed time of a bar without progress
MAX_WAIT_SECONDS: Final = 0.5  # of the program's thread for one last frame
FINALIZER_WAIT_SECONDS: Final = 0.1  # the same in a finalizer, whose thread may hold a lock that drawing needs
WAIT_FRACTION: Final = 0.05  # maximum share of elapsed time that is spent waiting
MAX_HIDDEN_SECONDS: Final = 1.0  # how long tqdm.write() may keep the bars cleared
MAX_COLUMNS: Final = 1000
MAX_CHARSET_LENGTH: Final = 20


class _WaitBudget:
    """Limits the waits of the program's threads to half a second, plus a twentieth of the time that passes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._remaining = MAX_WAIT_SECONDS
        self._updated_at = clock()

    def wait(self, signal: WakeEvent, max_seconds: float) -> bool:
        """Wait for a signal for at most ``max_seconds``. Return whether it was set."""
        started_at = self._clock()
        self._remaining = min(MAX_WAIT_SECONDS, self._remaining + (started_at - self._updated_at) * WAIT_FRACTION)
        timeout = min(self._remaining, max_seconds)
        is_set = signal.wait(timeout) if timeout > 0 else False
        self._updated_at = self._clock()
        self._remaining -= self._updated_at - started_at
        return is_set


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


def are_bars_disabled(environ: Mapping[str, str]) -> bool:
    """Return whether ``TQDM_DISABLE`` disables the bars that are drawn by default."""
    return environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false", "no", "off")


class _Terminal:
    """A stream with its bars."""

    def __init__(self, stream: object, settings: MeterSettings) -> None:
        self.stream = stream
        self.screen = Screen(stream)
        self.bars: list[_BarLine] = []
        self.settings = settings
        self.first_row = 0
        with contextlib.suppress(Exception):  # the program may change tqdm's bars at this moment
            self.first_row = find_first_free_row()

    def draw(self, *, hidden: bool) -> bool:
        """Draw all bars, or clear them; return whether the stream accepted the output."""
        _, rows = self.screen.size
        lines = [] if hidden else [bar.text for bar in self.bars]
        return self.screen.draw([*[""] * self.first_row, *lines][:rows] if lines else [])


class _BarLine:
    """One run as a line of text."""

    def __init__(self, terminal: _Terminal, run: DisplayedRun, clock: Callable[[], float]) -> None:
        with importing:
            from tqdm.std import EMA, tqdm
        self._format_meter: Callable[..., str] = tqdm.format_meter
        self._terminal = terminal
        self._clock = clock
        self._leave = not run.is_nested
        self._unit = run.get_static_fields().unit
        self._started_at = clock() - max(time.time() - run.started_at, 0.0)
        self._steps, self._seconds = EMA(0.3), EMA(0.3)
        self._progressed_at = self._started_at
        self._drawn_at = -REDRAW_INTERVAL
        self._last_snapshot: Snapshot | None = None
        self.text = ""
        terminal.bars.append(self)

    @property
    def stream(self) -> object:
        return self._terminal.stream

    def draw(self, snapshot: Snapshot) -> None:
        now = self._clock()
        previous = self._last_snapshot
        if snapshot == previous and now < self._drawn_at + REDRAW_INTERVAL:
            return
        step = snapshot.completed - (0 if previous is None else previous.completed)
        if step > 0:
            self._steps(step)
            self._seconds(now - self._progressed_at)
        if step:
            self._progressed_at = now
        self._last_snapshot, self._drawn_at = snapshot, now
        seconds = self._seconds()
        self.text = self._render_meter(snapshot, now, self._steps() / seconds if seconds > 0 else None)

    def end(self, snapshot: Snapshot) -> None:
        self._terminal.bars.remove(self)
        if self._leave:
            self._terminal.screen.add_final_line(self._render_meter(snapshot, self._clock(), None))

    def _render_meter(self, snapshot: Snapshot, now: float, rate: float | None) -> str:
        screen, settings = self._terminal.screen, self._terminal.settings
        columns, _ = screen.size
        total = snapshot.total
        if total is not None and not 0 <= snapshot.completed <= total:
            total = None  # avoids a warning of tqdm
        failed = snapshot.status == "failed"
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
            colour="red" if failed else None,
            postfix=truncate(snapshot.error or "failed", ERROR_WIDTH) if failed else None,
        )


class Display:
    """Draws runs on a stream from a thread of its own.

    Args:
        clock: Monotonic seconds.
        file: The stream; by default the value of ``sys.stderr`` at the start of a run.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, file: TextIO | None = None) -> None:
        self._clock = clock
        self._file = file
        self._worker = Worker("progressbar-display", self.draw_frame, self._has_pending)
        self._failed_stream: object = None  # the latest stream that failed
        self._is_error_logged = False
        self.reset()

    def reset(self) -> None:
        """Forget all runs in the child of a fork: the bars belong to the parent."""
        self._bars: dict[int, tuple[DisplayedRun, Bar]] = {}
        self._terminals: list[_Terminal] = []
        self._added: deque[tuple[DisplayedRun, object]] = deque()
        self._ended: deque[WakeEvent] = deque()
        self._active_keys: set[int] = set()  # id() of the runs that were added and have neither ended nor been dropped
        self._closing = False
        self._hidden_at: float | None = None  # when tqdm cleared the rows
        self._rows: list[Row] = []
        self._lock = threading.RLock()  # held by the display thread; the program's threads never acquire it
        self._drawing_thread = 0  # id of the thread that draws at the moment
        self._wait_budget = _WaitBudget(self._clock)
        self._worker.reset()

    def add(self, run: DisplayedRun, *, quiet: bool = False) -> None:
        """Show a run from now on. Log one line if no thread can be started, unless ``quiet``."""
        stream = self._current_stream()
        if stream is None or stream is self._failed_stream:
            return
        self._active_keys.add(id(run))
        self._added.append((run, stream))
        if self._worker.needs_start and not self._worker.start(quiet=quiet):
            self._added.clear()
            self._active_keys.clear()

    def finish(self, run: DisplayedRun) -> None:
        """Request the last frame of a run and wait for it within the budget."""
        self._finish(run, MAX_WAIT_SECONDS)

    def try_finish(self, run: DisplayedRun) -> None:
        """Like ``finish()``, but with a shorter wait for finalizers, which may run in any thread and under any lock."""
        self._finish(run, FINALIZER_WAIT_SECONDS)

    def close(self) -> None:
        """Request the last frames of all runs, wait for them within the budget, and stop."""
        if self._active_keys:
            self._closing = True
            self._finish(None, MAX_WAIT_SECONDS)
        self._worker.stop(FRAME_INTERVAL)

    def draw_frame(self) -> float | None:
        """Draw one frame of all bars; return the seconds until the next one, or ``None``."""
        with self._lock:
            self._drawing_thread = threading.get_ident()
            try:
                return self._draw_frame()
            finally:
                self._drawing_thread = 0

    def _current_stream(self) -> object:
        return getattr(sys, "stderr", None) if self._file is None else self._file

    def _finish(self, run: DisplayedRun | None, max_seconds: float) -> None:
        if run is not None:
            key = id(run)
            if key not in self._active_keys or (run.is_nested and key not in self._bars):
                return  # it was never drawn
        drawn = WakeEvent()
        self._ended.append(drawn)
        if self._worker.needs_start and not self._worker.start(quiet=True):
            return
        self._worker.wake()
        if self._drawing_thread != threading.get_ident():
            self._wait_budget.wait(drawn, max_seconds)

    def _has_pending(self) -> bool:
        return bool(self._added or self._ended)

    def _draw_frame(self) -> float | None:
        ended = [self._ended.popleft() for _ in range(len(self._ended))]  # their runs are in _added already
        error: BaseException | None = None
        try:
            error = self._open_added()
            error = self._update_bars() or error
            error = self._draw_terminals() or error
        finally:
            for drawn in ended:
                drawn.set()
        if error is not None:
            self._log_error(error)
        self._announce_rows()
        if self._bars:
            return FRAME_INTERVAL
        return REDRAW_INTERVAL if self._terminals else None  # last frames may wait for a stream

    def _open_added(self) -> BaseException | None:
        failure = None
        for _ in range(len(self._added)):
            run, stream = self._added.popleft()
            try:
                if (run.is_nested and run.sample().status != "running") or stream is self._failed_stream:
                    self._active_keys.discard(id(run))  # ended before its first frame
                else:
                    self._bars[id(run)] = run, self._open_bar(run, stream)
            except BaseException as error:  # noqa: BLE001 - a stream of the program may raise anything
                failure = error
                self._active_keys.discard(id(run))
                self._disable_stream(stream)
        return failure

    def _update_bars(self) -> BaseException | None:
        failure, closing, self._closing = None, self._closing, False
        for key, (run, bar) in list(self._bars.items()):
            try:
                snapshot = run.sample()
                has_ended = closing or snapshot.status != "running"
                if has_ended:
                    bar.end(snapshot)
                else:
                    bar.draw(snapshot)
            except BaseException as error:  # noqa: BLE001
                failure, has_ended = error, True
            if has_ended:
                self._remove_bar(key)
        return failure

    def _draw_terminals(self) -> BaseException | None:
        failure, hidden = None, self._is_hidden
        for terminal in list(self._terminals):
            try:
                if terminal.draw(hidden=hidden) and not terminal.bars:
                    self._terminals.remove(terminal)
            except BaseException as error:  # noqa: BLE001
                failure = error
                self._disable_stream(terminal.stream)
        return failure

    def _announce_rows(self) -> None:
        """Reserve the rows in tqdm's set, so that its bars and its ``write()`` leave them free."""
        positions = [
            (terminal.stream, terminal.first_row + number)
            for terminal in self._terminals
            for number in range(len(terminal.bars))
        ]
        if positions == [(row.fp, row.pos) for row in self._rows]:
            return
        with contextlib.suppress(Exception):  # the program may change tqdm's bars: retry with the next frame
            rows = [Row(stream, position, self._hide_bars, self._show_bars) for stream, position in positions]
            register_rows(rows)
            self._rows = rows

    @property
    def _is_hidden(self) -> bool:
        return self._hidden_at is not None and self._clock() < self._hidden_at + MAX_HIDDEN_SECONDS

    def _hide_bars(self) -> None:
        if not self._is_hidden:
            self._hidden_at = self._clock()
            self._finish(None, MAX_WAIT_SECONDS)

    def _show_bars(self) -> None:
        self._hidden_at = None
        self._worker.wake()

    def _open_bar(self, run: DisplayedRun, stream: object) -> Bar:
        for terminal in self._terminals:
            if terminal.stream is stream:
                break
        else:
            terminal = _Terminal(stream, read_meter_settings(os.environ))
            self._terminals.append(terminal)
        return _BarLine(terminal, run, self._clock)

    def _disable_stream(self, stream: object) -> None:
        self._failed_stream = stream
        self._terminals = [terminal for terminal in self._terminals if terminal.stream is not stream]
        for key, (_, bar) in list(self._bars.items()):
            if bar.stream is stream:
                self._remove_bar(key)

    def _remove_bar(self, key: int) -> None:
        self._bars.pop(key, None)
        self._active_keys.discard(key)

    def _log_error(self, error: BaseException) -> None:
        if self._is_error_logged:
            return
        self._is_error_logged = True
        with contextlib.suppress(BaseException):  # the program's log handlers may write to the same stream
            log(WARNING, "The terminal bar is disabled: %s: %s", type(error).__name__, error)
