"""Forecasts of running items, which stay until the evidence changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker._estimate import Forecast, forecast

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker._estimate import Progress
    from progressbar_tracker._former_runs import FormerRuns
    from progressbar_tracker._models import Number
    from progressbar_tracker.server.models import Item

MAX_FORECASTS: Final = 20_000
"""Forecasts in the cache."""


def is_countless(item: Item) -> bool:
    """Return whether an item reports neither a count nor a value."""
    return item.completed is None and item.value == 0


class Forecaster:
    """Forecasts items.

    Args:
        get_former: Returns the former runs of an item, as far as they are known. It is called for each forecast.
    """

    def __init__(self, get_former: Callable[[Item], FormerRuns | None] = lambda _item: None) -> None:
        self.get_former = get_former
        self._cache: dict[str, tuple[Progress, Number | None, float, FormerRuns | None, Forecast | None, str]] = {}

    def get(self, item: Item, now: float) -> Forecast | None:
        """Return the forecast of an item; ``None`` if there is no basis for one, or if it does not run."""
        if item.status != "running":
            return None
        former = self.get_former(item)
        total = None if is_countless(item) else 1.0 if item.completed is None else item.total
        cached = self._cache.get(item.id)
        if (
            cached is not None
            and cached[0] is item.progress
            and cached[1] == total
            and cached[2] == item.started_at
            and cached[3] is former
            and (cached[4] is None or now < cached[4].valid_until)
        ):
            return cached[4]
        found = forecast(item.progress, total, now, started_at=item.started_at, former=former)
        if (
            cached is not None
            and cached[4] is not None
            and cached[4].is_slower
            and cached[5] == item.run_id
            and found is not None
            and former is not None
            and found.finish_at - item.started_at - item.progress.paused > former.slow_duration
        ):
            # The lower bound must leave the band of former runs, but only the estimate itself returns to it.
            found = found._replace(is_slower=True)
        if len(self._cache) >= MAX_FORECASTS:
            self._cache.clear()
        self._cache[item.id] = item.progress, total, item.started_at, former, found, item.run_id
        return found
