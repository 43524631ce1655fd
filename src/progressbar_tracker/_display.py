"""The terminal bar: tqdm's rendering, fed from a thread of ours and not from the loop.

The last frame of a loop that came to its end is drawn by the loop's own thread, for what the program prints next must
come after it. A loop that was left early is noticed by a finalizer, which may not draw; its last frame follows within a
tenth of a second.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from ._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    import tqdm

    from ._reconcile import Snapshot

FRAME: Final = 0.1  # seconds
REDRAW: Final = 1.0  # seconds after which a bar that stands still is drawn again, for its clock goes on


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
        changed = label + ": " != bar.desc or snapshot.total != bar.total
        bar.total = snapshot.total
        bar.set_description_str(f"{label}: ", refresh=False)
        ended = snapshot.status != "running"
        if moved:
            bar.update(moved)
        if snapshot.status == "failed":
            bar.colour = "red"
            bar.set_postfix_str(snapshot.error or "failed", refresh=False)
        if ended:
            bar.close()
        elif changed or (not moved and now >= self.drawn_at + REDRAW):
            bar.refresh()
            self.drawn_at = now
        elif moved:
            self.drawn_at = now
        return ended


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
        self._worker = Worker("progressbar-display", self.step, self._pending)
        self.reset()

    def reset(self) -> None:
        """Start empty in the child of a fork: the bars on the terminal are the parent's."""
        self._bars = {}
        self._added: deque[Shown] = deque()
        self._lock = threading.RLock()  # a bar is drawn by the display's thread, and at its end by the loop's
        self._worker.reset()

    def add(self, shown: Shown) -> None:
        """Show a run from now on."""
        self._added.append(shown)
        if self._worker.thread is None:
            self._worker.start()

    def finish(self, shown: Shown) -> None:
        """Draw the last frame of a run that has ended, in the thread of the caller."""
        with self._lock:
            if id(shown) in self._bars or not shown.inner:
                self._take_in()
            self._draw(shown)

    def close(self) -> None:
        """Draw the last frames of all and stop."""
        self._worker.thread = None
        self._worker.poke()
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
        import tqdm

        bar: tqdm.tqdm[object] = tqdm.tqdm(
            total=snapshot.total,
            desc=snapshot.title,
            unit=snapshot.unit,
            unit_scale=snapshot.unit == "B",
            unit_divisor=1024,
            leave=not shown.inner,
            file=self._file or sys.stderr,
            dynamic_ncols=True,
        )
        bar.start_t = shown.started_at
        return bar
