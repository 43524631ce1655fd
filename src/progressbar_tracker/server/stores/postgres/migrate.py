"""Moving everything from a database file to PostgreSQL: in one transaction, counted before it is committed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.models import SaveKey, SaveSession, SaveShare
from progressbar_tracker.server.settings import without_password
from progressbar_tracker.server.stores.reading import item_of, readable
from progressbar_tracker.server.stores.sqlite.files import connect as connect_file
from progressbar_tracker.server.stores.sqlite.store import SqliteStore

from . import rows
from .schema import CHANNEL, connect, plain, prepare

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import LiteralString


class Moved(NamedTuple):
    """How much was moved."""

    items: int
    runs: int
    samples: int
    keys: int
    sessions: int
    shares: int
    notices: int = 0


def move(source: Path, url: str) -> Moved:
    """Copy everything of a database file to a PostgreSQL database that has nothing in it yet.

    Items keep their owners, keys their identities and secrets, runs of the history their order. The file stays as it
    is, but for a schema that is led forward to this version's.

    Args:
        source: The file; no server may run on it.
        url: The database.

    Raises:
        ConfigError: It cannot be done, in one sentence; nothing was moved then.
    """
    if not source.is_file():
        raise ConfigError(f"there is no database {source}")
    prepare(url)
    with contextlib.closing(SqliteStore(source)) as store, contextlib.closing(connect_file(source)) as file:
        known = store.load()
        try:
            with connect(url) as database, database.transaction(), database.cursor() as cursor:
                # A large history takes longer than a statement of a server may.
                cursor.execute("SET LOCAL statement_timeout = 0")
                cursor.execute("LOCK TABLE meta IN EXCLUSIVE MODE")
                _check_empty(cursor, url)
                for key in known.keys:
                    rows.perform(cursor, SaveKey(key))
                for session in known.sessions:
                    rows.perform(cursor, SaveSession(session))
                for share in known.shares:
                    rows.perform(cursor, SaveShare(share))
                _copy(cursor, "COPY ended_secrets (hash) FROM STDIN", file.execute("SELECT hash FROM ended_secrets"))
                items = _copy(cursor, "COPY items (id, rev, state) FROM STDIN", _items(file))
                runs = _copy(
                    cursor,
                    'COPY history (rev, id, run_id, "group", status, ended_at, searched, state) FROM STDIN',
                    _history(file, items + 1),
                )
                samples = _copy(
                    cursor,
                    "COPY samples (id, run_id, at, value, completed) FROM STDIN",
                    file.execute("SELECT id, run_id, at, value, completed FROM samples"),
                )
                notices = _copy(
                    cursor,
                    f"COPY outbox ({_OUTBOX}) FROM STDIN",
                    file.execute(f"SELECT {_OUTBOX} FROM outbox"),  # noqa: S608
                )
                cursor.execute(
                    "UPDATE meta SET rev = rev + %s, credentials_rev = credentials_rev + 1", [items + bool(runs)]
                )
                cursor.execute(f"NOTIFY {CHANNEL}")
                moved = Moved(items, runs, samples, len(known.keys), len(known.sessions), len(known.shares), notices)
                _verify(cursor, file, moved)
        except psycopg.Error as error:
            raise ConfigError(f"the database {without_password(url)} cannot be used: {plain(error)}") from error
    with connect(url) as database:
        database.execute("ANALYZE")
    return moved


_OUTBOX: Final = (
    "notice_id, channel, item_id, run_id, event, at, body, attempts, next_at, delivered_at, error"
)  # fmt: skip


def _check_empty(cursor: rows.Cursor, url: str) -> None:
    for table in ("items", "history", "credentials"):
        if _count(cursor, table):
            raise ConfigError(f"the database {without_password(url)} is not empty: there are {table} in it")


def _copy(cursor: rows.Cursor, statement: LiteralString, found: Iterable[tuple[object, ...]]) -> int:
    count = 0
    with cursor.copy(statement) as copy:
        for count, row in enumerate(found, 1):  # noqa: B007  # the last is the count
            copy.write_row(row)
    return count


def _items(file: sqlite3.Connection) -> Iterator[tuple[object, ...]]:
    for rev, (item_id, state) in enumerate(file.execute("SELECT id, state FROM items"), 1):
        yield item_id, rev, state


def _history(file: sqlite3.Connection, rev: int) -> Iterator[tuple[object, ...]]:
    found = file.execute('SELECT id, "group", status, ended_at, state FROM history ORDER BY n')
    for item_id, group, status, ended_at, state in found:
        # One that cannot be read is moved as it is, and skipped there as it was here.
        item = next(iter(readable("history", [(item_id, state)], lambda _, text: item_of(text))), None)
        run_id, searched = ("", item_id.casefold()) if item is None else (item.run_id, rows.searched(item))
        yield rev, item_id, run_id, group, status, ended_at, searched, state


def _verify(cursor: rows.Cursor, file: sqlite3.Connection, moved: Moved) -> None:
    for table, count in (
        ("items", moved.items), ("history", moved.runs), ("samples", moved.samples), ("outbox", moved.notices),
    ):  # fmt: skip
        (before,) = file.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        after = _count(cursor, table)
        if not before == after == count:
            raise ConfigError(f"of {before} rows of {table} only {after} arrived; nothing was moved")
    if (there := _count(cursor, "credentials")) != moved.keys + moved.sessions + moved.shares:
        raise ConfigError(f"only {there} keys, sessions and shares arrived; nothing was moved")


def _count(cursor: rows.Cursor, table: str) -> int:
    cursor.execute(f"SELECT count(*) FROM {table}".encode())  # noqa: S608
    (count,) = cursor.fetchone() or (0,)
    return int(count)
