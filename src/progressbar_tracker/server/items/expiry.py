"""What falls due by itself: that an ended item leaves, that one falls silent, is late, or has been silent for too long.

One heap each. To look what is due costs what is due. Entries are not removed when they become untrue: what pops is
looked at again, and has to wait once more if its time has not come.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final

from .serializer import late, stalled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.settings import Periods

UNTRUE: Final = 1000
"""How many entries of a heap may have become untrue, besides one for each item."""

AWAKE: Final = 600.0
"""Seconds after the start in which nobody is given up: programs that go on have come back by then."""


class Schedule:
    """When what happens by itself has to be looked at.

    Args:
        items: All items; looked up in whenever something is due.
        keep: How long an ended item without a ``ttl`` of its own stays.
        give_up: After how many seconds without a sign of life a running item is given up.
    """

    def __init__(self, items: Mapping[str, Item], *, keep: Periods, give_up: float) -> None:
        self._items = items
        self._keep = keep
        self._give_up = give_up
        self._awake_at: float | None = None
        self._restarted_at = -math.inf
        self._expiries: list[tuple[float, str]] = []
        self._silences: list[tuple[float, str]] = []
        self._abandoned: list[tuple[float, str]] = []
        self._deadlines: list[tuple[float, str]] = []
        self.listening: set[str] = set()
        """Items that are looked at when they may have fallen silent."""

    def moved(self, before: Item | None, after: Item) -> None:
        """Note that an item has come or changed; one that has gone is noticed by itself."""
        if after.status != "running":
            due = self._expiry(after)
            if due is not None and (before is None or self._expiry(before) != due):
                self._wait(self._expiries, due, after.id)
            return
        if before is None or before.status != "running":
            self._watch(after)
        if after.heartbeat_timeout is not None and (
            after.id not in self.listening
            or before is None
            or before.heartbeat_timeout is None
            or after.heartbeat_timeout < before.heartbeat_timeout
        ):
            self.listen(after)
        if after.deadline_at is not None and (
            before is None or before.deadline_at != after.deadline_at or before.status != "running"
        ):
            self._wait(self._deadlines, after.deadline_at, after.id)

    def listen(self, item: Item) -> None:
        """See to it that an item is looked at when it may have fallen silent."""
        if item.status == "running" and item.heartbeat_timeout is not None:
            self.listening.add(item.id)
            self._wait(self._silences, item.updated_at + item.heartbeat_timeout, item.id)

    def awake(self, now: float) -> None:
        """Note that a sign of life can reach the server, from when this is first said."""
        if self._awake_at is None:
            self._awake_at = now

    def restart(self, now: float) -> None:
        """Count every period from now on: the clock was set, and no instant before says how long ago it was."""
        self._restarted_at = now
        self._awake_at = None if self._awake_at is None else now
        for heap in (self._expiries, self._silences, self._abandoned, self._deadlines):
            heap.clear()
        self.listening.clear()
        for item in self._items.values():
            self.moved(None, item)

    def expired(self, now: float) -> Iterator[Item]:
        """Yield the ended items whose time is over; each is to be removed before the next is asked for."""
        while self._expiries and self._expiries[0][0] <= now:
            item = self._items.get(heapq.heappop(self._expiries)[1])
            due = None if item is None else self._expiry(item)
            if item is not None and due is not None and due <= now:
                yield item

    def given_up(self, now: float) -> Iterator[Item]:
        """Yield the running items without a sign of life for too long; each is to be removed before the next."""
        # While the server was away nobody could give a sign of life.
        if self._awake_at is None or now < self._awake_at + AWAKE:
            return
        while self._abandoned and self._abandoned[0][0] <= now:
            item = self._items.get(heapq.heappop(self._abandoned)[1])
            if item is None or item.status != "running":
                continue
            if max(item.updated_at, self._restarted_at) + self._give_up <= now:
                yield item
            else:
                self._watch(item)

    def fallen(self, now: float) -> Iterator[Item]:
        """Yield the items that have fallen silent or become late."""
        while self._silences and self._silences[0][0] <= now:
            _, item_id = heapq.heappop(self._silences)
            self.listening.discard(item_id)
            item = self._items.get(item_id)
            if item is None:
                continue
            if stalled(item, now):
                yield item
            else:
                self.listen(item)
        while self._deadlines and self._deadlines[0][0] <= now:
            item = self._items.get(heapq.heappop(self._deadlines)[1])
            if item is not None and late(item, now):
                yield item

    def _expiry(self, item: Item) -> float | None:
        """Return when an ended item leaves the list, or ``None``."""
        if item.ended_at is None:
            return None
        stays = self._keep.of(item.status) if item.ttl is None else item.ttl
        return None if stays == math.inf else max(item.ended_at, self._restarted_at) + stays

    def _watch(self, item: Item) -> None:
        if self._give_up != math.inf:
            at = max(item.updated_at, self._restarted_at) + self._give_up
            self._wait(self._abandoned, at, item.id)

    def _wait(self, heap: list[tuple[float, str]], at: float, item_id: str) -> None:
        heapq.heappush(heap, (at, item_id))
        if len(heap) > 2 * len(self._items) + UNTRUE:
            # What has become untrue pops when it is due, and a client may put that off for ever.
            heap[:] = self._true(heap)
            heapq.heapify(heap)

    def _true(self, heap: list[tuple[float, str]]) -> Iterable[tuple[float, str]]:
        """Return the entries of a heap that may still mean something, at most one for each item."""
        get = self._items.get
        if heap is self._expiries:
            return {(at, name) for at, name in heap if (item := get(name)) is not None and self._expiry(item) == at}
        running = [(at, item) for at, name in heap if (item := get(name)) is not None and item.status == "running"]
        if heap is self._deadlines:
            return {(at, item.id) for at, item in running if item.deadline_at == at}
        # Of these the first is looked at, and then waits for as long as it has to.
        first: dict[str, float] = {}
        for at, item in running:
            first[item.id] = min(at, first.get(item.id, at))
        if heap is self._silences:
            self.listening.intersection_update(first)
        return [(at, item_id) for item_id, at in first.items()]
