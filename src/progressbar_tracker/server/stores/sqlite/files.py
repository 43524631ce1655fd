"""Open a database file safely, and migrate its schema."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from progressbar_tracker._errors import ConfigError

from .locks import open_alongside_server
from .migrations import APPLICATION_ID, MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BUSY_TIMEOUT: Final = 3.0
"""Seconds to wait for a transaction of another connection; less than the timeout of a client."""


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to a database of this version, after creating or migrating it if necessary.

    Raises:
        ConfigError: The file cannot be used, in one sentence.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Create the file before SQLite does: only the owner may read it, and SQLite gives its other files the same
        # mode. Never open an existing file. Closing the handle would drop the locks of other connections of this
        # process. The next process that closes the file would then delete their log, and lose their later commits.
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


@contextlib.contextmanager
def open_existing(path: Path, *, is_copy: bool = False) -> Iterator[sqlite3.Connection]:
    """Open an existing database without changing it. A server may run on it.

    Args:
        path: The database.
        is_copy: Accept a file with several names: a copy is complete without a log.

    Raises:
        ConfigError: The database belongs to another program or to a newer version, or a server uses it in another way.
        sqlite3.Error: The file cannot be read.
    """
    # SQLite cannot read the log of a running server through a read-only connection.
    address = f"file:{quote(str(path.absolute()))}?mode=rw"
    with (
        open_alongside_server(path, is_copy=is_copy),
        contextlib.closing(
            sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
        ) as connection,
    ):
        harden_connection(connection)
        check_compatibility(connection, path, read_version(connection))
        yield connection


def harden_connection(connection: sqlite3.Connection) -> None:
    """Distrust the schema of a file: nothing in it may run code or change the schema."""
    connection.execute("PRAGMA trusted_schema = OFF")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)


def _prepare_schema(connection: sqlite3.Connection, path: Path) -> None:
    version = read_version(connection)
    check_compatibility(connection, path, version)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # on macOS, fsync() leaves data in the cache of the disk
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    if version < len(MIGRATIONS):
        migrate(connection, path)


def check_compatibility(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Check that a database belongs to this program or is empty.

    Raises:
        ConfigError: The database belongs to another program or to a newer version.
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
    """Check that a file from elsewhere has exactly the schema of the migrations.

    An additional trigger, view or index expression would run with the writes of the server.

    Raises:
        ConfigError: The schema differs.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as reference:
        for migration in MIGRATIONS[:version]:
            for statement in migration:
                reference.execute(statement)
        expected, actual = _read_schema(reference), _read_schema(connection)
    for name in sorted(expected.keys() | actual.keys()):
        if actual.get(name) != expected.get(name):
            verb = "lacks" if name not in actual else "has" if name not in expected else "has another"
            raise ConfigError(f"the copy {path} {verb} {ascii(' '.join(name))[:100]}: it is not as a server left it")


def _read_schema(connection: sqlite3.Connection) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Return table and definition of each object, by type and name. Spaces are removed: they differ by version."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    schema = {}
    for kind, name, table, sql in rows:
        # SQLite creates these tables; they contain no code.
        if not (kind == "table" and str(name) in {"sqlite_stat1", "sqlite_stat4", "sqlite_sequence"}):
            schema[str(kind), str(name)] = str(table), None if sql is None else "".join(str(sql).split())
    return schema


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Migrate a database to the newest schema, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read the version again under the lock: another process may have migrated meanwhile.
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
    """Return the version of the schema; 0 for an empty database."""
    return _read_pragma(connection, "user_version")


def _read_pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
