"""Counts of inner runs that were too short to be sent, by the run that they were inside of.

A bar inside a loop that ends before its first send costs no request, so only its parent can say that it existed. The
count is a state of the parent: absolute, sent with its next operation, and sent again if the server lost the item. A
parent in another process, and a part of an item, have no such count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .schedule import Record

if TYPE_CHECKING:
    from progressbar_tracker._models import Op

    from .snapshot import Source


class ShortRuns:
    """The counts. Runs without short inner runs, nearly all, cost no memory."""

    def __init__(self) -> None:
        self._counts: dict[Record, int] = {}
        self._acknowledged: dict[Record, int] = {}

    def add(self, source: Source) -> None:
        """Count a run that was not sent for its parent, if that is tracked."""
        parent = source.parent
        record = None if parent is None else parent.record
        if isinstance(record, Record) and record.source.part is None:
            self._counts[record] = self._counts.get(record, 0) + 1

    def is_behind(self, record: Record) -> bool:
        """Return whether the server lacks the count of a run."""
        return bool(self._counts) and self._counts.get(record, 0) != self._acknowledged.get(record, 0)

    def add_count(self, op: Op, record: Record) -> None:
        """Put the count of a run into an operation that creates or changes its item, unless the server has it."""
        if self._counts and (op["op"] == "put" or self.is_behind(record)) and (count := self._counts.get(record, 0)):
            op["short_runs"] = count

    def acknowledge(self, op: Op, record: Record) -> None:
        """Record that the server has applied an operation."""
        if "short_runs" in op:
            self._acknowledged[record] = op["short_runs"]

    def forget(self, record: Record) -> None:
        """Forget a run."""
        if self._counts:
            self._counts.pop(record, None)
            self._acknowledged.pop(record, None)

    def clear(self) -> None:
        """Forget all runs."""
        self._counts.clear()
        self._acknowledged.clear()
