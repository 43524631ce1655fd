"""A change of an item: the states before and after it, the writes to persist, and the changes to publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from progressbar_tracker.server.models import EndedRun, Item, StoredTail
from progressbar_tracker.server.mutations import AddHistory, DropItem, SaveItem, SaveTail, Write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from progressbar_tracker.server.models import EndStatus


class Owner(msgspec.Struct, frozen=True):
    """The owner of items: the id that permissions compare, and the displayed name."""

    id: str
    name: str


class Change(msgspec.Struct, frozen=True):
    """The result of an operation.

    Attributes:
        before: The item before the operation; ``None`` if the operation created it.
        after: The item after it, or ``None``; ``before`` itself if the operation was ignored.
        ended_run: The run that moved to the history, if any.
        durable: The response waits for the commit.
        tail: The output tail to store with the run, see :func:`add_tail`.
    """

    before: Item | None
    after: Item | None
    ended_run: EndedRun | None = None
    durable: bool = False
    tail: StoredTail | None = None

    @property
    def id(self) -> str:
        """The item's id."""
        item = self.after or self.before
        assert item is not None
        return item.id

    @property
    def event(self) -> str | None:
        """The event for the log; ``None`` if the item neither began, ended, resumed nor left."""
        before, after = self.before, self.after
        if after is before:
            return None
        if after is None:
            return "item deleted" if self.ended_run is None or self.ended_run.status == "deleted" else "item removed"
        if before is None:
            return "item created"
        if after.run_id != before.run_id:
            return "item taken over"
        if after.status != before.status:
            return "item resumed" if after.status == "running" else "item ended"
        return None

    def writes(self) -> list[Write]:
        """Return the writes to persist, in order; none for an ignored operation."""
        if self.after is self.before:
            return []
        if self.ended_run is None and self.after is not None and self.tail is None:
            return [SaveItem(self.after, self.before)]
        writes: list[Write] = [] if self.ended_run is None else [AddHistory(self.ended_run)]
        if self.after is not None:
            writes.append(SaveItem(self.after, self.before))
            if self.tail is not None:
                writes.append(SaveTail(self.after.id, self.after.run_id, self.tail, self.after.owner_id))
        elif self.before is not None:
            writes.append(DropItem(self.before.id, self.before))
        return writes


def add_tail(change: Change, text: str | None, now: float) -> Change:
    """Return a change of an item that also stores the last lines of its run's output, with one commit.

    Args:
        change: The change of a write; nothing is stored if the write was ignored.
        text: The output, as :func:`~.output.clean_output` returns it. ``None`` stores nothing.
        now: The instant.
    """
    if text is None or change.after is None or change.after is change.before:
        return change
    # The request waits for the commit: what waits for a slow disk is bounded by the number of requests.
    return msgspec.structs.replace(change, tail=StoredTail(now, text), durable=True)


def list_writes(changes: Iterable[Change]) -> list[Write]:
    """Return the writes of all changes, in order."""
    return [write for change in changes for write in change.writes()]


class PendingChanges(msgspec.Struct, frozen=True):
    """Changes that the reader of the board has not drained.

    Attributes:
        groups: For each changed or removed item, by id: the groups in which the reader may know it.
        ended_runs: The runs that moved to the history.
    """

    groups: dict[str, set[str | None]]
    ended_runs: list[EndedRun]


def end_run(item: Item, otherwise: EndStatus, now: float) -> EndedRun:
    """Return the run of an item that leaves the board, with its own end or, if it still runs, with another one.

    Args:
        item: The item that leaves.
        otherwise: The end status of a run that still runs.
        now: The end instant of such a run.
    """
    if item.status == "running":
        return EndedRun(item, otherwise, now)
    return EndedRun(item, item.status, now if item.ended_at is None else item.ended_at)
