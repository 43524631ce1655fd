"""Copy a database file to PostgreSQL, in one transaction that verifies the number of rows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._text import summarize_error
from progressbar_tracker.server.mutations import (
    AddVapidKeys,
    MarkSchedules,
    SaveKey,
    SavePingToken,
    SaveSchedule,
    SaveSession,
    SaveShare,
    SaveSubscription,
)
from progressbar_tracker.server.settings import strip_password
from progressbar_tracker.server.stores.reading import find_run_pattern, parse_item, parse_rows
from progressbar_tracker.server.stores.sqlite.files import connect as connect_file
from progressbar_tracker.server.stores.sqlite.store import SqliteStore

from . import rows
from .schedules import write_schedules
from .schema import FILL_REQUESTERS, FILL_RUNS, NOTIFY_CHANNEL, open_database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import LiteralString


class MigrationSummary(NamedTuple):
    """The number of copied records."""

    items: int
    runs: int
    samples: int
    keys: int
    sessions: int
    shares: int
    notices: int = 0
    curves: int = 0
    tails: int = 0
    schedules: int = 0
    subscriptions: int = 0
    secrets: int = 0
    ping_tokens: int = 0
    kept_messages: int = 0


def migrate_database(source: Path, url: str) -> MigrationSummary:
    """Copy a database file to an empty PostgreSQL database.

    Items keep their owners, keys their ids and secrets, runs of the history their order. The file only changes by
    migrations of its schema.

    Args:
        source: The file; no server may run on it.
        url: The database.

    Raises:
        ConfigError: The copy failed; the database is still empty. The message is one sentence.
    """
    if not source.is_file():
        raise ConfigError(f"there is no database {source}")
    database = open_database(url)
    with contextlib.closing(SqliteStore(source)) as store, contextlib.closing(connect_file(source)) as file:
        state = store.load()
        try:
            with database.connect() as connection, connection.transaction(), connection.cursor() as cursor:
                # A large history takes longer than the statement timeout of a server.
                cursor.execute("SET LOCAL statement_timeout = 0")
                cursor.execute("LOCK TABLE meta IN EXCLUSIVE MODE")
                _check_empty(cursor, url)
                for key in state.keys:
                    rows.execute_write(cursor, SaveKey(key))
                for session in state.sessions:
                    rows.execute_write(cursor, SaveSession(session))
                for share in state.shares:
                    rows.execute_write(cursor, SaveShare(share))
                for token in state.ping_tokens:
                    rows.execute_write(cursor, SavePingToken(token))
                write_schedules(cursor, [*map(SaveSchedule, state.schedules), MarkSchedules(state.schedule_mark)])
                for subscription in state.subscriptions:
                    rows.execute_write(cursor, SaveSubscription(subscription))
                if state.vapid_keys:
                    rows.execute_write(cursor, AddVapidKeys(state.vapid_keys))
                _copy_rows(
                    cursor, "COPY ended_secrets (hash) FROM STDIN", file.execute("SELECT hash FROM ended_secrets")
                )
                items = _copy_rows(
                    cursor, "COPY items (id, state) FROM STDIN", file.execute("SELECT id, state FROM items")
                )
                runs = _copy_rows(
                    cursor,
                    'COPY history (id, run_id, "group", status, ended_at, searched, pattern, state) FROM STDIN',
                    _read_history(file),
                )
                for statement in (*FILL_RUNS, FILL_REQUESTERS):
                    cursor.execute(statement)
                samples = _copy_rows(
                    cursor,
                    "COPY samples (id, run_id, at, value, completed) FROM STDIN",
                    file.execute("SELECT id, run_id, at, value, completed FROM samples"),
                )
                curves = _copy_rows(
                    cursor,
                    "COPY curves (id, run_id, curve) FROM STDIN",
                    file.execute("SELECT id, run_id, curve FROM curves"),
                )
                tails = _copy_rows(
                    cursor,
                    "COPY tails (id, run_id, at, owner, tail, size) FROM STDIN",
                    file.execute("SELECT id, run_id, at, owner, tail, size FROM tails"),
                )
                notices = _copy_rows(
                    cursor,
                    f"COPY outbox ({_OUTBOX_COLUMNS}) FROM STDIN",
                    file.execute(f"SELECT {_OUTBOX_COLUMNS} FROM outbox"),
                )
                kept_messages = _copy_rows(
                    cursor,
                    "COPY kept_messages FROM STDIN",
                    # A boolean, and not the number of SQLite.
                    ((*row[:-1], bool(row[-1])) for row in file.execute("SELECT * FROM kept_messages")),
                )
                # Without a log of these changes, a server that runs on the database reads everything again.
                cursor.execute("UPDATE meta SET rev = rev + 1, credentials_rev = credentials_rev + 1")
                rows.require_count(cursor, 1)
                cursor.execute(f"NOTIFY {NOTIFY_CHANNEL}")
                summary = MigrationSummary(
                    items,
                    runs,
                    samples,
                    len(state.keys),
                    len(state.sessions),
                    len(state.shares),
                    notices,
                    curves,
                    tails,
                    len(state.schedules),
                    len(state.subscriptions),
                    int(bool(state.vapid_keys)),
                    len(state.ping_tokens),
                    kept_messages,
                )
                _verify_counts(cursor, file, summary)
        except psycopg.Error as error:
            raise ConfigError(f"the database {strip_password(url)} cannot be used: {summarize_error(error)}") from error
    with database.connect() as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("ANALYZE")
    return summary


_OUTBOX_COLUMNS: Final = (
    "notice_id, channel, item_id, run_id, event, at, body, attempts, next_at, delivered_at, error"
)  # fmt: skip


def _check_empty(cursor: rows.Cursor, url: str) -> None:
    for table in ("items", "history", "credentials", "schedules"):
        if _count_rows(cursor, table):
            raise ConfigError(f"the database {strip_password(url)} is not empty: there are {table} in it")


def _copy_rows(cursor: rows.Cursor, statement: LiteralString, source: Iterable[tuple[object, ...]]) -> int:
    count = 0
    with cursor.copy(statement) as copy:
        for count, row in enumerate(source, 1):  # noqa: B007  # the last value is the number of rows
            copy.write_row(row)
    return count


def _read_history(file: sqlite3.Connection) -> Iterator[tuple[object, ...]]:
    history = file.execute('SELECT id, "group", status, ended_at, state FROM history ORDER BY n')
    for item_id, group, status, ended_at, state in history:
        # An unreadable row is copied unchanged, and skipped by both stores.
        item = next(iter(parse_rows("history", [(item_id, state)], lambda _, text: parse_item(text))), None)
        run_id, searched = ("", item_id.casefold()) if item is None else (item.run_id, rows.build_search_text(item))
        # Runs of earlier versions get their pattern now, because each row is parsed anyway.
        yield item_id, run_id, group, status, ended_at, searched, find_run_pattern(item_id), state


def _verify_counts(cursor: rows.Cursor, file: sqlite3.Connection, summary: MigrationSummary) -> None:
    for table, count in (
        ("items", summary.items), ("history", summary.runs), ("samples", summary.samples), ("outbox", summary.notices),
        ("curves", summary.curves), ("tails", summary.tails), ("schedules", summary.schedules),
        ("kept_messages", summary.kept_messages),
    ):  # fmt: skip
        (before,) = file.execute(f"SELECT count(*) FROM {table}").fetchone()
        after = _count_rows(cursor, table)
        if not before == after == count:
            raise ConfigError(f"{after} of {before} rows of {table} arrived; nothing was moved")
    count = _count_rows(cursor, "credentials")
    expected = summary.keys + summary.sessions + summary.shares + summary.subscriptions + summary.secrets
    expected += summary.ping_tokens
    if count != expected:
        raise ConfigError(f"{count} of {expected} keys, sessions, shares and subscriptions arrived; nothing was moved")


def _count_rows(cursor: rows.Cursor, table: str) -> int:
    cursor.execute(f"SELECT count(*) FROM {table}".encode())
    (count,) = cursor.fetchone() or (0,)
    return int(count)
