"""Which samples of progress are kept, so that an item's page can draw its curve.

A look, twice a second, at what has changed, and not a write: an update costs nothing, and neither does an item that
stands still. Of a run that goes on for long every other sample is forgotten whenever there are too many, and the next
ones are taken half as often.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.models import Sample, SampledRun
from progressbar_tracker.server.mutations import AddSample, ThinSamples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from progressbar_tracker._models import Number
    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.mutations import Write

MIN_SAMPLE_INTERVAL: Final = 10.0
"""Least seconds between two samples of a run, about."""

MAX_SAMPLES: Final = 300
"""The most samples of a run."""

MAX_RUNS_PER_POLL: Final = 5000
"""The most runs that are sampled at a look: a store that is given a little at a time holds nobody up."""

_EARLY_FRACTION: Final = 0.75
"""The share of the time between two samples after which a look may take one: the looks are not quite even."""


class _RunState:
    """The latest sample of a run, and when the next may be taken.

    Attributes:
        is_pending: It has changed since, and has its turn when that is due.
    """

    __slots__ = ("completed", "count", "interval", "is_pending", "last_at", "run_id", "value")

    def __init__(
        self, run_id: str, count: int = 0, last_at: float = float("-inf"), interval: float = MIN_SAMPLE_INTERVAL
    ) -> None:
        self.run_id = run_id
        self.count = count
        self.last_at = last_at
        self.interval = interval
        self.value: float | None = None
        self.completed: Number | None = None
        self.is_pending = False


class Sampler:
    """Takes the samples.

    Args:
        known: What was taken in an earlier life.
    """

    def __init__(self, known: Iterable[SampledRun] = ()) -> None:
        self._polled_at = float("-inf")
        self.replace_all(known)

    def replace_all(self, known: Iterable[SampledRun]) -> None:
        """Take over what was sampled so far."""
        self._due: list[tuple[float, str]] = []
        self._runs = {
            one.id: _RunState(
                one.run_id,
                one.count,
                one.last_at,
                max(MIN_SAMPLE_INTERVAL, (one.last_at - one.first_at) / max(one.count - 1, 1)),
            )
            for one in known
        }

    def poll(self, changed: Iterable[str], get: Callable[[str], Item | None], now: float) -> list[Write]:
        """Return what to keep of the runs whose turn it is.

        Args:
            changed: The ids of the items that have come, changed or gone since the last look.
            get: Finds an item by its id.
            now: The instant.
        """
        if now < self._polled_at:
            # A clock that is set back must not stop the samples until it has caught up.
            self._due = [(now, item_id) for _, item_id in self._due]
            for run in self._runs.values():
                run.last_at = min(run.last_at, now - run.interval)
        writes: list[Write] = []
        for item_id in changed:
            writes += self._item_changed(item_id, get(item_id), now)
        self._polled_at = now
        for _ in range(MAX_RUNS_PER_POLL):
            if not self._due or self._due[0][0] > now:
                break
            item_id = heapq.heappop(self._due)[1]
            item, due = get(item_id), self._runs.get(item_id)
            if item is not None and due is not None and due.is_pending:
                writes += self._add_sample(item, due, now)
        return writes

    def _item_changed(self, item_id: str, item: Item | None, now: float) -> list[Write]:
        if item is None or item.status != "running":
            self._runs.pop(item_id, None)
            return []
        run = self._runs.get(item_id)
        if run is None or run.run_id != item.run_id:
            run = self._runs[item_id] = _RunState(item.run_id)
        if run.is_pending:
            return []
        run.is_pending = True
        due = run.last_at + run.interval * _EARLY_FRACTION
        still = run.value is not None and self._polled_at - run.last_at > 2 * run.interval
        # Or the curve would rise slowly all the time that it stood still.
        flat = Sample(self._polled_at, run.value or 0.0, run.completed)
        heapq.heappush(self._due, (max(due, now + MIN_SAMPLE_INTERVAL / 20 if still else now), item_id))
        return [AddSample(item_id, item.run_id, flat)] if still else []

    def _add_sample(self, item: Item, run: _RunState, now: float) -> list[Write]:
        run.is_pending = False
        run.last_at, run.value, run.completed = now, item.value, item.completed
        run.count += 1
        writes: list[Write] = [AddSample(item.id, item.run_id, Sample(now, item.value, item.completed))]
        if run.count >= MAX_SAMPLES:
            writes.append(ThinSamples(item.id, item.run_id))
            run.count = (run.count + 1) // 2
            run.interval *= 2
        return writes
