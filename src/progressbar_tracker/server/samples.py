"""Which samples of progress are kept, so that an item's page can draw its curve.

A look at the items, and not a write: an update costs nothing. Of a run that goes on for long every other sample is
forgotten whenever there are too many, and the next ones are taken half as often.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from .records import AddSample, Sample, Sampled, ThinSamples

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .records import Item, Write

EVERY: Final = 10.0
"""Least seconds between two samples of a run, about."""

MOST: Final = 300
"""The most samples of a run."""

SHARES: Final = 20
"""Looks that it takes to see all items: a store that is given a little at a time holds nobody up."""

_EARLY: Final = 0.75
"""The share of the time between two samples after which a look may take one: the looks are not quite even."""


class _Run:
    __slots__ = ("count", "last_at", "run_id", "step")

    def __init__(self, run_id: str, count: int = 0, last_at: float = float("-inf"), step: float = EVERY) -> None:
        self.run_id = run_id
        self.count = count
        self.last_at = last_at
        self.step = step


class Samples:
    """Takes the samples.

    Args:
        known: What was taken in an earlier life.
    """

    def __init__(self, known: Iterable[Sampled] = ()) -> None:
        self._share = 0
        self.replace_all(known)

    def replace_all(self, known: Iterable[Sampled]) -> None:
        """Take over what was sampled so far."""
        self._runs = {
            one.id: _Run(
                one.run_id, one.count, one.last_at, max(EVERY, (one.last_at - one.first_at) / max(one.count - 1, 1))
            )
            for one in known
        }

    def look(self, items: list[Item], now: float) -> list[Write]:
        """Return what to keep of the share of the items whose turn it is.

        Args:
            items: All items, in an order that does not change much.
            now: The instant.
        """
        writes: list[Write] = []
        for item in islice(items, self._share, None, SHARES):
            if item.status == "running":
                writes += self._taken(item, now)
        self._share = (self._share + 1) % SHARES
        if self._share == 0 and len(self._runs) > len(items):
            there = {item.id for item in items}
            self._runs = {item_id: run for item_id, run in self._runs.items() if item_id in there}
        return writes

    def _taken(self, item: Item, now: float) -> list[Write]:
        run = self._runs.get(item.id)
        if run is None or run.run_id != item.run_id:
            run = self._runs[item.id] = _Run(item.run_id)
        # A clock that is set back must not stop the samples until it has caught up.
        if 0 <= now - run.last_at < run.step * _EARLY:
            return []
        run.last_at = now
        run.count += 1
        writes: list[Write] = [AddSample(item.id, item.run_id, Sample(now, item.value, item.completed))]
        if run.count >= MOST:
            writes.append(ThinSamples(item.id, item.run_id))
            run.count = (run.count + 1) // 2
            run.step *= 2
        return writes
