"""The terminal bar: tqdm's rendering, fed from a thread of ours and not from the loop.

The last frame is drawn by the loop's own thread, for what the program prints next must come after it. A loop that was
left early is noticed by a finalizer, which may run under anybody's lock: it draws only if every lock that drawing needs
is free at that moment, and never waits. Otherwise the last frame follows from the display's thread within a tenth of a
second.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from ._fork import importing
from ._table import cut
from ._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    import tqdm

    from ._snapshot import Setting, Snapshot

    class _Lock(Protocol):
        def acquire(self, blocking: bool, /) -> bool: ...
        def release(self) -> None: ...

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


FRAME: Final = 0.1  # seconds
ERROR_WIDTH: Final = 40  # columns
REDRAW: Final = 1.0  # seconds after which a bar that stands still is drawn again, for its clock goes on


def _tqdm_locks() -> list[_Lock]:
    """Return the locks that tqdm takes to draw: one for threads and, where there is one, one for processes."""
    import tqdm

    lock = tqdm.tqdm.get_lock()
    return list(getattr(lock, "locks", [lock]))


class _Bar:
    """One run and the tqdm bar that shows it."""

    def __init__(self, shown: Shown, bar: tqdm.tqdm[object]) -> None:
        self.shown = shown
        self.bar = bar
        self.drawn_at = 0.0

    def draw(self, now: float) -> bool:
        """Draw the state now. Return whether the run has ended, and the bar with it."""
        snapshot, bar = self.shown.sample(), self.bar
        label = f"{snapshot.title}: {snapshot.description}" if snapshot.description else snapshot.title
        moved = snapshot.completed - bar.n
        changed = label != bar.desc or snapshot.total != bar.total
        bar.total = snapshot.total
        bar.desc = label  # tqdm adds the colon
        ended = snapshot.status != "running"
        if moved:
            bar.update(moved)
        if snapshot.status == "failed":
            bar.colour = "red"
            bar.set_postfix_str(cut(snapshot.error or "failed", ERROR_WIDTH), refresh=False)
        if ended:
            bar.close()
        elif changed or (not moved and now >= self.drawn_at + REDRAW):
            bar.refresh()
            self.drawn_at = now
        elif moved:
            self.drawn_at = now
        return ended


class _Free:
    """Several locks taken without waiting for any: all of them or, if it is false, none."""

    def __init__(self, *locks: _Lock) -> None:
        self._taken: list[_Lock] = []
        self._all = all(self._take(lock) for lock in locks)
        if not self._all:
            self.release()

    def __bool__(self) -> bool:
        return self._all

    def _take(self, lock: _Lock) -> bool:
        taken = lock.acquire(False)
        if taken:
            self._taken.append(lock)
        return taken

    def release(self) -> None:
        while self._taken:
            self._taken.pop().release()


class Display:
    """Draws the runs that are given to it.

    Args:
        clock: Monotonic seconds.
        file: Where to draw; by default what ``sys.stderr`` is at the time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, file: TextIO | None = None) -> None:
        self._clock = clock
        self._file = file
        self._bars: dict[int, _Bar] = {}
        self._inherited: object = None
        self._worker = Worker("progressbar-display", self.step, self._pending)
        self.reset()

    def reset(self) -> None:
        """Start empty in the child of a fork: the bars on the terminal are the parent's."""
        if self._bars:
            # The bars are left alive: their finalizers want tqdm's lock, which a thread of the parent's may have held
            # when it was forked, and so may whoever draws in this process.
            self._inherited = (self._inherited, self._bars)
            if (tqdm := sys.modules.get("tqdm")) is not None:
                tqdm.tqdm.set_lock(threading.RLock())
        self._bars = {}
        self._added: deque[Shown] = deque()
        self._lock = threading.RLock()  # a bar is drawn by the display's thread, and at its end by the loop's
        self._worker.reset()

    def add(self, shown: Shown) -> None:
        """Show a run from now on."""
        self._added.append(shown)
        if self._worker.asleep:
            self._worker.start()

    def finish(self, shown: Shown) -> None:
        """Draw the last frame of a run that has ended, in the thread of the caller."""
        with self._lock:
            if id(shown) in self._bars or not shown.inner:
                self._take_in()
            self._draw(shown)

    def try_finish(self, shown: Shown) -> None:
        """Do the same in a finalizer: only if no lock has to be waited for."""
        if self._bars and (free := _Free(self._lock, *_tqdm_locks())):
            try:
                self._draw(shown)
            except RuntimeError:
                pass  # the finalizer came in the middle of a write to the same stream
            finally:
                free.release()

    def close(self) -> None:
        """Draw the last frames of all and stop."""
        self._worker.stop(FRAME)
        with self._lock:
            self._take_in()
            for bar in list(self._bars.values()):
                bar.draw(self._clock())
                bar.bar.close()
            self._bars.clear()

    def step(self) -> float | None:
        """Draw one frame of all."""
        with self._lock:
            self._take_in()
            for bar in list(self._bars.values()):
                self._draw(bar.shown)
            return FRAME if self._bars else None

    def _pending(self) -> bool:
        return bool(self._added)

    def _draw(self, shown: Shown) -> None:
        bar = self._bars.get(id(shown))
        if bar is not None and bar.draw(self._clock()):
            del self._bars[id(shown)]

    def _take_in(self) -> None:
        for _ in range(len(self._added)):
            shown = self._added.popleft()
            snapshot = shown.sample()
            if shown.inner and snapshot.status != "running":
                continue  # over before it could be seen
            self._bars[id(shown)] = _Bar(shown, self._open(shown, snapshot))

    def _open(self, shown: Shown, snapshot: Snapshot) -> tqdm.tqdm[object]:
        with importing:
            import tqdm

        unit = shown.setting().unit
        bar: tqdm.tqdm[object] = tqdm.tqdm(
            total=snapshot.total,
            desc=snapshot.title,
            unit=unit,
            unit_scale=unit == "B",
            unit_divisor=1024,
            leave=not shown.inner,
            file=self._file or sys.stderr,
            dynamic_ncols=True,
        )
        bar.start_t = shown.started_at
        return bar
