"""The writer: one thread owns the one connection that writes, and commits in groups, four times a second at the least.

Whoever needs durability waits for the next group's commit. States that may wait are coalesced per item, each with what
the oldest of them was made of, and join the next group. What was committed is remembered until the follower has told
of it: until then an older row of the same item is no news. The thread never dies of a failed commit: it fails the
waiters, keeps what may wait, and tries again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec
import psycopg

from progressbar_tracker.server import logs
from progressbar_tracker.server.counters import CommitStats
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
from progressbar_tracker.server.stores.base import ChangeBatch, ItemRow, OutdatedError, StoreError, commit_now

from . import rows
from .conflicts import ConflictResolver
from .schema import NOTIFY_CHANNEL, abort_connection, connect, format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .schema import Connection

logger = logging.getLogger("progressbar_tracker.server.store")

FLUSH_DELAY: Final = 0.25
"""Seconds between two commits of states that may wait."""

RETRY_DELAY: Final = 1.0
"""Seconds until a database that was away is asked again; who waits for it meanwhile is refused at once."""

TOMBSTONE_RETENTION: Final = 3600.0
"""Seconds after which the row of an item that is gone is forgotten."""

MAX_ATTEMPTS: Final = 5
"""How often a group is tried anew because another server has made the same item in this very moment."""


class _Waiter(msgspec.Struct, eq=False):
    writes: Sequence[Write]
    preceding: dict[str, SaveItem]  # states that waited when it came, of the same items
    on_done: Callable[[Exception | None], object]
    item_ids: frozenset[str]


class _GroupResult(msgspec.Struct):
    """What became of a group: for each waiter what it is to be told, and the states to try again."""

    outcomes: list[tuple[_Waiter, StoreError | None]]
    to_retry: dict[object, Write]
    rev: int | None = None
    changed_ids: frozenset[str] = frozenset()
    stale_rows: dict[str, ItemRow] = {}


class _CollisionError(Exception):
    """An item that was not there when the group was judged is there now."""


class Writer:
    """Writes what it is given, in groups.

    Args:
        url: The database.
        now: Seconds since the epoch.
        tell: Told the rows of items whose waiting states turned out to be true no longer.

    Attributes:
        credentials_rev: The newest revision of keys, sessions and shares that was written here.
        commit_stats: What is counted of the commits.
    """

    def __init__(self, url: str, *, now: Callable[[], float], publish: Callable[[ChangeBatch], None]) -> None:
        self.credentials_rev = 0
        self.commit_stats = CommitStats()
        self._url = url
        self._now = now
        self._publish = publish
        self._connection: Connection | None = None
        self._condition = threading.Condition()
        self._waiters: list[_Waiter] = []
        self._queue: dict[object, Write] = {}
        self._in_flight: dict[object, Write] = {}
        self._pending_ids: Counter[str] = Counter()  # ids of what waits for a commit or is on its way
        self._committed_revs: dict[
            str, int
        ] = {}  # ids of what was committed, to its revision, in the order of revisions
        self._uncertain_ids: set[str] = set()
        self._flush_at: float | None = None
        self._retry_at = float("-inf")
        self._is_committing = False  # what was sent last is a COMMIT: if it fails, nobody knows what became of it
        self._is_closing = self._is_abandoned = False
        self._thread = threading.Thread(target=self._run_loop, name="progressbar-store", daemon=True)
        self._thread.start()

    def submit(self, writes: Sequence[Write], on_done: Callable[[Exception | None], object], /) -> None:
        """Write all or nothing with the next group."""
        with self._condition:
            closing = self._is_closing
            if not closing:
                ids = frozenset(item_id for write in writes if (item_id := _get_item_id(write)) is not None)
                # What waits for these items is older, and these writes rest on it: it goes first.
                first = {item_id: self._queue.pop(item_id) for item_id in ids if item_id in self._queue}
                self._waiters.append(_Waiter(writes, _select_saves(first), on_done, ids))
                self._pending_ids.update(ids)
        if closing:
            on_done(StoreError("the store is closed"))

    def wake(self) -> None:
        """Begin with what was submitted."""
        with self._condition:
            self._condition.notify()

    def enqueue(self, writes: Iterable[Write]) -> None:
        """Write within a quarter of a second, of each item only the newest state."""
        with self._condition:
            for write in writes:
                _coalesce_write(self._queue, write)
            if self._flush_at is None and self._queue:
                self._flush_at = time.monotonic() + FLUSH_DELAY
                self._condition.notify()

    def flush(self, timeout: float) -> bool:
        """Write what waits now; say whether all of it was written within ``timeout`` seconds."""
        with self._condition:
            self._flush_at = None if not self._queue else time.monotonic()
        try:
            commit_now(self, ()).result(timeout)
        except (StoreError, TimeoutError):
            return False
        with self._condition:
            return not self._queue

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

    def count_pending_writes(self) -> int:
        """Return how many writes wait for a commit."""
        with self._condition:
            return len(self._queue) + sum(len(waiter.writes) for waiter in self._waiters)

    def drain_uncertain(self) -> set[str]:
        """Return the items of which a commit has failed since this was asked last: the follower reads them anew."""
        with self._condition:
            unsure, self._uncertain_ids = self._uncertain_ids, set()
        return unsure

    def close(self) -> None:
        """Write what waits, then stop."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        until = time.monotonic() + 10.0
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.1)
            if self._is_abandoned:
                until = min(until, time.monotonic() + 0.3)

    def abandon(self) -> None:
        """Give up what is under way: the database does not answer, and the server has to end."""
        self._is_abandoned = True
        if (connection := self._connection) is not None:
            abort_connection(connection)

    def _run_loop(self) -> None:
        while True:
            with self._condition:
                while not (
                    self._waiters
                    or self._is_closing
                    or (self._flush_at is not None and self._flush_at <= time.monotonic())
                ):
                    self._condition.wait(
                        None if self._flush_at is None else max(0.0, self._flush_at - time.monotonic())
                    )
                waiting, self._waiters = self._waiters, []
                self._in_flight, self._queue = self._queue, {}
                self._flush_at = None
                closing = self._is_closing
            done = self._commit_group(waiting, self._in_flight)
            self._finish_group(done)
            if done.stale_rows:
                self._publish(ChangeBatch(done.stale_rows, out_of_order=True))
            # The newest first: who undoes a change finds the state that this very change made.
            for waiter, error in reversed(done.outcomes):
                waiter.on_done(error)
            if closing:
                if done.to_retry:
                    logger.error("%d states could not be written before the end", len(done.to_retry))
                self._drop_connection()
                return

    def _finish_group(self, result: _GroupResult) -> None:
        with self._condition:
            self._in_flight = {}
            for waiter, _ in result.outcomes:
                for item_id in waiter.item_ids:
                    self._pending_ids[item_id] -= 1
                    if not self._pending_ids[item_id]:
                        del self._pending_ids[item_id]
            if result.rev is not None:
                for item_id in result.changed_ids:
                    self._committed_revs.pop(item_id, None)
                    self._committed_revs[item_id] = result.rev
            for waiter, error in result.outcomes:
                if error is not None:
                    self._uncertain_ids |= waiter.item_ids
                    for save in waiter.preceding.values():
                        _coalesce_write(result.to_retry, save)
            if result.to_retry:
                for write in self._queue.values():
                    _coalesce_write(result.to_retry, write)
                newer = frozenset().union(*(waiter.item_ids for waiter in self._waiters))
                self._queue = {place: write for place, write in result.to_retry.items() if place not in newer}
                # Who has come meanwhile rests on them.
                for waiter in self._waiters:
                    for item_id in waiter.item_ids & result.to_retry.keys():
                        again = result.to_retry[item_id]
                        if isinstance(again, SaveItem):
                            waiter.preceding.setdefault(item_id, again)
                self._flush_at = time.monotonic() + RETRY_DELAY

    def _commit_group(self, waiters: list[_Waiter], queued: dict[object, Write]) -> _GroupResult:
        if self._is_abandoned or (time.monotonic() < self._retry_at and not self._is_closing):
            gone = StoreError("the database does not answer")
            return _GroupResult([(waiter, gone) for waiter in waiters], dict(queued))
        size = len(queued) + sum(len(waiter.writes) for waiter in waiters)
        begun = time.perf_counter()
        try:
            done = self._try_commit(waiters, queued)
        except psycopg.OperationalError as error:
            # The connection: nobody's write is to blame.
            self._drop_connection()
            self._retry_at = time.monotonic() + RETRY_DELAY
            if self.commit_stats.record(size, time.perf_counter() - begun, failed=True):
                logger.error("the store fails: the database does not answer: %s", format_error(error))  # noqa: TRY400
            gone = StoreError(format_error(error), is_rolled_back=not self._is_committing)
            return _GroupResult([(waiter, gone) for waiter in waiters], dict(queued))
        except Exception as error:  # noqa: BLE001  # the thread outlives whatever this was
            self._drop_connection()
            why = StoreError(format_error(error), is_rolled_back=not self._is_committing)
            if self.commit_stats.record(size, time.perf_counter() - begun, failed=True):
                logger.error("the store fails: %s", format_error(error))  # noqa: TRY400
        else:
            if size and self.commit_stats.record(size, time.perf_counter() - begun, failed=False):
                logs.log_event("the store works again")
            return done
        if len(waiters) + bool(queued) == 1:
            return _GroupResult([(waiter, why) for waiter in waiters], dict(queued))
        # One that cannot be written must not take the others with it.
        whole = _GroupResult([], {})
        for one, late in [*(([waiter], {}) for waiter in waiters), ([], queued)]:
            if one or late:
                part = self._commit_group(one, late)
                whole.outcomes += part.outcomes
                whole.to_retry |= part.to_retry
                whole.changed_ids |= part.changed_ids
                whole.stale_rows = whole.stale_rows | part.stale_rows
                whole.rev = part.rev if part.rev is not None else whole.rev
        return whole

    def _try_commit(self, waiters: list[_Waiter], queued: dict[object, Write]) -> _GroupResult:
        """Write a group in one transaction.

        Raises:
            psycopg.Error: Nothing was written, or nobody knows.
        """
        self._is_committing = False
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._url)
        for _ in range(MAX_ATTEMPTS):
            with contextlib.suppress(_CollisionError):
                return self._transact(self._connection, waiters, queued)
        raise StoreError("another server makes the same items all the time")

    def _transact(self, connection: Connection, waiters: list[_Waiter], queued: dict[object, Write]) -> _GroupResult:
        self._is_committing = False
        late = [write for write in queued.values() if isinstance(write, SaveItem)]
        ids = {item_id for waiter in waiters for item_id in waiter.item_ids} | {write.item.id for write in late}
        with connection.transaction(), connection.cursor() as cursor:
            stored = rows.lock_items(cursor, ids)
            ledger = ConflictResolver({item_id: row.item for item_id, row in stored.items()})
            outcomes, others = list[tuple[_Waiter, StoreError | None]](), list[Write]()
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
        return _GroupResult(outcomes, {}, rev, frozenset(ledger.changed_items), refused)

    def _write_changes(
        self, cursor: rows.Cursor, ledger: ConflictResolver, stored: dict[str, ItemRow], others: Sequence[Write]
    ) -> int | None:
        rows.add_samples(cursor, [write for write in others if isinstance(write, AddSample)])
        for write in others:
            if isinstance(write, TrimHistory):
                if rows.trim_history(cursor, write, self._now() - TOMBSTONE_RETENTION):
                    self.enqueue([write])
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


def _get_item_id(write: Write) -> str | None:
    match write:
        case SaveItem(item):
            return item.id
        case DropItem(item_id):
            return item_id
    return None


def _select_saves(first: dict[str, Write]) -> dict[str, SaveItem]:
    return {item_id: write for item_id, write in first.items() if isinstance(write, SaveItem)}


def _coalesce_write(queue: dict[object, Write], write: Write) -> None:
    """Let a newer write take the place of an older one that waits, and keep what the older one was made of."""
    if isinstance(write, SaveItem):
        older = queue.get(write.item.id)
        if isinstance(older, SaveItem) and write.before != ANY_STATE and older.item.run_id == write.item.run_id:
            write = SaveItem(write.item, older.before)
        queue[write.item.id] = write
    else:
        queue[rows.get_queue_key(write)] = write
