"""The conditions of a running item: stalled, late, stuck and slower.

A stalled item gives no sign of life. A stuck item does, but neither it nor an inner item makes progress. A late item is
past its deadline. A slower item takes longer than its former runs make plausible.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from progressbar_tracker._estimate import MIN_STUCK_SECONDS, stuck_limit
from progressbar_tracker._models import Status, is_indeterminate

from .forecast import Forecaster, is_countless
from .inner_progress import InnerProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker.server.models import Item

Condition: TypeAlias = Literal["stalled", "late", "stuck", "slower"]
"""A condition that a running item may have besides its status."""

StatusFilter: TypeAlias = Literal[Status, Condition]
"""A status or a condition, by which items are filtered."""


class Conditions:
    """Decides the conditions of items. Each depends on the item, its former runs, its inner items and the time.

    Args:
        stall_after: Seconds of silence after which an item without a ``heartbeat_timeout`` is stalled.
        detect_stuck: Whether items can be stuck.
        forecaster: Forecasts the ends of items, and knows their former runs.

    Attributes:
        forecaster: The forecaster.
        listening_since: The instant since which runs could reach this server.
        inner_progress: The latest progress of inner items, which boards record.
    """

    def __init__(
        self,
        *,
        stall_after: float | None = None,
        detect_stuck: bool = True,
        forecaster: Forecaster | None = None,
    ) -> None:
        self.listening_since = -math.inf
        self._stall_after = stall_after
        self._detect_stuck = detect_stuck
        self.forecaster: Final = forecaster or Forecaster()
        self.inner_progress: Final = InnerProgress()

    def silence_limit(self, item: Item) -> float | None:
        """Return the seconds of silence from which an item is stalled; ``None`` for no limit."""
        return self._stall_after if item.heartbeat_timeout is None else item.heartbeat_timeout

    def is_stalled(self, item: Item, now: float) -> bool:
        """Return whether a running item gave no sign of life for too long."""
        if item.status != "running":
            return False
        limit = self.silence_limit(item)
        return limit is not None and now >= item.updated_at + limit

    @staticmethod
    def is_late(item: Item, now: float) -> bool:
        """Return whether an item is running and past its deadline."""
        return item.deadline_at is not None and item.status == "running" and now >= item.deadline_at

    def is_stuck(self, item: Item, now: float) -> bool:
        """Return whether a running item is alive without progress for longer than is plausible.

        Only the time up to the latest sign of life counts: during an outage, nothing is known about the run. An item
        without a ``heartbeat_timeout`` that names a limit is an exception, because it need not give signs of life.
        """
        if item.status != "running":
            return False
        after = item.stuck_after
        if after is msgspec.UNSET:
            # The common case first: a shorter time is never suspicious.
            if item.updated_at - item.progress.idle_since < MIN_STUCK_SECONDS:
                return False
        elif after is None:
            return False
        if self.is_stalled(item, now):
            return False
        stuck_at = self.find_stuck_instant(item)
        return stuck_at is not None and (now if self.needs_progress(item) else item.updated_at) >= stuck_at

    def is_slower(self, item: Item, now: float) -> bool:
        """Return whether a running item takes longer than its former runs make plausible."""
        if item.status != "running" or self.forecaster.get_former(item) is None or self.is_stalled(item, now):
            return False
        forecast = self.forecaster.get(item, now)
        return forecast is not None and forecast.is_slower

    def has(self, condition: Condition, item: Item, now: float) -> bool:
        """Return whether an item has a condition."""
        return _CONDITION_CHECKS[condition](self, item, now)

    def needs_progress(self, item: Item) -> bool:
        """Return whether an item becomes stuck without a write: it names a limit and has no ``heartbeat_timeout``."""
        return (
            item.heartbeat_timeout is None
            and item.stuck_after is not msgspec.UNSET
            and item.stuck_after is not None
            and self._detect_stuck
        )

    def find_stuck_instant(self, item: Item) -> float | None:
        """Return the instant from which a running item without progress is stuck; ``None`` if it never is."""
        after, idle_since = item.stuck_after, item.progress.idle_since
        if after is None or not self._detect_stuck:
            return None
        inner = self.inner_progress.get(item.id)
        if inner is not None and inner.idle_since > idle_since:
            idle_since = inner.idle_since
        if after is msgspec.UNSET:
            if is_countless(item) or item.value >= 1:
                return None  # there is no progress to report, or no more of it
            limit = stuck_limit(item.progress, get_share(item), self.forecaster.get_former(item))
            return None if limit is None else idle_since + limit
        if item.heartbeat_timeout is None:
            # Signs of life are optional, but those of the time before could not reach the server.
            progressed_at = item.progressed_at if inner is None else max(item.progressed_at, inner.idle_since)
            return max(progressed_at, self.listening_since) + after
        return idle_since + after

    def find_progress_instant(self, item: Item) -> float:
        """Return the instant of the latest progress of an item or of an inner item."""
        inner = self.inner_progress.get(item.id)
        return item.progressed_at if inner is None else max(item.progressed_at, inner.progressed_at)


_CONDITION_CHECKS: Final[dict[Condition, Callable[[Conditions, Item, float], bool]]] = {
    "stalled": Conditions.is_stalled,
    "late": lambda conditions, item, now: conditions.is_late(item, now),
    "stuck": Conditions.is_stuck,
    "slower": Conditions.is_slower,
}

CONDITION_NAMES: Final[tuple[Condition, ...]] = tuple(_CONDITION_CHECKS)


def get_share(item: Item) -> float | None:
    """Return the share of the work that is done; ``None`` if it is unknown."""
    return None if is_indeterminate(item.completed, item.total, item.status) else item.value
