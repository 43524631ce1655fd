"""The SQL of the store: write records as rows, and read them."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec
import psycopg
from msgspec.structs import astuple
from psycopg.rows import TupleRow

from progressbar_tracker.server.models import (
    MAX_RETRY_SECONDS,
    NOTICE_COLUMNS,
    PUSH_CHANNEL_PREFIX,
    DeliveryStats,
    EndedRun,
    Item,
    KeyRecord,
    Notice,
    PingTokenRecord,
    PushSubscription,
    SessionRecord,
    ShareRecord,
    max_waiting_of,
)
from progressbar_tracker.server.mutations import (
    AddNotice,
    AddSample,
    AddVapidKeys,
    DropKey,
    DropPingToken,
    DropSession,
    DropShare,
    DropSubscription,
    KeepMessage,
    KeptMessage,
    MarkNotice,
    SaveKey,
    SavePingToken,
    SaveSession,
    SaveShare,
    SaveSubscription,
    SaveTail,
    ThinSamples,
    TouchKey,
    TouchSession,
    TrimNotices,
    TrimTails,
    Write,
)
from progressbar_tracker.server.stores.base import (
    ItemRow,
    StoreError,
)
from progressbar_tracker.server.stores.reading import (
    RUN_COLUMNS,
    build_run_columns,
    compute_trimmed_size,
    encode_tail,
    find_run_pattern,
    parse_item,
    parse_records,
    parse_rows,
    read_notices,
)

from .schema import TRIM_LOCK_ID

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from progressbar_tracker.server.mutations import SaveCurve, TrimHistory

    from .database import Connection

Cursor: TypeAlias = psycopg.Cursor[TupleRow]

MAX_ENDED_SAMPLES: Final = 100
"""Samples to keep of an ended run."""

TRIM_BATCH_SIZE: Final = 1000
"""Rows to delete in one transaction."""

_encode = msgspec.json.Encoder().encode
_decode_item = msgspec.json.Decoder(Item).decode


def parse_item_row(item_id: str, rev: int, state: str | None) -> ItemRow:
    """Return a row as a record. An unreadable item counts as deleted."""
    items = [] if state is None else parse_rows("items", [(item_id, state)], lambda name, text: parse_item(text, name))
    return ItemRow(rev, items[0] if items else None)


def lock_items(cursor: Cursor, ids: Iterable[str]) -> dict[str, Item | None]:
    """Return the stored items, locked until the end of the transaction. An unreadable one is ``None``.

    All servers lock in the order of ids, which prevents deadlocks.
    """
    wanted = list(ids)
    if not wanted:
        return {}
    cursor.execute(
        "SELECT id, state FROM items WHERE id = ANY(ARRAY(SELECT json_array_elements_text(%s::json))) "
        "ORDER BY id FOR UPDATE",
        [_encode_json(wanted)],
    )
    return {item_id: parse_item_row(item_id, 0, state).item for item_id, state in cursor.fetchall()}


def write_items(cursor: Cursor, changed: Mapping[str, Item | None], stored: Collection[str]) -> bool:
    """Write or delete items, stored or new ones; return whether each new item is still new."""
    changed_rows, new_rows = list[tuple[str, str]](), list[tuple[str, str]]()
    for item_id, item in changed.items():
        if item is not None:
            (changed_rows if item_id in stored else new_rows).append((item_id, _encode_json(item)))
        elif item_id not in stored:  # it came and went in this transaction: that, too, collides with a new item
            new_rows.append((item_id, ""))
    if changed_rows:
        cursor.execute(
            f"UPDATE items SET state = new.state FROM ({_NEW_ROWS_QUERY}) AS new (id, state) WHERE items.id = new.id",
            [_encode_json(changed_rows)],
        )
        require_count(cursor, len(changed_rows))
    if new_rows:
        # All servers insert in the order of ids: each waits for an earlier insert of the same id.
        cursor.execute(
            f"INSERT INTO items (id, state) {_NEW_ROWS_QUERY} ON CONFLICT (id) DO NOTHING",
            [_encode_json(sorted(new_rows))],
        )
        if cursor.rowcount != len(new_rows):
            return False
    if deleted_ids := [item_id for item_id, item in changed.items() if item is None]:
        cursor.execute(
            "DELETE FROM items WHERE id = ANY(ARRAY(SELECT json_array_elements_text(%s::json)))",
            [_encode_json(deleted_ids)],
        )
        require_count(cursor, len(deleted_ids))
    return True


class Commit(NamedTuple):
    """The changes of a transaction.

    Attributes:
        ids: The changed items. Each has a revision of its own, in this order.
        runs: The numbers of the runs that moved to the history.
        credentials: The number of changed credentials.
        probed_at: The instant of a probe.
    """

    ids: Collection[str]
    runs: Sequence[int]
    credentials: int
    probed_at: float | None


def record_commit(cursor: Cursor, commit: Commit) -> None:
    """Assign revisions to the changes of a transaction; the result has the last one, and that of the credentials.

    This locks the only row of ``meta`` until the commit, which must follow at once.
    """
    cursor.execute(
        "WITH next AS (UPDATE meta SET rev = rev + %(count)s, credentials_rev = credentials_rev + %(credentials)s, "
        "probed_at = coalesce(%(probed_at)s, probed_at) RETURNING rev, credentials_rev) "
        "INSERT INTO changes (rev, since, ids, runs) "
        "VALUES ((SELECT rev FROM next), (SELECT rev FROM next) - %(count)s, %(ids)s, %(runs)s) "
        "RETURNING rev, (SELECT credentials_rev FROM next)",
        {
            "count": max(len(commit.ids), 1),
            "credentials": commit.credentials,
            "probed_at": commit.probed_at,
            "ids": _encode_json(list(commit.ids)),
            "runs": _encode_json(commit.runs) if commit.runs else None,
        },
    )


def record_probe(cursor: Cursor, at: float) -> None:
    """Write the instant of a probe. The commit must follow at once."""
    cursor.execute("UPDATE meta SET probed_at = %s", [at])
    require_count(cursor, 1)


def trim_changes(cursor: Cursor, rev: int) -> None:
    """Delete the log of changes up to a revision, unless another server does."""
    cursor.execute(
        "DELETE FROM changes WHERE rev <= %s AND (SELECT pg_try_advisory_xact_lock(%s))", [rev, TRIM_LOCK_ID]
    )


def require_count(cursor: Cursor, count: int) -> None:
    """Check the number of rows that the latest statement has written.

    Raises:
        StoreError: It is another one, so the transaction must not be committed.
    """
    if cursor.rowcount != count:
        raise StoreError(f"a statement has written {cursor.rowcount} rows instead of {count}")


# Thousands of rows in one JSON parameter. The driver would escape each text of an array in Python, which is slow.
_NEW_ROWS_QUERY: Final = "SELECT row->>0, row->>1 FROM json_array_elements(%s::json) AS rows (row)"


def _encode_json(document: object) -> str:
    return _encode(document).decode()


def add_history(cursor: Cursor, ended: Sequence[EndedRun]) -> list[int]:
    """Add runs to the history; return their numbers."""
    if not ended:
        return []
    cursor.executemany(
        'WITH added AS (INSERT INTO history (id, run_id, "group", status, ended_at, searched, pattern, state) '
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING n) "
        f"INSERT INTO runs (n, {RUN_COLUMNS}) "
        "SELECT n, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s FROM added RETURNING n",
        [
            (
                run.item.id, run.item.run_id, run.item.group, run.status, run.ended_at,
                build_search_text(run.item), find_run_pattern(run.item.id), _encode_json(run.item),
                *build_run_columns(run),
            )
            for run in ended
        ],
        returning=True,
    )  # fmt: skip
    numbers = list[int]()
    for _ in ended:
        require_count(cursor, 1)
        numbers += [number for (number,) in cursor.fetchall()]
        cursor.nextset()
    for run in ended:
        cursor.execute("SELECT count(*) FROM samples WHERE id = %s AND run_id = %s", [run.item.id, run.item.run_id])
        (count,) = cursor.fetchone() or (0,)
        if count > MAX_ENDED_SAMPLES:
            _thin_samples(cursor, run.item.id, run.item.run_id, -(-count // MAX_ENDED_SAMPLES))
    return numbers


def add_samples(cursor: Cursor, added: Sequence[AddSample]) -> None:
    """Add samples in one statement: a commit may contain those of 10,000 items."""
    if added:
        # A statement may change a row only once, so keep the later of two samples of one instant.
        newest = {(write.id, write.run_id, write.sample.at): write.sample for write in added}
        cursor.execute(
            "INSERT INTO samples SELECT row->>0, row->>1, (row->>2)::float8, (row->>3)::float8, (row->>4)::float8 "
            "FROM json_array_elements(%s::json) AS rows (row) ON CONFLICT (id, run_id, at) DO UPDATE "
            "SET value = excluded.value, completed = excluded.completed",
            [_encode_json([(*key, sample.value, sample.completed) for key, sample in newest.items()])],
        )
        require_count(cursor, len(newest))


def save_curves(cursor: Cursor, saved: Sequence[SaveCurve]) -> None:
    """Add or replace curves in one statement."""
    if saved:
        newest = {(write.id, write.run_id): write.curve for write in saved}
        cursor.execute(
            "INSERT INTO curves SELECT row->>0, row->>1, decode(row->>2, 'base64') "
            "FROM json_array_elements(%s::json) AS rows (row) ON CONFLICT (id, run_id) DO UPDATE "
            "SET curve = excluded.curve",
            [_encode_json([(*key, base64.b64encode(curve).decode()) for key, curve in newest.items()])],
        )
        require_count(cursor, len(newest))


def build_search_text(item: Item) -> str:
    """Return the text that a search of the history matches."""
    return f"{item.id}\n{item.title}".casefold()


def execute_write(cursor: Cursor, write: Write) -> None:
    """Execute a write other than a change of an item."""
    match write:
        case ThinSamples(item_id, run_id):
            _thin_samples(cursor, item_id, run_id, 2)
        case SaveKey(key):
            _retire_secrets(cursor, key.key_id, kept_hashes=[key.hash, key.previous_hash or ""])
            _save_credential(cursor, "key", key.key_id, key, key.last_used_at)
        case DropKey(key_id):
            _retire_secrets(cursor, key_id)
            cursor.execute("DELETE FROM credentials WHERE kind = 'key' AND id = %s", [key_id])
        case TouchKey(key_id, at):
            _touch_credential(cursor, "key", key_id, at)
        case SaveSession(session):
            _save_credential(cursor, "session", session.hash, session, session.seen_at)
        case TouchSession(hash_, at):
            _touch_credential(cursor, "session", hash_, at)
        case DropSession(hash_):
            cursor.execute("DELETE FROM credentials WHERE kind = 'session' AND id = %s", [hash_])
        case SaveShare(share):
            _save_credential(cursor, "share", share.share_id, share, None)
        case DropShare(share_id):
            cursor.execute("DELETE FROM credentials WHERE kind = 'share' AND id = %s", [share_id])
        case SaveSubscription(subscription):
            _save_credential(cursor, "subscription", subscription.subscription_id, subscription, None)
        case DropSubscription(subscription_id, endpoint):
            cursor.execute(
                "DELETE FROM credentials WHERE kind = 'subscription' AND id = %s "
                "AND (%s::text IS NULL OR state::json->>'endpoint' = %s)",
                [subscription_id, endpoint, endpoint],
            )
            cursor.execute(
                "UPDATE outbox SET next_at = NULL, body = '', error = 'the subscription has ended' "
                "WHERE channel = %s AND next_at IS NOT NULL "
                "AND NOT EXISTS (SELECT FROM credentials WHERE kind = 'subscription' AND id = %s)",
                [PUSH_CHANNEL_PREFIX + subscription_id, subscription_id],
            )
        case AddVapidKeys(private_keys):
            cursor.execute(
                "INSERT INTO credentials (kind, id, state) VALUES ('secret', 'vapid', %s) ON CONFLICT DO NOTHING",
                [" ".join(private_keys)],
            )
        case SavePingToken(token):
            _save_credential(cursor, "ping", token.token_id, token, None)
        case DropPingToken(token_id):
            cursor.execute("DELETE FROM credentials WHERE kind = 'ping' AND id = %s", [token_id])
        case AddNotice(notice):
            most = max_waiting_of(notice)
            cursor.execute(
                f"INSERT INTO outbox ({NOTICE_COLUMNS}) SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s "
                "WHERE (SELECT count(*) FROM "
                "(SELECT FROM outbox WHERE next_at IS NOT NULL LIMIT %s) AS waiting) < %s ON CONFLICT DO NOTHING",
                [*astuple(notice), most, most],
            )
        case MarkNotice(notice_id, attempts, next_at, delivered_at, error):
            # A done notice keeps its id and loses its body.
            cursor.execute(
                "UPDATE outbox SET attempts = %s, next_at = %s, delivered_at = %s, error = %s, "
                "body = CASE WHEN %s::float8 IS NULL THEN '' ELSE body END WHERE notice_id = %s",
                [attempts, next_at, delivered_at, error, next_at, notice_id],
            )
        case KeepMessage(message):
            cursor.execute(
                "INSERT INTO kept_messages VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (channel, item_id, run_id) "
                "DO UPDATE SET place = excluded.place, message_id = excluded.message_id, at = excluded.at, "
                "is_final = excluded.is_final",
                [*astuple(message)],
            )
        case TrimNotices(before, most):
            cursor.execute(
                "DELETE FROM kept_messages WHERE (channel, item_id, run_id) IN (SELECT channel, item_id, run_id "
                "FROM kept_messages WHERE at < greatest(%s, (SELECT at FROM kept_messages ORDER BY at DESC "
                "LIMIT 1 OFFSET %s)) ORDER BY at LIMIT %s)",
                [before, max(most - 1, 0), TRIM_BATCH_SIZE],
            )
            cursor.execute(
                "DELETE FROM outbox WHERE notice_id IN (SELECT notice_id FROM outbox WHERE next_at IS NULL AND "
                "at < greatest(%s, (SELECT at FROM outbox WHERE next_at IS NULL ORDER BY at DESC LIMIT 1 OFFSET %s)) "
                "ORDER BY at LIMIT %s)",
                [before, max(most - 1, 0), TRIM_BATCH_SIZE],
            )
        case SaveTail(item_id, run_id, tail, owner_id):
            cursor.execute(
                "INSERT INTO tails (id, run_id, at, owner, tail, size) VALUES (%s, %s, %s, %s, %s, %s) "
                "ON CONFLICT (id, run_id) DO UPDATE SET at = excluded.at, owner = excluded.owner, "
                "tail = excluded.tail, size = excluded.size",
                [item_id, run_id, tail.at, owner_id, *encode_tail(tail.text)],
            )
            require_count(cursor, 1)
        case TrimTails(owner_id, max_bytes):
            _trim_tails(cursor, owner_id, max_bytes)


def _trim_tails(cursor: Cursor, owner_id: str | None, max_bytes: int) -> None:
    where, values = ("", list[object]()) if owner_id is None else ("WHERE owner = %s", [owner_id])
    cursor.execute(f"SELECT coalesce(sum(size), 0) FROM tails {where}", values)
    (total,) = cursor.fetchone() or (0,)
    if total > max_bytes:
        # A tail that another server writes or deletes at the moment is not waited for.
        cursor.execute(
            "DELETE FROM tails WHERE (id, run_id) IN (SELECT id, run_id FROM tails JOIN (SELECT id, run_id, "
            f"sum(size) OVER (ORDER BY at DESC, id, run_id) AS total FROM tails {where}) AS summed USING (id, run_id) "
            "WHERE total > %s FOR UPDATE OF tails SKIP LOCKED)",
            [*values, compute_trimmed_size(max_bytes)],
        )


def trim_history(cursor: Cursor, write: TrimHistory) -> bool:
    """Delete a batch of runs that are too old or too many, with samples, curves and tails.

    The batch is limited, because other writes wait for its commit.

    Returns:
        Whether there may be more.
    """
    if write.latest != math.inf:
        cursor.execute(
            "UPDATE runs SET ended_at = %s FROM history WHERE runs.n = history.n AND history.status = %s "
            "AND history.ended_at > %s",
            [write.latest, write.status, write.latest],
        )
        cursor.execute(
            "UPDATE history SET ended_at = %s WHERE status = %s AND ended_at > %s",
            [write.latest, write.status, write.latest],
        )
    if write.max_runs is not None:
        where, values = "n <= (SELECT max(n) FROM history) - %s", list[object]([write.max_runs])
    elif write.status is None:
        where, values = "ended_at < %s", [write.before]
    else:
        where, values = "status = %s AND ended_at < %s", [write.status, write.before]
    cursor.execute(
        f"WITH old AS (DELETE FROM history WHERE n IN (SELECT n FROM history WHERE {where} LIMIT %s) "
        "RETURNING n, id, run_id), runs_gone AS (DELETE FROM runs USING old WHERE runs.n = old.n), "
        "gone AS (DELETE FROM samples USING old WHERE samples.id = old.id "
        "AND samples.run_id = old.run_id), curves_gone AS (DELETE FROM curves USING old WHERE curves.id = old.id "
        "AND curves.run_id = old.run_id), tails_gone AS (DELETE FROM tails USING old WHERE tails.id = old.id "
        "AND tails.run_id = old.run_id) SELECT count(*) FROM old",
        [*values, TRIM_BATCH_SIZE],
    )
    (runs,) = cursor.fetchone() or (0,)
    return bool(runs == TRIM_BATCH_SIZE)


def read_due_notices(
    connection: Connection, now: float, limit: int, excluded_channels: Collection[str]
) -> list[Notice]:
    """Return the notices that are due, longest due first."""
    result = connection.execute(
        f"SELECT {NOTICE_COLUMNS} FROM outbox WHERE (next_at <= %s OR next_at > %s) AND NOT channel = ANY(%s) "
        "ORDER BY next_at",
        [now, now + MAX_RETRY_SECONDS, list(excluded_channels)],
    )
    return read_notices(result, limit)


def read_kept_message(connection: Connection, channel: str, item_id: str, run_id: str) -> KeptMessage | None:
    """Return the message of a channel about a run, or ``None``."""
    result = connection.execute(
        "SELECT * FROM kept_messages WHERE channel = %s AND item_id = %s AND run_id = %s", [channel, item_id, run_id]
    )
    return next(iter(parse_records(KeptMessage, result)), None)


def read_delivery_stats(connection: Connection) -> list[DeliveryStats]:
    """Return the delivery statistics of each channel."""
    result = connection.execute(
        "SELECT channel, count(next_at), count(delivered_at), "
        "count(*) FILTER (WHERE next_at IS NULL AND delivered_at IS NULL), max(delivered_at), "
        "(array_agg(error ORDER BY at DESC) FILTER (WHERE error IS NOT NULL))[1] "
        "FROM outbox GROUP BY channel ORDER BY channel"
    )
    return parse_records(DeliveryStats, result)


def _save_credential(
    cursor: Cursor,
    kind: str,
    record_id: str,
    record: KeyRecord | SessionRecord | ShareRecord | PushSubscription | PingTokenRecord,
    used_at: float | None,
) -> None:
    cursor.execute(
        "INSERT INTO credentials (kind, id, state, used_at) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (kind, id) DO UPDATE SET state = excluded.state, used_at = excluded.used_at",
        [kind, record_id, _encode_json(record), used_at],
    )
    require_count(cursor, 1)


def _retire_secrets(cursor: Cursor, key_id: str, kept_hashes: Sequence[str] = ()) -> None:
    """Record the secrets of a key that are about to leave the table of keys, except for the kept ones."""
    cursor.execute(
        "INSERT INTO ended_secrets SELECT DISTINCT secret FROM credentials, "
        "LATERAL (VALUES (state::json->>'hash'), (state::json->>'previous_hash')) AS secrets (secret) "
        "WHERE kind = 'key' AND id = %s AND secret IS NOT NULL AND NOT secret = ANY(%s) ON CONFLICT DO NOTHING",
        [key_id, list(kept_hashes)],
    )


def _touch_credential(cursor: Cursor, kind: str, record_id: str, at: float) -> None:
    cursor.execute("UPDATE credentials SET used_at = %s WHERE kind = %s AND id = %s", [at, kind, record_id])


def _thin_samples(cursor: Cursor, item_id: str, run_id: str, step: int) -> None:
    """Keep every ``step``-th sample of a run, beginning with the first."""
    cursor.execute(
        "DELETE FROM samples USING (SELECT at, row_number() OVER (ORDER BY at) AS n FROM samples "
        "WHERE id = %(id)s AND run_id = %(run)s) AS numbered WHERE samples.id = %(id)s AND samples.run_id = %(run)s "
        "AND samples.at = numbered.at AND numbered.n %% %(every)s <> 1",
        {"id": item_id, "run": run_id, "every": step},
    )
