"""The SQL of the store: write records as rows, and read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import psycopg
from msgspec.structs import astuple
from psycopg.rows import TupleRow

from progressbar_tracker.server.models import (
    MAX_RETRY_SECONDS,
    MAX_WAITING_NOTICES,
    NOTICE_COLUMNS,
    DeliveryStats,
    EndedRun,
    Item,
    KeyRecord,
    Notice,
    Sample,
    SampledRun,
    SessionRecord,
    ShareRecord,
)
from progressbar_tracker.server.mutations import (
    AddNotice,
    AddSample,
    DropKey,
    DropSession,
    DropShare,
    MarkNotice,
    Probe,
    SaveKey,
    SaveSession,
    SaveShare,
    ThinSamples,
    TouchKey,
    TouchSession,
    TrimNotices,
    Write,
)
from progressbar_tracker.server.stores.base import Credentials, HistoryRow, ItemRow
from progressbar_tracker.server.stores.reading import (
    combine_filters,
    convert_record,
    parse_ended_run,
    parse_item,
    parse_record,
    parse_records,
    parse_rows,
    read_history_page,
    read_notices,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from progressbar_tracker.server.mutations import TrimHistory

    from .schema import Connection

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


def lock_items(cursor: Cursor, ids: Iterable[str]) -> dict[str, ItemRow]:
    """Return the rows of items, locked until the end of the transaction.

    All servers lock in the order of ids, which prevents deadlocks.
    """
    wanted = list(ids)
    if not wanted:
        return {}
    cursor.execute(
        "SELECT id, rev, state FROM items WHERE id = ANY(ARRAY(SELECT json_array_elements_text(%s::json))) "
        "ORDER BY id FOR UPDATE",
        [_encode_json(wanted)],
    )
    return {item_id: parse_item_row(item_id, rev, state) for item_id, rev, state in cursor.fetchall()}


def write_items(
    cursor: Cursor, changed: Mapping[str, Item | None], stored: Mapping[str, ItemRow], rev: int, now: float
) -> bool:
    """Write items under the revisions after ``rev``; return whether each new item is still new."""
    new_rows, changed_rows = list[_NewRow](), list[_NewRow]()
    for item_rev, (item_id, item) in enumerate(changed.items(), rev + 1):
        state = None if item is None else _encode_json(item)
        (changed_rows if item_id in stored else new_rows).append(
            (item_id, item_rev, state, now if item is None else None)
        )
    if changed_rows:
        cursor.execute(
            f"WITH new (id, rev, state, gone_at) AS ({_NEW_ROWS_QUERY}) UPDATE items "  # noqa: S608  # a constant
            "SET rev = new.rev, state = new.state, gone_at = new.gone_at FROM new WHERE items.id = new.id",
            [_encode_json(changed_rows)],
        )
    if new_rows:
        cursor.execute(
            f"INSERT INTO items (id, rev, state, gone_at) {_NEW_ROWS_QUERY} ON CONFLICT (id) DO NOTHING",
            [_encode_json(new_rows)],
        )
        return cursor.rowcount == len(new_rows)
    return True


_NewRow: TypeAlias = tuple[str, int, str | None, float | None]

# Thousands of rows in one JSON parameter. The driver would escape each text of an array in Python, which is slow.
_NEW_ROWS_QUERY: Final = (
    "SELECT row->>0, (row->>1)::bigint, row->>2, (row->>3)::float8 FROM json_array_elements(%s::json) AS rows (row)"
)


def _encode_json(document: object) -> str:
    return _encode(document).decode()


def add_history(cursor: Cursor, ended: Sequence[EndedRun], rev: int) -> None:
    """Add runs to the history."""
    if not ended:
        return
    cursor.executemany(
        'INSERT INTO history (rev, id, run_id, "group", status, ended_at, searched, state) '
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            (
                rev, run.item.id, run.item.run_id, run.item.group, run.status, run.ended_at,
                build_search_text(run.item), _encode_json(run.item),
            )
            for run in ended
        ],
    )  # fmt: skip
    for run in ended:
        cursor.execute("SELECT count(*) FROM samples WHERE id = %s AND run_id = %s", [run.item.id, run.item.run_id])
        (count,) = cursor.fetchone() or (0,)
        if count > MAX_ENDED_SAMPLES:
            _thin_samples(cursor, run.item.id, run.item.run_id, -(-count // MAX_ENDED_SAMPLES))


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
        case AddNotice(notice):
            cursor.execute(
                f"INSERT INTO outbox ({NOTICE_COLUMNS}) SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s "  # noqa: S608
                "WHERE (SELECT count(*) FROM "
                "(SELECT FROM outbox WHERE next_at IS NOT NULL LIMIT %s) AS waiting) < %s ON CONFLICT DO NOTHING",
                [*astuple(notice), MAX_WAITING_NOTICES, MAX_WAITING_NOTICES],
            )
        case MarkNotice(notice_id, attempts, next_at, delivered_at, error):
            # A done notice keeps its id and loses its body.
            cursor.execute(
                "UPDATE outbox SET attempts = %s, next_at = %s, delivered_at = %s, error = %s, "
                "body = CASE WHEN %s::float8 IS NULL THEN '' ELSE body END WHERE notice_id = %s",
                [attempts, next_at, delivered_at, error, next_at, notice_id],
            )
        case TrimNotices(before, most):
            cursor.execute(
                "DELETE FROM outbox WHERE notice_id IN (SELECT notice_id FROM outbox WHERE next_at IS NULL AND "
                "at < greatest(%s, (SELECT at FROM outbox WHERE next_at IS NULL ORDER BY at DESC LIMIT 1 OFFSET %s)) "
                "ORDER BY at LIMIT %s)",
                [before, max(most - 1, 0), TRIM_BATCH_SIZE],
            )
        case Probe(at):
            cursor.execute("UPDATE meta SET probed_at = %s", [at])


def trim_history(cursor: Cursor, write: TrimHistory, deleted_before: float) -> bool:
    """Delete a batch of runs that are too old or too many, with their samples, and a batch of old tombstones.

    The batch is limited, because other writes wait for its commit.

    Returns:
        Whether there may be more.
    """
    if write.latest != math.inf:
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
        f"WITH old AS (DELETE FROM history WHERE n IN (SELECT n FROM history WHERE {where} LIMIT %s) "  # noqa: S608
        "RETURNING id, run_id), gone AS (DELETE FROM samples USING old WHERE samples.id = old.id "
        "AND samples.run_id = old.run_id) SELECT count(*) FROM old",
        [*values, TRIM_BATCH_SIZE],
    )
    (runs,) = cursor.fetchone() or (0,)
    # A server with an older revision must read all items again, because it can no longer see these deletions.
    cursor.execute(
        "WITH old AS (DELETE FROM items WHERE id IN (SELECT id FROM items WHERE gone_at < %s LIMIT %s FOR UPDATE "
        "SKIP LOCKED) AND gone_at IS NOT NULL RETURNING rev) "
        "UPDATE meta SET forgotten_rev = greatest(forgotten_rev, (SELECT max(rev) FROM old)) "
        "WHERE EXISTS (SELECT FROM old) RETURNING (SELECT count(*) FROM old)",
        [deleted_before, TRIM_BATCH_SIZE],
    )
    (tombstones,) = cursor.fetchone() or (0,)
    return bool(runs == TRIM_BATCH_SIZE or tombstones == TRIM_BATCH_SIZE)


def read_credentials(connection: Connection) -> Credentials:
    """Return all credentials, in one transaction."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        (rev,) = connection.execute("SELECT credentials_rev FROM meta").fetchone() or (0,)
        result = connection.execute("SELECT kind, id, state, used_at FROM credentials").fetchall()
    keys, sessions, shares = list[KeyRecord](), list[SessionRecord](), list[ShareRecord]()
    for kind, name, state, used_at in result:
        match kind:
            case "key":
                keys += parse_rows("keys", [(name, state, used_at)], _parse_key)
            case "session":
                sessions += parse_rows("sessions", [(name, state, used_at)], _parse_session)
            case "share":
                shares += parse_rows("shares", [(name, state)], lambda _, text: parse_record(ShareRecord, text))
    return Credentials(int(rev), keys, sessions, shares)


