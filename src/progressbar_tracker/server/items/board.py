"""The board: the rules for every operation on the table of items.

Pure: no I/O, no clock (each operation takes ``now``, seconds since the epoch), no knowledge of HTTP or of a store.
An operation either raises a :class:`~.problems.ProblemError` and changes nothing, or changes the board and returns a
:class:`~.change.Change` with the writes to persist. The caller has authorized the operation and validated its fields.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from progressbar_tracker._estimate import shift_progress, start_progress
from progressbar_tracker._models import LegacyItem, compute_fraction
from progressbar_tracker.server.models import EndedRun, Item, StopRequest, intern_texts
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.quota import Quota

from .change import Change, Owner, end_run
from .table import NO_EXPIRY, ItemTable
from .transition import apply_write, last_seq, measure_progress
from .validation import PROGRESS_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from progressbar_tracker.server.settings import RetentionPolicy

    from .conditions import Condition, Conditions
    from .validation import WriteFields

MAX_PAST_RUNS: Final = 8
"""Former runs that an item remembers, so that they cannot take it back."""


class Board(ItemTable):
    """All items, and the operations on them.

    Args:
        max_items: The maximum number of items of one owner.
        new_run_id: Makes the id of a run whose writer names none.
        items: The items that the store has loaded.
        track_changes: Record changes for readers; another board publishes them if false.
        keep: How long an ended item without a ``ttl`` of its own stays.
        give_up: Seconds without a sign of life until a running item is stopped and removed.
        conditions: Decides whether items are stalled, late or stuck.
    """

    def __init__(
        self,
        *,
        max_items: int,
        new_run_id: Callable[[], str],
        items: Iterable[Item] = (),
        track_changes: bool = True,
        keep: RetentionPolicy = NO_EXPIRY,
        give_up: float = math.inf,
        conditions: Conditions | None = None,
    ) -> None:
        super().__init__(items, track_changes=track_changes, keep=keep, give_up=give_up, conditions=conditions)
        self._max_items = max_items
        self._new_run_id = new_run_id
        self._overdue: dict[tuple[str, Condition], None] = {}

    # Part 1 of the protocol.

    def create(self, body: LegacyItem, owner: Owner, now: float, *, group: str | None = None) -> Change:
        """Create an item, as in part 1 of the protocol.

        Raises:
            ProblemError: ``item-exists`` or ``too-many-items``.
        """
        if body["id"] in self._items:
            raise ProblemError("item-exists", f"an item {body['id']!r} exists already")
        self._check_quota(owner)
        done = body["value"] >= 1
        item = self._new_item(body["id"], self._new_run_id(), owner, now)
        item = replace(
            item,
            title=body["title"],
            description=body["description"],
            value=body["value"],
            weight=body["weight"],
            group=group,
            status="succeeded" if done else "running",
            ended_at=now if done else None,
            progress=start_progress(body["value"], now),
        )
        return self._commit(None, item, durable=True)

    def update(self, body: LegacyItem, now: float) -> Change:
        """Replace the four fields of part 1; a value of 1 ends the run, a later one below 1 revives it.

        Raises:
            ProblemError: ``item-not-found``.
        """
        before = self.require(body["id"])
        value = body["value"]
        status, ended_at, error = before.status, before.ended_at, before.error
        if value >= 1 and status != "succeeded":
            status, ended_at, error = "succeeded", now, None
        elif value < 1 and status != "running":
            status, ended_at, error = "running", None, None
        has_progress = before.completed is None and (value != before.value or body["description"] != before.description)
        if before.completed is not None:
            progress = before.progress
        elif before.status != "running":
            progress = start_progress(value, now)  # the time since its end is no gap
        else:
            progress = measure_progress(
                before, None, value, before.started_at, now, has_progress=has_progress,
                listening_since=self.conditions.listening_since,
            )  # fmt: skip
        after = replace(
            before,
            title=body["title"],
            description=body["description"],
            value=value,
            weight=body["weight"],
            status=status,
            ended_at=ended_at,
            error=error,
            updated_at=now,
            rev=self._next_rev(),
            progressed_at=now if has_progress else before.progressed_at,
            progress=progress,
            stop_request=before.stop_request if status == before.status else None,
        )
        return self._commit(before, after, durable=status != before.status)

    # Part 2.

    def put(self, item_id: str, fields: WriteFields, owner: Owner, now: float) -> Change:
        """Create an item, replace its writable fields, or take it over for another run.

        Args:
            item_id: The id.
            fields: Checked fields; absent ones become their defaults.
            owner: The owner of a new run.
            now: The instant.

        Raises:
            ProblemError: ``too-many-items``, ``run-ended``, ``run-superseded`` or ``invalid-field``.
        """
        before = self._items.get(item_id)
        run_id = fields.get("run_id")
        if before is None:
            self._check_quota(owner)
            return self._start_run(None, self._new_item(item_id, run_id or self._new_run_id(), owner, now), fields, now)
        if run_id is None or run_id == before.run_id:
            return self._apply(before, fields, now, overwrite=True)
        if run_id in before.past:
            raise ProblemError("run-superseded", f"the item {item_id!r} was taken over by a newer run")
        if before.owner_id != owner.id:
            self._check_quota(owner)
        past = (before.run_id, *before.past)[:MAX_PAST_RUNS]
        return self._start_run(before, replace(self._new_item(item_id, run_id, owner, now), past=past), fields, now)

    def patch(self, item_id: str, fields: WriteFields, now: float) -> Change:
        """Change the named fields and keep the rest; without a field, record a sign of life.

        Raises:
            ProblemError: ``item-not-found``, ``run-superseded``, ``run-ended`` or ``invalid-field``.
        """
        before = self._items.get(item_id) or self.require(item_id)
        run_id = fields.get("run_id")
        if run_id is not None and run_id != before.run_id:
            raise _superseded(before)
        return self._apply(before, fields, now, overwrite=False)

    def delete(self, item_id: str, now: float, *, run_id: str | None = None) -> Change:
        """Remove an item from the board; its run moves to the history.

        Raises:
            ProblemError: ``item-not-found`` or ``run-superseded``.
        """
        before = self.require(item_id)
        if run_id is not None and run_id != before.run_id:
            raise _superseded(before)
        return self._commit(before, None, ended_run=end_run(before, "deleted", now), durable=True)

    def request_stop(self, item_id: str, requested_by: str, now: float, *, run_id: str | None = None) -> Change:
        """Record a request to stop the current run. The first request stays; a repeated one only waits for its commit.

        Args:
            item_id: The id.
            requested_by: The name of the requester.
            now: The instant.
            run_id: Refuse the request if the item belongs to another run.

        Raises:
            ProblemError: ``item-not-found``, ``run-superseded``, ``run-ended`` or ``not-stoppable``.
        """
        before = self.require(item_id)
        if run_id is not None and run_id != before.run_id:
            raise _superseded(before)
        if before.status != "running":
            raise _ended(before)
        if not before.stoppable:
            raise ProblemError("not-stoppable", f"the run {before.run_id!r} of {item_id!r} does not accept requests")
        request = before.stop_request or StopRequest(now, requested_by)
        return self._commit(before, replace(before, stop_request=request, rev=self._next_rev()), durable=True)

    def quota(self, owner_id: str, *, reset: int | None = None) -> Quota:
        """Return how many more items an owner may have."""
        return Quota("items", self._max_items, self._max_items - self._owner_counts.get(owner_id, 0), reset=reset)

    def sweep(self, now: float, *, expire: bool = True) -> list[Change]:
        """Remove expired and abandoned items, and record those that have become stalled, late or stuck.

        The cost depends on the number of due items.

        Args:
            now: The instant.
            expire: Whether this server removes items.
        """
        timers = self._timers
        timers.mark_started(now)
        changes = list[Change]()
        if expire:
            # Each item is removed before the next one is yielded.
            changes += [
                self._commit(item, None, ended_run=end_run(item, "deleted", now)) for item in timers.pop_expired(now)
            ]
            changes += [
                self._commit(item, None, ended_run=end_run(item, "stopped", now)) for item in timers.pop_abandoned(now)
            ]
        for item, condition in timers.newly_overdue(now):
            # No write happened, but readers have a change to show.
            self._next_rev()
            self._record_change(item)
            self._overdue[item.id, condition] = None
        return changes

    def set_clock(self, now: float, seconds: float, fresh_since: float) -> list[Change]:
        """Adjust the items to a wall clock that was set: silences keep their length, and no instant is in the future.

        Every period is counted from now on, see :meth:`~.expiry.ItemTimers.restart`.

        Args:
            now: The instant, by the new clock.
            seconds: The jump of the clock.
            fresh_since: Runs updated since this instant were updated by the new clock.

        Returns:
            The changes to persist.
        """
        changes = []
        for before in list(self._items.values()):
            after = _adjust_to_clock(before, now, seconds, fresh_since)
            if after is not before:
                after = replace(after, rev=self._next_rev())
                self._index.update(before, after)  # a clock that was set back moves the beginning of an item
                self._items[after.id] = after
                self._touched.add(after.id)
                self._record_change(after)
                changes.append(Change(before, after))
        self.conditions.inner_progress.set_clock(self._items.get, now, seconds, fresh_since)
        self._timers.restart(now)
        return changes

    def drain_overdue(self) -> list[tuple[str, Condition]]:
        """Return the ids of the items that have become stalled, late or stuck without a write since the last call."""
        overdue, self._overdue = self._overdue, {}
        return list(overdue)

    # Shared by the operations.

    def _new_item(self, item_id: str, run_id: str, owner: Owner, now: float) -> Item:
        rev = self._next_rev()
        return Item(
            id=item_id, owner_id=owner.id, owner=owner.name, run_id=run_id, created_at=now, updated_at=now,
            started_at=now, progressed_at=now, born=rev, rev=rev,
        )  # fmt: skip

    def _start_run(self, before: Item | None, new_item: Item, fields: WriteFields, now: float) -> Change:
        after = intern_texts(self._apply_write(new_item, fields, now, overwrite=True))
        ended = None if before is None else end_run(before, "stopped", now)
        return self._commit(before, after, ended_run=ended, durable=True)

    def _apply(self, before: Item, fields: WriteFields, now: float, *, overwrite: bool) -> Change:
        """Apply a write of the item's own run."""
        seq, part = fields.get("seq"), fields.get("part")
        last = before.seq if part is None else last_seq(before, part)
        if seq is not None and last is not None and seq <= last:
            return Change(before, before)
        if before.status != "running":
            if fields.get("status") == before.status:
                return Change(before, before)
            raise _ended(before)
        if overwrite or before.parts or not PROGRESS_FIELDS.issuperset(fields):
            after = self._apply_write(before, fields, now, overwrite=overwrite)
            return self._commit(before, after, durable=after.status != "running")
        # Early exit for most writes, at half the cost: only the count and the description change.
        completed = fields.get("completed", before.own)
        if (before.completed is None) is not (completed is None):
            return self._commit(before, self._apply_write(before, fields, now, overwrite=False))
        total, value = before.total, before.value
        if completed is not None and total is not None:
            value = compute_fraction(completed, total) or 0.0
        description, started_at = fields.get("description", before.description), before.started_at
        age = fields.get("age_seconds")
        if age is not None and now - age < started_at:
            started_at = now - age
        has_progress = completed != before.completed or (completed is None and description != before.description)
        # Each field by its name: a dictionary of them would double the cost.
        after = replace(
            before, description=description, own=completed, completed=completed, value=value,
            seq=before.seq if seq is None else seq, updated_at=now, started_at=started_at,
            progressed_at=now if has_progress else before.progressed_at,
            progress=measure_progress(
                before, completed, value, started_at, now, has_progress=has_progress,
                listening_since=self.conditions.listening_since,
            ), rev=self._next_rev(),
        )  # fmt: skip
        # Owner, group and place in the list stay: `_put` without its comparisons.
        item_id = after.id
        self._items[item_id] = after
        self._touched.add(item_id)
        self._record_change(after)
        self._record_progress(before, after)
        if after.heartbeat_timeout is None:
            self._timers.watch_quiet(after)
        elif item_id not in self._timers.watched_ids:
            self._timers.watch_heartbeat(after)
        return Change(before, after)

    def _apply_write(self, before: Item, fields: WriteFields, now: float, *, overwrite: bool) -> Item:
        after = apply_write(
            before, fields, now, rev=self.rev + 1, overwrite=overwrite, listening_since=self.conditions.listening_since
        )
        self.rev = after.rev  # only now: a refused write has no revision
        return after

    def _check_quota(self, owner: Owner) -> None:
        if self._owner_counts.get(owner.id, 0) >= self._max_items:
            raise ProblemError(
                "too-many-items",
                f"the key {owner.name!r} has {self._max_items} items, the most this server keeps for one key; "
                "delete some, or let ended ones expire with ttl",
                retry_after=60,
                quota=self.quota(owner.id, reset=60),
            )

    def _commit(
        self,
        before: Item | None,
        after: Item | None,
        *,
        ended_run: EndedRun | None = None,
        durable: bool = False,
    ) -> Change:
        self._place(before, after)
        if after is None:
            self._next_rev()
        if ended_run is not None and self._track_changes:
            self._pending_changes.ended_runs.append(ended_run)
        return Change(before, after, ended_run, durable)


