"""Store in one SQLite file: a writer, and a connection for each kind of read."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import re
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from progressbar_tracker._errors import ConfigError
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
from progressbar_tracker.server.stores.base import HistoryRow, StoredState, StoreError
from progressbar_tracker.server.stores.group_commit import GroupCommitStore
from progressbar_tracker.server.stores.reading import (
    combine_filters,
    decode_text,
    parse_item,
    parse_records,
    parse_rows,
    read_history_page,
    read_notices,
)

from .files import connect
from .guard import FileGuard
from .locks import FileLock
from .rows import (
    DELIVERY_STATS_QUERY,
    is_secret_retired,
    read_database_id,
    read_keys,
    read_keys_rev,
)
from .writer import SqliteWriter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from progressbar_tracker.server.pools import Cancellation

logger = logging.getLogger("progressbar_tracker.server.store")

_encode = msgspec.json.Encoder().encode


class SqliteStore(GroupCommitStore):
    """A store in one SQLite file.

    Args:
        path: The file; made, with its folder, where it is not there.

    Raises:
        ConfigError: The file cannot be used: it belongs to a running server, to a newer version or to another program,
            or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path)
        try:
            self._write_connection = connect(path)
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
        self._is_closed = False
        self._writer = SqliteWriter(self._write_connection, self._guard)
        super().__init__(self._writer)

    @property
    def durability_error(self) -> StoreError | None:
        """Why the latest commit would not survive a restart; ``None`` if it would."""
        return self._writer.durability_error

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
            rows = self._reader.execute(f"SELECT {', '.join(names)} FROM sessions")  # noqa: S608
            sessions = parse_records(SessionRecord, rows)
        keys, rev = self.read_keys()
        return StoredState(items, keys, rev, sessions, self._load_sampled_runs(items), self._load_shares())

    def _load_shares(self) -> list[ShareRecord]:
        with self._reader_lock, _ErrorTranslation():
            rows = self._reader.execute('SELECT share_id, hash, created_at, "group", item, expires_at FROM shares')
            return parse_records(ShareRecord, rows, ("share_id", "hash", "created_at", "group", "item", "expires_at"))

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
        return parse_records(SampledRun, rows)

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
        conditions, values = combine_filters(
            ('"group" = ?', group), ("status = ?", status), ("id = ?", item_id), _build_text_condition(text)
        )
        lock, connection = (
            (self._history_lock, self._history_connection)
            if text is None
            else (self._search_lock, self._search_connection)
        )
        with lock, _interrupt_on_cancel(connection, cancellation), _ErrorTranslation():

            def fetch(after: int, count: int) -> list[tuple[object, ...]]:
                return connection.execute(
                    f"SELECT n, status, ended_at, state FROM history WHERE {conditions}n < ? "  # noqa: S608
                    "ORDER BY n DESC LIMIT ?",
                    (*values, after, count),
                ).fetchall()

            return read_history_page(fetch, after, limit)

    def read_samples(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> list[Sample]:
        """Return the samples of a run, oldest first."""
        with self._history_lock, _interrupt_on_cancel(self._history_connection, cancellation), _ErrorTranslation():
            rows = self._history_connection.execute(
                "SELECT at, value, completed FROM samples WHERE id = ? AND run_id = ? ORDER BY at", (item_id, run_id)
            ).fetchall()
        return parse_records(Sample, rows)

    def read_due_notices(self, now: float, limit: int, *, excluded_channels: Collection[str] = ()) -> list[Notice]:
        """Return the notices that are to be sent now, the longest due first."""
        with self._history_lock, _ErrorTranslation():
            rows = self._history_connection.execute(
                f"SELECT {NOTICE_COLUMNS} FROM outbox WHERE (next_at <= ? OR next_at > ?) "  # noqa: S608
                "AND channel NOT IN (SELECT value FROM json_each(?)) ORDER BY next_at",
                (now, now + MAX_RETRY_SECONDS, _encode(list(excluded_channels)).decode()),
            )
            return read_notices(rows, limit)

    def read_delivery_stats(self) -> list[DeliveryStats]:
        """Return what became of the notices to each channel, as far as is remembered."""
        with self._history_lock, _ErrorTranslation():
            rows = self._history_connection.execute(DELIVERY_STATS_QUERY).fetchall()
        return parse_records(DeliveryStats, rows)

    def close(self) -> None:
        """Write what waits, stop the thread, close the file."""
        if self._writer.close() and not self._is_closed:
            self._is_closed = True
            connections = self._reader, self._history_connection, self._search_connection, self._write_connection
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