def is_secret_retired(connection: Connection, secret_hash: str) -> bool:
    """Return whether a secret once belonged to a key, and no longer does."""
    return connection.execute("SELECT FROM ended_secrets WHERE hash = %s", [secret_hash]).fetchone() is not None


def _parse_key(_: str, state: str, used_at: float | None) -> KeyRecord:
    return convert_record(KeyRecord, msgspec.json.decode(state, type=dict[str, object]) | {"last_used_at": used_at})


def _parse_session(_: str, state: str, used_at: float | None) -> SessionRecord:
    return convert_record(SessionRecord, msgspec.json.decode(state, type=dict[str, object]) | {"seen_at": used_at})


def read_sampled_runs(connection: Connection) -> list[SampledRun]:
    """Return the number of samples of each running run."""
    result = connection.execute(
        "SELECT samples.id, samples.run_id, count(*), min(at), max(at) FROM samples JOIN items USING (id) "
        # Compare text: one state with invalid JSON would fail the whole statement.
        'WHERE strpos(state, \'"status":"running"\') > 0 AND strpos(state, concat(\'"run_id":"\', run_id, \'"\')) > 0 '
        "GROUP BY samples.id, samples.run_id"
    )
    return parse_records(SampledRun, result)


def read_history(
    connection: Connection,
    *,
    group: str | None,
    status: str | None,
    item_id: str | None,
    text: str | None,
    after: int | None,
    limit: int,
) -> list[HistoryRow]:
    """Return runs of the history, newest first."""
    conditions, values = combine_filters(
        ('"group" = %s', group),
        ("status = %s", status),
        ("id = %s", item_id),
        ("strpos(searched, %s) > 0", None if text is None else text.casefold()),
    )

    def fetch(after: int, count: int) -> list[tuple[object, ...]]:
        statement = (
            f"SELECT n, status, ended_at, state FROM history WHERE {conditions}n < %s "  # noqa: S608
            "ORDER BY n DESC LIMIT %s"
        )
        return connection.execute(statement.encode(), [*values, after, count]).fetchall()

    return read_history_page(fetch, after, limit)


