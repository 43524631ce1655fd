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
from progressbar_tracker.server.counters import CommitStats
from progressbar_tracker.server.logs import log_event
from progressbar_tracker.server.models import (
    MAX_RETRY_SECONDS,
    NOTICE_COLUMNS,
    DeliveryStats,
    EndStatus,
    Item,
    KeyRecord,
    Notice,
    Sample,
    SampledRun,
    SessionRecord,
    ShareRecord,
    intern_texts,
)
from progressbar_tracker.server.mutations import (
    AddNotice,
    AddSample,
    DropItem,
    SaveItem,
    ThinSamples,
    TouchKey,
    TouchSession,
    TrimHistory,
    TrimNotices,
    Write,
)
from progressbar_tracker.server.stores.base import HistoryRow, StoredState, StoreError, commit_now
from progressbar_tracker.server.stores.reading import (
    decode_text,
    iter_notices,
    parse_delivery_stats,
    parse_history_row,
    parse_item,
    parse_rows,
    parse_sampled_runs,
    parse_samples,
    parse_sessions,
    parse_shares,
    read_page,
)

from .files import connect
from .guard import FileGuard
from .locks import FileLock
from .rows import (
    DELIVERY_STATS_QUERY,
    build_trim_filter,
    execute_writes,
    is_secret_retired,
    read_database_id,
    read_keys,
    read_keys_rev,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from progressbar_tracker.server.pools import Cancellation

logger = logging.getLogger("progressbar_tracker.server.store")

FLUSH_DELAY: Final = 0.4
"""Seconds that a state may wait: with the commit itself, less than the half second that is promised."""

TRIM_PAUSE: Final = 0.05
"""Seconds between two times of forgetting."""

MAX_GROUP_STATES: Final = 5000
"""The most states that a group takes along with what somebody waits for."""

RETRY_DELAY: Final = 1.0
"""Seconds until states that could not be written are tried again."""

MAX_ROW: Final = 2**63 - 1
"""No row of the history has this number."""

FILE_LOST_DETAIL: Final = (
    "the server's database file was deleted, moved, replaced or overwritten while the server ran; the server refuses "
    "all writes until the file is back, and its log says what happened to which file"
)

_encode = msgspec.json.Encoder().encode
_decode_item = msgspec.json.Decoder(Item).decode


class _Waiter(msgspec.Struct, eq=False):
    writes: Sequence[Write]
    on_done: Callable[[Exception | None], object]


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
        self.commit_stats = CommitStats()
        self._now = now
        self.durability_error: StoreError | None = None
        self._must_checkpoint = False
        self._lock = FileLock(path)
        try:
            self._writer = connect(path)
            self._reader = connect(path)
            # A long look at the past must not hold up those at the keys, for which every request waits; nor a search
            # for a text, which reads run after run until it has found enough, the looks that an index answers.
            self._history_connection = connect(path)
            self._search_connection = connect(path)
            for connection in (self._reader, self._history_connection, self._search_connection):
                connection.text_factory = decode_text
            self._search_connection.create_function("casefold", 1, str.casefold, deterministic=True)
            self._guard = FileGuard(path, self._lock.real_path, self._lock.handle)
        except OSError as error:
            self._lock.release()
            raise ConfigError(f"the database {path} was replaced while it was opened: start again") from error
        except BaseException:
            self._lock.release()
            raise
        self._reader_lock = threading.Lock()
        self._history_lock = threading.Lock()
        self._search_lock = threading.Lock()
        self._condition = threading.Condition()
        self._waiters: list[_Waiter] = []
        self._queue: dict[object, Write] = {}
        self._flush_at: float | None = None
        self._is_closing = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._run_loop, name="progressbar-store", daemon=True)
        self._thread.start()

    @property
    def shared(self) -> None:
        """Nobody else writes to the file."""
        return

    def load(self) -> StoredState:
        """Return all hot state; an item that cannot be read is left out and logged."""
        with self._reader_lock, _ErrorTranslation():
            # One by one: all the texts at once would be as much again as the items that are made of them.
            rows = self._reader.execute("SELECT id, CAST(state AS BLOB) FROM items")
            items = parse_rows("items", rows, lambda item_id, state: intern_texts(parse_item(state, item_id)))
            names = SessionRecord.__struct_fields__
            sessions = parse_sessions(self._reader.execute(f"SELECT {', '.join(names)} FROM sessions"), names)  # noqa: S608
        keys, rev = self.read_keys()
        return StoredState(items, keys, rev, sessions, self._load_sampled_runs(items), self._load_shares())

    def _load_shares(self) -> list[ShareRecord]:
        with self._reader_lock, _ErrorTranslation():
            rows = self._reader.execute('SELECT share_id, hash, created_at, "group", item, expires_at FROM shares')
            return parse_shares(rows, ("share_id", "hash", "created_at", "group", "item", "expires_at"))

    def _load_sampled_runs(self, items: Iterable[Item]) -> list[SampledRun]:
        running = [(item.id, item.run_id) for item in items if item.status == "running"]
        with self._reader_lock, _ErrorTranslation():
            # One statement, for it may be a hundred thousand runs; in this order, for there are samples of all runs.
            rows = self._reader.execute(
                "SELECT s.id, s.run_id, count(*), min(at), max(at) FROM json_each(?) AS run CROSS JOIN samples AS s "
                "ON s.id = json_extract(run.value, '$[0]') AND s.run_id = json_extract(run.value, '$[1]') "
                "GROUP BY run.key",
                (_encode(running).decode(),),
            ).fetchall()
        return parse_sampled_runs(rows)

    def submit(self, writes: Sequence[Write], on_done: Callable[[Exception | None], object], /) -> None:
        """Write all or nothing with the next group."""
        with self._condition:
            closing = self._is_closing
            if not closing:
                # What waits for these items is older than this; were it written after, it would undo it.
                for write in writes:
                    key = _get_item_id(write)
                    if key is not None:
                        self._queue.pop(key, None)
                self._waiters.append(_Waiter(writes, on_done))
        if closing:
            on_done(StoreError("the store is closed"))

    def wake(self) -> None:
        """Begin with what was submitted."""
        with self._condition:
            self._condition.notify()

    def commit(self, writes: Sequence[Write]) -> Future[None]:
        """Write all or nothing with the next group."""
        return commit_now(self, writes)

    def enqueue(self, writes: Sequence[Write]) -> None:
        """Write within half a second, the newest state of each item only."""
        with self._condition:
            for write in writes:
                self._queue[write.item.id if isinstance(write, SaveItem) else _get_queue_key(write)] = write
            if self._flush_at is None and self._queue:
                self._flush_at = time.monotonic() + FLUSH_DELAY
                self._condition.notify()

    def flush(self, timeout: float) -> bool:
        """Write what waits now, with an empty commit that takes it along."""
        end = time.monotonic() + timeout
        try:
            while True:
                self.commit(()).result(max(end - time.monotonic(), 0.0))
                with self._condition:
                    if not self._queue:
                        return True
        except (StoreError, TimeoutError):
            return False

    def count_pending_writes(self) -> int:
        """Return how many writes wait for a commit."""
        with self._condition:
            return len(self._queue) + sum(len(waiter.writes) for waiter in self._waiters)

    @property
    def database_id(self) -> str:
        """What tells this database from any other."""
        with self._reader_lock, _ErrorTranslation():
            return read_database_id(self._reader)

    def is_secret_retired(self, secret_hash: str) -> bool:
        """Say whether a secret was one of a key, and is one no more."""
        with self._reader_lock, _ErrorTranslation():
            return is_secret_retired(self._reader, secret_hash)

    def read_keys(self) -> tuple[list[KeyRecord], int]:
        """Return all keys and their revision, of one instant."""
        with self._reader_lock, _ErrorTranslation():
            return read_keys(self._reader)

    def read_keys_rev(self) -> int:
        """Return the revision of the keys."""
        with self._reader_lock, _ErrorTranslation():
            return read_keys_rev(self._reader)

    def read_history(
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
            _build_text_condition(text),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        where = " AND ".join(conditions)
        lock, connection = (
            (self._history_lock, self._history_connection)
            if text is None
            else (self._search_lock, self._search_connection)
        )
        with lock, _interrupt_on_cancel(connection, cancellation), _ErrorTranslation():

            def fetch(after: object, count: int) -> list[tuple[object, ...]]:
                return connection.execute(
                    f"SELECT n, status, ended_at, state FROM history WHERE {where} AND n < ? "  # noqa: S608
                    "ORDER BY n DESC LIMIT ?",
                    (*values, after, count),
                ).fetchall()

            return read_page("history", fetch, parse_history_row, MAX_ROW if after is None else after, limit)

    def read_samples(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> list[Sample]:
        """Return the samples of a run, oldest first."""
        with self._history_lock, _interrupt_on_cancel(self._history_connection, cancellation), _ErrorTranslation():
            rows = self._history_connection.execute(
                "SELECT at, value, completed FROM samples WHERE id = ? AND run_id = ? ORDER BY at", (item_id, run_id)
            ).fetchall()
        return parse_samples(rows)

    def read_due_notices(self, now: float, limit: int, *, excluded_channels: Collection[str] = ()) -> list[Notice]:
        """Return the notices that are to be sent now, the longest due first."""
        with self._history_lock, _ErrorTranslation():
            rows = self._history_connection.execute(
                f"SELECT {NOTICE_COLUMNS} FROM outbox WHERE (next_at <= ? OR next_at > ?) "  # noqa: S608
                "AND channel NOT IN (SELECT value FROM json_each(?)) ORDER BY next_at",
                (now, now + MAX_RETRY_SECONDS, _encode(list(excluded_channels)).decode()),
            )
            return list(islice(iter_notices(rows), limit))

    def read_delivery_stats(self) -> list[DeliveryStats]:
        """Return what became of the notices to each channel, as far as is remembered."""
        with self._history_lock, _ErrorTranslation():
            rows = self._history_connection.execute(DELIVERY_STATS_QUERY).fetchall()
        return parse_delivery_stats(rows)

    def close(self) -> None:
        """Write what waits, stop the thread, close the file."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        self._thread.join(10.0)
        if not self._is_closed and not self._thread.is_alive():
            self._is_closed = True
            connections = self._reader, self._history_connection, self._search_connection, self._writer
            fault = self._guard.find_fault()
            with self._reader_lock, self._history_lock, self._search_lock:
                if fault is None:
                    for connection in connections:
                        connection.close()
                else:
                    self._abandon_files(connections, fault)
            self._guard.close()
            self._lock.release()

    def _abandon_files(self, connections: Iterable[sqlite3.Connection], fault: str) -> None:
        """Leave the files as they are: SQLite would merge the log into a file that is not its own, and delete it.

        SQLite does so when its last connection is closed, and Python closes a connection that nothing refers to.
        """
        for connection in connections:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        aside = None
        if self.path.exists() and self._guard.is_own_log():
            # Or the next server would merge it into the file that is at the path now.
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            aside = self._guard.log_path.with_name(f"{self._lock.real_path.name}.{stamp}-wal")
            with contextlib.suppress(OSError):
                self._guard.log_path.rename(aside)
        logger.error("the database was left as it is: %s; its log is kept as %s", fault, aside or self._guard.log_path)

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
                behind, self._queue = _split_queue(self._queue)
                self._flush_at = time.monotonic() if self._queue else None
                closing, more = self._is_closing, bool(self._queue)
            outcomes, failed = self._commit_group(waiting, behind)
            if failed:
                self._requeue(failed)
            elif not closing:
                self._continue_trimming(waiting, behind)
            # The newest first: who undoes a change finds the state that this very change made.
            for waiter, error in reversed(outcomes):
                waiter.on_done(error if error is None or isinstance(error, StoreError) else StoreError(str(error)))
            if closing and (failed or not more):
                if failed:
                    logger.error("%d states could not be written before the end", len(failed))
                return

    def _commit_group(
        self, waiters: list[_Waiter], queued: dict[object, Write]
    ) -> tuple[list[tuple[_Waiter, Exception | None]], dict[object, Write]]:
        """Commit a group; return what became of each waiter, and the states that have to be tried again."""
        late = list(queued.values())
        error = self._try_commit([*(write for waiter in waiters for write in waiter.writes), *late])
        if error is None:
            return [(waiter, None) for waiter in waiters], {}
        if len(waiters) + bool(late) == 1 or isinstance(error, (sqlite3.OperationalError, StoreError)):
            # A lock, a disk, another file: the same for each, and each would wait for the lock as long again.
            return [(waiter, error) for waiter in waiters], queued
        # One that cannot be written must not take the others with it.
        outcomes = [(waiter, self._try_commit(waiter.writes)) for waiter in waiters]
        return outcomes, queued if self._try_commit(late) is not None else {}

    def _requeue(self, failed: dict[object, Write]) -> None:
        if self.durability_error is None:  # or it is logged already
            logger.warning("%d states could not be written and wait", len(failed))
        with self._condition:
            # What has been submitted in the meantime is newer, whether it waits for a commit or not.
            newer = {_get_item_id(write) for waiter in self._waiters for write in waiter.writes}
            self._queue = {key: write for key, write in failed.items() if key not in newer} | self._queue
            self._flush_at = time.monotonic() + RETRY_DELAY

    def _continue_trimming(self, waiters: Sequence[_Waiter], queued: Mapping[object, Write]) -> None:
        done = [*queued.values(), *(write for waiter in waiters for write in waiter.writes)]
        for trim in [write for write in done if isinstance(write, TrimHistory)]:
            with contextlib.suppress(sqlite3.Error):
                where, values, _ = build_trim_filter(trim)
                left = self._writer.execute(f"SELECT 1 FROM history WHERE {where} LIMIT 1", values).fetchone()  # noqa: S608
                if left is None:
                    continue
                with self._condition:
                    self._queue.setdefault(_get_queue_key(trim), trim)
                    self._flush_at = min(self._flush_at or math.inf, time.monotonic() + TRIM_PAUSE)

    def _try_commit(self, writes: Sequence[Write]) -> Exception | None:
        """Write all or nothing in one transaction; return why not."""
        if not writes:
            return None
        failure: Exception | None = None
        begun = time.perf_counter()
        is_certain = True
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            self._check_file(is_rolled_back=True)
            execute_writes(self._writer, writes)
            is_certain = False
            self._writer.execute("COMMIT")
            self._check_file(is_rolled_back=False)
        except StoreError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  # the thread outlives whatever this was
            failure = error if is_certain or _is_rolled_back(error) else StoreError(str(error), is_rolled_back=False)
        if self._writer.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
        if self._must_checkpoint:
            self._must_checkpoint = False
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        if self.commit_stats.record(len(writes), time.perf_counter() - begun, failed=failure is not None):
            if failure is None:
                log_event("the store works again")
            else:
                logger.error("the store fails: %s", failure)
        return failure

    def _check_file(self, *, is_rolled_back: bool) -> None:
        """Return if the database is still the file at its path.

        Raises:
            StoreError: It is not.
        """
        fault = self._guard.find_fault()
        if fault is not None and self.durability_error is None and self._guard.is_moved():
            # What was acknowledged is then in the file, wherever it is now, and whatever becomes of the log.
            self._must_checkpoint = True
        self.durability_error = (
            None if fault is None else StoreError(fault, is_rolled_back=is_rolled_back, detail=FILE_LOST_DETAIL)
        )
        if self.durability_error is not None:
            raise self.durability_error


def _is_rolled_back(error: Exception) -> bool:
    """Return whether a COMMIT that failed left nothing behind: its last frame is not whole in the log."""
    code = getattr(error, "sqlite_errorcode", None)
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}


def _build_text_condition(text: str | None) -> tuple[str, str | None]:
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


def _split_queue(queue: dict[object, Write]) -> tuple[dict[object, Write], dict[object, Write]]:
    """Divide what waits into what the next group takes along, and states that wait on: a commit is not to wait long."""
    if len(queue) <= MAX_GROUP_STATES:
        return queue, {}
    states = [key for key, write in queue.items() if isinstance(write, SaveItem)]
    later = {key: queue[key] for key in states[MAX_GROUP_STATES:]}
    return {key: write for key, write in queue.items() if key not in later}, later


def _get_queue_key(write: Write) -> object:
    """Return where a write waits: one that takes the same place replaces it, so that little waits for a full disk."""
    match write:
        case AddSample(id=one) | ThinSamples(id=one) | TouchKey(key_id=one) | TouchSession(hash=one):
            return type(write), one
        case TrimHistory(status=status, max_runs=most):
            return TrimHistory, status, most
        case AddNotice(notice):
            return AddNotice, notice.notice_id
        case TrimNotices():
            return TrimNotices
    return _get_item_id(write) or object()


def _get_item_id(write: Write) -> str | None:
    match write:
        case SaveItem(item):
            return item.id
        case DropItem(item_id):
            return item_id
    return None


def _interrupt_on_cancel(
    connection: sqlite3.Connection, cancellation: Cancellation | None
) -> contextlib.AbstractContextManager[None]:
    """Let a cancellation interrupt what a connection does. Its lock is held: nobody else's work is interrupted."""
    return contextlib.nullcontext() if cancellation is None else cancellation.allow_interrupt(connection.interrupt)


class _ErrorTranslation(contextlib.AbstractContextManager[None]):  # reads as a word after `with`
    """Turn SQLite's errors into :class:`StoreError`."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise StoreError(str(error)) from error
