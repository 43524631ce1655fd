"""Store in one SQLite file: a writer, and a connection for each kind of read."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import re
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Literal

import msgspec

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.items.former_runs import MAX_FORMER_RUNS
from progressbar_tracker.server.models import (
    MAX_RETRY_SECONDS,
    NOTICE_COLUMNS,
    DeliveryStats,
    KeyRecord,
    Notice,
    PingTokenRecord,
    PushSubscription,
    RunRow,
    Sample,
    SampledRun,
    ScheduleMark,
    ScheduleRecord,
    SessionRecord,
    ShareRecord,
    StoredTail,
    intern_texts,
)
from progressbar_tracker.server.mutations import KeptMessage
from progressbar_tracker.server.stores.base import (
    ALL_RUNS,
    HistoryFilter,
    HistoryRow,
    StoredState,
    StoreError,
    Timeline,
)
from progressbar_tracker.server.stores.group_commit import GroupCommitStore
from progressbar_tracker.server.stores.reading import (
    attach_curves,
    decode_text,
    group_run_rows,
    parse_curves,
    parse_former_runs,
    parse_item,
    parse_mark,
    parse_record,
    parse_records,
    parse_rows,
    parse_run_rows,
    parse_schedules,
    parse_tail,
    read_history_page,
    read_notices,
)

from .files import connect
from .guard import FileGuard
from .locks import FileLock
from .rows import (
    CURVES_QUERY,
    DELIVERY_STATS_QUERY,
    FORMER_RUNS_QUERIES,
    KEPT_MESSAGE_QUERY,
    is_secret_retired,
    read_database_id,
    read_keys,
    read_keys_rev,
    read_vapid_keys,
)
from .run_queries import RECENT_RUNS_QUERY, build_history_query, build_timeline_queries, scans_runs
from .writer import SqliteWriter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from progressbar_tracker.server.items.curves import Curve, StoredCurve
    from progressbar_tracker.server.items.former_runs import FormerRunRow
    from progressbar_tracker.server.pools import Cancellation

logger = logging.getLogger("progressbar_tracker.server.store")

_encode = msgspec.json.Encoder().encode


class SqliteStore(GroupCommitStore):
    """A store in one SQLite file.

    Args:
        path: The file; created with its folder if it does not exist.

    Raises:
        ConfigError: The file belongs to a running server, a newer version or another program, or is not accessible.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path)
        try:
            self._write_connection = connect(path)
            self._reader = connect(path)
            # Every request waits for reads of the keys, so they have a connection of their own. A text search scans
            # run after run, so it must not delay queries of the history that use an index.
            self._history_connection = connect(path)
            self._search_connection = connect(path)
            # A timeline, or a page of an interval, scans many small rows: it must not delay them either.
            self._timeline_connection = connect(path)
            for connection in (
                self._reader, self._history_connection, self._search_connection, self._timeline_connection,
            ):  # fmt: skip
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
        self._timeline_lock = threading.Lock()
        self._is_closed = False
        self._writer = SqliteWriter(self._write_connection, self._guard)
        super().__init__(self._writer)

    @property
    def durability_error(self) -> StoreError | None:
        """Why the latest commit would not survive a restart; ``None`` if it would."""
        return self._writer.durability_error

    @property
    def shared(self) -> None:
        """``None``: no other server writes to the file."""
        return

    def load(self) -> StoredState:
        """Return the state to keep in memory, without unreadable rows."""
        with self._reader_lock, _ErrorTranslation():
            # Row by row: all texts at once would take as much memory as their items.
            rows = self._reader.execute("SELECT id, CAST(state AS BLOB) FROM items")
            items = parse_rows("items", rows, lambda item_id, state: intern_texts(parse_item(state, item_id)))
            names = SessionRecord.__struct_fields__
            rows = self._reader.execute(f"SELECT {', '.join(names)} FROM sessions")
            sessions = parse_records(SessionRecord, rows)
        keys, rev = self.read_keys()
        running = [(item.id, item.run_id) for item in items if item.status == "running"]
        return StoredState(
            items,
            keys,
            rev,
            sessions,
            self._load_sampled_runs(running),
            self._load_shares(),
            self._load_curves(running),
            *self._load_schedules(),
            *self._load_subscriptions(),
            self._load_ping_tokens(),
        )

    def _load_ping_tokens(self) -> list[PingTokenRecord]:
        with self._reader_lock, _ErrorTranslation():
            rows = self._reader.execute('SELECT token_id, hash, name, "group", created_at, expires_at FROM ping_tokens')
            return parse_records(PingTokenRecord, rows)

    def _load_schedules(self) -> tuple[list[ScheduleRecord], ScheduleMark]:
        with self._reader_lock, _ErrorTranslation():
            records = parse_schedules(self._reader.execute("SELECT id, state, started_at, missed_at FROM schedules"))
            mark = parse_mark(self._reader.execute("SELECT one, state FROM schedule_monitor"))
        return records, mark

    def _load_subscriptions(self) -> tuple[list[PushSubscription], tuple[str, ...]]:
        """Return the push subscriptions, and the keys that sign their messages."""
        with self._reader_lock, _ErrorTranslation():
            rows = self._reader.execute("SELECT subscription_id, state FROM subscriptions")
            subscriptions = parse_rows("subscriptions", rows, lambda _, text: parse_record(PushSubscription, text))
            return subscriptions, read_vapid_keys(self._reader)

    def _load_shares(self) -> list[ShareRecord]:
        with self._reader_lock, _ErrorTranslation():
            rows = self._reader.execute('SELECT share_id, hash, created_at, "group", item, expires_at FROM shares')
            return parse_records(ShareRecord, rows, ("share_id", "hash", "created_at", "group", "item", "expires_at"))

    def _load_curves(self, running: list[tuple[str, str]]) -> list[StoredCurve]:
        with self._reader_lock, _ErrorTranslation():
            return parse_curves(self._reader.execute(CURVES_QUERY, (_encode(running).decode(),)))

    def _load_sampled_runs(self, running: list[tuple[str, str]]) -> list[SampledRun]:
        with self._reader_lock, _ErrorTranslation():
            # One statement, because there may be 100,000 runs. CROSS JOIN fixes the order: the table holds samples of
            # all runs, so SQLite must look each running one up.
            rows = self._reader.execute(
                "SELECT s.id, s.run_id, count(*), min(at), max(at) FROM json_each(?) AS run CROSS JOIN samples AS s "
                "ON s.id = json_extract(run.value, '$[0]') AND s.run_id = json_extract(run.value, '$[1]') "
                "GROUP BY run.key",
                (_encode(running).decode(),),
            ).fetchall()
        return parse_records(SampledRun, rows)

    @property
    def database_id(self) -> str:
        """A unique id of this database."""
        with self._reader_lock, _ErrorTranslation():
            return read_database_id(self._reader)

    def is_secret_retired(self, secret_hash: str) -> bool:
        """Return whether a secret once belonged to a key, and no longer does."""
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

    def read_vapid_keys(self) -> tuple[str, ...]:
        """Return the private keys that sign Web Push messages, the newest first."""
        with self._reader_lock, _ErrorTranslation():
            return read_vapid_keys(self._reader)

    def read_history(
        self,
        criteria: HistoryFilter = ALL_RUNS,
        *,
        after: int | None = None,
        limit: int = 100,
        cancellation: Cancellation | None = None,
    ) -> list[HistoryRow]:
        """Return runs that left the board, newest first."""
        text_condition, text = _build_text_condition(criteria.text)
        query, values = build_history_query(criteria, text_condition)
        texts = () if text is None else (text,)
        lock, connection = (
            (self._search_lock, self._search_connection)
            if text is not None
            else (self._timeline_lock, self._timeline_connection)
            if scans_runs(criteria)
            else (self._history_lock, self._history_connection)
        )
        with lock, _interrupt_on_cancel(connection, cancellation), _ErrorTranslation():

            def fetch(after: int, count: int) -> list[tuple[object, ...]]:
                return connection.execute(query, (*values, after, *texts, count)).fetchall()

            return read_history_page(fetch, after, limit)

    def read_timeline(
        self,
        since: float,
        until: float,
        *,
        group: str | None = None,
        limit: int,
        cancellation: Cancellation | None = None,
    ) -> Timeline:
        """Return the runs of the history that overlap an interval, without inner ones that have not failed."""
        query, count_query = build_timeline_queries(group)
        values = (since, until) if group is None else (since, until, group)
        with self._timeline_lock, _interrupt_on_cancel(self._timeline_connection, cancellation), _ErrorTranslation():
            rows = self._timeline_connection.execute(query, (*values, limit)).fetchall()
            omitted = 0
            if len(rows) == limit:
                (count,) = self._timeline_connection.execute(count_query, values).fetchone()
                omitted = max(count - limit, 0)
        return Timeline(parse_run_rows(rows), omitted)

    def read_recent_runs(
        self, ids: Collection[str], *, limit: int, cancellation: Cancellation | None = None
    ) -> dict[str, list[RunRow]]:
        """Return the newest runs of many ids, newest first."""
        with self._history_lock, _interrupt_on_cancel(self._history_connection, cancellation), _ErrorTranslation():
            rows = self._history_connection.execute(
                RECENT_RUNS_QUERY, (_encode(list(dict.fromkeys(ids))).decode(), limit)
            ).fetchall()
        return group_run_rows(rows)

    def read_samples(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> list[Sample]:
        """Return the samples of a run, oldest first."""
        with self._history_lock, _interrupt_on_cancel(self._history_connection, cancellation), _ErrorTranslation():
            rows = self._history_connection.execute(
                "SELECT at, value, completed FROM samples WHERE id = ? AND run_id = ? ORDER BY at", (item_id, run_id)
            ).fetchall()
        return parse_records(Sample, rows)

    def read_former_runs(
        self,
        keys: Collection[str],
        *,
        by: Literal["id", "pattern"],
        limit: int = MAX_FORMER_RUNS,
        cancellation: Cancellation | None = None,
    ) -> dict[str, list[FormerRunRow]]:
        """Return the successful runs of many ids or patterns, newest first."""
        with self._history_lock, _interrupt_on_cancel(self._history_connection, cancellation), _ErrorTranslation():
            rows = self._history_connection.execute(
                FORMER_RUNS_QUERIES[by], (_encode(list(set(keys))).decode(), limit)
            ).fetchall()
        runs = parse_former_runs(rows)
        pairs = {(row.item.id, row.item.run_id) for found in runs.values() for row in found}
        return attach_curves(runs, self.read_curves(pairs, cancellation=cancellation) if pairs else {})

    def read_curves(
        self, runs: Collection[tuple[str, str]], *, cancellation: Cancellation | None = None
    ) -> dict[tuple[str, str], Curve]:
        """Return the stored curves of runs, by id and run id."""
        with self._history_lock, _interrupt_on_cancel(self._history_connection, cancellation), _ErrorTranslation():
            rows = self._history_connection.execute(CURVES_QUERY, (_encode(list(runs)).decode(),)).fetchall()
        return {(item_id, run_id): curve for item_id, run_id, curve in parse_curves(rows)}

    def read_tail(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> StoredTail | None:
        """Return the output tail of a run, or ``None``."""
        with self._history_lock, _interrupt_on_cancel(self._history_connection, cancellation), _ErrorTranslation():
            row = self._history_connection.execute(
                "SELECT id, at, tail FROM tails WHERE id = ? AND run_id = ?", (item_id, run_id)
            ).fetchone()
        return parse_tail(row)

    def read_due_notices(self, now: float, limit: int, *, excluded_channels: Collection[str] = ()) -> list[Notice]:
        """Return the notices that are due, longest due first."""
        with self._history_lock, _ErrorTranslation():
            rows = self._history_connection.execute(
                f"SELECT {NOTICE_COLUMNS} FROM outbox WHERE (next_at <= ? OR next_at > ?) "
                "AND channel NOT IN (SELECT value FROM json_each(?)) ORDER BY next_at",
                (now, now + MAX_RETRY_SECONDS, _encode(list(excluded_channels)).decode()),
            )
            return read_notices(rows, limit)

    def read_kept_message(self, channel: str, item_id: str, run_id: str) -> KeptMessage | None:
        """Return the message of a channel about a run, or ``None``."""
        with self._history_lock, _ErrorTranslation():
            rows = self._history_connection.execute(KEPT_MESSAGE_QUERY, (channel, item_id, run_id)).fetchall()
        return next(iter(parse_records(KeptMessage, rows)), None)

    def read_delivery_stats(self) -> list[DeliveryStats]:
        """Return the delivery statistics of each channel."""
        with self._history_lock, _ErrorTranslation():
            rows = self._history_connection.execute(DELIVERY_STATS_QUERY).fetchall()
        return parse_records(DeliveryStats, rows)

    def close(self) -> None:
        """Write the queue, stop the thread, close the file. Idempotent."""
        if self._writer.close() and not self._is_closed:
            self._is_closed = True
            connections = (
                self._reader, self._history_connection, self._search_connection, self._timeline_connection,
                self._write_connection,
            )  # fmt: skip
            fault = self._guard.find_fault()
            with self._reader_lock, self._history_lock, self._search_lock, self._timeline_lock:
                if fault is None:
                    for connection in connections:
                        connection.close()
                else:
                    self._abandon_files(connections, fault)
            self._guard.close()
            self._lock.release()

    def _abandon_files(self, connections: Iterable[sqlite3.Connection], fault: str) -> None:
        """Leave the files unchanged, by keeping the connections open.

        Closing the last connection makes SQLite merge its log into the file at the path, which is another file now, and
        delete the log. Python would close a connection without references.
        """
        for connection in connections:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        kept_log = None
        if self.path.exists() and self._guard.is_own_log():
            # Rename the log, or the next server would merge it into the other file at the path.
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            kept_log = self._guard.log_path.with_name(f"{self._lock.real_path.name}.{stamp}-wal")
            with contextlib.suppress(OSError):
                self._guard.log_path.rename(kept_log)
        kept_log = kept_log or self._guard.log_path
        logger.error("the database was left unchanged: %s; its log is kept as %s", fault, kept_log)


def _build_text_condition(text: str | None) -> tuple[str, str | None]:
    """Return the condition for a text in the id or title, and its value."""
    if text is None:
        return "", None
    folded = text.casefold()
    if not text.isascii() or "ss" in folded:  # "ss" also matches a sharp s
        # Slow: SQLite calls Python for each run, and holds the interpreter lock.
        return "instr(casefold(h.id || char(10) || h.title), ?)", folded
    # LIKE ignores the case of ASCII only, but is much faster and needs no interpreter lock.
    escaped = re.sub(r"[\\%_]", r"\\\g<0>", text)
    return "(h.id || char(10) || h.title) LIKE ? ESCAPE '\\'", f"%{escaped}%"


def _interrupt_on_cancel(
    connection: sqlite3.Connection, cancellation: Cancellation | None
) -> contextlib.AbstractContextManager[None]:
    """Let a cancellation interrupt a connection. Its lock is held, so no other query is interrupted."""
    return contextlib.nullcontext() if cancellation is None else cancellation.allow_interrupt(connection.interrupt)


class _ErrorTranslation(contextlib.AbstractContextManager[None]):
    """Turn errors of SQLite into :class:`StoreError`."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise StoreError(str(error)) from error
