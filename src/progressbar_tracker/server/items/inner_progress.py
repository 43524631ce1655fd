"""The latest progress of inner items, for their ancestors: an outer loop moves while its inner bar does.

In memory: a board derives it from its items at the start, and from each change. An item has an entry from the first
progress of a descendant on, so the number of entries is bounded by the number of items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from progressbar_tracker.server.models import Item

MAX_ANCESTORS: Final = 16
"""Ancestors that progress counts for: parents may form a cycle, and a write must stay cheap."""


class LatestProgress(NamedTuple):
    """The latest progress of the descendants of an item.

    Attributes:
        progressed_at: The instant of the progress.
        idle_since: That instant, moved by the time since then in which the item was not known to be alive.
        own_idle_since: The ``idle_since`` of the item itself, by which ``idle_since`` was moved the last time.
    """

    progressed_at: float
    idle_since: float
    own_idle_since: float


class InnerProgress:
    """The latest progress of the descendants of items. Boards of one server may share it."""

    def __init__(self) -> None:
        self._latest: dict[str, LatestProgress] = {}

    def get(self, item_id: str) -> LatestProgress | None:
        """Return the latest progress of the descendants of an item; ``None`` if they made none."""
        return self._latest.get(item_id)

    def record(self, ancestor: Item, progressed_at: float, idle_since: float) -> None:
        """Record the progress of a descendant, unless a later one is known."""
        known = self._latest.get(ancestor.id)
        if known is None or known.progressed_at < progressed_at:
            self._latest[ancestor.id] = LatestProgress(progressed_at, idle_since, ancestor.progress.idle_since)

    def follow(self, item: Item) -> None:
        """Move the idle time of an item's descendants after a write of the item, as its own was moved."""
        known = self._latest.get(item.id)
        if known is not None and (moved := item.progress.idle_since - known.own_idle_since) > 0:
            idle_since = max(min(known.idle_since + moved, item.updated_at), known.idle_since)
            self._latest[item.id] = known._replace(idle_since=idle_since, own_idle_since=item.progress.idle_since)

    def forget(self, item_id: str) -> None:
        """Forget the descendants of an item that has ended or left."""
        self._latest.pop(item_id, None)

    def set_clock(self, get: Callable[[str], Item | None], now: float, seconds: float, fresh_since: float) -> None:
        """Adjust to a wall clock that was set, as :meth:`~.board.Board.set_clock` adjusts the items."""
        for item_id, latest in self._latest.items():
            item = get(item_id)
            shift = 0.0 if fresh_since <= latest.progressed_at <= now else seconds
            self._latest[item_id] = LatestProgress(
                min(latest.progressed_at + shift, now),
                min(latest.idle_since + shift, now),
                latest.own_idle_since if item is None else item.progress.idle_since,
            )


def find_ancestors(item: Item, get: Callable[[str], Item | None]) -> Iterator[Item]:
    """Yield the running ancestors of an item, the nearest first, as far as they belong to the same key.

    Another key could otherwise hide that an item is stuck.

    Args:
        item: The item.
        get: Returns an item by its id.
    """
    ancestor = item
    for _ in range(MAX_ANCESTORS):
        if ancestor.parent is None:
            return
        parent = get(ancestor.parent)
        if parent is None or parent.owner_id != item.owner_id or parent.id == item.id:
            return
        if parent.status == "running":
            yield parent
        ancestor = parent
