"""The timers of items: an ended item expires, a running one becomes stalled, late, stuck or abandoned.

One heap for each kind of timer, so the cost depends on the number of due items. Stale entries stay in a heap until
they pop; the popped item is then checked, and waits once more if it is not due.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.settings import RetentionPolicy

    from .conditions import Condition, Conditions

STALE_ENTRIES: Final = 1000
"""Stale heap entries tolerated before compaction, besides one entry for each item."""

STARTUP_GRACE_SECONDS: Final = 600.0
"""Seconds after the start in which no item is abandoned: running programs have reconnected by then."""


class ItemTimers:
    """The timers of all items.

    Args:
        items: All items, by id; a due timer looks its item up.
        keep: How long an ended item without a ``ttl`` of its own stays.
        give_up: Seconds without a sign of life until a running item is stopped and removed.
        conditions: Decides whether items are stalled, late or stuck.

    Attributes:
        watched_ids: The items with a heartbeat timer.
        progress_ids: The items with a progress timer.
    """

    def __init__(
        self, items: Mapping[str, Item], *, keep: RetentionPolicy, give_up: float, conditions: Conditions
    ) -> None:
        self._conditions = conditions
        self._items = items
        self._keep = keep
        self._give_up = give_up
        self._started_at: float | None = None
        self._restarted_at = -math.inf
        self._expiries: list[tuple[float, str]] = []
        self._heartbeats: list[tuple[float, str]] = []
        self._abandonments: list[tuple[float, str]] = []
        self._deadlines: list[tuple[float, str]] = []
        self._progress_limits: list[tuple[float, str]] = []
        self.watched_ids: set[str] = set()
        self.progress_ids: set[str] = set()

    def item_changed(self, before: Item | None, after: Item) -> None:
        """Update the timers of a new or changed item; those of a removed item are dropped when they are due."""
        if after.status != "running":
            due = self._expires_at(after)
            if due is not None and (before is None or self._expires_at(before) != due):
                self._push(self._expiries, due, after.id)
            return
        if before is None or before.status != "running":
            self._watch_abandonment(after)
        limit = self._conditions.silence_limit(after)
        if limit is not None and (
            after.id not in self.watched_ids
            or before is None
            or (former := self._conditions.silence_limit(before)) is None
            or limit < former
        ):
            self.watch_heartbeat(after)
        if after.stuck_after is not UNSET and (
            after.id not in self.progress_ids or before is None or before.stuck_after != after.stuck_after
        ):
            self.watch_progress(after)
        if after.deadline_at is not None and (
            before is None or before.deadline_at != after.deadline_at or before.status != "running"
        ):
            self._push(self._deadlines, after.deadline_at, after.id)

    def watch_heartbeat(self, item: Item) -> None:
        """Start the heartbeat timer of a running item with a limit for its silence."""
        limit = self._conditions.silence_limit(item)
        if item.status == "running" and limit is not None:
            self.watched_ids.add(item.id)
            self._push(self._heartbeats, item.updated_at + limit, item.id)

    def watch_progress(self, item: Item) -> None:
        """Start the progress timer of a running item that becomes stuck without a write."""
        if item.status == "running" and self._conditions.needs_progress(item):
            stuck_at = self._conditions.find_stuck_instant(item)
            if stuck_at is not None:
                self.progress_ids.add(item.id)
                self._push(self._progress_limits, stuck_at, item.id)

    def watch_quiet(self, item: Item) -> None:
        """Start the missing timers of a running item without a ``heartbeat_timeout``."""
        if item.id not in self.watched_ids:
            self.watch_heartbeat(item)
        if item.id not in self.progress_ids:
            self.watch_progress(item)

    def mark_started(self, now: float) -> None:
        """Start the startup grace at the first call: signs of life can reach the server from now on."""
        if self._started_at is None:
            self._started_at = now

    def restart(self, now: float) -> None:
        """Count every period from now on: the clock was set, so the age of earlier instants is unknown."""
        self._restarted_at = now
        self._started_at = None if self._started_at is None else now
        for heap in (self._expiries, self._heartbeats, self._abandonments, self._deadlines, self._progress_limits):
            heap.clear()
        self.watched_ids.clear()
        self.progress_ids.clear()
        for item in self._items.values():
            self.item_changed(None, item)

    def resume(self, now: float) -> list[str]:
        """Start the missing progress timers, and return their items: those were stuck, which is uncertain again.

        The startup grace begins again, because no sign of life could reach the server before ``now``.
        """
        self._started_at = None if self._started_at is None else now
        missing = [
            item
            for item in self._items.values()
            if item.stuck_after is not UNSET
            and item.status == "running"
            and item.id not in self.progress_ids
            and self._conditions.needs_progress(item)
        ]
        for item in missing:
            self.watch_progress(item)
        return [item.id for item in missing]

    def pop_expired(self, now: float) -> Iterator[Item]:
        """Yield the expired items; the caller removes each before it takes the next."""
        while self._expiries and self._expiries[0][0] <= now:
            item = self._items.get(heapq.heappop(self._expiries)[1])
            due = None if item is None else self._expires_at(item)
            if item is not None and due is not None and due <= now:
                yield item

    def pop_abandoned(self, now: float) -> Iterator[Item]:
        """Yield the abandoned items; the caller removes each before it takes the next."""
        # While the server was down, no sign of life could reach it.
        if self._started_at is None or now < self._started_at + STARTUP_GRACE_SECONDS:
            return
        while self._abandonments and self._abandonments[0][0] <= now:
            item = self._items.get(heapq.heappop(self._abandonments)[1])
            if item is None or item.status != "running":
                continue
            if max(item.updated_at, self._restarted_at) + self._give_up <= now:
                yield item
            else:
                self._watch_abandonment(item)

    def newly_overdue(self, now: float) -> Iterator[tuple[Item, Condition]]:
        """Yield the items that have become stalled, late or stuck."""
        conditions = self._conditions
        while self._heartbeats and self._heartbeats[0][0] <= now:
            _, item_id = heapq.heappop(self._heartbeats)
            self.watched_ids.discard(item_id)
            item = self._items.get(item_id)
            if item is None:
                continue
            if conditions.is_stalled(item, now):
                yield item, "stalled"
            else:
                self.watch_heartbeat(item)
        while self._deadlines and self._deadlines[0][0] <= now:
            item = self._items.get(heapq.heappop(self._deadlines)[1])
            if item is not None and conditions.is_late(item, now):
                yield item, "late"
        while self._progress_limits and self._progress_limits[0][0] <= now:
            _, item_id = heapq.heappop(self._progress_limits)
            self.progress_ids.discard(item_id)
            item = self._items.get(item_id)
            if item is None:
                continue
            if conditions.is_stuck(item, now):
                yield item, "stuck"
            elif not conditions.is_stalled(item, now):
                self.watch_progress(item)

    def _expires_at(self, item: Item) -> float | None:
        """Return when an ended item expires; ``None`` if it runs or stays.

        The period starts when the end arrives here: an end that waited for the server is shown as long as any other.
        """
        if item.ended_at is None:
            return None
        stays = self._keep.seconds_for(item.status) if item.ttl is None else item.ttl
        return None if stays == math.inf else max(item.updated_at, self._restarted_at) + stays

    def _watch_abandonment(self, item: Item) -> None:
        if self._give_up != math.inf:
            at = max(item.updated_at, self._restarted_at) + self._give_up
            self._push(self._abandonments, at, item.id)

    def _push(self, heap: list[tuple[float, str]], at: float, item_id: str) -> None:
        heapq.heappush(heap, (at, item_id))
        if len(heap) > 2 * len(self._items) + STALE_ENTRIES:
            # A stale entry pops when it is due, and a client can postpone that without end.
            heap[:] = self._compact(heap)
            heapq.heapify(heap)

    def _compact(self, heap: list[tuple[float, str]]) -> Iterable[tuple[float, str]]:
        """Return the entries of a heap that may be valid, at most one for each item."""
        get = self._items.get
        if heap is self._expiries:
            return {(at, name) for at, name in heap if (item := get(name)) is not None and self._expires_at(item) == at}
        running = [(at, item) for at, name in heap if (item := get(name)) is not None and item.status == "running"]
        if heap is self._deadlines:
            return {(at, item.id) for at, item in running if item.deadline_at == at}
        # The earliest entry is enough: when it pops early, it is pushed again with the right instant.
        first: dict[str, float] = {}
        for at, item in running:
            first[item.id] = min(at, first.get(item.id, at))
        if heap is self._heartbeats:
            self.watched_ids.intersection_update(first)
        elif heap is self._progress_limits:
            self.progress_ids.intersection_update(first)
        return [(at, item_id) for item_id, at in first.items()]
