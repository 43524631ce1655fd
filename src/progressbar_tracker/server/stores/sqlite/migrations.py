"""Migrations of the schema: ``MIGRATIONS[n]`` upgrades version ``n`` to ``n + 1``. Never edit a released one."""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x70627431
"""Marks the SQLite files of this program."""

FILL_RUNS: Final = """INSERT INTO runs
        (n, id, run_id, parent, "group", status, is_inner, started_at, ended_at, title, error)
    SELECT n, id, coalesce(json_extract(json, '$.run_id'), ''), nullif(json_extract(json, '$.parent'), ''), "group",
        status, status <> 'failed' AND coalesce(json_extract(json, '$.parent'), '') <> '',
        CAST(coalesce(nullif(json_extract(json, '$.started_at'), 0), json_extract(json, '$.created_at'), ended_at)
            AS REAL),
        ended_at, title, substr(json_extract(json, '$.error'), 1,
            min(200, coalesce(nullif(instr(json_extract(json, '$.error'), char(10)), 0) - 1, 200)))
    FROM (SELECT n, id, "group", status, ended_at, title, CASE WHEN json_valid(state) THEN state END AS json
        FROM history)"""
"""Fills the table of runs from the history, row by row. A row with invalid JSON keeps the columns of the history."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "INSERT INTO meta VALUES ('keys_rev', 0), ('probed_at', 0)",
        "CREATE TABLE items (id TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT",
        """CREATE TABLE history (
            n INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL,
            "group" TEXT,
            status TEXT NOT NULL,
            ended_at REAL NOT NULL,
            state TEXT NOT NULL
        ) STRICT""",
        'CREATE INDEX history_group ON history ("group", n)',
        "CREATE INDEX history_ended_at ON history (ended_at)",
        """CREATE TABLE keys (
            key_id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            type TEXT NOT NULL CHECK (type IN ('read', 'write', 'admin')),
            hash TEXT NOT NULL,
            created_at REAL NOT NULL,
            expires_at REAL,
            revoked_at REAL,
            previous_hash TEXT,
            previous_until REAL,
            last_used_at REAL,
            "group" TEXT,
            imported INTEGER NOT NULL DEFAULT 0
        ) STRICT""",
        "CREATE TABLE sessions (hash TEXT PRIMARY KEY, created_at REAL NOT NULL, expires_at REAL NOT NULL) STRICT",
    ),
    (  # what the history is searched by
        "ALTER TABLE history ADD COLUMN title TEXT NOT NULL DEFAULT ''",
        "UPDATE history SET title = coalesce(json_extract(state, '$.title'), '') WHERE json_valid(state)",
        "CREATE INDEX history_id ON history (id, n)",
    ),
    (  # the curves of progress over time
        """CREATE TABLE samples (
            id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            at REAL NOT NULL,
            value REAL NOT NULL,
            completed REAL,
            PRIMARY KEY (id, run_id, at)
        ) STRICT, WITHOUT ROWID""",
    ),
    (  # read-only links
        """CREATE TABLE shares (
            share_id TEXT PRIMARY KEY,
            hash TEXT NOT NULL,
            "group" TEXT,
            item TEXT,
            created_at REAL NOT NULL,
            expires_at REAL
        ) STRICT""",
    ),
    ("ALTER TABLE sessions ADD COLUMN seen_at REAL",),
    (  # the key and the browser of a session
        "ALTER TABLE sessions ADD COLUMN key_id TEXT",
        "ALTER TABLE sessions ADD COLUMN agent TEXT NOT NULL DEFAULT ''",
    ),
    (  # history pages by status, without a full scan
        "CREATE INDEX history_status ON history (status, n)",
        'CREATE INDEX history_group_status ON history ("group", status, n)',
    ),
    (  # a retention per status
        "CREATE INDEX history_status_ended_at ON history (status, ended_at)",
        "DROP INDEX history_ended_at",
    ),
    (  # the outbox: a notice with next_at waits, one with delivered_at arrived, one with neither was given up
        """CREATE TABLE outbox (
            notice_id TEXT PRIMARY KEY,
            channel TEXT NOT NULL,
            item_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            event TEXT NOT NULL,
            at REAL NOT NULL,
            body TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            next_at REAL,
            delivered_at REAL,
            error TEXT
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX outbox_next_at ON outbox (next_at) WHERE next_at IS NOT NULL",
        "CREATE INDEX outbox_done ON outbox (at) WHERE next_at IS NULL",
    ),
    (  # the credential of a session, permanently refused secrets, and an id of this database
        "ALTER TABLE sessions ADD COLUMN credential TEXT",
        "CREATE TABLE ended_secrets (hash TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
        "INSERT INTO meta VALUES ('identity', random())",
    ),
    (  # the curves of runs, and former successful runs by id and by pattern; those of earlier versions have no pattern
        """CREATE TABLE curves (
            id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            curve BLOB NOT NULL,
            PRIMARY KEY (id, run_id)
        ) STRICT""",
        "ALTER TABLE history ADD COLUMN pattern TEXT",
        "CREATE INDEX history_succeeded_id ON history (id, n) WHERE status = 'succeeded'",
        """CREATE INDEX history_succeeded_pattern ON history (pattern, n)
        WHERE status = 'succeeded' AND pattern IS NOT NULL""",
    ),
    (  # the searched columns of the history, in a small table: no search or timeline reads whole items
        """CREATE TABLE runs (
            n INTEGER PRIMARY KEY,
            id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            parent TEXT,
            "group" TEXT,
            status TEXT NOT NULL,
            is_inner INTEGER NOT NULL,
            started_at REAL NOT NULL,
            ended_at REAL NOT NULL,
            title TEXT NOT NULL,
            error TEXT
        ) STRICT""",
        FILL_RUNS,
        "CREATE INDEX runs_id ON runs (id, n)",
        "CREATE INDEX runs_run_id ON runs (run_id, n)",
        "CREATE INDEX runs_parent ON runs (parent, n) WHERE parent IS NOT NULL",
        'CREATE INDEX runs_group ON runs ("group", n)',
        "CREATE INDEX runs_status ON runs (status, n)",
        'CREATE INDEX runs_group_status ON runs ("group", status, n)',
        'CREATE INDEX runs_ended_at ON runs (is_inner, ended_at, started_at, "group")',
        "DROP INDEX history_id",
        "DROP INDEX history_group",
        "DROP INDEX history_status",
        "DROP INDEX history_group_status",
    ),
    (  # the last lines of the output of runs, compressed, and the keys that read them
        """CREATE TABLE tails (
            id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            at REAL NOT NULL,
            tail BLOB NOT NULL,
            PRIMARY KEY (id, run_id)
        ) STRICT""",
        "ALTER TABLE keys ADD COLUMN reads_tails INTEGER NOT NULL DEFAULT 0",
    ),
    (  # when items are expected to start, and how far their monitor is
        """CREATE TABLE schedules (
            id TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            started_at REAL NOT NULL DEFAULT 0,
            missed_at REAL NOT NULL DEFAULT 0
        ) STRICT""",
        """CREATE TABLE schedule_monitor (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            state TEXT NOT NULL
        ) STRICT""",
    ),
    (  # browsers that follow items by Web Push, and the key that signs the messages
        "CREATE TABLE subscriptions (subscription_id TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    ),
    (  # tokens for pings
        """CREATE TABLE ping_tokens (
            token_id TEXT PRIMARY KEY,
            hash TEXT NOT NULL,
            name TEXT NOT NULL,
            "group" TEXT NOT NULL,
            created_at REAL NOT NULL,
            expires_at REAL
        ) STRICT""",
    ),
    (  # the key that a tail counts for, and its size
        "ALTER TABLE tails ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE tails ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
        "UPDATE tails SET size = max(length(tail), 4096)",
        "CREATE INDEX tails_owner ON tails (owner, at, size)",
    ),
    (  # the requester of a stop
        "ALTER TABLE runs ADD COLUMN stop_requested_by TEXT",
        """UPDATE runs SET stop_requested_by = (
            SELECT CASE WHEN json_valid(state) THEN json_extract(state, '$.stop_request.by') END
            FROM history WHERE history.n = runs.n
        ) WHERE status = 'stopped'""",
    ),
    (  # messages of chat services that channels edit
        """CREATE TABLE kept_messages (
            channel TEXT NOT NULL,
            item_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            place TEXT NOT NULL,
            message_id TEXT NOT NULL,
            at REAL NOT NULL,
            is_final INTEGER NOT NULL,
            PRIMARY KEY (channel, item_id, run_id)
        ) STRICT""",
        "CREATE INDEX kept_messages_at ON kept_messages (at)",
    ),
)