def _ended(item: Item) -> ProblemError:
    return ProblemError("run-ended", f"the run {item.run_id!r} of {item.id!r} has {item.status}")


def _superseded(item: Item) -> ProblemError:
    return ProblemError("run-superseded", f"the item {item.id!r} belongs to another run")


def _adjust_to_clock(item: Item, now: float, seconds: float, fresh_since: float) -> Item:
    """Return an item as if the clock had always been the new one."""
    created_at, updated_at, ended_at = item.created_at, item.updated_at, item.ended_at
    started_at, progressed_at, progress = item.started_at, item.progressed_at, item.progress
    if item.status == "running":
        if not fresh_since <= updated_at <= now:
            updated_at, progressed_at = updated_at + seconds, progressed_at + seconds
            progress = shift_progress(progress, seconds) if seconds else progress
        elif seconds:
            progress = progress._replace(since=progress.since + seconds)
        # The run lasts as long as before: its next write reports its age, and can only make the start earlier.
        started_at += seconds
    updated_at = min(updated_at, now)
    if ended_at is not None:
        ended_at = min(ended_at, now)
    created_at, started_at = min(created_at, updated_at), min(started_at, updated_at)
    progressed_at = min(progressed_at, updated_at)
    if progress.at > now or progress.idle_since > now:
        progress = progress._replace(at=min(progress.at, now), idle_since=min(progress.idle_since, now))
    stop_request = item.stop_request
    if stop_request is not None and stop_request.at > now:
        stop_request = replace(stop_request, at=now)
    after = replace(
        item, created_at=created_at, updated_at=updated_at, ended_at=ended_at, started_at=started_at,
        progressed_at=progressed_at, progress=progress, stop_request=stop_request,
    )  # fmt: skip
    return item if after == item else after
