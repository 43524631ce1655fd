"""The sampler: takes samples of progress, from which an item's page draws its curve.

It polls the changed items twice a second, so an update costs nothing extra, nor does an item without progress. When a
run has too many samples, every other one is dropped and the interval doubles.
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
"""Approximate minimum seconds between two samples of a run."""

MAX_SAMPLES: Final = 300
"""Maximum samples of a run."""

MAX_RUNS_PER_POLL: Final = 5000
"""Maximum runs sampled in one poll: small writes to the store do not delay other commits."""

_EARLY_FRACTION: Final = 0.75
"""Fraction of the interval after which a poll may take a sample: polls are not exactly periodic."""


class _RunState:
    """The latest sample of a run, and when the next may be taken.

    Attributes:
        is_pending: The run has changed since, and is sampled when it is due.
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
    """Takes samples of running items.

    Args:
        known: The runs with stored samples.
    """

    def __init__(self, known: Iterable[SampledRun] = ()) -> None:
        self._polled_at = float("-inf")
        self.replace_all(known)

    def replace_all(self, known: Iterable[SampledRun]) -> None:
        """Adopt the runs with stored samples."""
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
        """Return the samples to persist of the runs that are due.

        Args:
            changed: The ids of the items that came, changed or left since the last poll.
            get: Returns an item by its id.
            now: The instant.
        """
        if now < self._polled_at:
            # Do not wait until a clock that was set back has caught up.
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
        # Without this sample, the curve would rise slowly during the pause.
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
