"""The table of items: by id, with everything that follows from them.

That is the order of the list, the timers, the number of items of each owner, and the changes that readers drain.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.settings import RetentionPolicy

from .change import Change, PendingChanges
from .conditions import Conditions
from .expiry import ItemTimers
from .index import ItemIndex
from .inner_progress import find_ancestors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from progressbar_tracker._models import Status
    from progressbar_tracker.server.models import EndedRun, Item

    from .index import SortKey

NO_EXPIRY: Final = RetentionPolicy()
"""Ended items stay."""


class ItemTable:
    """All items, by id.

    Args:
        items: The items that the store has loaded.
        track_changes: Record changes for :meth:`drain_changes`; another board publishes them if false.
        keep: How long an ended item without a ``ttl`` of its own stays.
        give_up: Seconds without a sign of life until a running item is stopped and removed.
        conditions: Decides whether items are stalled, late or stuck.

    Attributes:
        rev: Grows with every change.
        conditions: Decides whether items are stalled, late or stuck.
    """

    def __init__(
        self,
        items: Iterable[Item] = (),
        *,
        track_changes: bool = True,
        keep: RetentionPolicy = NO_EXPIRY,
        give_up: float = math.inf,
        conditions: Conditions | None = None,
    ) -> None:
        self._track_changes = False  # off while loading: readers get loaded items from the snapshot
        self._is_loaded = False
        self._items: dict[str, Item] = {}
        self._owner_counts: dict[str, int] = {}
        self.conditions = conditions or Conditions()
        self._timers = ItemTimers(self._items, keep=keep, give_up=give_up, conditions=self.conditions)
        self._pending_changes = PendingChanges({}, [])
        self._touched: set[str] = set()
        self._index = ItemIndex()
        self.rev = 0
        for item in items:
            self.rev = max(self.rev, item.rev)
            self._put(None, item)
        self._index = ItemIndex(self._items.values())
        for item in self._items.values():
            if item.parent is not None:
                for ancestor in find_ancestors(item, self._items.get):
                    self.conditions.inner_progress.record(ancestor, item.progressed_at, item.progress.idle_since)
        self.drain_touched()
        self._is_loaded = True
        self._track_changes = track_changes

    def __len__(self) -> int:
        return len(self._items)

    def get(self, item_id: str) -> Item | None:
        """Return an item, or ``None``."""
        return self._items.get(item_id)

    def require(self, item_id: str) -> Item:
        """Return an item.

        Raises:
            ProblemError: ``item-not-found``.
        """
        item = self._items.get(item_id)
        if item is None:
            raise ProblemError("item-not-found", f"there is no item {item_id!r}")
        return item

    def snapshot(self) -> list[Item]:
        """Return all items, unordered."""
        return list(self._items.values())

    def page(
        self,
        *,
        group: str | None = None,
        status: Status | None = None,
        after: SortKey | None = None,
        limit: int | None = None,
    ) -> list[Item]:
        """Return items: highest weight first, then oldest first. The cost depends on the page, not on the table.

        Args:
            group: Only those of a group.
            status: Only those of a status.
            after: Begin after this place of the list; see :func:`~.index.sort_key`.
            limit: The maximum number of items.
        """
        ids = self._index.iter_ids(group=group, status=status, after=after)
        items: Iterator[Item] = map(self._items.__getitem__, ids)
        if group is not None and status is not None:
            items = (item for item in items if item.group == group and item.status == status)
        return list(islice(items, limit))

    def iter_items(self, ids: Iterable[str], *, group: str | None = None, status: str | None = None) -> Iterator[Item]:
        """Yield items by id, each in its state at that moment; items that have left are skipped.

        A slow reader of the list therefore keeps no former states in memory.

        Args:
            ids: The ids.
            group: Only those that are of a group at that moment.
            status: Only those that are of a status at that moment.
        """
        for item_id in ids:
            item = self._items.get(item_id)
            if item is not None and group in (None, item.group) and status in (None, item.status):
                yield item

    def drain_touched(self) -> set[str]:
        """Return the ids of the items that came, changed or left since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def drain_changes(self) -> PendingChanges:
        """Return the changes since the last call."""
        changes, self._pending_changes = self._pending_changes, PendingChanges({}, [])
        return changes

    def count_changes(self) -> tuple[int, int]:
        """Return the number of changed items and of ended runs since the last call of :meth:`drain_changes`."""
        return len(self._pending_changes.groups), len(self._pending_changes.ended_runs)

    def replace(self, item_id: str, item: Item | None) -> None:
        """Adopt the state of an item that another server has stored; ``None`` if it has left."""
        before = self._items.get(item_id)
        if before is not None or item is not None:
            self._place(before, item)
            self._next_rev()

    def rollback(self, change: Change) -> Item | None:
        """Undo a change whose commit failed, unless the item has changed again; return the item on the board."""
        if self._items.get(change.id) is change.after:
            self._place(change.after, change.before)
            self._next_rev()
        return self._items.get(change.id)

    def record_ended_runs(self, runs: Iterable[EndedRun]) -> None:
        """Record runs that any server has moved to the history."""
        self._pending_changes.ended_runs.extend(runs)

    def republish(self, ids: Iterable[str]) -> None:
        """Record a change of items whose estimates have changed, but not their state."""
        for item in filter(None, map(self._items.get, ids)):
            self._next_rev()
            self._record_change(item)

    def republish_states(self, items: Iterable[Item]) -> None:
        """Record a change of items: readers may know these states, which differ from those here."""
        for item in items:
            self._next_rev()
            self._record_change(item)

    def restart_timers(self, now: float) -> None:
        """Restart the timer of every item at ``now``, as after a change of the clock. Items do not change."""
        self._timers.restart(now)

    def resume(self, now: float) -> None:
        """Count the time without progress from ``now`` on if a run could not reach this server before."""
        self.conditions.listening_since = now
        self.republish(self._timers.resume(now))

    def _next_rev(self) -> int:
        self.rev += 1
        return self.rev

    def _place(self, before: Item | None, after: Item | None) -> None:
        """Replace ``before`` by ``after``, in the list too."""
        self._index.update(before, after)
        self._put(before, after)

    def _put(self, before: Item | None, after: Item | None) -> None:
        """Replace ``before`` by ``after``, without a change of its place in the list."""
        if after is not None:
            self._touched.add(after.id)
        elif before is not None:
            self._touched.add(before.id)
        if before is not None and (after is None or after.group != before.group):
            self._record_change(before)
        if after is not None:
            self._record_change(after)
        if before is not None and (after is None or after.owner_id != before.owner_id):
            left = self._owner_counts[before.owner_id] - 1
            if left:
                self._owner_counts[before.owner_id] = left
            else:
                del self._owner_counts[before.owner_id]
            if after is None:
                del self._items[before.id]
                self.conditions.inner_progress.forget(before.id)
        if after is None:
            return
        if before is None or after.owner_id != before.owner_id:
            self._owner_counts[after.owner_id] = self._owner_counts.get(after.owner_id, 0) + 1
        self._items[after.id] = after
        if self._is_loaded:
            self._record_progress(before, after)
        self._timers.item_changed(before, after)

    def _record_progress(self, before: Item | None, after: Item) -> None:
        """Record the progress of a new or changed item for its ancestors. The start of a run is progress, too."""
        inner_progress = self.conditions.inner_progress
        if after.status == "running":
            inner_progress.follow(after)
        else:
            inner_progress.forget(after.id)
        if after.parent is None or (
            before is not None and before.run_id == after.run_id and after.progressed_at <= before.progressed_at
        ):
            return
        for ancestor in find_ancestors(after, self._items.get):
            is_stuck = self.conditions.is_stuck(ancestor, after.updated_at)
            inner_progress.record(ancestor, after.progressed_at, after.progressed_at)
            if ancestor.id not in self._timers.progress_ids and self.conditions.needs_progress(ancestor):
                self._timers.watch_progress(ancestor)
                is_stuck = True
            if is_stuck:
                # The ancestor itself does not change, but readers have a change to show.
                self._next_rev()
                self._record_change(ancestor)

    def _record_change(self, item: Item) -> None:
        if not self._track_changes:
            return
        groups = self._pending_changes.groups
        known = groups.get(item.id)
        if known is None:
            groups[item.id] = {item.group}
        else:
            known.add(item.group)
