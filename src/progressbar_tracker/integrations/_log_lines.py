"""Bars as lines of a log: what they say is worked out by pure functions, and written from a thread of its own."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._endings import deaths
from progressbar_tracker._models import fraction, whole_percent
from progressbar_tracker._runtime import dying
from progressbar_tracker._sender.worker import Worker
from progressbar_tracker._text import amount, duration, plain
from progressbar_tracker._tracking.run import observers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from progressbar_tracker._models import Number
    from progressbar_tracker._sender.snapshot import Snapshot
    from progressbar_tracker._tracking.run import Run

POLL: Final = 0.5  # seconds between looks at what has ended
MOST: Final = 1000  # bars that are followed at a time
JOIN: Final = 0.5  # seconds that closing waits for a line that is being written


def running(state: Snapshot, unit: str, seconds: float, done: Number) -> str:
    """Return the line of a bar that runs.

    Args:
        state: How it is.
        unit: What is counted.
        seconds: How long it runs.
        done: What was done in that time.

    >>> from progressbar_tracker._sender.snapshot import Snapshot
    >>> running(Snapshot("import", "", 450, 1000, 0, "running", None), "it", 36.6, 450)
    'import: 45 % 450/1000 it, 12.3 it/s, 00:44 left'
    >>> running(Snapshot("log", "tail", 7, None, 0, "running", None), "it", 14.0, 7)
    'log: 7 it, 0.5 it/s, 00:14, tail'
    """
    rate = done / seconds if seconds > 0 and done > 0 else 0.0
    total = state.total if state.total is not None and state.total > 0 else None
    share = "" if total is None else f"{whole_percent(fraction(state.completed, total) or 0.0)} % "
    left = (total - state.completed) / rate if total is not None and rate else None
    clock = f"{duration(max(left, 0.0))} left" if left is not None else duration(seconds)
    pace = f"{amount(rate, unit) if unit == 'B' else format(rate, '.3g')} {plain(unit)}/s" if rate else ""
    parts = (f"{share}{_counts(state, unit)}", pace, clock, plain(state.description))
    return f"{plain(state.title)}: {', '.join(filter(None, parts))}"


def ended(state: Snapshot, unit: str, seconds: float) -> str:
    """Return the last line of a bar.

    >>> from progressbar_tracker._sender.snapshot import Snapshot
    >>> ended(Snapshot("import", "", 450, 1000, 0, "failed", "ValueError: bad row"), "it", 36.6)
    'import: failed after 00:36, 450/1000 it: ValueError: bad row'
    """
    error = f": {plain(state.error)}" if state.error else ""
    return f"{plain(state.title)}: {state.status} after {duration(seconds)}, {_counts(state, unit)}{error}"


def _counts(state: Snapshot, unit: str) -> str:
    of = "" if state.total is None else f"/{amount(state.total, unit)}"
    return f"{amount(state.completed, unit)}{of} {plain(unit)}".strip()


class _Followed:
    """A bar, and what was told of it."""

    __slots__ = ("began", "due", "first", "run", "told", "waited")

    def __init__(self, run: Run, began: float, first: Number, interval: float) -> None:
        self.run = run
        self.began = began
        self.first = first
        self.due = began + interval
        self.told = False
        self.waited = False  # for the end to become certain


class _Begun(NamedTuple):
    run: Run
    at: float
    first: Number


class Lines:
    """Writes the lines. Made by ``lines()``; a handle to close it, and a block.

    Args:
        logger: Where to.
        interval: Seconds between two lines of a bar.
        level: Their level.
        clock: Monotonic seconds.
    """

    def __init__(
        self, logger: logging.Logger, interval: float, level: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._interval = interval
        self._level = level
        self._clock = clock
        self._worker = Worker("progressbar-lines", self.step, lambda: bool(self._begun))
        self.reset()
        if (earlier := _open.get(logger.name)) is not None:
            earlier.close()
        _open[logger.name] = self
        _hook()
        observers.append(self._see)

    def reset(self) -> None:
        """Start empty in the child of a fork: the bars so far are the parent's."""
        self._begun: deque[_Begun] = deque(maxlen=MOST)
        self._followed: list[_Followed] = []
        self._lock = threading.Lock()
        self._worker.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write of what has ended by now, and nothing any more. Idempotent."""
        if self._see in observers:
            observers.remove(self._see)
            _open.pop(self._logger.name, None)
            self._worker.stop(JOIN)
            self._look(certain=True)

    def conclude(self) -> None:
        """Close at the end of the process, which settles how the bars have ended."""
        fatal = deaths(dying())
        self._worker.stop(JOIN)
        if self._lock.acquire(timeout=JOIN):
            try:
                self._take_in()
                for one in self._followed:
                    one.run.conclude(fatal)
            finally:
                self._lock.release()
        self.close()

    def step(self) -> float | None:
        """Write the lines that are due. Return the seconds until the next look."""
        return POLL if self._look(certain=False) else None

    def _see(self, run: Run) -> None:
        if run.sender is not None:  # without one everything is turned off
            self._begun.append(_Begun(run, self._clock(), run.position))
            if self._worker.asleep:
                self._worker.start()

    def _take_in(self) -> None:
        for _ in range(len(self._begun)):
            begun = self._begun.popleft()
            if len(self._followed) < MOST:
                self._followed.append(_Followed(*begun, self._interval))

    def _look(self, *, certain: bool) -> bool:
        if not self._lock.acquire(timeout=JOIN):
            return True  # a handler of the log hangs
        try:
            self._take_in()
            now = self._clock()
            self._followed = [one for one in self._followed if not self._tell(one, now, certain=certain)]
            return bool(self._followed)
        finally:
            self._lock.release()

    def _tell(self, one: _Followed, now: float, *, certain: bool) -> bool:
        """Write a line if one is due. Return whether it was the last."""
        state = one.run.sample()
        unit = one.run.style.unit
        seconds = now - one.began
        if state.status != "running":
            # A loop that was left early may turn out to be the death of the program. That is known soon.
            if one.run.tentative and not certain and not one.waited:
                one.waited = True
                return False
            if one.told or not one.run.inner:
                level = max(self._level, logging.WARNING) if state.status == "failed" else self._level
                self._logger.log(level, "%s", ended(state, unit, seconds))
            return True
        if now >= one.due:
            one.due = now + self._interval
            one.told = True
            self._logger.log(self._level, "%s", running(state, unit, seconds, state.completed - one.first))
        return False


_open: dict[str, Lines] = {}


@functools.cache
def _hook() -> None:
    atexit.register(_conclude)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_reset)


def _conclude() -> None:
    for one in list(_open.values()):
        one.conclude()


def _reset() -> None:
    for one in list(_open.values()):
        one.reset()
