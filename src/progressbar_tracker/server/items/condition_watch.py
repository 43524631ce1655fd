"""Finds items that become stuck or slower: by their writes, and by regular looks at those with former runs.

The cost is bounded: a changed item costs a subtraction, and an item is forecast at most every ten seconds.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from progressbar_tracker.server.models import Item

    from .conditions import Condition, Conditions

MIN_CHECK_INTERVAL: Final = 10.0
"""Minimum seconds between two looks at an item. A run counts as slower if two in a row find it."""

MAX_CHECK_INTERVAL: Final = 60.0
"""Maximum seconds between two looks at a running item."""

CHECKS_PER_RUN: Final = 50
"""Looks at a run of the usual duration, if the limits of the interval allow it."""

MAX_FIRST_CHECKS_PER_POLL: Final = 2000
"""Maximum items that one poll of a new leader adds, so that a large board does not delay requests."""

MAX_CHECKS_PER_POLL: Final = 500
"""Maximum items that one poll looks at: some milliseconds."""


class ConditionWatch:
    """Finds running items that have become stuck or slower.

    Args:
        conditions: Decides whether items are stuck or slower.
    """

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._was_leader = False
        self._clear()

    def _clear(self) -> None:
        self._stuck: dict[str, tuple[str, float]] = {}  # the silence that was reported
        self._slower_runs: dict[str, str] = {}  # the run that was reported
        self._suspects: dict[str, str] = {}  # the run that the latest look found to be slower
        self._due: list[tuple[float, str]] = []
        self._scheduled: set[str] = set()
        self._unseen: list[str] = []  # the items of a new leader's board, in reverse

    def poll(
        self,
        touched: Iterable[str],
        get: Callable[[str], Item | None],
        all_items: Callable[[], Iterable[Item]],
        now: float,
        *,
        is_leader: bool,
    ) -> list[tuple[Item, Condition]]:
        """Return the items that have become stuck or slower: each silence and each run at most once.

        Args:
            touched: The ids of the items that came, changed or left since the last poll.
            get: Returns an item by its id.
            all_items: Returns all items; called when this server becomes the leader.
            now: The instant.
            is_leader: Whether this server is the leader; no other server reports conditions.
        """
        if not is_leader:
            if self._was_leader:
                self._was_leader = False
                self._clear()
            return []
        if not self._was_leader:
            self._was_leader = True
            self._unseen = [item.id for item in all_items()]
            self._unseen.reverse()
        found: list[tuple[Item, Condition]] = []
        first_ids = self._unseen[-MAX_FIRST_CHECKS_PER_POLL:]
        del self._unseen[-MAX_FIRST_CHECKS_PER_POLL:]
        for item_id in dict.fromkeys([*touched, *first_ids]):
            item = get(item_id)
            if item is None or item.status != "running":
                self._forget(item_id)
                continue
            if self._is_newly_stuck(item, now):
                found.append((item, "stuck"))
            if item_id not in self._scheduled:
                self._schedule(item_id, now)
        if self._due and self._due[0][0] > now + MAX_CHECK_INTERVAL:
            # Do not wait until a clock that was set back has caught up.
            self._due = [(now, item_id) for _, item_id in self._due]
        for _ in range(MAX_CHECKS_PER_POLL):
            if not self._due or self._due[0][0] > now:
                break
            item_id = heapq.heappop(self._due)[1]
            self._scheduled.discard(item_id)
            item = get(item_id)
            if item is not None and item.status == "running":
                if self._is_newly_slower(item, now):
                    found.append((item, "slower"))
                self._schedule(item_id, now + self._find_interval(item))
        return found

    def _is_newly_stuck(self, item: Item, now: float) -> bool:
        silence = item.run_id, self._conditions.find_progress_instant(item)
        if not self._conditions.is_stuck(item, now):
            # An item that is stuck again, after a restart for example, is still in the same silence.
            if self._stuck and self._stuck.get(item.id, silence) != silence:
                del self._stuck[item.id]
            return False
        if self._stuck.get(item.id) == silence:
            return False
        self._stuck[item.id] = silence
        return True

    def _is_newly_slower(self, item: Item, now: float) -> bool:
        if self._slower_runs.get(item.id) == item.run_id:
            return False
        if not self._conditions.is_slower(item, now):
            self._suspects.pop(item.id, None)
            return False
        if self._suspects.get(item.id) != item.run_id:
            self._suspects[item.id] = item.run_id
            return False
        del self._suspects[item.id]
        self._slower_runs[item.id] = item.run_id
        return True

    def _find_interval(self, item: Item) -> float:
        former = self._conditions.forecaster.get_former(item)
        if former is None:
            return MAX_CHECK_INTERVAL / 2  # they may be on their way
        return min(max(former.usual_duration / CHECKS_PER_RUN, MIN_CHECK_INTERVAL), MAX_CHECK_INTERVAL)

    def _schedule(self, item_id: str, at: float) -> None:
        self._scheduled.add(item_id)
        heapq.heappush(self._due, (at, item_id))

    def _forget(self, item_id: str) -> None:
        self._stuck.pop(item_id, None)
        self._slower_runs.pop(item_id, None)
        self._suspects.pop(item_id, None)
