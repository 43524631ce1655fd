"""Resolve conflicts between a group of writes and the stored items. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from progressbar_tracker.server.items.merge import is_compatible, three_way_merge
from progressbar_tracker.server.models import EndedRun, Item
from progressbar_tracker.server.mutations import ANY_STATE, AddHistory, DropItem, SaveItem, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ConflictResolver:
    """Accumulates the changes of one transaction.

    Args:
        stored: Stored items by id; ``None`` for a deleted one.

    Attributes:
        changed_items: Items to write by id; ``None`` to delete one.
        ended_runs: Runs to add to the history, in order.
        stale_ids: Items whose queued state is outdated.
    """

    def __init__(self, stored: Mapping[str, Item | None]) -> None:
        self._stored = stored
        self.changed_items: dict[str, Item | None] = {}
        self.ended_runs: list[EndedRun] = []
        self.stale_ids: set[str] = set()

    def apply_writes(self, writes: Iterable[Write]) -> set[str]:
        """Apply all writes, or none if any is based on an outdated state; return the items with such a base."""
        changed: dict[str, Item | None] = {}
        ended: list[EndedRun] = []
        pending_run: EndedRun | None = None
        outdated: set[str] = set()
        after: Item | None
        for write in writes:
            match write:
                case AddHistory(run):
                    # The next write removes this run from the board. It determines the final item of the run.
                    if pending_run is not None:
                        ended.append(pending_run)
                    pending_run = run
                    continue
                case SaveItem(after, before):
                    item_id = after.id
                case DropItem(item_id, before):
                    after = None
                case _:
                    continue
            now = changed[item_id] if item_id in changed else self._get_item(item_id)
            if before != ANY_STATE and not is_compatible(before, now):
                outdated.add(item_id)
            if pending_run is not None:
                is_same_run = (
                    pending_run.item.id == item_id and now is not None and pending_run.item.run_id == now.run_id
                )
                # The stored item includes the progress that other servers received.
                ended.append(replace(pending_run, item=now) if is_same_run and now is not None else pending_run)
                pending_run = None
            changed[item_id] = _merge_item(before, after, now)
        if pending_run is not None:
            ended.append(pending_run)
        if not outdated:
            self.changed_items.update(changed)
            self.ended_runs += ended
        return outdated

    def apply_queued(self, write: SaveItem) -> None:
        """Apply a queued state, unless it is outdated."""
        item_id, now = write.item.id, self._get_item(write.item.id)
        if write.before == ANY_STATE or is_compatible(write.before, now):
            self.changed_items[item_id] = _merge_item(write.before, write.item, now)
        else:
            self.stale_ids.add(item_id)

    def _get_item(self, item_id: str) -> Item | None:
        return self.changed_items[item_id] if item_id in self.changed_items else self._stored.get(item_id)


def _merge_item(before: Item | str | None, after: Item | None, now: Item | None) -> Item | None:
    if isinstance(before, Item) and after is not None and now is not None and after.run_id == now.run_id:
        return three_way_merge(before, after, now)
    return after
