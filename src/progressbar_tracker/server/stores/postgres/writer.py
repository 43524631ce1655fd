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
from progressbar_tracker.server.counters import Commits
from progressbar_tracker.server.models import (
    ANY,
    CREDENTIALS,
    AddHistory,
    AddSample,
    DropItem,
    Item,
    SaveItem,
    TrimHistory,
    Write,
)
from progressbar_tracker.server.stores.base import OutdatedError, Row, Seen, StoreError, committed

from . import rows
from .conflicts import Ledger
from .schema import CHANNEL, connect, cut, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .schema import Connection

logger = logging.getLogger("progressbar_tracker.server.store")

DELAY: Final = 0.25
"""Seconds between two commits of states that may wait."""

RETRY: Final = 1.0
"""Seconds until a database that was away is asked again; who waits for it meanwhile is refused at once."""

FORGET: Final = 3600.0
"""Seconds after which the row of an item that is gone is forgotten."""

TRIES: Final = 5
"""How often a group is tried anew because another server has made the same item in this very moment."""


class _Waiter(msgspec.Struct, eq=False):
    writes: Sequence[Write]
    first: dict[str, SaveItem]  # states that waited when it came, of the same items
    done: Callable[[Exception | None], object]
    ids: frozenset[str]


class _Done(msgspec.Struct):
    """What became of a group: for each waiter what it is to be told, and the states to try again."""

    outcomes: list[tuple[_Waiter, StoreError | None]]
    again: dict[object, Write]
    rev: int | None = None
    changed: frozenset[str] = frozenset()
    refused: dict[str, Row] = {}


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
        commits: What is counted of the commits.
    """

    def __init__(self, url: str, *, now: Callable[[], float], tell: Callable[[Seen], None]) -> None:
        self.credentials_rev = 0
        self.commits = Commits()
        self._url = url
        self._now = now
        self._tell = tell
        self._connection: Connection | None = None
        self._wake = threading.Condition()
        self._waiting: list[_Waiter] = []
        self._behind: dict[object, Write] = {}
        self._flying_behind: dict[object, Write] = {}
        self._durable: Counter[str] = Counter()  # ids of what waits for a commit or is on its way
        self._landed: dict[str, int] = {}  # ids of what was committed, to its revision, in the order of revisions
        self._unsure: set[str] = set()
        self._due: float | None = None
        self._away_until = float("-inf")
        self._committing = False  # what was sent last is a COMMIT: if it fails, nobody knows what became of it
        self._closing = self._abandoned = False
        self._thread = threading.Thread(target=self._work, name="progressbar-store", daemon=True)
        self._thread.start()

    def submit(self, writes: Sequence[Write], done: Callable[[Exception | None], object], /) -> None:
        """Write all or nothing with the next group."""
        with self._wake:
            closing = self._closing
            if not closing:
                ids = frozenset(item_id for write in writes if (item_id := _item_of(write)) is not None)
                # What waits for these items is older, and these writes rest on it: it goes first.
                first = {item_id: self._behind.pop(item_id) for item_id in ids if item_id in self._behind}
                self._waiting.append(_Waiter(writes, _saves(first), done, ids))
                self._durable.update(ids)
        if closing:
            done(StoreError("the store is closed"))

    def wake(self) -> None:
        """Begin with what was submitted."""
        with self._wake:
            self._wake.notify()

    def later(self, writes: Iterable[Write]) -> None:
        """Write within a quarter of a second, of each item only the newest state."""
        with self._wake:
            for write in writes:
                _queue(self._behind, write)
            if self._due is None and self._behind:
                self._due = time.monotonic() + DELAY
                self._wake.notify()

    def flush(self, timeout: float) -> bool:
        """Write what waits now; say whether all of it was written within ``timeout`` seconds."""
        with self._wake:
            self._due = None if not self._behind else time.monotonic()
        try:
            committed(self, ()).result(timeout)
        except (StoreError, TimeoutError):
            return False
        with self._wake:
            return not self._behind

    def waiting(self, item_id: str, rev: int) -> Item | bool:
        """Say what is not yet in the row of an item at a revision: see :class:`~..base.SharedStore`."""
        with self._wake:
            if item_id in self._durable or self._landed.get(item_id, 0) > rev:
                return True
            for queue in (self._flying_behind, self._behind):
                save = queue.get(item_id)
                if isinstance(save, SaveItem):
                    return save.before if isinstance(save.before, Item) else True
        return False

    def told(self, rev: int) -> None:
        """Forget what was committed up to a revision: the follower has told of it."""
        with self._wake:
            while self._landed:
                item_id = next(iter(self._landed))
                if self._landed[item_id] > rev:
                    return
                del self._landed[item_id]

    def queued(self) -> int:
        """Return how many writes wait for a commit."""
        with self._wake:
            return len(self._behind) + sum(len(waiter.writes) for waiter in self._waiting)

    def unsure(self) -> set[str]:
        """Return the items of which a commit has failed since this was asked last: the follower reads them anew."""
        with self._wake:
            unsure, self._unsure = self._unsure, set()
        return unsure

    def close(self) -> None:
        """Write what waits, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        until = time.monotonic() + 10.0
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.1)
            if self._abandoned:
                until = min(until, time.monotonic() + 0.3)

    def abandon(self) -> None:
        """Give up what is under way: the database does not answer, and the server has to end."""
        self._abandoned = True
        if (connection := self._connection) is not None:
            cut(connection)

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._waiting or self._closing or (self._due is not None and self._due <= time.monotonic())):
                    self._wake.wait(None if self._due is None else max(0.0, self._due - time.monotonic()))
                waiting, self._waiting = self._waiting, []
                self._flying_behind, self._behind = self._behind, {}
                self._due = None
                closing = self._closing
            done = self._commit_group(waiting, self._flying_behind)
            self._land(done)
            if done.refused:
                self._tell(Seen(done.refused, aside=True))
            # The newest first: who undoes a change finds the state that this very change made.
            for waiter, error in reversed(done.outcomes):
                waiter.done(error)
            if closing:
                if done.again:
                    logger.error("%d states could not be written before the end", len(done.again))
                self._drop_connection()
                return

    def _land(self, done: _Done) -> None:
        with self._wake:
            self._flying_behind = {}
            for waiter, _ in done.outcomes:
                for item_id in waiter.ids:
                    self._durable[item_id] -= 1
                    if not self._durable[item_id]:
                        del self._durable[item_id]
            if done.rev is not None:
                for item_id in done.changed:
                    self._landed.pop(item_id, None)
                    self._landed[item_id] = done.rev
            for waiter, error in done.outcomes:
                if error is not None:
                    self._unsure |= waiter.ids
                    for save in waiter.first.values():
                        _queue(done.again, save)
            if done.again:
                for write in self._behind.values():
                    _queue(done.again, write)
                newer = frozenset().union(*(waiter.ids for waiter in self._waiting))
                self._behind = {place: write for place, write in done.again.items() if place not in newer}
                # Who has come meanwhile rests on them.
                for waiter in self._waiting:
                    for item_id in waiter.ids & done.again.keys():
                        again = done.again[item_id]
                        if isinstance(again, SaveItem):
                            waiter.first.setdefault(item_id, again)
                self._due = time.monotonic() + RETRY

    def _commit_group(self, waiting: list[_Waiter], behind: dict[object, Write]) -> _Done:
        if self._abandoned or (time.monotonic() < self._away_until and not self._closing):
            gone = StoreError("the database does not answer")
            return _Done([(waiter, gone) for waiter in waiting], dict(behind))
        size = len(behind) + sum(len(waiter.writes) for waiter in waiting)
        begun = time.perf_counter()
        try:
            done = self._attempt(waiting, behind)
        except psycopg.OperationalError as error:
            # The connection: nobody's write is to blame.
            self._drop_connection()
            self._away_until = time.monotonic() + RETRY
            if self.commits.note(size, time.perf_counter() - begun, failed=True):
                logger.error("the store fails: the database does not answer: %s", plain(error))  # noqa: TRY400
            gone = StoreError(plain(error), is_certain=not self._committing)
            return _Done([(waiter, gone) for waiter in waiting], dict(behind))
        except Exception as error:  # noqa: BLE001  # the thread outlives whatever this was
            self._drop_connection()
            why = StoreError(plain(error), is_certain=not self._committing)
            if self.commits.note(size, time.perf_counter() - begun, failed=True):
                logger.error("the store fails: %s", plain(error))  # noqa: TRY400
        else:
            if size and self.commits.note(size, time.perf_counter() - begun, failed=False):
                logs.tell("the store works again")
            return done
        if len(waiting) + bool(behind) == 1:
            return _Done([(waiter, why) for waiter in waiting], dict(behind))
        # One that cannot be written must not take the others with it.
        whole = _Done([], {})
        for one, late in [*(([waiter], {}) for waiter in waiting), ([], behind)]:
            if one or late:
                part = self._commit_group(one, late)
                whole.outcomes += part.outcomes
                whole.again |= part.again
                whole.changed |= part.changed
                whole.refused = whole.refused | part.refused
                whole.rev = part.rev if part.rev is not None else whole.rev
        return whole

    def _attempt(self, waiting: list[_Waiter], behind: dict[object, Write]) -> _Done:
        """Write a group in one transaction.

        Raises:
            psycopg.Error: Nothing was written, or nobody knows.
        """
        self._committing = False
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._url)
        for _ in range(TRIES):
            with contextlib.suppress(_CollisionError):
                return self._transact(self._connection, waiting, behind)
        raise StoreError("another server makes the same items all the time")

    def _transact(self, connection: Connection, waiting: list[_Waiter], behind: dict[object, Write]) -> _Done:
        self._committing = False
        late = [write for write in behind.values() if isinstance(write, SaveItem)]
        ids = {item_id for waiter in waiting for item_id in waiter.ids} | {write.item.id for write in late}
        with connection.transaction(), connection.cursor() as cursor:
            stored = rows.locked(cursor, ids)
            ledger = Ledger({item_id: row.item for item_id, row in stored.items()})
            outcomes, others = list[tuple[_Waiter, StoreError | None]](), list[Write]()
            for waiter in waiting:
                for save in waiter.first.values():
                    ledger.follow(save)
                if outdated := ledger.enter(waiter.writes):
                    there = {item_id: stored.get(item_id, Row(0, None)) for item_id in outdated}
                    outcomes.append((waiter, OutdatedError(there)))
                else:
                    outcomes.append((waiter, None))
                    others += [write for write in waiter.writes if not isinstance(write, _OF_ITEMS)]
            for save in late:
                ledger.follow(save)
            others += [write for write in behind.values() if not isinstance(write, _OF_ITEMS)]
            rev = self._write(cursor, ledger, stored, others)
            self._committing = True
        refused = {item_id: stored.get(item_id, Row(0, None)) for item_id in ledger.refused - ledger.changed.keys()}
        return _Done(outcomes, {}, rev, frozenset(ledger.changed), refused)

    def _write(
        self, cursor: rows.Cursor, ledger: Ledger, stored: dict[str, Row], others: Sequence[Write]
    ) -> int | None:
        rows.add_samples(cursor, [write for write in others if isinstance(write, AddSample)])
        for write in others:
            if isinstance(write, TrimHistory):
                if rows.trim(cursor, write, self._now() - FORGET):
                    self.later([write])
            elif not isinstance(write, AddSample):
                rows.perform(cursor, write)
        credentials = sum(isinstance(write, CREDENTIALS) for write in others)
        count = len(ledger.changed)
        if not (count or ledger.ended or credentials):
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
        if not rows.written(cursor, ledger.changed, stored, rev - count, self._now()):
            raise _CollisionError
        rows.remembered(cursor, ledger.ended, rev)
        cursor.execute(_NOTIFY)
        return int(rev)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


_NOTIFY: Final = f"NOTIFY {CHANNEL}"  # one a commit: each takes a lock of the whole server

_OF_ITEMS: Final = (SaveItem, DropItem, AddHistory)


def _item_of(write: Write) -> str | None:
    match write:
        case SaveItem(item):
            return item.id
        case DropItem(item_id):
            return item_id
    return None


def _saves(first: dict[str, Write]) -> dict[str, SaveItem]:
    return {item_id: write for item_id, write in first.items() if isinstance(write, SaveItem)}


def _queue(queue: dict[object, Write], write: Write) -> None:
    """Let a newer write take the place of an older one that waits, and keep what the older one was made of."""
    if isinstance(write, SaveItem):
        older = queue.get(write.item.id)
        if isinstance(older, SaveItem) and write.before != ANY and older.item.run_id == write.item.run_id:
            write = SaveItem(write.item, older.before)
        queue[write.item.id] = write
    else:
        queue[rows.place(write)] = write
