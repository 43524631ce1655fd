"""Execute writes on the tables of a SQLite file, and read its keys."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import astuple

from progressbar_tracker.server.models import (
    NOTICE_COLUMNS,
    PUSH_CHANNEL_PREFIX,
    Item,
    KeyRecord,
    max_waiting_of,
)
from progressbar_tracker.server.mutations import (
    AddHistory,
    AddNotice,
    AddSample,
    AddVapidKeys,
    DropItem,
    DropKey,
    DropPingToken,
    DropSchedule,
    DropSession,
    DropShare,
    DropSubscription,
    KeepMessage,
    MarkNotice,
    MarkSchedules,
    Probe,
    SaveCurve,
    SaveItem,
    SaveKey,
    SavePingToken,
    SaveSchedule,
    SaveSession,
    SaveShare,
    SaveSubscription,
    SaveTail,
    ThinSamples,
    TouchKey,
    TouchSchedule,
    TouchSession,
    TrimHistory,
    TrimNotices,
    TrimTails,
    Write,
)
from progressbar_tracker.server.stores.reading import (
    RUN_COLUMNS,
    build_run_columns,
    compute_trimmed_size,
    encode_tail,
    find_run_pattern,
    parse_records,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

ITEMS_PER_STATEMENT: Final = 1000

SAMPLES_PER_STATEMENT: Final = 150
"""With five parameters per sample: an old SQLite permits 999 parameters."""

CURVES_PER_STATEMENT: Final = 300
"""With three parameters per curve."""

MAX_ENDED_SAMPLES: Final = 100
"""Samples to keep of an ended run."""

TRIM_BATCH_SIZE: Final = 25
"""Runs to delete in one transaction: some milliseconds, for which a commit may have to wait."""

NOTICE_TRIM_SIZE: Final = 500
"""Notices to delete in one transaction."""

_KEYS_REV_UPDATE: Final = (
    "INSERT INTO meta (name, value) VALUES ('keys_rev', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
)
"""Makes a running server read the keys again, even if the row was lost."""

_encode = msgspec.json.Encoder().encode


def execute_writes(connection: sqlite3.Connection, writes: Sequence[Write]) -> list[TrimHistory]:
    """Execute writes in order, within the open transaction; return the trims that left runs to delete."""
    unfinished = list[TrimHistory]()
    for kind, group in groupby(writes, type):
        if kind is SaveItem:
            _save_items(connection, [write.item for write in group if isinstance(write, SaveItem)])
        elif kind is AddSample:
            _add_samples(connection, [write for write in group if isinstance(write, AddSample)])
        elif kind is SaveCurve:
            _save_curves(connection, [write for write in group if isinstance(write, SaveCurve)])
        elif kind is TrimHistory:
            unfinished += [trim for trim in group if isinstance(trim, TrimHistory) and _trim_history(connection, trim)]
        else:
            for write in group:
                execute_write(connection, write)
    return unfinished


def execute_write(connection: sqlite3.Connection, write: Write) -> None:
    """Execute a write within the open transaction."""
    match write:
        case SaveItem(item):
            _save_items(connection, [item])
        case DropItem(item_id):
            connection.execute("DELETE FROM items WHERE id = ?", (item_id,))
        case AddHistory(ended):
            cursor = connection.execute(
                'INSERT INTO history (id, title, "group", status, ended_at, pattern, state) '
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    ended.item.id, ended.item.title, ended.item.group, ended.status, ended.ended_at,
                    find_run_pattern(ended.item.id), _encode(ended.item).decode(),
                ),
            )  # fmt: skip
            connection.execute(
                f"INSERT INTO runs (n, {RUN_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (cursor.lastrowid, *build_run_columns(ended)),
            )
            if (count := _count_samples(connection, ended.item)) > MAX_ENDED_SAMPLES:
                _thin_samples(connection, ended.item.id, ended.item.run_id, -(-count // MAX_ENDED_SAMPLES))
        case AddSample() as sample:
            _add_samples(connection, [sample])
        case ThinSamples(item_id, run_id):
            _thin_samples(connection, item_id, run_id, 2)
        case SaveCurve() as curve:
            _save_curves(connection, [curve])
        case SaveTail(item_id, run_id, tail, owner_id):
            connection.execute(
                "INSERT OR REPLACE INTO tails (id, run_id, at, owner, tail, size) VALUES (?, ?, ?, ?, ?, ?)",
                (item_id, run_id, tail.at, owner_id, *encode_tail(tail.text)),
            )
        case TrimTails(owner_id, max_bytes):
            _trim_tails(connection, owner_id, max_bytes)
        case SaveKey(key):
            _retire_secrets(connection, key.key_id, kept_hashes=(key.hash, key.previous_hash))
            connection.execute(
                f"INSERT OR REPLACE INTO keys ({_KEY_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    key.key_id, key.name, key.type, key.hash, key.created_at, key.expires_at, key.revoked_at,
                    key.previous_hash, key.previous_until, key.last_used_at, key.group, int(key.imported),
                    int(key.reads_tails),
                ),
            )  # fmt: skip
            connection.execute(_KEYS_REV_UPDATE)
        case DropKey(key_id):
            _retire_secrets(connection, key_id)
            connection.execute("DELETE FROM keys WHERE key_id = ?", (key_id,))
            connection.execute(_KEYS_REV_UPDATE)
        case TouchKey(key_id, at):
            connection.execute("UPDATE keys SET last_used_at = ? WHERE key_id = ?", (at, key_id))
        case SaveSession(session):
            connection.execute(
                "INSERT OR REPLACE INTO sessions (hash, created_at, expires_at, seen_at, key_id, agent, credential) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                astuple(session),
            )
        case TouchSession(hash_, at):
            connection.execute("UPDATE sessions SET seen_at = ? WHERE hash = ?", (at, hash_))
        case DropSession(hash_):
            connection.execute("DELETE FROM sessions WHERE hash = ?", (hash_,))
        case SaveShare(share):
            connection.execute(
                'INSERT OR REPLACE INTO shares (share_id, hash, "group", item, created_at, expires_at) '
                "VALUES (?, ?, ?, ?, ?, ?)",
                (share.share_id, share.hash, share.group, share.item, share.created_at, share.expires_at),
            )
        case DropShare(share_id):
            connection.execute("DELETE FROM shares WHERE share_id = ?", (share_id,))
        case SavePingToken(token):
            connection.execute(
                'INSERT OR REPLACE INTO ping_tokens (token_id, hash, name, "group", created_at, expires_at) '
                "VALUES (?, ?, ?, ?, ?, ?)",
                astuple(token),
            )
        case DropPingToken(token_id):
            connection.execute("DELETE FROM ping_tokens WHERE token_id = ?", (token_id,))
        case SaveSchedule(schedule):
            connection.execute(
                "INSERT INTO schedules (id, state, started_at, missed_at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET state = excluded.state",
                (schedule.id, _encode(schedule).decode(), schedule.started_at, schedule.missed_at),
            )
        case DropSchedule(schedule_id):
            connection.execute("DELETE FROM schedules WHERE id = ?", (schedule_id,))
        case TouchSchedule(schedule_id, started_at, missed_at):
            connection.execute(
                "UPDATE schedules SET started_at = ?, missed_at = ? WHERE id = ?", (started_at, missed_at, schedule_id)
            )
        case MarkSchedules(mark):
            connection.execute(
                "INSERT OR REPLACE INTO schedule_monitor (one, state) VALUES (1, ?)", (_encode(mark).decode(),)
            )
        case SaveSubscription(subscription):
            connection.execute(
                "INSERT OR REPLACE INTO subscriptions (subscription_id, state) VALUES (?, ?)",
                (subscription.subscription_id, _encode(subscription).decode()),
            )
        case DropSubscription(subscription_id, endpoint):
            connection.execute(
                "DELETE FROM subscriptions WHERE subscription_id = ? "
                "AND (? IS NULL OR json_extract(state, '$.endpoint') = ?)",
                (subscription_id, endpoint, endpoint),
            )
            connection.execute(
                "UPDATE outbox SET next_at = NULL, body = '', error = 'the subscription has ended' "
                "WHERE channel = ? AND next_at IS NOT NULL "
                "AND NOT EXISTS (SELECT 1 FROM subscriptions WHERE subscription_id = ?)",
                (PUSH_CHANNEL_PREFIX + subscription_id, subscription_id),
            )
        case AddVapidKeys(private_keys):
            _save_vapid_keys(connection, private_keys)
        case AddNotice(notice):
            most = max_waiting_of(notice)
            connection.execute(
                f"INSERT INTO outbox ({NOTICE_COLUMNS}) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE (SELECT count(*) FROM "
                "(SELECT 1 FROM outbox WHERE next_at IS NOT NULL LIMIT ?)) < ? ON CONFLICT DO NOTHING",
                (*astuple(notice), most, most),
            )
        case MarkNotice(notice_id, attempts, next_at, delivered_at, error):
            # A done notice keeps its id and loses its body.
            connection.execute(
                "UPDATE outbox SET attempts = ?, next_at = ?, delivered_at = ?, error = ?, "
                "body = CASE WHEN ? IS NULL THEN '' ELSE body END WHERE notice_id = ?",
                (attempts, next_at, delivered_at, error, next_at, notice_id),
            )
        case KeepMessage(message):
            connection.execute("INSERT OR REPLACE INTO kept_messages VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(message))
        case TrimNotices(before, most):
            connection.execute(
                "DELETE FROM kept_messages WHERE rowid IN (SELECT rowid FROM kept_messages WHERE at < max(?, coalesce("
                "(SELECT at FROM kept_messages ORDER BY at DESC LIMIT 1 OFFSET ?), -1)) ORDER BY at LIMIT ?)",
                (before, max(most - 1, 0), NOTICE_TRIM_SIZE),
            )
            connection.execute(
                "DELETE FROM outbox WHERE notice_id IN (SELECT notice_id FROM outbox WHERE next_at IS NULL AND "
                "at < max(?, coalesce((SELECT at FROM outbox WHERE next_at IS NULL ORDER BY at DESC LIMIT 1 OFFSET ?), "
                "-1)) ORDER BY at LIMIT ?)",
                (before, max(most - 1, 0), NOTICE_TRIM_SIZE),
            )
        case Probe(at):
            # A new value each time: SQLite does not write an unchanged page, and would not notice a full disk.
            connection.execute(
                "UPDATE meta SET value = max(value + 1, ?) WHERE name = 'probed_at'", (int(at * 1_000_000),)
            )


KEPT_MESSAGE_QUERY: Final = "SELECT * FROM kept_messages WHERE channel = ? AND item_id = ? AND run_id = ?"

DELIVERY_STATS_QUERY: Final = (
    "SELECT channel, sum(next_at IS NOT NULL), sum(delivered_at IS NOT NULL), "
    "sum(next_at IS NULL AND delivered_at IS NULL), max(delivered_at), "
    "(SELECT error FROM outbox AS one WHERE one.channel = outbox.channel AND error IS NOT NULL "
    "ORDER BY at DESC LIMIT 1) FROM outbox GROUP BY channel ORDER BY channel"
)


FORMER_RUNS_QUERIES: Final = {
    name: (
        f"SELECT h.n, h.status, h.ended_at, h.state, h.{name} FROM json_each(?) AS key CROSS JOIN json_each(("
        f"SELECT json_group_array(n) FROM (SELECT n FROM history INDEXED BY history_succeeded_{name} "
        f"WHERE {name} = key.value AND status = 'succeeded' ORDER BY n DESC LIMIT ?))) AS found "
        "CROSS JOIN history AS h ON h.n = found.value ORDER BY key.key, h.n DESC"
    )
    for name in ("id", "pattern")
}
"""The successful runs of many ids or patterns. CROSS JOIN fixes the order, so that SQLite scans no table."""

CURVES_QUERY: Final = (
    "SELECT c.id, c.run_id, c.curve FROM json_each(?) AS run CROSS JOIN curves AS c "
    "ON c.id = json_extract(run.value, '$[0]') AND c.run_id = json_extract(run.value, '$[1]')"
)
"""The curves of many runs."""


def _retire_secrets(
    connection: sqlite3.Connection, key_id: str, kept_hashes: tuple[str | None, ...] = (None, None)
) -> None:
    """Record the secrets of a key that are about to leave the table of keys, except for the kept ones."""
    connection.execute(
        "INSERT OR IGNORE INTO ended_secrets SELECT secret FROM (SELECT hash AS secret FROM keys WHERE key_id = ? "
        "UNION SELECT previous_hash FROM keys WHERE key_id = ?) "
        "WHERE secret IS NOT NULL AND secret IS NOT ? AND secret IS NOT ?",
        (key_id, key_id, *kept_hashes),
    )


def _save_items(connection: sqlite3.Connection, items: Sequence[Item]) -> None:
    # One statement for many items. Each statement waits for the interpreter lock, which the event loop releases every
    # 5 ms. SQLite parses the JSON without the lock.
    for start in range(0, len(items), ITEMS_PER_STATEMENT):
        connection.execute(
            "INSERT INTO items SELECT json_extract(value, '$.id'), value FROM json_each(?) WHERE true "
            "ON CONFLICT (id) DO UPDATE SET state = excluded.state",
            (_encode(items[start : start + ITEMS_PER_STATEMENT]).decode(),),
        )


def _add_samples(connection: sqlite3.Connection, writes: Sequence[AddSample]) -> None:
    # One statement for many samples, as above. But without JSON: SQLite does not parse every number exactly.
    for start in range(0, len(writes), SAMPLES_PER_STATEMENT):
        batch = writes[start : start + SAMPLES_PER_STATEMENT]
        connection.execute(
            f"INSERT OR REPLACE INTO samples VALUES {', '.join(['(?, ?, ?, ?, ?)'] * len(batch))}",
            [
                field
                for write in batch
                for field in (write.id, write.run_id, write.sample.at, write.sample.value, write.sample.completed)
            ],
        )


def _save_curves(connection: sqlite3.Connection, writes: Sequence[SaveCurve]) -> None:
    for start in range(0, len(writes), CURVES_PER_STATEMENT):
        batch = writes[start : start + CURVES_PER_STATEMENT]
        connection.execute(
            f"INSERT OR REPLACE INTO curves (id, run_id, curve) VALUES {', '.join(['(?, ?, ?)'] * len(batch))}",
            [field for write in batch for field in (write.id, write.run_id, write.curve)],
        )


def _trim_history(connection: sqlite3.Connection, trim: TrimHistory) -> bool:
    """Delete a batch of the oldest runs that are too old or too many; return whether there may be more."""
    if trim.latest != math.inf:
        connection.execute(
            "UPDATE runs SET ended_at = ? WHERE n IN (SELECT n FROM history WHERE status = ? AND ended_at > ?)",
            (trim.latest, trim.status, trim.latest),
        )
        connection.execute(
            "UPDATE history SET ended_at = ? WHERE status = ? AND ended_at > ?", (trim.latest, trim.status, trim.latest)
        )
    order, values = "ended_at", list[object]([trim.before])
    if trim.max_runs is not None:
        order, where, values = "n", "n <= (SELECT max(n) FROM history) - ?", [trim.max_runs]
    elif trim.status is None:
        where = "ended_at < ?"
    else:
        where, values = "status = ? AND ended_at < ?", [trim.status, trim.before]
    rows = connection.execute(
        "SELECT n, id, CASE WHEN json_valid(state) THEN json_extract(state, '$.run_id') END "
        f"FROM history WHERE {where} ORDER BY {order} LIMIT ?",
        (*values, TRIM_BATCH_SIZE),
    ).fetchall()
    for table in ("samples", "curves", "tails"):
        connection.executemany(f"DELETE FROM {table} WHERE id = ? AND run_id = ?", [row[1:] for row in rows])
    for table in ("history", "runs"):
        connection.executemany(f"DELETE FROM {table} WHERE n = ?", [(n,) for n, _, _ in rows])
    return len(rows) == TRIM_BATCH_SIZE


def _trim_tails(connection: sqlite3.Connection, owner_id: str | None, max_bytes: int) -> None:
    where, values = ("", list[object]()) if owner_id is None else ("WHERE owner = ?", [owner_id])
    (total,) = connection.execute(f"SELECT total(size) FROM tails {where}", values).fetchone()
    if total > max_bytes:
        connection.execute(
            "DELETE FROM tails WHERE rowid IN (SELECT rowid FROM (SELECT rowid, "
            f"sum(size) OVER (ORDER BY at DESC, rowid DESC) AS total FROM tails {where}) WHERE total > ?)",
            [*values, compute_trimmed_size(max_bytes)],
        )


def _count_samples(connection: sqlite3.Connection, item: Item) -> int:
    (count,) = connection.execute(
        "SELECT count(*) FROM samples WHERE id = ? AND run_id = ?", (item.id, item.run_id)
    ).fetchone()
    return int(count)


def _thin_samples(connection: sqlite3.Connection, item_id: str, run_id: str, step: int) -> None:
    """Keep every ``step``-th sample of a run, beginning with the first."""
    connection.execute(
        "DELETE FROM samples WHERE id = ? AND run_id = ? AND at IN (SELECT at FROM ("
        "SELECT at, row_number() OVER (ORDER BY at) AS n FROM samples WHERE id = ? AND run_id = ?"
        ") WHERE n % ? != 1)",
        (item_id, run_id, item_id, run_id, step),
    )


_KEY_COLUMNS: Final = (
    "key_id, name, type, hash, created_at, expires_at, revoked_at, previous_hash, previous_until, last_used_at, "
    '"group", imported, reads_tails'
)


def is_secret_retired(connection: sqlite3.Connection, secret_hash: str) -> bool:
    """Return whether a secret once belonged to a key, and no longer does."""
    return connection.execute("SELECT 1 FROM ended_secrets WHERE hash = ?", (secret_hash,)).fetchone() is not None


def read_database_id(connection: sqlite3.Connection) -> str:
    """Return a unique id of this database."""
    (number,) = connection.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
    return f"{number & 0xFFFF_FFFF_FFFF_FFFF:016x}"


def read_vapid_keys(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return the private keys that sign Web Push messages, the newest first."""
    (text,) = connection.execute("SELECT value FROM secrets WHERE name = 'vapid'").fetchone() or ("",)
    return tuple(str(text).split())


