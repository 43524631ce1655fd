"""Bars as log lines: pure functions format them, and a background thread writes them."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._endings import map_fatal_errors
from progressbar_tracker._models import compute_fraction, floor_percent
from progressbar_tracker._runtime import get_fatal_exception
from progressbar_tracker._sender.worker import Worker
from progressbar_tracker._text import format_amount, format_clock, sanitize_line
from progressbar_tracker._tracking.run import start_observers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from progressbar_tracker._models import Number
    from progressbar_tracker._sender.snapshot import Snapshot
    from progressbar_tracker._tracking.run import Run

POLL_INTERVAL: Final = 0.5  # seconds between checks for ended bars
MAX_FOLLOWED_RUNS: Final = 1000
JOIN_TIMEOUT: Final = 0.5  # seconds that a close waits for a line in progress


def format_running(state: Snapshot, unit: str, seconds: float, new_units: Number) -> str:
    """Return the log line of a running bar.

    Args:
        state: The current state.
        unit: Unit of the counts.
        seconds: Seconds since the start.
        new_units: Units completed in these seconds.

    >>> from progressbar_tracker._sender.snapshot import Snapshot
    >>> format_running(Snapshot("import", "", 450, 1000, 0, "running", None), "it", 36.6, 450)
    'import: 45 % 450/1000 it, 12.3 it/s, 00:44 left'
    >>> format_running(Snapshot("log", "tail", 7, None, 0, "running", None), "it", 14.0, 7)
    'log: 7 it, 0.5 it/s, 00:14, tail'
    """
    rate = new_units / seconds if seconds > 0 and new_units > 0 else 0.0
    total = state.total if state.total is not None and state.total > 0 else None
    percent = "" if total is None else f"{floor_percent(compute_fraction(state.completed, total) or 0.0)} % "
    left = (total - state.completed) / rate if total is not None and rate else None
    clock = f"{format_clock(max(left, 0.0))} left" if left is not None else format_clock(seconds)
    speed = (
        f"{format_amount(rate, unit) if unit == 'B' else format(rate, '.3g')} {sanitize_line(unit)}/s" if rate else ""
    )
    parts = (f"{percent}{_format_counts(state, unit)}", speed, clock, sanitize_line(state.description))
    return f"{sanitize_line(state.title)}: {', '.join(filter(None, parts))}"


def format_ended(state: Snapshot, unit: str, seconds: float) -> str:
    """Return the last log line of a bar.

    >>> from progressbar_tracker._sender.snapshot import Snapshot
    >>> format_ended(Snapshot("import", "", 450, 1000, 0, "failed", "ValueError: bad row"), "it", 36.6)
    'import: failed after 00:36, 450/1000 it: ValueError: bad row'
    """
    error = f": {sanitize_line(state.error)}" if state.error else ""
    return (
        f"{sanitize_line(state.title)}: {state.status} after {format_clock(seconds)}, "
        f"{_format_counts(state, unit)}{error}"
    )


def _format_counts(state: Snapshot, unit: str) -> str:
    of_total = "" if state.total is None else f"/{format_amount(state.total, unit)}"
    return f"{format_amount(state.completed, unit)}{of_total} {sanitize_line(unit)}".strip()


class _FollowedRun:
    """A bar and the state of its log lines."""

    __slots__ = ("due_at", "has_waited", "initial_count", "run", "started_at", "was_logged")

    def __init__(self, run: Run, started_at: float, initial_count: Number, interval: float) -> None:
        self.run = run
        self.started_at = started_at
        self.initial_count = initial_count
        self.due_at = started_at + interval
        self.was_logged = False
        self.has_waited = False  # one poll, for a tentative end to become final


class _StartedRun(NamedTuple):
    run: Run
    started_at: float
    initial_count: Number


class Lines:
    """Writes log lines until it is closed. ``lines()`` creates it; usable as a ``with`` block.

    Args:
        logger: The logger.
        interval: Seconds between two lines of a bar.
        level: Log level of the lines.
        clock: Monotonic seconds.
    """

    def __init__(
        self, logger: logging.Logger, interval: float, level: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._interval = interval
        self._level = level
        self._clock = clock
        self._worker = Worker("progressbar-lines", self.step, lambda: bool(self._started_runs))
        self.reset()
        if (earlier := _open_lines.get(logger.name)) is not None:
            earlier.close()
        _open_lines[logger.name] = self
        _register_hooks()
        start_observers.append(self._on_run_start)

    def reset(self) -> None:
        """Forget all bars in the child of a fork: they belong to the parent."""
        self._started_runs: deque[_StartedRun] = deque(maxlen=MAX_FOLLOWED_RUNS)
        self._followed_runs: list[_FollowedRun] = []
        self._lock = threading.Lock()
        self._worker.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Log the bars that have ended, then stop. Idempotent."""
        if self._on_run_start in start_observers:
            start_observers.remove(self._on_run_start)
            _open_lines.pop(self._logger.name, None)
            self._worker.stop(JOIN_TIMEOUT)
            self._log_due_lines(is_final=True)

    def finalize(self) -> None:
        """Close at the exit of the process, after the final results of the bars are known."""
        fatal = map_fatal_errors(get_fatal_exception())
        self._worker.stop(JOIN_TIMEOUT)
        if self._lock.acquire(timeout=JOIN_TIMEOUT):
            try:
                self._drain_started()
                for followed in self._followed_runs:
                    followed.run.finalize(fatal)
            finally:
                self._lock.release()
        self.close()

    def step(self) -> float | None:
        """Log the lines that are due. Return the seconds until the next call, or ``None``."""
        return POLL_INTERVAL if self._log_due_lines(is_final=False) else None

    def _on_run_start(self, run: Run) -> None:
        if run.sender is not None:  # None if tracking is disabled
            self._started_runs.append(_StartedRun(run, self._clock(), run.position))
            if self._worker.needs_start:
                self._worker.start()

    def _drain_started(self) -> None:
        for _ in range(len(self._started_runs)):
            started = self._started_runs.popleft()
            if len(self._followed_runs) < MAX_FOLLOWED_RUNS:
                self._followed_runs.append(_FollowedRun(*started, self._interval))

    def _log_due_lines(self, *, is_final: bool) -> bool:
        if not self._lock.acquire(timeout=JOIN_TIMEOUT):
            return True  # a log handler blocks
        try:
            self._drain_started()
            now = self._clock()
            self._followed_runs = [
                followed for followed in self._followed_runs if not self._log_line(followed, now, is_final=is_final)
            ]
            return bool(self._followed_runs)
        finally:
            self._lock.release()

    def _log_line(self, followed: _FollowedRun, now: float, *, is_final: bool) -> bool:
        """Log a line if one is due. Return whether it was the last."""
        state = followed.run.sample()
        unit = followed.run.options.unit
        seconds = now - followed.started_at
        if state.status != "running":
            # A loop that ended early may be caused by a fatal exception, which is known by the next poll.
            if followed.run.is_tentative and not is_final and not followed.has_waited:
                followed.has_waited = True
                return False
            if followed.was_logged or not followed.run.is_nested:
                level = max(self._level, logging.WARNING) if state.status == "failed" else self._level
                self._logger.log(level, "%s", format_ended(state, unit, seconds))
            return True
        if now >= followed.due_at:
            followed.due_at = now + self._interval
            followed.was_logged = True
            self._logger.log(
                self._level, "%s", format_running(state, unit, seconds, state.completed - followed.initial_count)
            )
        return False


_open_lines: dict[str, Lines] = {}


@functools.cache
def _register_hooks() -> None:
    atexit.register(_finalize_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_reset_after_fork)


def _finalize_all() -> None:
    for open_lines in list(_open_lines.values()):
        open_lines.finalize()


def _reset_after_fork() -> None:
    for open_lines in list(_open_lines.values()):
        open_lines.reset()
