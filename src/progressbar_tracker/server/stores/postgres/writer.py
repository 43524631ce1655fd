"""The writer: one thread owns the one connection that writes, and commits in groups, four times a second at the least.

Whoever needs durability waits for the next group's commit. States that may wait are coalesced per item, each with what
the oldest of them was made of, and join the next group. What was committed is remembered until the follower has told
of it: until then an older row of the same item is no news. The thread never dies of a failed commit: it fails the
waiters, keeps what may wait, and tries again.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import psycopg

from progressbar_tracker._text import summarize_error
from progressbar_tracker.server.models import Item
from progressbar_tracker.server.mutations import (
    ANY_STATE,
    CREDENTIAL_WRITES,
    AddHistory,
    AddSample,
    DropItem,
    SaveItem,
    TrimHistory,
    Write,
)
from progressbar_tracker.server.stores.base import ChangeBatch, ItemRow, OutdatedError, StoreError
from progressbar_tracker.server.stores.group_commit import (
    RETRY_DELAY,
    GroupResult,
    GroupWriter,
    Waiter,
    get_item_id,
    get_queue_key,
)

from . import rows
from .conflicts import ConflictResolver
from .schema import NOTIFY_CHANNEL, abort_connection, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .schema import Connection

FLUSH_DELAY: Final = 0.25
"""Seconds between two commits of states that may wait."""

TOMBSTONE_RETENTION: Final = 3600.0
"""Seconds after which the row of an item that is gone is forgotten."""

MAX_ATTEMPTS: Final = 5
"""How often a group is tried anew because another server has made the same item in this very moment."""


class PostgresWaiter(Waiter):
    """Writes of items, with the queued states that they rest on."""

    preceding: dict[str, SaveItem]
    item_ids: frozenset[str]


class _CollisionError(Exception):
    """An item that was not there when the group was judged is there now."""


class PostgresWriter(GroupWriter[PostgresWaiter]):
    """Commits writes to a database that other servers share, in groups.

    Args:
        url: The database.
        now: Seconds since the epoch.
        publish: Receives the rows of items whose queued states turned out to be outdated.

    Attributes:
        credentials_rev: The newest revision of keys, sessions and shares that this server wrote.
    """

    def __init__(self, url: str, *, now: Callable[[], float], publish: Callable[[ChangeBatch], None]) -> None:
        super().__init__(FLUSH_DELAY)
        self.credentials_rev = 0
        self._url = url
        self._now = now
        self._publish = publish
        self._connection: Connection | None = None
        self._pending_ids: Counter[str] = Counter()  # items of submitted writes, until their group is finished
        self._committed_revs: dict[str, int] = {}  # committed items that the follower has not read, by revision
        self._uncertain_ids: set[str] = set()
        self._retry_at = float("-inf")
        self._is_committing = False  # the latest statement is a COMMIT: if it fails, its outcome is unknown
        self._is_abandoned = False
        self._thread.start()

    def find_pending_base(self, item_id: str, rev: int) -> Item | bool:
        """Say what is not yet in the row of an item at a revision: see :class:`~..base.SharedStore`."""
        with self._condition:
            if item_id in self._pending_ids or self._committed_revs.get(item_id, 0) > rev:
                return True
            for queue in (self._in_flight, self._queue):
                save = queue.get(item_id)
                if isinstance(save, SaveItem):
                    return save.before if isinstance(save.before, Item) else True
        return False

    def acknowledge(self, rev: int) -> None:
        """Forget what was committed up to a revision: the follower has told of it."""
        with self._condition:
            while self._committed_revs:
                item_id = next(iter(self._committed_revs))
                if self._committed_revs[item_id] > rev:
                    return
                del self._committed_revs[item_id]

    def drain_uncertain(self) -> set[str]:
        """Return the items of which a commit has failed since this was asked last: the follower reads them anew."""
        with self._condition:
            unsure, self._uncertain_ids = self._uncertain_ids, set()
        return unsure

    def abandon(self) -> None:
        """Give up what is under way: the database does not answer, and the server has to end."""
        self._is_abandoned = True
        if (connection := self._connection) is not None:
            abort_connection(connection)

    def _join(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.1)
            if self._is_abandoned:
                until = min(until, time.monotonic() + 0.3)

    def _run_loop(self) -> None:
        super()._run_loop()
        self._drop_connection()

    def _admit(self, writes: Sequence[Write], on_done: Callable[[Exception | None], object]) -> PostgresWaiter:
        ids = frozenset(item_id for write in writes if (item_id := get_item_id(write)) is not None)
        # Queued states of these items are older, and the writes rest on them: they are written first.
        queued = {item_id: self._queue.pop(item_id) for item_id in ids if item_id in self._queue}
        self._pending_ids.update(ids)
        return PostgresWaiter(writes, on_done, _select_saves(queued), ids)

    @staticmethod
    def _coalesce(queue: dict[object, Write], writes: Iterable[Write]) -> None:
        """Add writes to a queue; each replaces an older one with the same key, and keeps the base of an older state."""
        for write in writes:
            if not isinstance(write, SaveItem):
                queue[get_queue_key(write)] = write
                continue
            older = queue.get(write.item.id)
            if isinstance(older, SaveItem) and write.before != ANY_STATE and older.item.run_id == write.item.run_id:
                write = SaveItem(write.item, older.before)
            queue[write.item.id] = write

    def _finish_group(self, result: GroupResult[PostgresWaiter]) -> None:
        failed = dict[object, Write]()
        with self._condition:
            for waiter, error in result.outcomes:
                for item_id in waiter.item_ids:
                    self._pending_ids[item_id] -= 1
                    if not self._pending_ids[item_id]:
                        del self._pending_ids[item_id]
                if error is not None:
                    self._uncertain_ids |= waiter.item_ids
                    self._coalesce(failed, waiter.preceding.values())
            # A state that was queued with the group is newer than those that precede its waiters.
            self._coalesce(failed, result.failed.values())
            result.failed = failed
            if result.rev is not None:
                for item_id in result.changed_ids:
                    self._committed_revs.pop(item_id, None)
                    self._committed_revs[item_id] = result.rev
            super()._finish_group(result)
        if result.stale_rows:
            self._publish(ChangeBatch(result.stale_rows, out_of_order=True))

    def _requeue(self, failed: dict[object, Write]) -> None:
        for waiter in self._waiters:
            for item_id, save in _select_saves({key: failed[key] for key in waiter.item_ids & failed.keys()}).items():
                waiter.preceding.setdefault(item_id, save)
        super()._requeue(failed)

    def _commit_group(self, waiters: list[PostgresWaiter], queued: dict[object, Write]) -> GroupResult[PostgresWaiter]:
        if self._is_abandoned or (time.monotonic() < self._retry_at and not self._is_closing):
            failure = StoreError("the database does not answer")
            return GroupResult([(waiter, failure) for waiter in waiters], dict(queued))
        return super()._commit_group(waiters, queued)

    def _classify_failure(self, error: Exception) -> tuple[StoreError, bool]:
        self._drop_connection()
        reason = summarize_error(error)
        is_lost = isinstance(error, psycopg.OperationalError)
        if is_lost:
            self._retry_at = time.monotonic() + RETRY_DELAY
            reason = f"the database does not answer: {reason}"
        return StoreError(reason, is_rolled_back=not self._is_committing), is_lost

    def _write_group(self, waiters: list[PostgresWaiter], queued: dict[object, Write]) -> GroupResult[PostgresWaiter]:
        self._is_committing = False
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._url)
        for _ in range(MAX_ATTEMPTS):
            with contextlib.suppress(_CollisionError):
                return self._transact(self._connection, waiters, queued)
        raise StoreError("another server makes the same items all the time")

    def _transact(
        self, connection: Connection, waiters: list[PostgresWaiter], queued: dict[object, Write]
    ) -> GroupResult[PostgresWaiter]:
        self._is_committing = False
        late = [write for write in queued.values() if isinstance(write, SaveItem)]
        ids = {item_id for waiter in waiters for item_id in waiter.item_ids} | {write.item.id for write in late}
        with connection.transaction(), connection.cursor() as cursor:
            stored = rows.lock_items(cursor, ids)
            ledger = ConflictResolver({item_id: row.item for item_id, row in stored.items()})
            outcomes, others = list[tuple[PostgresWaiter, StoreError | None]](), list[Write]()
            for waiter in waiters:
                for save in waiter.preceding.values():
                    ledger.apply_queued(save)
                if outdated := ledger.apply_writes(waiter.writes):
                    there = {item_id: stored.get(item_id, ItemRow(0, None)) for item_id in outdated}
                    outcomes.append((waiter, OutdatedError(there)))
                else:
                    outcomes.append((waiter, None))
                    others += [write for write in waiter.writes if not isinstance(write, _ITEM_WRITES)]
            for save in late:
                ledger.apply_queued(save)
            others += [write for write in queued.values() if not isinstance(write, _ITEM_WRITES)]
            rev = self._write_changes(cursor, ledger, stored, others)
            self._is_committing = True
        refused = {
            item_id: stored.get(item_id, ItemRow(0, None)) for item_id in ledger.stale_ids - ledger.changed_items.keys()
        }
        return GroupResult(outcomes, {}, rev, frozenset(ledger.changed_items), refused)

    def _write_changes(
        self, cursor: rows.Cursor, ledger: ConflictResolver, stored: dict[str, ItemRow], others: Sequence[Write]
    ) -> int | None:
        rows.add_samples(cursor, [write for write in others if isinstance(write, AddSample)])
        for write in others:
            if isinstance(write, TrimHistory):
                if rows.trim_history(cursor, write, self._now() - TOMBSTONE_RETENTION):
                    self._continue_later(write, FLUSH_DELAY)
            elif not isinstance(write, AddSample):
                rows.execute_write(cursor, write)
        credentials = sum(isinstance(write, CREDENTIAL_WRITES) for write in others)
        count = len(ledger.changed_items)
        if not (count or ledger.ended_runs or credentials):
            return None
        # From here until the commit no other server gets a revision: who sees one has seen all before it.
        cursor.execute(
            "UPDATE meta SET rev = rev + %s, credentials_rev = credentials_rev + %s RETURNING rev, credentials_rev",
            [max(count, 1), credentials],
        )
        rev, credentials_rev = cursor.fetchone() or (0, 0)
        if credentials:
            # Before it is committed: too early does no harm, and too late would.
            self.credentials_rev = credentials_rev
        if not rows.write_items(cursor, ledger.changed_items, stored, rev - count, self._now()):
            raise _CollisionError
        rows.add_history(cursor, ledger.ended_runs, rev)
        cursor.execute(_NOTIFY_STATEMENT)
        return int(rev)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


_NOTIFY_STATEMENT: Final = f"NOTIFY {NOTIFY_CHANNEL}"  # one a commit: each takes a lock of the whole server

_ITEM_WRITES: Final = (SaveItem, DropItem, AddHistory)


def _select_saves(first: dict[str, Write]) -> dict[str, SaveItem]:
    return {item_id: write for item_id, write in first.items() if isinstance(write, SaveItem)}
