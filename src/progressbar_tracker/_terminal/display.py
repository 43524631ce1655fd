"""The terminal bar: tqdm's look, drawn by a thread of ours and by no other.

Nothing that happens to the terminal reaches the program. The loop's thread hands a run in and, when it has ended, waits
for the last frame, for what the program prints next must come after it. It waits for a moment only (see
``_WaitBudget``),
and it takes no lock. A stream that fails is given up: one line is logged, and the loop goes on without its bar.

tqdm only formats a line. Its bars, their lock and their settings in the environment stay out of this: that lock is not
released when a write fails, and many a setting raises. Bars of tqdm's on the same terminal are kept clear of.
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
from .tqdm_rows import Row, count_taken_rows, register_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from progressbar_tracker._sender.snapshot import Snapshot, StaticFields

    class DisplayedRun(Protocol):
        """A run that has a terminal bar."""

        @property
        def started_at(self) -> float:
            """When it began, in seconds since the epoch."""

        @property
        def is_nested(self) -> bool:
            """Whether it runs inside another one; its bar vanishes at the end."""

        def sample(self) -> Snapshot:
            """Return the state now."""

        def get_static_fields(self) -> StaticFields:
            """Return what does not change."""

    class Bar(Protocol):
        """What shows one run. Used by the display's thread only; what it raises ends the bar."""

        @property
        def stream(self) -> object:
            """Where it is drawn; bars on one stream fail together."""

        def draw(self, snapshot: Snapshot) -> None:
            """Take in the state now."""

        def end(self, snapshot: Snapshot) -> None:
            """Take in the last state."""


FRAME_INTERVAL: Final = 0.1  # seconds
ERROR_WIDTH: Final = 40  # columns
REDRAW_INTERVAL: Final = 1.0  # seconds after which a bar that stands still is drawn again, for its clock goes on
MAX_WAIT_SECONDS: Final = 0.5  # that the program's threads wait for a last frame at once
FINALIZER_WAIT_SECONDS: Final = 0.1  # the same in a finalizer, whose thread may hold what drawing needs
WAIT_FRACTION: Final = 0.05  # of the time that passes, at most, is spent waiting
MAX_HIDDEN_SECONDS: Final = 1.0  # that the bars stay cleared for tqdm.write()
MAX_COLUMNS: Final = 1000
MAX_CHARSET_LENGTH: Final = 20


class _WaitBudget:
    """How long the program's threads may still wait: half a second, and a twentieth of the time that passes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._remaining = MAX_WAIT_SECONDS
        self._updated_at = clock()

    def wait(self, signal: WakeEvent, max_seconds: float) -> bool:
        """Wait for a signal, ``max_seconds`` seconds at most. Return whether it was set."""
        begun = self._clock()
        self._remaining = min(MAX_WAIT_SECONDS, self._remaining + (begun - self._updated_at) * WAIT_FRACTION)
        timeout = min(self._remaining, max_seconds)
        done = signal.wait(timeout) if timeout > 0 else False
        self._updated_at = self._clock()
        self._remaining -= self._updated_at - begun
        return done


class MeterSettings(NamedTuple):
    """What of tqdm's environment variables is followed."""

    ascii: bool | str | None = None
    columns: int | None = None


def read_meter_settings(environ: Mapping[str, str]) -> MeterSettings:
    """Return the settings in ``TQDM_ASCII`` and ``TQDM_NCOLS``. A value that makes no sense is ignored.

    >>> read_meter_settings({"TQDM_ASCII": " .oO", "TQDM_NCOLS": "x"}), read_meter_settings({"TQDM_ASCII": "1"})
    (MeterSettings(ascii=' .oO', columns=None), MeterSettings(ascii=True, columns=None))
    """
    text, columns = environ.get("TQDM_ASCII", ""), environ.get("TQDM_NCOLS", "")
    charset: bool | str | None = None
    if text.lower() in ("1", "true", "yes", "on"):
        charset = True
    elif text.lower() not in ("", "0", "false", "no", "off") and 2 <= len(text) <= MAX_CHARSET_LENGTH:
        charset = text if text.isprintable() else None
    wide = columns.isascii() and columns.isdecimal() and len(columns) < 5 and 0 < int(columns) <= MAX_COLUMNS
    return MeterSettings(charset, int(columns) if wide else None)


def are_bars_disabled(environ: Mapping[str, str]) -> bool:
    """Say whether ``TQDM_DISABLE`` turns the bars off that are drawn by default."""
    return environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false", "no", "off")


class _Terminal:
    """A stream with the bars that are drawn on it."""

    def __init__(self, stream: object, settings: MeterSettings) -> None:
        self.stream = stream
        self.screen = Screen(stream)
        self.bars: list[_BarLine] = []
        self.settings = settings
        self.first_row = 0
        with contextlib.suppress(Exception):  # the program may be at its bars
            self.first_row = count_taken_rows()

    def draw(self, *, hidden: bool) -> bool:
        """Draw all bars, or clear them; return whether the stream took it."""
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
        before = self._last_snapshot
        if snapshot == before and now < self._drawn_at + REDRAW_INTERVAL:
            return
        step = snapshot.completed - (0 if before is None else before.completed)
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
            total = None  # tqdm warns of it
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


