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
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from progressbar_tracker._clock import read_clock
from progressbar_tracker._log import WARNING, log
from progressbar_tracker._sender.worker import WakeEvent, Worker

from .bars import REDRAW_INTERVAL, BarLine, Terminal
from .budget import MAX_WAIT_SECONDS, WaitBudget
from .cell import Cell, CellBar, CellOutput, find_cell
from .marimo_cell import MarimoCell
from .screen import MAX_FINAL_LINES
from .tqdm_rows import Row, register_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from progressbar_tracker._sender.snapshot import Snapshot, StaticFields

    class DisplayedRun(Protocol):
        """A run that has a terminal bar."""

        @property
        def started_at(self) -> float:
            """Seconds of the display's clock."""

        @property
        def is_nested(self) -> bool:
            """Whether the run is inside another one; then its bar disappears at the end."""

        @property
        def is_tentative(self) -> bool:
            """Whether the end may still turn out to be a failure."""

        @property
        def page_url(self) -> str | None:
            """The page of the run, or ``None`` without a server. For the display thread: it may import a module."""

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
FINALIZER_WAIT_SECONDS: Final = 0.1  # the same in a finalizer, whose thread may hold a lock that drawing needs
MAX_HIDDEN_SECONDS: Final = 1.0  # how long tqdm.write() may keep the bars cleared


def are_bars_disabled(environ: Mapping[str, str]) -> bool:
    """Return whether ``TQDM_DISABLE`` disables the bars that are drawn by default."""
    return environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false", "no", "off")


