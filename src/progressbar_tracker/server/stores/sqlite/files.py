"""The database file: opening it safely, and leading its schema forward."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Final

from progressbar_tracker._errors import ConfigError

from .migrations import APPLICATION_ID, MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BUSY_TIMEOUT: Final = 3.0
"""Seconds to wait for another connection's transaction; less than a client waits for its answer."""


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to a database of this version, made or migrated where need be.

    Raises:
        ConfigError: The file cannot be used, in one sentence.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made here and not by SQLite: nobody else may read it, and the files beside it get the same mode. One that is
        # there is not opened: to close a handle to it would drop the locks of this process's other connections, and
        # the next process to leave the file would take their log away, with all that they write from then on.
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(f"the database {path} cannot be opened: {error.strerror}") from error
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        harden_connection(connection)
        _prepare_schema(connection, path)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise ConfigError(f"the database {path} cannot be used: {error}") from error
        raise
    return connection


def harden_connection(connection: sqlite3.Connection) -> None:
    """Let nothing that stands in the schema of a file run code or change the schema: it may come from anywhere."""
    connection.execute("PRAGMA trusted_schema = OFF")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)


def _prepare_schema(connection: sqlite3.Connection, path: Path) -> None:
    version = read_version(connection)
    check_compatibility(connection, path, version)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if version < len(MIGRATIONS):
        migrate(connection, path)


def check_compatibility(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Return if a database is ours or empty, and of no newer version.

    Raises:
        ConfigError: It is another program's, or a newer version's.
    """
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"the database {path} was written by a newer version of progressbar-tracker (schema {version}, "
            f"this one knows {len(MIGRATIONS)})"
        )
    application = _read_pragma(connection, "application_id")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (tables or application or version):
        raise ConfigError(f"the database {path} belongs to another program")


def check_schema(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Return if a file from outside has the schema that the migrations make, and nothing besides.

    A trigger, a view or an expression in an index of it would run with what the server writes.

    Raises:
        ConfigError: It has another one.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        for migration in MIGRATIONS[:version]:
            for statement in migration:
                made.execute(statement)
        expected, found = _read_schema(made), _read_schema(connection)
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            how = "lacks" if name not in found else "has" if name not in expected else "has another"
            raise ConfigError(f"the copy {path} {how} {ascii(' '.join(name))[:100]}: it is not as a server left it")


def _read_schema(connection: sqlite3.Connection) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Return table and definition of everything in a schema, by type and name. Spaces differ by version."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    made = {}
    for kind, name, table, sql in rows:
        # The statistics of ANALYZE are SQLite's own, and hold no code.
        if not (kind == "table" and str(name) in {"sqlite_stat1", "sqlite_stat4", "sqlite_sequence"}):
            made[str(kind), str(name)] = str(table), None if sql is None else "".join(str(sql).split())
    return made


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Lead a database to the newest schema, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again under the lock: another process may have done it by now.
        version = read_version(connection)
        check_compatibility(connection, path, version) if migrations is MIGRATIONS else None
        for migration in migrations[version:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def read_version(connection: sqlite3.Connection) -> int:
    """Return the version of a database's schema; 0 before there is one."""
    return _read_pragma(connection, "user_version")


def _read_pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
