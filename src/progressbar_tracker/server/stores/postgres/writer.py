"""Write to a PostgreSQL database that other servers share: lock, merge, write, assign revisions, commit.

The lock of the only row of ``meta`` orders the commits of all servers. So the last statement takes it, after all rows
are written, and the database receives that statement together with COMMIT: it holds the lock for one insert and the
commit itself, and never waits for a server meanwhile.

A queued state keeps the base of the oldest state that it replaces, so that a conflict can be merged. The revision of a
committed item is remembered until the follower publishes it. Until then, an older row of the item is outdated.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
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
    Probe,
    SaveCurve,
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
from .database import SharedBackendError, abort_connection
from .schedules import SCHEDULE_WRITES, write_schedules
from .schema import NOTIFY_CHANNEL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from psycopg.rows import TupleRow

    from .database import Connection, Database

FLUSH_DELAY: Final = 0.25
"""Seconds that queued states may wait."""

CHANGES_RETENTION: Final = 120.0
"""Seconds for which the log of changes is kept. A server that was cut off for longer reads everything again."""

CHANGES_TRIM_INTERVAL: Final = 10.0
"""Minimum seconds between two trims of the log of changes by one server."""

MAX_ATTEMPTS: Final = 5
"""Attempts for one group, if other servers create the same items at the same time."""


class PostgresWaiter(Waiter):
    """Writes of items, with the queued states that they rest on."""

    preceding: dict[str, SaveItem]
    item_ids: frozenset[str]


class _CollisionError(Exception):
    """Another server created an item after its row was found missing."""


class PostgresWriter(GroupWriter[PostgresWaiter]):
    """Commits writes to a database that other servers share, in groups.

    Args:
        database: The database.
        publish: Receives the rows of items whose queued states turned out to be outdated.

    Attributes:
        credentials_rev: The newest revision of keys, sessions and shares that this server wrote.
    """

    def __init__(self, database: Database, *, publish: Callable[[ChangeBatch], None]) -> None:
        super().__init__(FLUSH_DELAY)
        self.credentials_rev = 0
        self._database = database
        self._timeline = database.timeline  # of the latest connection
        self._publish = publish
        self._connection: Connection | None = None
        self._pending_ids: Counter[str] = Counter()  # items of submitted writes, until their group is finished
        self._committed_revs: dict[str, int] = {}  # committed items that the follower has not read, by revision
        self._uncertain_ids: set[str] = set()
        self._trim_marks: deque[tuple[float, int]] = deque()  # instants and the revisions that were reached
        self._retry_at = float("-inf")
        self._is_committing = False  # the latest statement is a COMMIT: if it fails, its outcome is unknown
        self._is_abandoned = False
        self._thread.start()

    def find_pending_base(self, item_id: str, rev: int) -> Item | bool:
        """Return which changes are not yet in a row; see :class:`~..base.SharedStore`."""
        with self._condition:
            if item_id in self._pending_ids or self._committed_revs.get(item_id, 0) > rev:
                return True
            for queue in (self._in_flight, self._queue):
                save = queue.get(item_id)
                if isinstance(save, SaveItem):
                    return save.before if isinstance(save.before, Item) else True
        return False

    def acknowledge(self, rev: int) -> None:
        """Forget commits up to a revision, because the follower has published them."""
        with self._condition:
            while self._committed_revs:
                item_id = next(iter(self._committed_revs))
                if self._committed_revs[item_id] > rev:
                    return
                del self._committed_revs[item_id]

    def forget_commits(self) -> None:
        """Forget all commits before the follower reads everything again: some are lost, and their revisions free."""
        with self._condition:
            self._committed_revs.clear()
            self.credentials_rev = 0

    def drain_uncertain(self) -> set[str]:
        """Return, once, the items of failed commits: the follower reads them again."""
        with self._condition:
            uncertain, self._uncertain_ids = self._uncertain_ids, set()
        return uncertain

    def abandon(self) -> None:
        """Fail the current group and all others: the database does not answer, and the server must end."""
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
                if self._timeline != self._database.timeline:  # the follower has seen a newer one meanwhile
                    self._committed_revs.clear()
                    self._uncertain_ids |= result.changed_ids
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
        connection = self._connect()
        for _ in range(MAX_ATTEMPTS):
            with contextlib.suppress(_CollisionError, psycopg.errors.DeadlockDetected):
                result = self._transact(connection, waiters, queued)
                self._database.check_connection(connection)  # a commit on a former primary is lost
                return result
        raise StoreError("other servers keep creating the same items")

    def _connect(self) -> Connection:
        connection = self._connection
        if connection is not None and not connection.closed and connection.timeline == self._database.timeline:
            return connection
        self._drop_connection()
        connection = self._connection = self._database.connect()
        self._timeline = connection.timeline
        self._trim_marks.clear()
        return connection

    def _transact(
        self, connection: Connection, waiters: list[PostgresWaiter], queued: dict[object, Write]
    ) -> GroupResult[PostgresWaiter]:
        self._is_committing = False
        queued_saves = [write for write in queued.values() if isinstance(write, SaveItem)]
        ids = {item_id for waiter in waiters for item_id in waiter.item_ids} | {write.item.id for write in queued_saves}
        with _rolled_back(connection), connection.cursor() as cursor:
            start_rev, stored = _begin(connection, cursor, ids)
            resolver = ConflictResolver(stored)
            outcomes, other_writes = list[tuple[PostgresWaiter, StoreError | None]](), list[Write]()
            for waiter in waiters:
                for save in waiter.preceding.values():
                    resolver.apply_queued(save)
                if outdated := resolver.apply_writes(waiter.writes):
                    current = {item_id: ItemRow(start_rev, stored.get(item_id)) for item_id in outdated}
                    outcomes.append((waiter, OutdatedError(current)))
                else:
                    outcomes.append((waiter, None))
                    other_writes += [write for write in waiter.writes if not isinstance(write, _ITEM_WRITES)]
            for save in queued_saves:
                resolver.apply_queued(save)
            other_writes += [write for write in queued.values() if not isinstance(write, _ITEM_WRITES)]
            rev = self._commit_changes(connection, cursor, self._write_changes(cursor, resolver, stored, other_writes))
        stale_rows = {
            item_id: ItemRow(start_rev, stored.get(item_id))
            for item_id in resolver.stale_ids - resolver.changed_items.keys()
        }
        return GroupResult(outcomes, {}, rev, frozenset(resolver.changed_items), stale_rows)

    def _write_changes(
        self,
        cursor: rows.Cursor,
        resolver: ConflictResolver,
        stored: dict[str, Item | None],
        other_writes: Sequence[Write],
    ) -> rows.Commit:
        rows.add_samples(cursor, [write for write in other_writes if isinstance(write, AddSample)])
        rows.save_curves(cursor, [write for write in other_writes if isinstance(write, SaveCurve)])
        probed_at: float | None = None
        for write in other_writes:
            if isinstance(write, TrimHistory):
                if rows.trim_history(cursor, write):
                    self._continue_later(write, FLUSH_DELAY)
            elif isinstance(write, Probe):
                probed_at = write.at
            elif not isinstance(write, (AddSample, SaveCurve, *SCHEDULE_WRITES)):
                rows.execute_write(cursor, write)
        schedule_writes = [write for write in other_writes if isinstance(write, SCHEDULE_WRITES)]
        if schedule_writes:
            write_schedules(cursor, schedule_writes)
        if not rows.write_items(cursor, resolver.changed_items, stored):
            raise _CollisionError
        runs = rows.add_history(cursor, resolver.ended_runs)
        credentials = sum(isinstance(write, CREDENTIAL_WRITES) for write in other_writes)
        return rows.Commit(resolver.changed_items.keys(), runs, credentials, probed_at)

    def _commit_changes(self, connection: Connection, cursor: rows.Cursor, commit: rows.Commit) -> int | None:
        """Commit a transaction; return its revision if servers have to read its changes."""
        if not (commit.ids or commit.runs or commit.credentials):
            if commit.probed_at is not None:
                rows.record_probe(cursor, commit.probed_at)
            self._is_committing = True
            connection.commit()
            return None
        self._trim_changes(cursor)
        try:
            with connection.pipeline():
                connection.execute(_NOTIFY_STATEMENT)
                rows.record_commit(cursor, commit)
                recorded: TupleRow | None = None
                if commit.credentials:
                    # Set before the commit. Set later, credentials that the follower read earlier could undo this
                    # change. The lock waits for this server then, but credentials seldom change.
                    recorded = cursor.fetchone()
                    self.credentials_rev = recorded[1] if recorded else 0
                self._is_committing = True
                connection.execute("COMMIT")
        except psycopg.errors.NotNullViolation:  # there is no revision
            self._is_committing = False
            raise StoreError("a statement has written 0 rows instead of 1") from None
        except psycopg.Error as error:
            # An error that leaves the connection open is one of the transaction, which is rolled back.
            self._is_committing = self._is_committing and (connection.closed or error.sqlstate is None)
            raise
        rev, _ = recorded or cursor.fetchone() or (0, 0)
        now = time.monotonic()
        if not self._trim_marks or now >= self._trim_marks[-1][0] + CHANGES_TRIM_INTERVAL:
            self._trim_marks.append((now, rev))
        return int(rev)

    def _trim_changes(self, cursor: rows.Cursor) -> None:
        if self._trim_marks and time.monotonic() >= self._trim_marks[0][0] + CHANGES_RETENTION:
            rows.trim_changes(cursor, self._trim_marks.popleft()[1])

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


@contextlib.contextmanager
def _rolled_back(connection: Connection) -> Iterator[None]:
    """Roll the transaction back after an error."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            connection.rollback()
        raise


def _begin(connection: Connection, cursor: rows.Cursor, ids: Collection[str]) -> tuple[int, dict[str, Item | None]]:
    """Begin a transaction; return a revision that the stored items have reached, and these, locked."""
    with connection.pipeline():
        connection.execute("BEGIN")
        start = connection.execute("SELECT rev, pg_backend_pid() FROM meta")
        stored = rows.lock_items(cursor, ids)
    rev, backend_pid = start.fetchone() or (0, connection.backend_pid)
    if backend_pid != connection.backend_pid:
        raise SharedBackendError
    return int(rev), stored


# Once per commit: NOTIFY takes a lock of the whole database server.
_NOTIFY_STATEMENT: Final = f"NOTIFY {NOTIFY_CHANNEL}"

_ITEM_WRITES: Final = (SaveItem, DropItem, AddHistory)


def _select_saves(writes: dict[str, Write]) -> dict[str, SaveItem]:
    return {item_id: write for item_id, write in writes.items() if isinstance(write, SaveItem)}
