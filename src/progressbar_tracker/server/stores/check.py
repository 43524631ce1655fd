"""Check the integrity and the contents of a database, without changing it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._text import summarize_error
from progressbar_tracker.server.settings import strip_password

from .open import require_postgres_driver
from .sqlite.files import open_existing, read_version
from .sqlite.migrations import MIGRATIONS


def check_database(database: Path | str) -> str:
    """Return a short description of a database.

    Args:
        database: A file, or a ``postgresql://`` URL. Servers may run on it.

    Raises:
        ConfigError: The database is missing, damaged, unreachable or of another program; in one sentence.
    """
    return _check_file(database) if isinstance(database, Path) else _check_postgres(database)


def _check_file(path: Path) -> str:
    if not path.is_file():
        raise ConfigError(f"there is no database {path}; a server makes one")
    try:
        with open_existing(path) as connection:
            version = read_version(connection)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise ConfigError(f"the database {path} is damaged ({verdict}): put a backup in its place")
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (unused_pages,) = connection.execute("PRAGMA freelist_count").fetchone()
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
            counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _COUNTED_TABLES]
    except sqlite3.Error as error:
        raise ConfigError(f"the database {path} cannot be read: {error}") from error
    free = shutil.disk_usage(path.absolute().parent).free
    if free < _MIN_FREE_BYTES:
        raise ConfigError(f"the disk of the database {path} has {free / 1e6:.0f} MB left: make room")
    older = "" if version == len(MIGRATIONS) else f", of the older schema {version}: the server migrates it"
    # SQLite reuses deleted pages, and never shrinks the file.
    spare = ""
    if unused_pages * 2 > pages and unused_pages * page_size > _MIN_SPARE_BYTES:
        spare = f", {unused_pages * page_size / 1e6:.0f} MB of it free for new data (backup and restore make it small)"
    return f"{path} is whole, {_format_counts(*counts)}, {path.stat().st_size / 1e6:.1f} MB{spare}{older}"


_COUNTED_TABLES = ("items", "history", "keys")
_MIN_FREE_BYTES = 100e6
_MIN_SPARE_BYTES = 50e6


def _check_postgres(url: str) -> str:
    require_postgres_driver()
    import psycopg

    from .postgres.database import Database
    from .postgres.schema import LEADER_LOCK_ID, MIGRATIONS

    try:
        database = Database(url)
        with database.connect() as connection:
            database.check_pooling(connection)
            pooler = ", through a connection pooler in session mode" if connection.is_pooled else ""
            (table,) = connection.execute("SELECT to_regclass('progressbar_tracker.schema')::text").fetchone() or (
                None,
            )
            if table is None:
                return f"{strip_password(url)} is empty: the first server makes its tables"
            (version,) = connection.execute("SELECT version FROM schema").fetchone() or (0,)
            if version > len(MIGRATIONS):
                raise ConfigError(f"{strip_password(url)} was written by a newer version of progressbar-tracker")
            counts = connection.execute(
                "SELECT (SELECT count(*) FROM items WHERE state IS NOT NULL), (SELECT count(*) FROM history), "
                "(SELECT count(*) FROM credentials WHERE kind = 'key'), "
                "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted)",
                [LEADER_LOCK_ID],
            ).fetchone() or (0, 0, 0, 0)
    except psycopg.Error as error:
        raise ConfigError(f"the database {strip_password(url)} cannot be used: {summarize_error(error)}") from error
    items, runs, keys, leaders = counts
    servers = "a server runs on it" if leaders else "no server runs on it"
    return f"{strip_password(url)} takes writes, {_format_counts(items, runs, keys)}; {servers}{pooler}"


def _format_counts(items: int, runs: int, keys: int) -> str:
    return f"{_count(items, 'item')}, {_count(runs, 'run')} of the history, {_count(keys, 'key')}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
