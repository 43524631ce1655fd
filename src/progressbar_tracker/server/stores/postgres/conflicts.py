"""What a group of writes comes to, against what is stored: the decisions of one transaction. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from progressbar_tracker.server.items.merge import is_compatible, three_way_merge
from progressbar_tracker.server.models import EndedRun, Item
from progressbar_tracker.server.mutations import ANY_STATE, AddHistory, DropItem, SaveItem, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ConflictResolver:
    """The items of one transaction.

    Args:
        stored: What is stored, by id; ``None`` for what is not there.

    Attributes:
        changed_items: What to write, by id.
        ended_runs: The runs that go to the history, in order.
        stale_ids: The items of which a state that could wait is true no longer.
    """

    def __init__(self, stored: Mapping[str, Item | None]) -> None:
        self._stored = stored
        self.changed_items: dict[str, Item | None] = {}
        self.ended_runs: list[EndedRun] = []
        self.stale_ids: set[str] = set()

    def apply_writes(self, writes: Iterable[Write]) -> set[str]:
        """Take writes over, all or none; return the ids of those that rest on what is true no longer."""
        tried: dict[str, Item | None] = {}
        ended: list[EndedRun] = []
        waiting: EndedRun | None = None
        outdated: set[str] = set()
        after: Item | None
        for write in writes:
            match write:
                case AddHistory(run):
                    # It comes before the write that takes the run from the board, and is no longer than that allows.
                    if waiting is not None:
                        ended.append(waiting)
                    waiting = run
                    continue
                case SaveItem(after, before):
                    item_id = after.id
                case DropItem(item_id, before):
                    after = None
                case _:
                    continue
            now = tried[item_id] if item_id in tried else self._get_item(item_id)
            if before != ANY_STATE and not is_compatible(before, now):
                outdated.add(item_id)
            if waiting is not None:
                same = waiting.item.id == item_id and now is not None and waiting.item.run_id == now.run_id
                # With all that others have told of the run.
                ended.append(replace(waiting, item=now) if same and now is not None else waiting)
                waiting = None
            tried[item_id] = _merge_item(before, after, now)
        if waiting is not None:
            ended.append(waiting)
        if not outdated:
            self.changed_items.update(tried)
            self.ended_runs += ended
        return outdated

    def apply_queued(self, write: SaveItem) -> None:
        """Take over a state that could wait, if its run still goes on."""
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