def read_ended_runs(connection: Connection, rev: int, until: int) -> list[EndedRun]:
    """Return the runs that moved to the history after ``rev`` and up to ``until``."""
    result = connection.execute(
        "SELECT n, state, status, ended_at FROM history WHERE rev > %s AND rev <= %s ORDER BY n", [rev, until]
    )
    return parse_rows("history", result, lambda _, *row: parse_ended_run(*row))


def read_samples(connection: Connection, item_id: str, run_id: str) -> list[Sample]:
    """Return the samples of a run, oldest first."""
    result = connection.execute(
        "SELECT at, value, completed FROM samples WHERE id = %s AND run_id = %s ORDER BY at", [item_id, run_id]
    )
    return parse_records(Sample, result)


def read_due_notices(
    connection: Connection, now: float, limit: int, excluded_channels: Collection[str]
) -> list[Notice]:
    """Return the notices that are due, longest due first."""
    result = connection.execute(
        f"SELECT {NOTICE_COLUMNS} FROM outbox WHERE (next_at <= %s OR next_at > %s) AND NOT channel = ANY(%s) "  # noqa: S608
        "ORDER BY next_at",
        [now, now + MAX_RETRY_SECONDS, list(excluded_channels)],
    )
    return read_notices(result, limit)


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
    cursor: Cursor, kind: str, record_id: str, record: KeyRecord | SessionRecord | ShareRecord, used_at: float | None
) -> None:
    cursor.execute(
        "INSERT INTO credentials (kind, id, state, used_at) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (kind, id) DO UPDATE SET state = excluded.state, used_at = excluded.used_at",
        [kind, record_id, _encode_json(record), used_at],
    )


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