def _save_vapid_keys(connection: sqlite3.Connection, private_keys: tuple[str, ...]) -> None:
    connection.execute("INSERT OR REPLACE INTO secrets (name, value) VALUES ('vapid', ?)", (" ".join(private_keys),))


def replace_vapid_keys(connection: sqlite3.Connection, replace: Callable[[tuple[str, ...]], tuple[str, ...]]) -> int:
    """Replace the keys of Web Push within a transaction; return the number of push subscriptions."""
    _save_vapid_keys(connection, replace(read_vapid_keys(connection)))
    connection.execute(_KEYS_REV_UPDATE)
    (count,) = connection.execute("SELECT count(*) FROM subscriptions").fetchone()
    return int(count)


def read_keys_rev(connection: sqlite3.Connection) -> int:
    """Return the revision of the keys."""
    (rev,) = connection.execute("SELECT value FROM meta WHERE name = 'keys_rev'").fetchone() or (0,)
    return int(rev)


def read_keys(connection: sqlite3.Connection) -> tuple[list[KeyRecord], int]:
    """Return all keys and their revision, in one transaction."""
    connection.execute("BEGIN")
    try:
        rev = read_keys_rev(connection)
        rows = connection.execute(f"SELECT {_KEY_COLUMNS} FROM keys").fetchall()
    finally:
        connection.execute("COMMIT")
    names = [column.strip(' "') for column in _KEY_COLUMNS.split(",")]
    return parse_records(KeyRecord, rows, names), rev
