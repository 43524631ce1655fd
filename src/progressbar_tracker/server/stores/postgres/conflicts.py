"""What a group of writes comes to, against what is stored: the decisions of one transaction. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from progressbar_tracker.server.items.merge import fits, merged
from progressbar_tracker.server.models import ANY, AddHistory, DropItem, Ended, Item, SaveItem, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Ledger:
    """The items of one transaction.

    Args:
        stored: What is stored, by id; ``None`` for what is not there.

    Attributes:
        changed: What to write, by id.
        ended: The runs that go to the history, in order.
        refused: The items of which a state that could wait is true no longer.
    """

    def __init__(self, stored: Mapping[str, Item | None]) -> None:
        self._stored = stored
        self.changed: dict[str, Item | None] = {}
        self.ended: list[Ended] = []
        self.refused: set[str] = set()

    def enter(self, writes: Iterable[Write]) -> set[str]:
        """Take writes over, all or none; return the ids of those that rest on what is true no longer."""
        tried: dict[str, Item | None] = {}
        ended: list[Ended] = []
        waiting: Ended | None = None
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
            now = tried[item_id] if item_id in tried else self._now(item_id)
            if before != ANY and not fits(before, now):
                outdated.add(item_id)
            if waiting is not None:
                same = waiting.item.id == item_id and now is not None and waiting.item.run_id == now.run_id
                # With all that others have told of the run.
                ended.append(replace(waiting, item=now) if same and now is not None else waiting)
                waiting = None
            tried[item_id] = _made(before, after, now)
        if waiting is not None:
            ended.append(waiting)
        if not outdated:
            self.changed.update(tried)
            self.ended += ended
        return outdated

    def follow(self, write: SaveItem) -> None:
        """Take over a state that could wait, if its run still goes on."""
        item_id, now = write.item.id, self._now(write.item.id)
        if write.before == ANY or fits(write.before, now):
            self.changed[item_id] = _made(write.before, write.item, now)
        else:
            self.refused.add(item_id)

    def now(self, item_id: str) -> Item | None:
        """Return what there is of an item, with all that was taken over."""
        return self._now(item_id)

    def _now(self, item_id: str) -> Item | None:
        return self.changed[item_id] if item_id in self.changed else self._stored.get(item_id)


def _made(before: Item | str | None, after: Item | None, now: Item | None) -> Item | None:
    if isinstance(before, Item) and after is not None and now is not None and after.run_id == now.run_id:
        return merged(before, after, now)
    return after
