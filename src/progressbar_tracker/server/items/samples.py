"""Which samples of progress are kept, so that an item's page can draw its curve.

A look, twice a second, at what has changed, and not a write: an update costs nothing, and neither does an item that
stands still. Of a run that goes on for long every other sample is forgotten whenever there are too many, and the next
ones are taken half as often.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.models import AddSample, Sample, Sampled, ThinSamples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from progressbar_tracker._models import Number
    from progressbar_tracker.server.models import Item, Write

EVERY: Final = 10.0
"""Least seconds between two samples of a run, about."""

MOST: Final = 300
"""The most samples of a run."""

LOOK: Final = 5000
"""The most runs that are sampled at a look: a store that is given a little at a time holds nobody up."""

_EARLY: Final = 0.75
"""The share of the time between two samples after which a look may take one: the looks are not quite even."""


class _Run:
    """The latest sample of a run, and when the next may be taken.

    Attributes:
        waits: It has changed since, and has its turn when that is due.
    """

    __slots__ = ("completed", "count", "last_at", "run_id", "step", "value", "waits")

    def __init__(self, run_id: str, count: int = 0, last_at: float = float("-inf"), step: float = EVERY) -> None:
        self.run_id = run_id
        self.count = count
        self.last_at = last_at
        self.step = step
        self.value: float | None = None
        self.completed: Number | None = None
        self.waits = False


class Samples:
    """Takes the samples.

    Args:
        known: What was taken in an earlier life.
    """

    def __init__(self, known: Iterable[Sampled] = ()) -> None:
        self._looked = float("-inf")
        self.replace_all(known)

    def replace_all(self, known: Iterable[Sampled]) -> None:
        """Take over what was sampled so far."""
        self._due: list[tuple[float, str]] = []
        self._runs = {
            one.id: _Run(
                one.run_id, one.count, one.last_at, max(EVERY, (one.last_at - one.first_at) / max(one.count - 1, 1))
            )
            for one in known
        }

    def look(self, changed: Iterable[str], get: Callable[[str], Item | None], now: float) -> list[Write]:
        """Return what to keep of the runs whose turn it is.

        Args:
            changed: The ids of the items that have come, changed or gone since the last look.
            get: Finds an item by its id.
            now: The instant.
        """
        if now < self._looked:
            # A clock that is set back must not stop the samples until it has caught up.
            self._due = [(now, item_id) for _, item_id in self._due]
            for run in self._runs.values():
                run.last_at = min(run.last_at, now - run.step)
        writes: list[Write] = []
        for item_id in changed:
            writes += self._changed(item_id, get(item_id), now)
        self._looked = now
        for _ in range(LOOK):
            if not self._due or self._due[0][0] > now:
                break
            item_id = heapq.heappop(self._due)[1]
            item, due = get(item_id), self._runs.get(item_id)
            if item is not None and due is not None and due.waits:
                writes += self._taken(item, due, now)
        return writes

    def _changed(self, item_id: str, item: Item | None, now: float) -> list[Write]:
        if item is None or item.status != "running":
            self._runs.pop(item_id, None)
            return []
        run = self._runs.get(item_id)
        if run is None or run.run_id != item.run_id:
            run = self._runs[item_id] = _Run(item.run_id)
        if run.waits:
            return []
        run.waits = True
        due = run.last_at + run.step * _EARLY
        still = run.value is not None and self._looked - run.last_at > 2 * run.step
        # Or the curve would rise slowly all the time that it stood still.
        flat = Sample(self._looked, run.value or 0.0, run.completed)
        heapq.heappush(self._due, (max(due, now + EVERY / 20 if still else now), item_id))
        return [AddSample(item_id, item.run_id, flat)] if still else []

    def _taken(self, item: Item, run: _Run, now: float) -> list[Write]:
        run.waits = False
        run.last_at, run.value, run.completed = now, item.value, item.completed
        run.count += 1
        writes: list[Write] = [AddSample(item.id, item.run_id, Sample(now, item.value, item.completed))]
        if run.count >= MOST:
            writes.append(ThinSamples(item.id, item.run_id))
            run.count = (run.count + 1) // 2
            run.step *= 2
        return writes
