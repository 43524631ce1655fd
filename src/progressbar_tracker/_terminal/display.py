"""The terminal bar: tqdm's look, drawn by a thread of ours and by no other.

Nothing that happens to the terminal reaches the program. The loop's thread hands a run in and, when it has ended, waits
for the last frame, for what the program prints next must come after it. It waits for a moment only (see ``_Patience``),
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
from progressbar_tracker._sender.worker import Signal, Worker
from progressbar_tracker._text import cut

from .screen import Screen
from .tqdm_rows import Row, announce, taken_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from progressbar_tracker._sender.snapshot import Setting, Snapshot

    class Shown(Protocol):
        """A run that has a terminal bar."""

        @property
        def started_at(self) -> float:
            """When it began, in seconds since the epoch."""

        @property
        def inner(self) -> bool:
            """Whether it runs inside another one; its bar vanishes at the end."""

        def sample(self) -> Snapshot:
            """Return the state now."""

        def setting(self) -> Setting:
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


FRAME: Final = 0.1  # seconds
ERROR_WIDTH: Final = 40  # columns
REDRAW: Final = 1.0  # seconds after which a bar that stands still is drawn again, for its clock goes on
MAX_WAIT_SECONDS: Final = 0.5  # that the program's threads wait for a last frame at once
FINALIZER_WAIT_SECONDS: Final = 0.1  # the same in a finalizer, whose thread may hold what drawing needs
WAIT_SHARE: Final = 0.05  # of the time that passes, at most, is spent waiting
MAX_HIDDEN_SECONDS: Final = 1.0  # that the bars stay cleared for tqdm.write()
MAX_COLUMNS: Final = 1000
MAX_CHARSET_LENGTH: Final = 20


class _Patience:
    """How long the program's threads may still wait: half a second, and a twentieth of the time that passes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = MAX_WAIT_SECONDS
        self._at = clock()

    def wait(self, signal: Signal, most: float) -> bool:
        """Wait for a signal, ``most`` seconds at most. Return whether it was set."""
        begun = self._clock()
        self._left = min(MAX_WAIT_SECONDS, self._left + (begun - self._at) * WAIT_SHARE)
        timeout = min(self._left, most)
        done = signal.wait(timeout) if timeout > 0 else False
        self._at = self._clock()
        self._left -= self._at - begun
        return done


class Settings(NamedTuple):
    """What of tqdm's environment variables is followed."""

    ascii: bool | str | None = None
    columns: int | None = None


