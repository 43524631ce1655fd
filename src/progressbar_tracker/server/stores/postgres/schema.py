"""Migrations of the schema on PostgreSQL.

``MIGRATIONS[n]`` upgrades version ``n`` to ``n + 1``. Never edit a released one. Keys, sessions and shares are stored
as JSON, because they are always read as a whole: a new field needs no migration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

import psycopg

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._text import summarize_error
from progressbar_tracker.server.settings import strip_password

from .database import Database

if TYPE_CHECKING:
    from .database import Connection

NOTIFY_CHANNEL: Final = "progressbar_tracker"
"""Receives a notification for each commit."""

MIGRATION_LOCK_ID: Final = 0x70627432
LEADER_LOCK_ID: Final = 0x70627433
STARTUP_LOCK_ID: Final = 0x70627434
TRIM_LOCK_ID: Final = 0x70627435
"""Advisory locks for the migration, the leader, the creation of the first keys, and the trim of the log of changes."""

FILL_RUNS: Final[tuple[LiteralString, ...]] = (
    # A row with invalid JSON keeps the columns of the history.
    """CREATE FUNCTION extract_run(state text, OUT run_id text, OUT parent text, OUT started_at float8,
        OUT created_at float8, OUT title text, OUT error text) LANGUAGE plpgsql AS $$
        BEGIN
            SELECT r.run_id, r.parent, r.started_at, r.created_at, r.title, r.error
            INTO run_id, parent, started_at, created_at, title, error
            FROM json_to_record(state::json) AS r
            (run_id text, parent text, started_at float8, created_at float8, title text, error text);
        EXCEPTION WHEN others THEN
            run_id := NULL;
        END $$""",
    """CREATE PROCEDURE fill_runs() LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO runs (n, id, run_id, parent, "group", status, is_inner, started_at, ended_at, title, error)
            SELECT n, id, coalesce(r.run_id, h.run_id), nullif(r.parent, ''), "group", status,
                CASE WHEN status <> 'failed' AND r.parent <> '' THEN 1 ELSE 0 END,
                coalesce(nullif(r.started_at, 0), r.created_at, ended_at), ended_at, coalesce(r.title, ''),
                left(split_part(r.error, E'\\n', 1), 200)
            FROM history AS h CROSS JOIN LATERAL json_to_record(h.state::json) AS r
                (run_id text, parent text, started_at float8, created_at float8, title text, error text);
        EXCEPTION WHEN others THEN  -- some row is unreadable: convert them one by one, which is slow
            INSERT INTO runs (n, id, run_id, parent, "group", status, is_inner, started_at, ended_at, title, error)
            SELECT n, id, coalesce(r.run_id, h.run_id), nullif(r.parent, ''), "group", status,
                CASE WHEN status <> 'failed' AND r.parent <> '' THEN 1 ELSE 0 END,
                coalesce(nullif(r.started_at, 0), r.created_at, ended_at), ended_at, coalesce(r.title, ''),
                left(split_part(r.error, E'\\n', 1), 200)
            FROM history AS h CROSS JOIN LATERAL extract_run(h.state) AS r;
        END $$""",
    "CALL fill_runs()",
    "DROP PROCEDURE fill_runs()",
    "DROP FUNCTION extract_run(text)",
)
"""Fill the table of runs from the history."""

FILL_REQUESTERS: Final[LiteralString] = (
    # By a pattern, because a row may have invalid JSON. Its match is a valid JSON string.
    r"""UPDATE runs SET stop_requested_by = CAST(substring(history.state from
    '"stop_request":\{"at":[0-9.e+]+,"by":("(?:[^"\\[:cntrl:]]|\\["\\/bfnrt])*")') AS json) #>> '{}'
    FROM history WHERE history.n = runs.n AND runs.status = 'stopped'"""
)
"""Fill the requesters of stops from the history."""

MIGRATIONS: Final[tuple[tuple[LiteralString, ...], ...]] = (
    (
        # The lock of this single row orders all commits: revisions have no gaps and become visible in order. A commit
        # takes it last, see the writer.
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
    (  # the curves of runs, and former successful runs by id and by pattern; those of earlier versions have no pattern
        """CREATE TABLE curves (
            id text COLLATE "C",
            run_id text COLLATE "C",
            curve bytea NOT NULL,
            PRIMARY KEY (id, run_id)
        )""",
        'ALTER TABLE history ADD COLUMN pattern text COLLATE "C"',
        "CREATE INDEX history_succeeded_id ON history (id, n) WHERE status = 'succeeded'",
        """CREATE INDEX history_succeeded_pattern ON history (pattern, n)
        WHERE status = 'succeeded' AND pattern IS NOT NULL""",
    ),
    (  # the searched columns of the history, in a small table: no search or timeline reads whole items
        """CREATE TABLE runs (
            n bigint PRIMARY KEY,
            id text COLLATE "C" NOT NULL,
            run_id text COLLATE "C" NOT NULL,
            parent text COLLATE "C",
            "group" text COLLATE "C",
            status text COLLATE "C" NOT NULL,
            is_inner integer NOT NULL,
            started_at double precision NOT NULL,
            ended_at double precision NOT NULL,
            title text COLLATE "C" NOT NULL,
            error text COLLATE "C"
        )""",
        *FILL_RUNS,
        "CREATE INDEX runs_id ON runs (id, n)",
        "CREATE INDEX runs_run_id ON runs (run_id, n)",
        "CREATE INDEX runs_parent ON runs (parent, n) WHERE parent IS NOT NULL",
        'CREATE INDEX runs_group ON runs ("group", n)',
        "CREATE INDEX runs_status ON runs (status, n)",
        'CREATE INDEX runs_ended_at ON runs (is_inner, ended_at, started_at, "group")',
        "DROP INDEX history_id",
        "DROP INDEX history_group",
        "DROP INDEX history_status",
    ),
    (  # the log of commits: rows need no revision, so their writers assign it last, and an update touches no index
        """CREATE TABLE changes (
            rev bigint PRIMARY KEY,
            since bigint NOT NULL,
            ids text NOT NULL,
            runs text
        )""",
        "DELETE FROM items WHERE state IS NULL",
        "ALTER TABLE items DROP COLUMN rev, DROP COLUMN gone_at, ALTER COLUMN state SET NOT NULL",
        "ALTER TABLE history DROP COLUMN rev",
        "ALTER TABLE meta DROP COLUMN forgotten_rev",
    ),
    (  # the last lines of the output of runs, compressed
        """CREATE TABLE tails (
            id text COLLATE "C",
            run_id text COLLATE "C",
            at double precision NOT NULL,
            tail bytea NOT NULL,
            PRIMARY KEY (id, run_id)
        )""",
    ),
    (  # when items are expected to start, and how far their monitor is; the row of the monitor orders the revisions
        """CREATE TABLE schedules (
            id text COLLATE "C" PRIMARY KEY,
            rev bigint NOT NULL,
            state text NOT NULL,
            started_at double precision NOT NULL DEFAULT 0,
            missed_at double precision NOT NULL DEFAULT 0
        )""",
        "CREATE INDEX schedules_rev ON schedules (rev)",
        """CREATE TABLE schedule_monitor (
            one boolean PRIMARY KEY DEFAULT true CHECK (one),
            rev bigint NOT NULL DEFAULT 0,
            dropped_rev bigint NOT NULL DEFAULT 0,
            state text
        )""",
        "INSERT INTO schedule_monitor DEFAULT VALUES",
    ),
    (  # the key that a tail counts for, and its size
        """ALTER TABLE tails ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT '',
        ADD COLUMN size integer NOT NULL DEFAULT 0""",
        "UPDATE tails SET size = greatest(octet_length(tail), 4096)",
        "CREATE INDEX tails_owner ON tails (owner, at, size)",
    ),
    ("ALTER TABLE runs ADD COLUMN stop_requested_by text", FILL_REQUESTERS),
    (  # messages of chat services that channels edit
        """CREATE TABLE kept_messages (
            channel text COLLATE "C",
            item_id text COLLATE "C",
            run_id text COLLATE "C",
            place text NOT NULL,
            message_id text NOT NULL,
            at double precision NOT NULL,
            is_final boolean NOT NULL,
            PRIMARY KEY (channel, item_id, run_id)
        )""",
        "CREATE INDEX kept_messages_at ON kept_messages (at)",
    ),
)


def open_database(url: str) -> Database:
    """Return a database with the newest schema, to which it is migrated if necessary.

    Raises:
        ConfigError: The database cannot be used, in one sentence.
    """
    try:
        database = Database(url)
        with database.connect() as connection:
            database.check_pooling(connection)
            _migrate(connection, url)
    except psycopg.Error as error:
        raise ConfigError(f"the database {strip_password(url)} cannot be used: {summarize_error(error)}") from error
    return database


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
        # An index of a large history takes longer than the statement timeout of a server.
        connection.execute("SET LOCAL statement_timeout = 0")
        for migration in MIGRATIONS[version:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute("UPDATE progressbar_tracker.schema SET version = %s", [newest])
