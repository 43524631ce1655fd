"""The order of the list, kept while items come and go: a page of it costs what is on it, and not what there is.

Sorted Python lists, searched by halves: to make room in one of a hundred thousand places moves 400 KB of memory, some
microseconds once an item; a page is then a slice. Besides the list of all there is one of each group and each status,
of which the shortest that fits is read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from progressbar_tracker.server.models import Item

SortKey: TypeAlias = tuple[int, float, int, str]
"""What the list is sorted by; a cursor of a page. No two items have the same, whichever server made them."""

_Partition: TypeAlias = tuple[str, str | None]

_ALL_ITEMS: _Partition = ("all", None)


def sort_key(item: Item) -> SortKey:
    """Return the sort key of the list: highest weight, then oldest."""
    return -item.weight, item.created_at, item.born, item.id


class ItemIndex:
    """Ids of items in the order of the list."""

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._partitions: dict[_Partition, list[SortKey]] = {_ALL_ITEMS: []}
        for item in items:
            place = sort_key(item)
            for shelf in _partitions(item):
                self._partitions.setdefault(shelf, []).append(place)
        for places in self._partitions.values():
            places.sort()

    def update(self, before: Item | None, after: Item | None) -> None:
        """Note that an item has come, gone or changed."""
        if (
            before is not None
            and after is not None
            and after.status == before.status
            and after.group == before.group
            and after.weight == before.weight
            and after.created_at == before.created_at
            and after.born == before.born
        ):
            return
        if before is not None:
            place = sort_key(before)
            for shelf in _partitions(before):
                places = self._partitions[shelf]
                del places[bisect_left(places, place)]
                if not places and shelf is not _ALL_ITEMS:
                    del self._partitions[shelf]
        if after is not None:
            place = sort_key(after)
            for shelf in _partitions(after):
                insort(self._partitions.setdefault(shelf, []), place)

    def iter_ids(
        self, *, group: str | None = None, status: str | None = None, after: SortKey | None = None
    ) -> Iterator[str]:
        """Yield ids in order; the list must not change meanwhile.

        Args:
            group: Only from the list of a group; of a filter by group and status, one remains to be done.
            status: Only from the list of a status; likewise.
            after: Begin after this place.
        """
        wanted = [_ALL_ITEMS]
        if group is not None:
            wanted.append(("group", group))
        if status is not None:
            wanted.append(("status", status))
        places = min((self._partitions.get(shelf, []) for shelf in wanted), key=len)
        start = 0 if after is None else bisect_right(places, after)
        for place in islice(places, start, None):
            yield place[3]


def _partitions(item: Item) -> list[_Partition]:
    shelves: list[_Partition] = [_ALL_ITEMS, ("status", item.status)]
    if item.group is not None:
        shelves.append(("group", item.group))
    return shelves
