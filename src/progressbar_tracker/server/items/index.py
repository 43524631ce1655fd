"""The sorted index of items: the cost of a page depends on its size, not on the number of items.

The index is sorted Python lists with binary search. An insertion into a hundred thousand entries moves 400 KB of
memory, some microseconds for each item; a page is a slice. Besides the list of all items there is one for each group
and each status; a query reads the shortest that matches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from progressbar_tracker.server.models import Item

SortKey: TypeAlias = tuple[int, float, int, str]
"""The sort key of the list, and the cursor of a page. It is unique among the items of all servers."""

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
            key = sort_key(item)
            for partition in _partitions(item):
                self._partitions.setdefault(partition, []).append(key)
        for keys in self._partitions.values():
            keys.sort()

    def update(self, before: Item | None, after: Item | None) -> None:
        """Update the index for a new, changed or removed item."""
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
            key = sort_key(before)
            for partition in _partitions(before):
                keys = self._partitions[partition]
                del keys[bisect_left(keys, key)]
                if not keys and partition is not _ALL_ITEMS:
                    del self._partitions[partition]
        if after is not None:
            key = sort_key(after)
            for partition in _partitions(after):
                insort(self._partitions.setdefault(partition, []), key)

    def iter_ids(
        self, *, group: str | None = None, status: str | None = None, after: SortKey | None = None
    ) -> Iterator[str]:
        """Yield ids in order; the index must not change during the iteration.

        With both filters, only the more selective one is used; the caller applies the other.

        Args:
            group: Only items of a group.
            status: Only items of a status.
            after: Begin after this key.
        """
        matching = [_ALL_ITEMS]
        if group is not None:
            matching.append(("group", group))
        if status is not None:
            matching.append(("status", status))
        keys = min((self._partitions.get(partition, []) for partition in matching), key=len)
        start = 0 if after is None else bisect_right(keys, after)
        for key in islice(keys, start, None):
            yield key[3]


def _partitions(item: Item) -> list[_Partition]:
    partitions: list[_Partition] = [_ALL_ITEMS, ("status", item.status)]
    if item.group is not None:
        partitions.append(("group", item.group))
    return partitions