class Display:
    """Draws runs on a stream from a thread of its own.

    Args:
        clock: Seconds of the clock of runs.
        file: The stream; by default the value of ``sys.stderr`` at the start of a run.
    """

    _uses_cells = True  # a bar in a notebook is an output of its cell

    def __init__(self, clock: Callable[[], float] = read_clock, file: TextIO | None = None) -> None:
        self._clock = clock
        self._file = file
        self._worker = Worker("progressbar-display", self.draw_frame, self._has_pending)
        self._failed_stream: object = None  # the latest stream that failed
        self._is_error_logged = False
        self.reset()

    def reset(self) -> None:
        """Forget all runs in the child of a fork: the bars belong to the parent."""
        for terminal in getattr(self, "_terminals", ()):
            terminal.guard.remove_hooks()
        self._bars: dict[int, tuple[DisplayedRun, Bar]] = {}
        self._terminals: list[Terminal] = []
        self._outputs: list[CellOutput] = []
        self._settled_keys: set[int] = set()  # id() of the runs of a cell that has ended
        self._added: deque[tuple[DisplayedRun, object]] = deque()
        self._ended: deque[WakeEvent] = deque()
        self._lines: deque[tuple[str, object]] = deque(maxlen=MAX_FINAL_LINES)  # each with its stream
        self._active_keys: set[int] = set()  # id() of the runs that were added and have neither ended nor been dropped
        self._closing = False
        self._hidden_at: float | None = None  # when tqdm cleared the rows
        self._rows: list[Row] = []
        self._lock = threading.RLock()  # held by the display thread; the program's threads never acquire it
        self._drawing_thread = 0  # id of the thread that draws at the moment
        self._wait_budget = WaitBudget(self._clock)
        self._guard_budget = WaitBudget(self._clock)
        self._worker.reset()

    def add(self, run: DisplayedRun, *, quiet: bool = False) -> None:
        """Show a run from now on. Log one line if no thread can be started, unless ``quiet``."""
        stream = (find_cell() if self._uses_cells else None) or self._current_stream()
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

    def settle(self, run: DisplayedRun) -> None:
        """Draw the last frame of a run of a cell, which was tentative until now, and wait for it within the budget."""
        if id(run) in self._active_keys:
            self._settled_keys.add(id(run))
            self._finish(run, MAX_WAIT_SECONDS)

    def write_line(self, text: str) -> None:
        """Leave a line on stderr, above the bars, from any thread. Control characters are replaced by spaces.

        The display thread writes the line. If no thread can be started, as at exit, this one writes it. The line is
        lost if stderr fails or is blocked. No exception is raised.
        """
        stream = self._current_stream()
        if stream is None or stream is self._failed_stream:
            return
        self._lines.append(("".join(char if char.isprintable() else " " for char in text), stream))
        if not self._worker.needs_start:
            self._worker.wake()
        elif not self._worker.start(quiet=True):
            with contextlib.suppress(BaseException):
                self.draw_frame()

    def write_text(self, text: str, file: TextIO) -> None:
        """Write output of the program to a stream, with the bars on the same terminal cleared meanwhile."""

        def write() -> None:
            file.write(text)
            file.flush()

        guards = [terminal.guard for terminal in list(self._terminals) if terminal.bars]
        guard = next((guard for guard in guards if guard.covers(file)), None)
        if guard is None or guard.has_hooks_on(file):
            file.write(text)
        else:
            guard.write(write, completes_line=text.endswith("\n"))

    def close(self) -> None:
        """Request the last frames of all runs, wait for them within the budget, and stop."""
        if self._active_keys or self._lines or self._terminals:
            self._closing = True
            if not self._finish(None, MAX_WAIT_SECONDS):
                self._draw_last_frame()
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

    def _finish(self, run: DisplayedRun | None, max_seconds: float) -> bool:
        """Request a frame and wait for it. Return whether a thread draws it."""
        if run is not None:
            key = id(run)
            if key not in self._active_keys or (run.is_nested and key not in self._bars):
                return True  # it was never drawn
        drawn = WakeEvent()
        self._ended.append(drawn)
        if self._worker.needs_start and not self._worker.start(quiet=True):
            return False
        self._worker.wake()
        if self._drawing_thread != threading.get_ident():
            self._wait_budget.wait(drawn.wait, max_seconds)
        return True

    def _draw_last_frame(self) -> None:
        """Draw in this thread, because no thread can be started at exit. The stream is not waited for."""
        if self._lock.acquire(timeout=FRAME_INTERVAL):
            try:
                with contextlib.suppress(BaseException):
                    self.draw_frame()
            finally:
                self._lock.release()

    def _has_pending(self) -> bool:
        return bool(self._added or self._ended or self._lines)

    def _draw_frame(self) -> float | None:
        ended = [self._ended.popleft() for _ in range(len(self._ended))]  # their runs are in _added already
        closing, self._closing = self._closing, False
        error: BaseException | None = None
        try:
            error = self._open_added()
            error = self._update_bars(closing=closing) or error
            error = self._add_lines() or error
            if closing:
                for terminal in self._terminals:
                    terminal.clear_taskbar()
            error = self._draw_terminals() or error
            error = self._publish_outputs() or error
        finally:
            for drawn in ended:
                drawn.set()
        if error is not None:
            self._log_error(error)
        self._announce_rows()
        if self._bars:
            return FRAME_INTERVAL
        # Last frames may wait for a stream.
        return REDRAW_INTERVAL if any(not terminal.is_drawn for terminal in self._terminals) else None

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

    def _add_lines(self) -> BaseException | None:
        failure = None
        for _ in range(len(self._lines)):
            text, stream = self._lines.popleft()
            try:
                if stream is not self._failed_stream:
                    self._open_terminal(stream).screen.add_final_line(text)
            except BaseException as error:  # noqa: BLE001
                failure = error
                self._disable_stream(stream)
        return failure

    def _update_bars(self, *, closing: bool) -> BaseException | None:
        failure = None
        for key, (run, bar) in list(self._bars.items()):
            try:
                snapshot = run.sample()
                has_ended = closing or snapshot.status != "running"
                if isinstance(bar, CellBar) and bar.is_settled_later and run.is_tentative and not closing:
                    has_ended = key in self._settled_keys  # the exception of the cell is not known yet
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
                terminal.draw(hidden=hidden)
                if terminal.is_done:
                    self._terminals.remove(terminal)
            except BaseException as error:  # noqa: BLE001
                failure = error
                self._disable_stream(terminal.stream)
        return failure

    def _publish_outputs(self) -> BaseException | None:
        failure = None
        for output in list(self._outputs):
            try:
                output.publish()
                if output.is_done:
                    self._outputs.remove(output)
            except BaseException as error:  # noqa: BLE001 - the kernel may be shutting down
                failure = error
                self._disable_stream(output)
                self._outputs.remove(output)
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
        if not isinstance(stream, Cell | MarimoCell):
            return BarLine(self._open_terminal(stream), run, self._clock)
        output = next((output for output in self._outputs if output.key == stream.key and output.has_room), None)
        if output is None:
            output = CellOutput(stream, self._clock)
            self._outputs.append(output)
        return CellBar(output, run, self._clock)

    def _open_terminal(self, stream: object) -> Terminal:
        for terminal in self._terminals:
            if terminal.stream is stream:
                return terminal
        terminal = Terminal(stream, os.environ, self._guard_budget, self._clock)
        self._terminals.append(terminal)
        return terminal

    def _disable_stream(self, stream: object) -> None:
        self._failed_stream = stream
        for terminal in self._terminals:
            if terminal.stream is stream:
                terminal.guard.remove_hooks()
        self._terminals = [terminal for terminal in self._terminals if terminal.stream is not stream]
        for key, (_, bar) in list(self._bars.items()):
            if bar.stream is stream:
                self._remove_bar(key)

    def _remove_bar(self, key: int) -> None:
        self._bars.pop(key, None)
        self._active_keys.discard(key)
        self._settled_keys.discard(key)

    def _log_error(self, error: BaseException) -> None:
        if self._is_error_logged:
            return
        self._is_error_logged = True
        with contextlib.suppress(BaseException):  # the program's log handlers may write to the same stream
            log(WARNING, "The terminal bar is disabled: %s: %s", type(error).__name__, error)
