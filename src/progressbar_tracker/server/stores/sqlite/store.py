"""The SQLite store: one thread owns the one connection that writes, and commits in groups.

Whoever needs durability waits for the next group's commit, so a hundred waiters share one fsync. States that may wait
are coalesced per item and join the next group, half a second later at the most. The thread never dies of a failed
commit: it fails the waiters, keeps what may wait, and tries again.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import re
import sqlite3
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.counters import Commits
from progressbar_tracker.server.logs import tell
from progressbar_tracker.server.models import (
    MAX_RETRY_SECONDS,
    NOTICE,
    AddNotice,
    AddSample,
    DropItem,
    EndStatus,
    Item,
    KeyRecord,
    Notice,
    Outcome,
    Sample,
    Sampled,
    SaveItem,
    SessionRecord,
    ShareRecord,
    ThinSamples,
    TouchKey,
    TouchSession,
    TrimHistory,
    TrimNotices,
    Write,
    lean,
)
from progressbar_tracker.server.stores.base import HistoryRow, Loaded, StoreError, committed
from progressbar_tracker.server.stores.reading import (
    each_notice,
    history_of,
    item_of,
    outcomes_of,
    page_of,
    readable,
    sampled_of,
    samples_of,
    sessions_of,
    shares_of,
    text_of,
)

from .files import connect
from .guard import FileGuard
from .locks import FileLock
from .rows import OUTCOMES, has_ended, old, perform_all, read_identity, read_keys, read_keys_rev

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from progressbar_tracker.server.pools import Cancellation

logger = logging.getLogger("progressbar_tracker.server.store")

DELAY: Final = 0.4
"""Seconds that a state may wait: with the commit itself, less than the half second that is promised."""

TRIM_PAUSE: Final = 0.05
"""Seconds between two times of forgetting."""

LATE: Final = 5000
"""The most states that a group takes along with what somebody waits for."""

RETRY: Final = 1.0
"""Seconds until states that could not be written are tried again."""

MAX_ROW: Final = 2**63 - 1
"""No row of the history has this number."""

LOST: Final = (
    "the server's database file was deleted, moved, replaced or overwritten while the server ran; the server refuses "
    "all writes until the file is back, and its log says what happened to which file"
)

_encode = msgspec.json.Encoder().encode
_decode_item = msgspec.json.Decoder(Item).decode


class _Waiter(msgspec.Struct, eq=False):
    writes: Sequence[Write]
    done: Callable[[Exception | None], object]


class SqliteStore:
    """A store in one SQLite file.

    Args:
        path: The file; made, with its folder, where it is not there.
        now: Seconds since the epoch.

    Raises:
        ConfigError: The file cannot be used: it belongs to a running server, to a newer version or to another program,
            or cannot be read or written.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self.commits = Commits()
        self._now = now
        self.lost: StoreError | None = None
        self._must_checkpoint = False
        self._lock = FileLock(path)
        try:
            self._writer = connect(path)
            self._reader = connect(path)
            # A long look at the past must not hold up those at the keys, for which every request waits; nor a search
            # for a text, which reads run after run until it has found enough, the looks that an index answers.
            self._past = connect(path)
            self._searched = connect(path)
            for connection in (self._reader, self._past, self._searched):
                connection.text_factory = text_of
            self._searched.create_function("casefold", 1, str.casefold, deterministic=True)
            self._guard = FileGuard(path, self._lock.real, self._lock.handle)
        except OSError as error:
            self._lock.release()
            raise ConfigError(f"the database {path} was replaced while it was opened: start again") from error
        except BaseException:
            self._lock.release()
            raise
        self._reading = threading.Lock()
        self._looking_back = threading.Lock()
        self._searching = threading.Lock()
        self._wake = threading.Condition()
        self._waiting: list[_Waiter] = []
        self._behind: dict[object, Write] = {}
        self._due: float | None = None
        self._closing = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="progressbar-store", daemon=True)
        self._thread.start()

    @property
    def shared(self) -> None:
        """Nobody else writes to the file."""
        return

    def load(self) -> Loaded:
        """Return all hot state; an item that cannot be read is left out and logged."""
        with self._reading, _told():
            # One by one: all the texts at once would be as much again as the items that are made of them.
            rows = self._reader.execute("SELECT id, CAST(state AS BLOB) FROM items")
            items = readable("items", rows, lambda item_id, state: lean(item_of(state, item_id)))
            names = SessionRecord.__struct_fields__
            sessions = sessions_of(self._reader.execute(f"SELECT {', '.join(names)} FROM sessions"), names)  # noqa: S608
        keys, rev = self.keys()
        return Loaded(items, keys, rev, sessions, self._sampled(items), self._shares())

    def _shares(self) -> list[ShareRecord]:
        with self._reading, _told():
            rows = self._reader.execute('SELECT share_id, hash, created_at, "group", item, expires_at FROM shares')
            return shares_of(rows, ("share_id", "hash", "created_at", "group", "item", "expires_at"))

    def _sampled(self, items: Iterable[Item]) -> list[Sampled]:
        running = [(item.id, item.run_id) for item in items if item.status == "running"]
        with self._reading, _told():
            # One statement, for it may be a hundred thousand runs; in this order, for there are samples of all runs.
            rows = self._reader.execute(
                "SELECT s.id, s.run_id, count(*), min(at), max(at) FROM json_each(?) AS run CROSS JOIN samples AS s "
                "ON s.id = json_extract(run.value, '$[0]') AND s.run_id = json_extract(run.value, '$[1]') "
                "GROUP BY run.key",
                (_encode(running).decode(),),
            ).fetchall()
        return sampled_of(rows)

    def submit(self, writes: Sequence[Write], done: Callable[[Exception | None], object], /) -> None:
        """Write all or nothing with the next group."""
        with self._wake:
            closing = self._closing
            if not closing:
                # What waits for these items is older than this; were it written after, it would undo it.
                for write in writes:
                    key = _item_of(write)
                    if key is not None:
                        self._behind.pop(key, None)
                self._waiting.append(_Waiter(writes, done))
        if closing:
            done(StoreError("the store is closed"))

    def wake(self) -> None:
        """Begin with what was submitted."""
        with self._wake:
            self._wake.notify()

    def commit(self, writes: Sequence[Write]) -> Future[None]:
        """Write all or nothing with the next group."""
        return committed(self, writes)

    def later(self, writes: Sequence[Write]) -> None:
        """Write within half a second, the newest state of each item only."""
        with self._wake:
            for write in writes:
                self._behind[write.item.id if isinstance(write, SaveItem) else _place(write)] = write
            if self._due is None and self._behind:
                self._due = time.monotonic() + DELAY
                self._wake.notify()

    def flush(self, timeout: float) -> bool:
        """Write what waits now, with an empty commit that takes it along."""
        end = time.monotonic() + timeout
        try:
            while True:
                self.commit(()).result(max(end - time.monotonic(), 0.0))
                with self._wake:
                    if not self._behind:
                        return True
        except (StoreError, TimeoutError):
            return False

    def queued(self) -> int:
        """Return how many writes wait for a commit."""
        with self._wake:
            return len(self._behind) + sum(len(waiter.writes) for waiter in self._waiting)

    @property
    def identity(self) -> str:
        """What tells this database from any other."""
        with self._reading, _told():
            return read_identity(self._reader)

    def has_ended(self, secret_hash: str) -> bool:
        """Say whether a secret was one of a key, and is one no more."""
        with self._reading, _told():
            return has_ended(self._reader, secret_hash)

    def keys(self) -> tuple[list[KeyRecord], int]:
        """Return all keys and their revision, of one instant."""
        with self._reading, _told():
            return read_keys(self._reader)

    def keys_rev(self) -> int:
        """Return the revision of the keys."""
        with self._reading, _told():
            return read_keys_rev(self._reader)

    def history(
        self,
        *,
        group: str | None = None,
        status: EndStatus | None = None,
        item_id: str | None = None,
        text: str | None = None,
        after: int | None = None,
        limit: int = 100,
        cancellation: Cancellation | None = None,
    ) -> list[HistoryRow]:
        """Return runs that left the board, newest first."""
        conditions, values = ["1"], list[object]()
        for condition, value in (
            ('"group" = ?', group),
            ("status = ?", status),
            ("id = ?", item_id),
            _containing(text),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        where = " AND ".join(conditions)
        lock, connection = (self._looking_back, self._past) if text is None else (self._searching, self._searched)
        with lock, _interruptible(connection, cancellation), _told():

            def fetch(after: object, count: int) -> list[tuple[object, ...]]:
                return connection.execute(
                    f"SELECT n, status, ended_at, state FROM history WHERE {where} AND n < ? "  # noqa: S608
                    "ORDER BY n DESC LIMIT ?",
                    (*values, after, count),
                ).fetchall()

            return page_of("history", fetch, history_of, MAX_ROW if after is None else after, limit)

    def samples(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> list[Sample]:
        """Return the samples of a run, oldest first."""
        with self._looking_back, _interruptible(self._past, cancellation), _told():
            rows = self._past.execute(
                "SELECT at, value, completed FROM samples WHERE id = ? AND run_id = ? ORDER BY at", (item_id, run_id)
            ).fetchall()
        return samples_of(rows)

    def notices(self, now: float, limit: int, *, but: Collection[str] = ()) -> list[Notice]:
        """Return the notices that are to be sent now, the longest due first."""
        with self._looking_back, _told():
            rows = self._past.execute(
                f"SELECT {NOTICE} FROM outbox WHERE (next_at <= ? OR next_at > ?) "  # noqa: S608
                "AND channel NOT IN (SELECT value FROM json_each(?)) ORDER BY next_at",
                (now, now + MAX_RETRY_SECONDS, _encode(list(but)).decode()),
            )
            return list(islice(each_notice(rows), limit))

    def outcomes(self) -> list[Outcome]:
        """Return what became of the notices to each channel, as far as is remembered."""
        with self._looking_back, _told():
            rows = self._past.execute(OUTCOMES).fetchall()
        return outcomes_of(rows)

    def close(self) -> None:
        """Write what waits, stop the thread, close the file."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(10.0)
        if not self._closed and not self._thread.is_alive():
            self._closed = True
            connections = self._reader, self._past, self._searched, self._writer
            fault = self._guard.find_fault()
            with self._reading, self._looking_back, self._searching:
                if fault is None:
                    for connection in connections:
                        connection.close()
                else:
                    self._abandon(connections, fault)
            self._guard.close()
            self._lock.release()

    def _abandon(self, connections: Iterable[sqlite3.Connection], fault: str) -> None:
        """Leave the files as they are: SQLite would merge the log into a file that is not its own, and delete it.

        SQLite does so when its last connection is closed, and Python closes a connection that nothing refers to.
        """
        for connection in connections:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        aside = None
        if self.path.exists() and self._guard.log_is_ours():
            # Or the next server would merge it into the file that is at the path now.
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            aside = self._guard.log.with_name(f"{self._lock.real.name}.{stamp}-wal")
            with contextlib.suppress(OSError):
                self._guard.log.rename(aside)
        logger.error("the database was left as it is: %s; its log is kept as %s", fault, aside or self._guard.log)

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._waiting or self._closing or (self._due is not None and self._due <= time.monotonic())):
                    self._wake.wait(None if self._due is None else max(0.0, self._due - time.monotonic()))
                waiting, self._waiting = self._waiting, []
                behind, self._behind = _share(self._behind)
                self._due = time.monotonic() if self._behind else None
                closing, more = self._closing, bool(self._behind)
            outcomes, failed = self._commit_group(waiting, behind)
            if failed:
                self._keep_for_later(failed)
            elif not closing:
                self._go_on_trimming(waiting, behind)
            # The newest first: who undoes a change finds the state that this very change made.
            for waiter, error in reversed(outcomes):
                waiter.done(error if error is None or isinstance(error, StoreError) else StoreError(str(error)))
            if closing and (failed or not more):
                if failed:
                    logger.error("%d states could not be written before the end", len(failed))
                return

    def _commit_group(
        self, waiting: list[_Waiter], behind: dict[object, Write]
    ) -> tuple[list[tuple[_Waiter, Exception | None]], dict[object, Write]]:
        """Commit a group; return what became of each waiter, and the states that have to be tried again."""
        late = list(behind.values())
        error = self._attempt([*(write for waiter in waiting for write in waiter.writes), *late])
        if error is None:
            return [(waiter, None) for waiter in waiting], {}
        if len(waiting) + bool(late) == 1 or isinstance(error, (sqlite3.OperationalError, StoreError)):
            # A lock, a disk, another file: the same for each, and each would wait for the lock as long again.
            return [(waiter, error) for waiter in waiting], behind
        # One that cannot be written must not take the others with it.
        outcomes = [(waiter, self._attempt(waiter.writes)) for waiter in waiting]
        return outcomes, behind if self._attempt(late) is not None else {}

    def _keep_for_later(self, failed: dict[object, Write]) -> None:
        if self.lost is None:  # or it is logged already
            logger.warning("%d states could not be written and wait", len(failed))
        with self._wake:
            # What has been submitted in the meantime is newer, whether it waits for a commit or not.
            newer = {_item_of(write) for waiter in self._waiting for write in waiter.writes}
            self._behind = {key: write for key, write in failed.items() if key not in newer} | self._behind
            self._due = time.monotonic() + RETRY

    def _go_on_trimming(self, waiting: Sequence[_Waiter], behind: Mapping[object, Write]) -> None:
        done = [*behind.values(), *(write for waiter in waiting for write in waiter.writes)]
        for trim in [write for write in done if isinstance(write, TrimHistory)]:
            with contextlib.suppress(sqlite3.Error):
                where, values, _ = old(trim)
                left = self._writer.execute(f"SELECT 1 FROM history WHERE {where} LIMIT 1", values).fetchone()  # noqa: S608
                if left is None:
                    continue
                with self._wake:
                    self._behind.setdefault(_place(trim), trim)
                    self._due = min(self._due or math.inf, time.monotonic() + TRIM_PAUSE)

    def _attempt(self, writes: Sequence[Write]) -> Exception | None:
        """Write all or nothing in one transaction; return why not."""
        if not writes:
            return None
        failure: Exception | None = None
        begun = time.perf_counter()
        is_certain = True
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            self._check_file(is_certain=True)
            perform_all(self._writer, writes)
            is_certain = False
            self._writer.execute("COMMIT")
            self._check_file(is_certain=False)
        except StoreError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  # the thread outlives whatever this was
            failure = error if is_certain or _is_certain(error) else StoreError(str(error), is_certain=False)
        if self._writer.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
        if self._must_checkpoint:
            self._must_checkpoint = False
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        if self.commits.note(len(writes), time.perf_counter() - begun, failed=failure is not None):
            if failure is None:
                tell("the store works again")
            else:
                logger.error("the store fails: %s", failure)
        return failure

    def _check_file(self, *, is_certain: bool) -> None:
        """Return if the database is still the file at its path.

        Raises:
            StoreError: It is not.
        """
        fault = self._guard.find_fault()
        if fault is not None and self.lost is None and self._guard.is_moved():
            # What was acknowledged is then in the file, wherever it is now, and whatever becomes of the log.
            self._must_checkpoint = True
        self.lost = None if fault is None else StoreError(fault, is_certain=is_certain, detail=LOST)
        if self.lost is not None:
            raise self.lost


def _is_certain(error: Exception) -> bool:
    """Return whether a COMMIT that failed left nothing behind: its last frame is not whole in the log."""
    code = getattr(error, "sqlite_errorcode", None)
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}


def _containing(text: str | None) -> tuple[str, str | None]:
    """Return the condition for runs with a text in their id or title, and its value."""
    if text is None:
        return "", None
    folded = text.casefold()
    if not text.isascii() or "ss" in folded:  # which may stand for a sharp s
        # Python's own function, called for run after run, with the interpreter's lock in hand.
        return "instr(casefold(id || char(10) || title), ?)", folded
    # SQLite's knows the capitals of ASCII only, takes a fraction of the time, and holds nobody up.
    escaped = re.sub(r"[\\%_]", r"\\\g<0>", text)
    return "(id || char(10) || title) LIKE ? ESCAPE '\\'", f"%{escaped}%"


def _share(behind: dict[object, Write]) -> tuple[dict[object, Write], dict[object, Write]]:
    """Divide what waits into what the next group takes along, and states that wait on: a commit is not to wait long."""
    if len(behind) <= LATE:
        return behind, {}
    states = [key for key, write in behind.items() if isinstance(write, SaveItem)]
    later = {key: behind[key] for key in states[LATE:]}
    return {key: write for key, write in behind.items() if key not in later}, later


def _place(write: Write) -> object:
    """Return where a write waits: one that takes the same place replaces it, so that little waits for a full disk."""
    match write:
        case AddSample(id=one) | ThinSamples(id=one) | TouchKey(key_id=one) | TouchSession(hash=one):
            return type(write), one
        case TrimHistory(status=status, most=most):
            return TrimHistory, status, most
        case AddNotice(notice):
            return AddNotice, notice.notice_id
        case TrimNotices():
            return TrimNotices
    return _item_of(write) or object()


def _item_of(write: Write) -> str | None:
    match write:
        case SaveItem(item):
            return item.id
        case DropItem(item_id):
            return item_id
    return None


def _interruptible(
    connection: sqlite3.Connection, cancellation: Cancellation | None
) -> contextlib.AbstractContextManager[None]:
    """Let a cancellation interrupt what a connection does. Its lock is held: nobody else's work is interrupted."""
    return contextlib.nullcontext() if cancellation is None else cancellation.interrupting(connection.interrupt)


class _told(contextlib.AbstractContextManager[None]):  # noqa: N801  # reads as a word after `with`
    """Turn SQLite's errors into :class:`StoreError`."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise StoreError(str(error)) from error
