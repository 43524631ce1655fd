"""Search the history, and read runs, their curves, samples and tails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from progressbar_tracker.server.models import Sample, SampledRun, StoredTail
from progressbar_tracker.server.stores.base import ALL_RUNS, HistoryFilter, HistoryRow, Timeline
from progressbar_tracker.server.stores.reading import (
    RUN_ROW_COLUMNS,
    attach_curves,
    combine_filters,
    group_run_rows,
    parse_curves,
    parse_former_runs,
    parse_records,
    parse_run_rows,
    parse_tail,
    read_history_page,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from progressbar_tracker.server.items.curves import Curve, StoredCurve
    from progressbar_tracker.server.items.former_runs import FormerRunRow
    from progressbar_tracker.server.models import RunRow

    from .database import Connection

_encode = msgspec.json.Encoder().encode


def read_history(connection: Connection, criteria: HistoryFilter, *, after: int | None, limit: int) -> list[HistoryRow]:
    """Return runs of the history, newest first."""
    statement, values, texts = build_history_query(criteria)

    def fetch(after: int, count: int) -> list[tuple[object, ...]]:
        return connection.execute(statement, [*values, after, *texts, count]).fetchall()

    return read_history_page(fetch, after, limit)


def build_history_query(criteria: HistoryFilter) -> tuple[bytes, list[object], list[object]]:
    """Return the query of a page of the history, the values of its conditions, and the searched text, if any.

    Between both values are the row before the page, and after them its size.
    """
    texts = [] if criteria.text is None else [criteria.text.casefold()]
    text = " AND strpos(h.searched, %s) > 0" if texts else ""
    columns = "h.n, h.status, h.ended_at, h.state"
    if criteria._replace(text=None) == ALL_RUNS:
        query = f"SELECT {columns} FROM history AS h WHERE h.n < %s{text} ORDER BY h.n DESC LIMIT %s"
        return query.encode(), [], [*texts]
    conditions, values = combine_filters(
        ("run_id = %s", criteria.run_id),
        ("id = %s", criteria.id),
        ("parent = %s", criteria.parent),
        ('"group" = %s', criteria.group),
        ("status = %s", criteria.status),
        ("is_inner = %s", None if criteria.inner else 0),
        ("ended_at >= %s", criteria.since),
        ("started_at <= %s", criteria.until),
    )
    if texts:
        # Lateral, so that it is a nested loop in the order of the index, which ends with the page.
        query = (
            "SELECT r.n, h.status, h.ended_at, h.state FROM "
            f"(SELECT n FROM runs WHERE {conditions}n < %s ORDER BY n DESC OFFSET 0) AS r CROSS JOIN LATERAL "
            f"(SELECT status, ended_at, state FROM history AS h WHERE h.n = r.n{text} OFFSET 0) AS h "
            "ORDER BY r.n DESC LIMIT %s"
        )
    else:
        query = (
            f"SELECT {columns} FROM (SELECT n FROM runs WHERE {conditions}n < %s ORDER BY n DESC LIMIT %s) AS r "
            "JOIN history AS h ON h.n = r.n ORDER BY r.n DESC"
        )
    return query.encode(), values, [*texts]


def read_timeline(connection: Connection, since: float, until: float, group: str | None, limit: int) -> Timeline:
    """Return the runs of the history that overlap an interval, without inner ones that have not failed."""
    conditions = "is_inner = 0 AND ended_at >= %s AND started_at <= %s" + ("" if group is None else ' AND "group" = %s')
    values = [since, until] if group is None else [since, until, group]
    query = (
        f"SELECT {RUN_ROW_COLUMNS} FROM runs AS r WHERE {conditions} ORDER BY ended_at DESC, started_at DESC LIMIT %s"
    )
    rows = connection.execute(query.encode(), [*values, limit]).fetchall()
    omitted = 0
    if len(rows) == limit:
        result = connection.execute(f"SELECT count(*) FROM runs WHERE {conditions}".encode(), values)
        (count,) = result.fetchone() or (0,)
        omitted = max(int(count) - limit, 0)
    return Timeline(parse_run_rows(rows), omitted)


RECENT_RUNS_QUERY: Final = (
    f"SELECT {RUN_ROW_COLUMNS} FROM (SELECT DISTINCT json_array_elements_text(%s::json) AS key) AS keys "
    "CROSS JOIN LATERAL (SELECT * FROM runs WHERE id = key ORDER BY n DESC LIMIT %s) AS r ORDER BY r.id, r.n DESC"
).encode()
"""The newest runs of many ids."""


def read_recent_runs(connection: Connection, ids: Collection[str], limit: int) -> dict[str, list[RunRow]]:
    """Return the newest runs of many ids, newest first."""
    return group_run_rows(connection.execute(RECENT_RUNS_QUERY, [_encode(list(ids)).decode(), limit]))


_RUNNING_CONDITION: Final = (
    # Compare text: one state with invalid JSON would fail the whole statement.
    'strpos(state, \'"status":"running"\') > 0 AND strpos(state, concat(\'"run_id":"\', run_id, \'"\')) > 0'
)


def read_sampled_runs(connection: Connection) -> list[SampledRun]:
    """Return the number of samples of each running run."""
    result = connection.execute(
        "SELECT samples.id, samples.run_id, count(*), min(at), max(at) FROM samples JOIN items USING (id) "
        f"WHERE {_RUNNING_CONDITION} GROUP BY samples.id, samples.run_id"
    )
    return parse_records(SampledRun, result)


def read_running_curves(connection: Connection) -> list[StoredCurve]:
    """Return the curve of each running run."""
    return parse_curves(
        connection.execute(
            f"SELECT curves.id, run_id, curve FROM curves JOIN items USING (id) WHERE {_RUNNING_CONDITION}"
        )
    )


def read_curves(connection: Connection, runs: Collection[tuple[str, str]]) -> dict[tuple[str, str], Curve]:
    """Return the stored curves of runs, by id and run id."""
    result = connection.execute(
        "SELECT id, run_id, curve FROM curves JOIN (SELECT row->>0 AS id, row->>1 AS run_id "
        "FROM json_array_elements(%s::json) AS rows (row)) AS wanted USING (id, run_id)",
        [_encode(list(runs)).decode()],
    )
    return {(item_id, run_id): curve for item_id, run_id, curve in parse_curves(result)}


FORMER_RUNS_QUERIES: Final = {
    name: (
        "SELECT h.n, h.status, h.ended_at, h.state, key FROM (SELECT DISTINCT json_array_elements_text(%s::json) "
        "AS key) AS keys CROSS JOIN LATERAL (SELECT n, status, ended_at, state FROM history "
        f"WHERE {name} = key AND status = 'succeeded' ORDER BY n DESC LIMIT %s) AS h ORDER BY key, h.n DESC"
    ).encode()
    for name in ("id", "pattern")
}
"""The successful runs of many ids or patterns."""


def read_former_runs(
    connection: Connection, keys: Collection[str], by: str, limit: int
) -> dict[str, list[FormerRunRow]]:
    """Return the successful runs of many ids or patterns, newest first."""
    runs = parse_former_runs(connection.execute(FORMER_RUNS_QUERIES[by], [_encode(list(keys)).decode(), limit]))
    pairs = {(row.item.id, row.item.run_id) for found in runs.values() for row in found}
    return attach_curves(runs, read_curves(connection, pairs) if pairs else {})


def read_samples(connection: Connection, item_id: str, run_id: str) -> list[Sample]:
    """Return the samples of a run, oldest first."""
    result = connection.execute(
        "SELECT at, value, completed FROM samples WHERE id = %s AND run_id = %s ORDER BY at", [item_id, run_id]
    )
    return parse_records(Sample, result)


def read_tail(connection: Connection, item_id: str, run_id: str) -> StoredTail | None:
    """Return the output tail of a run, or ``None``."""
    result = connection.execute("SELECT id, at, tail FROM tails WHERE id = %s AND run_id = %s", [item_id, run_id])
    return parse_tail(result.fetchone())
