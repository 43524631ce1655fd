"""The schedules of a server, in memory."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from progressbar_tracker.server.models import ScheduleRecord

MAX_SCHEDULES: Final = 10_000
"""The most schedules."""


class Schedules:
    """All schedules, by id.

    Attributes:
        changed_ids: The ids whose schedule was added, replaced or deleted since the monitor last took them.
    """

    def __init__(self, records: Iterable[ScheduleRecord] = ()) -> None:
        self._by_id: dict[str, ScheduleRecord] = {}
        self._ids: list[str] = []
        self.changed_ids: set[str] = set()
        self.replace_all(records)

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, schedule_id: str) -> ScheduleRecord | None:
        """Return the schedule of an id."""
        return self._by_id.get(schedule_id)

    def replace_all(self, records: Iterable[ScheduleRecord]) -> None:
        """Replace all schedules by the stored ones."""
        before, self._by_id = self._by_id, {record.id: record for record in records}
        self._ids = sorted(self._by_id)
        self.changed_ids |= before.keys() | self._by_id.keys()

    def put(self, record: ScheduleRecord, *, is_planned: bool = False) -> None:
        """Add or replace a schedule; ``is_planned`` if the monitor does it, which needs no notice."""
        if record.id not in self._by_id:
            insort(self._ids, record.id)
        self._by_id[record.id] = record
        if not is_planned:
            self.changed_ids.add(record.id)

    def drop(self, schedule_id: str) -> None:
        """Delete a schedule."""
        if self._by_id.pop(schedule_id, None) is not None:
            self._ids.remove(schedule_id)
            self.changed_ids.add(schedule_id)

    def ids(self) -> list[str]:
        """Return all ids, sorted."""
        return list(self._ids)

    def apply(self, records: Iterable[ScheduleRecord], *, is_full: bool, keep_starts: bool) -> None:
        """Apply the stored states of schedules.

        Args:
            records: The changed schedules, or all of them.
            is_full: Whether the records are all schedules.
            keep_starts: Keep the known starts, because this server is the one that records them.
        """
        if is_full:
            records = list(records)
            for schedule_id in self._by_id.keys() - {record.id for record in records}:
                self.drop(schedule_id)
        for record in records:
            known, stored = self._by_id.get(record.id), record
            if keep_starts and known is not None:
                stored = replace(record, started_at=known.started_at, missed_at=known.missed_at)
            if stored != known:
                self.put(stored)

    def all(self) -> list[ScheduleRecord]:
        """Return all schedules, in the order of their ids."""
        return [self._by_id[schedule_id] for schedule_id in self._ids]

    def page(self, *, after: str | None, limit: int) -> list[ScheduleRecord]:
        """Return schedules in the order of their ids, beginning after an id."""
        start = 0 if after is None else bisect_right(self._ids, after)
        return [self._by_id[schedule_id] for schedule_id in self._ids[start : start + limit]]