class _DisplayedBar(NamedTuple):
    """A run and its bar."""

    run: DisplayedRun
    bar: Bar


class Display:
    """Draws the runs that are given to it.

    Args:
        clock: Monotonic seconds.
        file: Where to draw; by default what ``sys.stderr`` is when a run begins.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, file: TextIO | None = None) -> None:
        self._clock = clock
        self._file = file
        self._worker = Worker("progressbar-display", self.draw_frame, self._has_pending)
        self._failed_stream: object = None  # the latest stream that failed
        self._is_error_logged = False
        self.reset()

    def reset(self) -> None:
        """Start empty in the child of a fork: the bars on the terminal are the parent's."""
        self._bars: dict[int, _DisplayedBar] = {}
        self._terminals: list[_Terminal] = []
        self._added: deque[tuple[DisplayedRun, object]] = deque()
        self._ended: deque[WakeEvent] = deque()
        self._active_keys: set[int] = set()  # what was added, and neither dropped nor ended
        self._closing = False
        self._hidden_at: float | None = None  # when tqdm asked for the rows to be cleared
        self._rows: list[Row] = []
        self._lock = threading.RLock()  # for the thread that draws; no thread of the program's takes it
        self._drawing_thread = 0  # the thread that does
        self._wait_budget = _WaitBudget(self._clock)
        self._worker.reset()

    def add(self, run: DisplayedRun, *, quiet: bool = False) -> None:
        """Show a run from now on. Where no thread can be started for it, one line is logged, unless ``quiet``."""
        stream = self._current_stream()
        if stream is None or stream is self._failed_stream:
            return
        self._active_keys.add(id(run))
        self._added.append((run, stream))
        if self._worker.needs_start and not self._worker.start(quiet=quiet):
            self._added.clear()
            self._active_keys.clear()

    def finish(self, run: DisplayedRun) -> None:
        """Have the last frame of a run drawn, and wait a moment for it."""
        self._finish(run, MAX_WAIT_SECONDS)

    def try_finish(self, run: DisplayedRun) -> None:
        """Do the same in a finalizer, which may run in any thread and under any lock."""
        self._finish(run, FINALIZER_WAIT_SECONDS)

    def close(self) -> None:
        """Have the last frames of all drawn, wait a moment for them, and stop."""
        if self._active_keys:
            self._closing = True
            self._finish(None, MAX_WAIT_SECONDS)
        self._worker.stop(FRAME_INTERVAL)

    def draw_frame(self) -> float | None:
        """Draw one frame of all."""
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
                return  # it was never seen
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
        ended = [self._ended.popleft() for _ in range(len(self._ended))]  # the runs of these were added before
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
        return REDRAW_INTERVAL if self._terminals else None  # a last frame waits for its stream

    def _open_added(self) -> BaseException | None:
        failure = None
        for _ in range(len(self._added)):
            shown, stream = self._added.popleft()
            try:
                if (shown.is_nested and shown.sample().status != "running") or stream is self._failed_stream:
                    self._active_keys.discard(id(shown))  # over before it could be seen
                else:
                    self._bars[id(shown)] = _DisplayedBar(shown, self._open_bar(shown, stream))
            except BaseException as error:  # noqa: BLE001 - a stream of the program's may raise whatever it likes
                failure = error
                self._active_keys.discard(id(shown))
                self._disable_stream(stream)
        return failure

    def _update_bars(self) -> BaseException | None:
        failure, closing, self._closing = None, self._closing, False
        for key, (shown, bar) in list(self._bars.items()):
            try:
                snapshot = shown.sample()
                over = closing or snapshot.status != "running"
                if over:
                    bar.end(snapshot)
                else:
                    bar.draw(snapshot)
            except BaseException as error:  # noqa: BLE001
                failure, over = error, True
            if over:
                self._remove_bar(key)
        return failure

    def _draw_terminals(self) -> BaseException | None:
        """Write what has changed."""
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
        """Let tqdm know which rows are taken: its bars, and what its ``write()`` prints, are to go elsewhere."""
        places = [
            (terminal.stream, terminal.first_row + number)
            for terminal in self._terminals
            for number in range(len(terminal.bars))
        ]
        if places == [(row.fp, row.pos) for row in self._rows]:
            return
        with contextlib.suppress(Exception):  # the program may be at its bars; then with the next frame
            rows = [Row(stream, position, self._hide_bars, self._show_bars) for stream, position in places]
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
        with contextlib.suppress(BaseException):  # the program's own handlers may write to the same stream
            log(WARNING, "The terminal bar is turned off: %s: %s", type(error).__name__, error)