def meter_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings in ``TQDM_ASCII`` and ``TQDM_NCOLS``. A value that makes no sense is ignored.

    >>> meter_settings({"TQDM_ASCII": " .oO", "TQDM_NCOLS": "x"}), meter_settings({"TQDM_ASCII": "1"})
    (Settings(ascii=' .oO', columns=None), Settings(ascii=True, columns=None))
    """
    text, columns = environ.get("TQDM_ASCII", ""), environ.get("TQDM_NCOLS", "")
    charset: bool | str | None = None
    if text.lower() in ("1", "true", "yes", "on"):
        charset = True
    elif text.lower() not in ("", "0", "false", "no", "off") and 2 <= len(text) <= MAX_CHARSET_LENGTH:
        charset = text if text.isprintable() else None
    wide = columns.isascii() and columns.isdecimal() and len(columns) < 5 and 0 < int(columns) <= MAX_COLUMNS
    return Settings(charset, int(columns) if wide else None)


def hidden_by(environ: Mapping[str, str]) -> bool:
    """Say whether ``TQDM_DISABLE`` turns the bars off that are drawn by default."""
    return environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false", "no", "off")


class _Terminal:
    """A stream with the bars that are drawn on it."""

    def __init__(self, stream: object, settings: Settings) -> None:
        self.stream = stream
        self.screen = Screen(stream)
        self.bars: list[_Line] = []
        self.settings = settings
        self.first_row = 0
        with contextlib.suppress(Exception):  # the program may be at its bars
            self.first_row = taken_rows()

    def draw(self, *, hidden: bool) -> bool:
        """Draw all bars, or clear them; return whether the stream took it."""
        _, rows = self.screen.size
        lines = [] if hidden else [bar.text for bar in self.bars]
        return self.screen.draw([*[""] * self.first_row, *lines][:rows] if lines else [])


class _Line:
    """One run as a line of text."""

    def __init__(self, terminal: _Terminal, shown: Shown, clock: Callable[[], float]) -> None:
        with importing:
            from tqdm.std import EMA, tqdm
        self._format: Callable[..., str] = tqdm.format_meter
        self._terminal = terminal
        self._clock = clock
        self._leave = not shown.inner
        self._unit = shown.setting().unit
        self._began_at = clock() - max(time.time() - shown.started_at, 0.0)
        self._steps, self._seconds = EMA(0.3), EMA(0.3)
        self._moved_at = self._began_at
        self._drawn_at = -REDRAW
        self._last: Snapshot | None = None
        self.text = ""
        terminal.bars.append(self)

    @property
    def stream(self) -> object:
        return self._terminal.stream

    def draw(self, snapshot: Snapshot) -> None:
        now = self._clock()
        before = self._last
        if snapshot == before and now < self._drawn_at + REDRAW:
            return
        step = snapshot.completed - (0 if before is None else before.completed)
        if step > 0:
            self._steps(step)
            self._seconds(now - self._moved_at)
        if step:
            self._moved_at = now
        self._last, self._drawn_at = snapshot, now
        seconds = self._seconds()
        self.text = self._meter(snapshot, now, self._steps() / seconds if seconds > 0 else None)

    def end(self, snapshot: Snapshot) -> None:
        self._terminal.bars.remove(self)
        if self._leave:
            self._terminal.screen.leave(self._meter(snapshot, self._clock(), None))

    def _meter(self, snapshot: Snapshot, now: float, rate: float | None) -> str:
        screen, settings = self._terminal.screen, self._terminal.settings
        columns, _ = screen.size
        total = snapshot.total
        if total is not None and not 0 <= snapshot.completed <= total:
            total = None  # tqdm warns of it
        failed = snapshot.status == "failed"
        return self._format(
            n=snapshot.completed,
            total=total,
            elapsed=max(now - self._began_at, 0.0),
            ncols=settings.columns or columns,
            prefix=f"{snapshot.title}: {snapshot.description}" if snapshot.description else snapshot.title,
            ascii=not screen.unicode if settings.ascii is None else settings.ascii,
            unit=self._unit,
            unit_scale=self._unit == "B",
            unit_divisor=1024,
            rate=rate,
            colour="red" if failed else None,
            postfix=cut(snapshot.error or "failed", ERROR_WIDTH) if failed else None,
        )


class _Open(NamedTuple):
    """A run and its bar."""

    shown: Shown
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
        self._worker = Worker("progressbar-display", self.step, self._pending)
        self._given_up: object = None  # the latest stream that failed
        self._logged = False
        self.reset()

    def reset(self) -> None:
        """Start empty in the child of a fork: the bars on the terminal are the parent's."""
        self._bars: dict[int, _Open] = {}
        self._terminals: list[_Terminal] = []
        self._added: deque[tuple[Shown, object]] = deque()
        self._ended: deque[Signal] = deque()
        self._wanted: set[int] = set()  # what was added, and neither dropped nor ended
        self._closing = False
        self._hidden_at: float | None = None  # when tqdm asked for the rows to be cleared
        self._rows: list[Row] = []
        self._lock = threading.RLock()  # for the thread that draws; no thread of the program's takes it
        self._drawing = 0  # the thread that does
        self._patience = _Patience(self._clock)
        self._worker.reset()

    def add(self, shown: Shown, *, quietly: bool = False) -> None:
        """Show a run from now on. Where no thread can be started for it, one line is logged, unless ``quietly``."""
        stream = self._stream()
        if stream is None or stream is self._given_up:
            return
        self._wanted.add(id(shown))
        self._added.append((shown, stream))
        if self._worker.asleep and not self._worker.start(quietly=quietly):
            self._added.clear()
            self._wanted.clear()

    def finish(self, shown: Shown) -> None:
        """Have the last frame of a run drawn, and wait a moment for it."""
        self._finish(shown, MAX_WAIT_SECONDS)

    def try_finish(self, shown: Shown) -> None:
        """Do the same in a finalizer, which may run in any thread and under any lock."""
        self._finish(shown, FINALIZER_WAIT_SECONDS)

    def close(self) -> None:
        """Have the last frames of all drawn, wait a moment for them, and stop."""
        if self._wanted:
            self._closing = True
            self._finish(None, MAX_WAIT_SECONDS)
        self._worker.stop(FRAME)

    def step(self) -> float | None:
        """Draw one frame of all."""
        with self._lock:
            self._drawing = threading.get_ident()
            try:
                return self._step()
            finally:
                self._drawing = 0

    def _stream(self) -> object:
        return getattr(sys, "stderr", None) if self._file is None else self._file

    def _finish(self, shown: Shown | None, most: float) -> None:
        if shown is not None:
            key = id(shown)
            if key not in self._wanted or (shown.inner and key not in self._bars):
                return  # it was never seen
        drawn = Signal()
        self._ended.append(drawn)
        if self._worker.asleep and not self._worker.start(quietly=True):
            return
        self._worker.poke()
        if self._drawing != threading.get_ident():
            self._patience.wait(drawn, most)

    def _pending(self) -> bool:
        return bool(self._added or self._ended)

    def _step(self) -> float | None:
        ended = [self._ended.popleft() for _ in range(len(self._ended))]  # the runs of these were added before
        error: BaseException | None = None
        try:
            error = self._take_in()
            error = self._take_states() or error
            error = self._show() or error
        finally:
            for drawn in ended:
                drawn.set()
        if error is not None:
            self._report(error)
        self._announce()
        if self._bars:
            return FRAME
        return REDRAW if self._terminals else None  # a last frame waits for its stream

    def _take_in(self) -> BaseException | None:
        failure = None
        for _ in range(len(self._added)):
            shown, stream = self._added.popleft()
            try:
                if (shown.inner and shown.sample().status != "running") or stream is self._given_up:
                    self._wanted.discard(id(shown))  # over before it could be seen
                else:
                    self._bars[id(shown)] = _Open(shown, self._open(shown, stream))
            except BaseException as error:  # noqa: BLE001 - a stream of the program's may raise whatever it likes
                failure = error
                self._wanted.discard(id(shown))
                self._give_up(stream)
        return failure

    def _take_states(self) -> BaseException | None:
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
                self._drop(key)
        return failure

    def _show(self) -> BaseException | None:
        """Write what has changed."""
        failure, hidden = None, self._hidden
        for terminal in list(self._terminals):
            try:
                if terminal.draw(hidden=hidden) and not terminal.bars:
                    self._terminals.remove(terminal)
            except BaseException as error:  # noqa: BLE001
                failure = error
                self._give_up(terminal.stream)
        return failure

    def _announce(self) -> None:
        """Let tqdm know which rows are taken: its bars, and what its ``write()`` prints, are to go elsewhere."""
        places = [
            (terminal.stream, terminal.first_row + number)
            for terminal in self._terminals
            for number in range(len(terminal.bars))
        ]
        if places == [(row.fp, row.pos) for row in self._rows]:
            return
        with contextlib.suppress(Exception):  # the program may be at its bars; then with the next frame
            rows = [Row(stream, position, self._hide, self._unhide) for stream, position in places]
            announce(rows)
            self._rows = rows

    @property
    def _hidden(self) -> bool:
        return self._hidden_at is not None and self._clock() < self._hidden_at + MAX_HIDDEN_SECONDS

    def _hide(self) -> None:
        if not self._hidden:
            self._hidden_at = self._clock()
            self._finish(None, MAX_WAIT_SECONDS)

    def _unhide(self) -> None:
        self._hidden_at = None
        self._worker.poke()

    def _open(self, shown: Shown, stream: object) -> Bar:
        for terminal in self._terminals:
            if terminal.stream is stream:
                break
        else:
            terminal = _Terminal(stream, meter_settings(os.environ))
            self._terminals.append(terminal)
        return _Line(terminal, shown, self._clock)

    def _give_up(self, stream: object) -> None:
        self._given_up = stream
        self._terminals = [terminal for terminal in self._terminals if terminal.stream is not stream]
        for key, (_, bar) in list(self._bars.items()):
            if bar.stream is stream:
                self._drop(key)

    def _drop(self, key: int) -> None:
        self._bars.pop(key, None)
        self._wanted.discard(key)

    def _report(self, error: BaseException) -> None:
        if self._logged:
            return
        self._logged = True
        with contextlib.suppress(BaseException):  # the program's own handlers may write to the same stream
            log(WARNING, "The terminal bar is turned off: %s: %s", type(error).__name__, error)
