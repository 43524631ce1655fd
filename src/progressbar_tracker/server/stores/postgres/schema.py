"""Migrations of the schema on PostgreSQL, and connections to a database of this version.

``MIGRATIONS[n]`` upgrades version ``n`` to ``n + 1``. Never edit a released one. Keys, sessions and shares are stored
as JSON, because they are always read as a whole: a new field needs no migration.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._text import summarize_error
from progressbar_tracker.server.settings import strip_password

if TYPE_CHECKING:
    from typing import TypeAlias

    from psycopg.rows import TupleRow

    Connection: TypeAlias = psycopg.Connection[TupleRow]

NOTIFY_CHANNEL: Final = "progressbar_tracker"
"""Receives a notification for each commit."""

MIGRATION_LOCK_ID: Final = 0x70627432
LEADER_LOCK_ID: Final = 0x70627433
STARTUP_LOCK_ID: Final = 0x70627434
"""Advisory locks for the migration, for the leader, and for the creation of the first keys."""

CONNECT_TIMEOUT: Final = 5

MIGRATIONS: Final[tuple[tuple[LiteralString, ...], ...]] = (
    (
        # The lock of this single row orders all commits: revisions have no gaps and become visible in order.
        """CREATE TABLE meta (
            one boolean PRIMARY KEY DEFAULT true CHECK (one),
            epoch text NOT NULL,
            rev bigint NOT NULL DEFAULT 0,
            credentials_rev bigint NOT NULL DEFAULT 0,
            forgotten_rev bigint NOT NULL DEFAULT 0,
            probed_at double precision NOT NULL DEFAULT 0
        )""",
        "INSERT INTO meta (epoch) VALUES (substr(md5(random()::text || clock_timestamp()::text), 1, 12))",
        # A deleted item leaves a tombstone for an hour: a row with only the revision of the deletion.
        """CREATE TABLE items (
            id text COLLATE "C" PRIMARY KEY,
            rev bigint NOT NULL,
            state text,
            gone_at double precision
        ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05)""",
        "CREATE INDEX items_rev ON items (rev)",
        "CREATE INDEX items_gone_at ON items (gone_at) WHERE gone_at IS NOT NULL",
        """CREATE TABLE history (
            n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            rev bigint NOT NULL,
            id text COLLATE "C" NOT NULL,
            run_id text COLLATE "C" NOT NULL,
            "group" text COLLATE "C",
            status text COLLATE "C" NOT NULL,
            ended_at double precision NOT NULL,
            searched text COLLATE "C" NOT NULL,
            state text NOT NULL
        )""",
        "CREATE INDEX history_rev ON history (rev)",
        'CREATE INDEX history_group ON history ("group", n)',
        "CREATE INDEX history_id ON history (id, n)",
        "CREATE INDEX history_status ON history (status, n)",
        "CREATE INDEX history_ended_at ON history (ended_at)",
        """CREATE TABLE samples (
            id text COLLATE "C",
            run_id text COLLATE "C",
            at double precision,
            value double precision NOT NULL,
            completed double precision,
            PRIMARY KEY (id, run_id, at)
        )""",
        """CREATE TABLE credentials (
            kind text COLLATE "C",
            id text COLLATE "C",
            state text NOT NULL,
            used_at double precision,
            PRIMARY KEY (kind, id)
        )""",
    ),
    (  # a retention per status
        "CREATE INDEX history_status_ended_at ON history (status, ended_at)",
        "DROP INDEX history_ended_at",
    ),
    (  # the outbox: a notice with next_at waits, one with delivered_at arrived, one with neither was given up
        """CREATE TABLE outbox (
            notice_id text COLLATE "C" PRIMARY KEY,
            channel text COLLATE "C" NOT NULL,
            item_id text COLLATE "C" NOT NULL,
            run_id text COLLATE "C" NOT NULL,
            event text COLLATE "C" NOT NULL,
            at double precision NOT NULL,
            body text NOT NULL,
            attempts integer NOT NULL DEFAULT 0,
            next_at double precision,
            delivered_at double precision,
            error text
        )""",
        "CREATE INDEX outbox_next_at ON outbox (next_at) WHERE next_at IS NOT NULL",
        "CREATE INDEX outbox_done ON outbox (at) WHERE next_at IS NULL",
    ),
    (  # permanently refused secrets
        'CREATE TABLE ended_secrets (hash text COLLATE "C" PRIMARY KEY)',
    ),
)


def connect(url: str) -> Connection:
    """Return a connection in autocommit mode, with timeouts.

    Raises:
        psycopg.Error: The connection failed.
    """
    connection = psycopg.connect(add_timeouts(url), autocommit=True)
    try:
        set_search_path(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def abort_connection(connection: Connection) -> None:
    """Shut the socket of a connection down, so that a thread that waits for a response fails at once."""
    with contextlib.suppress(psycopg.Error, OSError, ValueError):
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as other:
            other.shutdown(socket.SHUT_RDWR)


def set_search_path(connection: Connection) -> None:
    """Select the schema of this program."""
    connection.execute("SET search_path TO progressbar_tracker")


def add_timeouts(url: str) -> str:
    """Return a connection string with timeouts for the network and for locks of other servers.

    Raises:
        psycopg.ProgrammingError: The string is invalid.
    """
    return make_conninfo(
        url,
        connect_timeout=CONNECT_TIMEOUT,
        application_name="progressbar-tracker",
        # Limits how long a server that hangs in a transaction can block the others.
        options="-c idle_in_transaction_session_timeout=5s -c statement_timeout=30s -c lock_timeout=10s",
        tcp_user_timeout=10_000,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=2,
    )


def ensure_schema(url: str) -> None:
    """Migrate a database to the newest schema if necessary.

    Raises:
        ConfigError: The database cannot be used, in one sentence.
    """
    try:
        with psycopg.connect(add_timeouts(url), autocommit=True) as connection:
            _migrate(connection, url)
    except psycopg.Error as error:
        raise ConfigError(f"the database {strip_password(url)} cannot be used: {summarize_error(error)}") from error


def _migrate(connection: Connection, url: str) -> None:
    newest = len(MIGRATIONS)
    with connection.transaction():
        # Several servers may start at the same time.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK_ID])
        table = connection.execute("SELECT to_regclass('progressbar_tracker.schema')").fetchone()
        if table is not None and table[0] is not None:
            row = connection.execute("SELECT version FROM progressbar_tracker.schema").fetchone()
            version = 0 if row is None else int(row[0])
        else:
            connection.execute("CREATE SCHEMA IF NOT EXISTS progressbar_tracker")
            connection.execute("CREATE TABLE progressbar_tracker.schema (version integer NOT NULL)")
            connection.execute("INSERT INTO progressbar_tracker.schema VALUES (0)")
            version = 0
        if version > newest:
            raise ConfigError(
                f"the database {strip_password(url)} was written by a newer version of progressbar-tracker "
                f"(schema {version}, this one knows {newest})"
            )
        connection.execute("SET LOCAL search_path TO progressbar_tracker")
        for migration in MIGRATIONS[version:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute("UPDATE progressbar_tracker.schema SET version = %s", [newest])
