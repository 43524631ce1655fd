"""A cache of the statistics of former runs.

The cache never waits for the store: it collects the items that are missing, and a thread loads them in batches.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakValueDictionary

from .former_runs import (
    MAX_FORMER_RUNS,
    MIN_EXACT_RUNS,
    FormerRunReader,
    FormerRunRow,
    build_former_runs,
    choose_unit,
    read_ended_runs,
    select_runs,
)
from .patterns import find_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from progressbar_tracker._former_runs import FormerRuns
    from progressbar_tracker.server.models import Item

logger = logging.getLogger("progressbar_tracker.server")

MAX_CACHED_ITEMS: Final = 20_000
"""Items in the cache, of about 300 bytes each, and 5 KB more for each different set of former runs."""

MAX_BATCH_ITEMS: Final = 100
"""Items of one batch: a read of some milliseconds."""

COMMIT_DELAY: Final = 1.0
"""Seconds after the end of a run in which its row and its curve reach the store."""

CURVE_DELAY: Final = 10.0
"""Seconds after the end of a run in which its missing curve may still arrive."""

MIN_RELOAD_INTERVAL: Final = 5.0
"""Seconds between two loads of one pattern, whose runs may end many times a second."""

RETRY_DELAY: Final = 30.0
"""Seconds until the next read of a store that failed."""

MAX_INDEXED_ITEMS_PER_POLL: Final = 200
"""Ended items of the start that one poll adds to the index of patterns: some milliseconds."""


class _Statistics:
    """The statistics of some former runs.

    Attributes:
        former: The statistics; ``None`` if there is no run.
        count: The number of runs.
        due_at: The monotonic instant of the next load; ``inf`` for none.
        loaded_at: The monotonic instant of the load.
    """

    __slots__ = ("count", "due_at", "former", "loaded_at")

    def __init__(self, former: FormerRuns | None, count: int, loaded_at: float, due_at: float) -> None:
        self.former = former
        self.count = count
        self.loaded_at = loaded_at
        self.due_at = due_at


class _SharedKey(NamedTuple):
    """Items with an equal key share the former runs of their pattern."""

    pattern: str
    unit: str
    is_count: bool


class _Group:
    """The statistics of one pattern, by key. It lives as long as an item refers to it."""

    __slots__ = ("__weakref__", "statistics")

    def __init__(self) -> None:
        self.statistics: dict[_SharedKey, _Statistics] = {}


class _Entry:
    """The former runs of an item.

    Attributes:
        exact: Those of its id.
        group: Those of its pattern; ``None`` if they are not needed.
        is_used: It was used since the cache was last full.
    """

    __slots__ = ("exact", "group", "is_used", "key", "run_id")

    def __init__(self, run_id: str, key: _SharedKey, exact: _Statistics, group: _Group | None) -> None:
        self.run_id = run_id
        self.key = key
        self.exact = exact
        self.group = group
        self.is_used = True

    def is_of(self, item: Item) -> bool:
        """Return whether an item is still of the same run, and measured in the same way."""
        key = self.key
        return self.run_id == item.run_id and key.unit == item.unit and key.is_count is (item.completed is not None)


class Batch(NamedTuple):
    """Former runs to load.

    Attributes:
        items: The items without an entry, with their keys.
        shared: The patterns that must be loaded in any case.
        ended: The succeeded items on the board, by pattern.
        fresh: The patterns that need no load.
    """

    items: list[tuple[Item, _SharedKey]]
    shared: set[_SharedKey]
    ended: dict[str, list[Item]]
    fresh: set[_SharedKey]


class LoadedBatch(NamedTuple):
    """The runs of a batch.

    Attributes:
        exact: The statistics of each item, the number of runs, and whether a curve may be on its way.
        shared: The same of each pattern.
    """

    exact: dict[str, tuple[FormerRuns | None, int, bool]]
    shared: dict[_SharedKey, tuple[FormerRuns | None, int, bool]]


def load_batch(store: FormerRunReader, batch: Batch, now: float) -> LoadedBatch:
    """Load a batch. May block: use a thread.

    Args:
        store: The store.
        batch: The batch.
        now: The instant.
    """
    by_id = store.read_former_runs([item.id for item, _ in batch.items], by="id") if batch.items else {}
    exact: dict[str, tuple[FormerRuns | None, int, bool]] = {}
    keys = set(batch.shared)
    for item, key in batch.items:
        rows = select_runs(by_id.get(item.id, ()), choose_unit(key.unit, is_count=key.is_count))
        exact[item.id] = _summarize(rows, key, now)
        if len(rows) < MIN_EXACT_RUNS and key.pattern != item.id and key not in batch.fresh:
            keys.add(key)
    shared: dict[_SharedKey, tuple[FormerRuns | None, int, bool]] = {}
    if keys:
        patterns = {key.pattern for key in keys}
        by_pattern = store.read_former_runs(list(patterns), by="pattern")
        ended = {
            pattern: read_ended_runs(store, batch.ended[pattern]) for pattern in patterns if batch.ended.get(pattern)
        }
        for key in keys:
            found = [*by_pattern.get(key.pattern, ()), *ended.get(key.pattern, ())]
            rows = select_runs(found, choose_unit(key.unit, is_count=key.is_count))
            shared[key] = _summarize(rows, key, now)
    return LoadedBatch(exact, shared)


def _summarize(rows: list[FormerRunRow], key: _SharedKey, now: float) -> tuple[FormerRuns | None, int, bool]:
    is_incomplete = any(row.curve is None and abs(now - row.ended_at) < CURVE_DELAY for row in rows)
    return build_former_runs(rows, is_count=key.is_count), len(rows), is_incomplete


class FormerRunCache:
    """The statistics of the former runs of running items.

    Args:
        get_item: Returns an item of the board by its id.
        clock: Returns seconds since the epoch.
        monotonic: Returns monotonic seconds.
        items: The items of the board at the start.
    """

    def __init__(
        self,
        get_item: Callable[[str], Item | None],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        items: Iterable[Item] = (),
    ) -> None:
        self._get_item = get_item
        self._clock = clock
        self._monotonic = monotonic
        # Each is emptied from its front, for which a dict would pass over all that has left it.
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._groups: WeakValueDictionary[str, _Group] = WeakValueDictionary()
        self._wanted: OrderedDict[str | _SharedKey, None] = OrderedDict()
        self._delayed: dict[str | _SharedKey, float] = {}  # the instants of those that are not yet due
        self._delays: list[tuple[float, int, str | _SharedKey]] = []  # a heap of these, and of former instants
        self._delay_count = itertools.count()
        self._ended_by_pattern: dict[str, dict[str, float]] = {}
        self._ended: dict[str, tuple[str, str]] = {}  # the pattern and the run of each item in the index
        succeeded = [item for item in items if item.status == "succeeded"]
        succeeded.sort(key=lambda item: item.ended_at or 0.0, reverse=True)
        self._unindexed_ids = [item.id for item in succeeded]
        self._unindexed_ids.reverse()
        self._retry_at = -math.inf
        self._is_failing = self._is_loading = False
        self._changed_patterns: set[str] = set()  # since the batch was taken

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, item: Item) -> FormerRuns | None:
        """Return the statistics of the former runs; ``None`` without one, or until they are loaded.

        It may be called from any thread, and never blocks.
        """
        entry = self._entries.get(item.id)
        if entry is None or not entry.is_of(item):
            self._wanted[item.id] = None
            return None
        entry.is_used = True
        exact = entry.exact
        if exact.due_at != math.inf and item.id not in self._delayed:
            self._wanted[item.id] = None
        if entry.group is None:
            return exact.former
        shared = entry.group.statistics.get(entry.key)
        if shared is None:
            return exact.former
        if shared.due_at != math.inf and entry.key not in self._delayed:
            self._wanted[entry.key] = None
        return shared.former if shared.count > exact.count else exact.former

    def poll(self, changed: Iterable[str]) -> None:
        """Note the ends of runs: they become former runs of the next ones.

        Args:
            changed: The ids of the items that came, changed or left since the last poll.
        """
        for item_id in changed:
            item, entry = self._get_item(item_id), self._entries.get(item_id)
            if entry is not None and (item is None or item.status != "running" or item.run_id != entry.run_id):
                del self._entries[item_id]
            self._index(item_id, item)
        for _ in range(min(MAX_INDEXED_ITEMS_PER_POLL, len(self._unindexed_ids))):
            item_id = self._unindexed_ids.pop()
            self._index(item_id, self._get_item(item_id))

    def list_ended(self, pattern: str) -> list[Item]:
        """Return the items on the board that have succeeded, of a pattern that differs from their ids."""
        found = map(self._get_item, self._ended_by_pattern.get(pattern, ()))
        return [item for item in found if item is not None and item.status == "succeeded"]

    def take_batch(self) -> Batch | None:
        """Return the former runs to load now, or ``None``. Exactly one of the next two methods must follow."""
        now = self._monotonic()
        if self._is_loading or now < self._retry_at:
            return None
        self._resume_delayed(now)
        batch, size = Batch([], set(), {}, set()), 0
        while self._wanted and size < MAX_BATCH_ITEMS:
            wanted, _ = self._wanted.popitem(last=False)
            if isinstance(wanted, str):
                item, entry = self._get_item(wanted), self._entries.get(wanted)
                if item is None or item.status != "running":
                    continue
                if entry is not None and entry.is_of(item):
                    key = entry.key
                    if entry.exact.due_at > now:
                        self._delay(wanted, entry.exact.due_at)
                        continue
                else:
                    key = _SharedKey(find_pattern(wanted), item.unit, item.completed is not None)
                batch.items.append((item, key))
            else:
                key = wanted
                group = self._groups.get(key.pattern)
                known = None if group is None else group.statistics.get(key)
                if known is None or known.due_at > now:
                    self._delay(wanted, math.inf if known is None else known.due_at)
                    continue
                batch.shared.add(key)
            size += 1
            self._delayed.pop(wanted, None)
            batch.ended.setdefault(key.pattern, self.list_ended(key.pattern))
            group = self._groups.get(key.pattern)
            if group is not None and key in group.statistics and group.statistics[key].due_at > now:
                batch.fresh.add(key)
        if not size:
            return None
        self._is_loading = True
        self._changed_patterns.clear()
        return batch

    def finish_batch(self, batch: Batch, loaded: LoadedBatch) -> list[str]:
        """Adopt the runs of a batch; return the items whose estimate they change at once."""
        now, wall = self._monotonic(), self._clock()
        self._is_loading = self._is_failing = False
        changed = list[str]()
        groups = list[_Group]()  # they live at least until their items refer to them
        arrived = set[_SharedKey]()
        for key, (former, count, is_incomplete) in loaded.shared.items():
            group = self._groups.get(key.pattern)
            if group is None:
                group = self._groups[key.pattern] = _Group()
            groups.append(group)
            is_complete = not is_incomplete and key.pattern not in self._changed_patterns
            due_at = math.inf if is_complete else now + MIN_RELOAD_INTERVAL
            known = group.statistics.get(key)
            if known is not None and known.former is None and former is not None:
                arrived.add(key)
            group.statistics[key] = _Statistics(former, count, now, due_at)
        for item, key in batch.items:
            former, count, is_incomplete = loaded.exact[item.id]
            due_at = now + MIN_RELOAD_INTERVAL if is_incomplete else math.inf
            if abs(wall - item.created_at) < 2 * COMMIT_DELAY:
                due_at = now + 2 * COMMIT_DELAY  # the run before it is perhaps not yet in the history
            group = None
            if count < MIN_EXACT_RUNS and key.pattern != item.id:
                group = self._groups.get(key.pattern)
                due_at = now if group is None else due_at
            self._evict()
            self._entries.pop(item.id, None)
            self._entries[item.id] = _Entry(item.run_id, key, _Statistics(former, count, now, due_at), group)
            current = self._get_item(item.id)
            if current is not None and self.get(current) is not None:
                changed.append(item.id)
        if arrived:
            changed += [
                item_id for item_id, entry in self._entries.items() if entry.key in arrived and entry.group is not None
            ]
        return changed

    def fail_batch(self, batch: Batch, error: Exception) -> None:
        """Retry a batch later: until then, items are estimated from their own run."""
        self._is_loading = False
        self._retry_at = self._monotonic() + RETRY_DELAY
        self._wanted.update(dict.fromkeys(item.id for item, _ in batch.items) | dict.fromkeys(batch.shared))
        if not self._is_failing:
            self._is_failing = True
            logger.warning("former runs cannot be read, so each run is estimated from itself alone: %s", error)

    def _index(self, item_id: str, item: Item | None) -> None:
        """Add an item to the index of succeeded items, or remove it."""
        known = self._ended.get(item_id)
        has_succeeded = item is not None and item.status == "succeeded"
        if known is not None:
            if item is not None and has_succeeded and item.run_id == known[1]:
                return
            self._remove_ended(item_id, known[0])
            self._invalidate(known[0])
        if item is not None and has_succeeded and (pattern := find_pattern(item_id)) != item_id:
            self._ended[item_id] = pattern, item.run_id
            ids = self._ended_by_pattern.setdefault(pattern, {})
            ids[item_id] = item.ended_at or 0.0
            if len(ids) > 2 * MAX_FORMER_RUNS:
                self._remove_ended(min(ids, key=ids.__getitem__), pattern)
            self._invalidate(pattern)

    def _remove_ended(self, item_id: str, pattern: str) -> None:
        del self._ended[item_id]
        ids = self._ended_by_pattern[pattern]
        del ids[item_id]
        if not ids:
            del self._ended_by_pattern[pattern]

    def _invalidate(self, pattern: str) -> None:
        """Load the runs of a pattern again, once they are in the store."""
        self._changed_patterns.add(pattern)
        group = self._groups.get(pattern)
        if group is not None:
            now = self._monotonic()
            for key, statistics in group.statistics.items():
                due_at = max(now + COMMIT_DELAY, statistics.loaded_at + MIN_RELOAD_INTERVAL)
                statistics.due_at = min(statistics.due_at, due_at)
                if key in self._delayed:
                    self._delay(key, statistics.due_at)

    def _delay(self, wanted: str | _SharedKey, due_at: float) -> None:
        """Keep a key out of the batches until an instant; ``inf`` until it is wanted again."""
        if due_at == math.inf:
            self._delayed.pop(wanted, None)
        elif self._delayed.get(wanted) != due_at:
            self._delayed[wanted] = due_at
            heapq.heappush(self._delays, (due_at, next(self._delay_count), wanted))

    def _resume_delayed(self, now: float) -> None:
        """Take the keys that are due by now into the next batches."""
        while self._delays and self._delays[0][0] <= now:
            due_at, _, wanted = heapq.heappop(self._delays)
            if self._delayed.get(wanted) == due_at:
                del self._delayed[wanted]
                self._wanted[wanted] = None

    def _evict(self) -> None:
        """Make room for an entry: the oldest one that was not used since the cache was last full leaves."""
        while len(self._entries) >= MAX_CACHED_ITEMS:
            item_id, entry = self._entries.popitem(last=False)
            if entry.is_used:
                entry.is_used = False
                self._entries[item_id] = entry
