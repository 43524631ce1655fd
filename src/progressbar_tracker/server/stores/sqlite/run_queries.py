"""The queries that search the history, and read small rows of many runs."""

from __future__ import annotations

from typing import Final

from progressbar_tracker.server.stores.base import ALL_RUNS, HistoryFilter
from progressbar_tracker.server.stores.reading import RUN_ROW_COLUMNS, combine_filters

RECENT_RUNS_QUERY: Final = (
    f"SELECT {RUN_ROW_COLUMNS} FROM json_each(?) AS key CROSS JOIN json_each(("
    "SELECT json_group_array(n) FROM (SELECT n FROM runs INDEXED BY runs_id WHERE id = key.value "
    "ORDER BY n DESC LIMIT ?))) AS found CROSS JOIN runs AS r ON r.n = found.value ORDER BY key.key, r.n DESC"
)
"""The newest runs of many ids."""


def build_timeline_queries(group: str | None) -> tuple[str, str]:
    """Return the query of the runs of a timeline, and of their number. Both read one range of an index."""
    conditions = "is_inner = 0 AND ended_at >= ? AND started_at <= ?" + ("" if group is None else ' AND "group" = ?')
    table = f"FROM runs AS r INDEXED BY runs_ended_at WHERE {conditions}"
    return (
        f"SELECT {RUN_ROW_COLUMNS} {table} ORDER BY ended_at DESC, started_at DESC LIMIT ?",
        f"SELECT count(*) {table}",
    )


def scans_runs(criteria: HistoryFilter) -> bool:
    """Return whether a query may scan many runs that it does not return: it has conditions beyond its index."""
    has_index = any(value is not None for value in (criteria.run_id, criteria.id, criteria.parent))
    return not has_index and (not criteria.inner or criteria.since is not None or criteria.until is not None)


def build_history_query(criteria: HistoryFilter, text_condition: str) -> tuple[str, list[object]]:
    """Return the query of a page of the history, without the value of the text, and the values of its conditions.

    Further parameters are the row before the page and its size. Only the condition of the most selective column uses
    an index (the sign ``+`` prevents others), and no query sorts.

    Args:
        criteria: The filter.
        text_condition: Empty without a text.
    """
    text = f" AND {text_condition}" if text_condition else ""
    columns = "h.n, h.status, h.ended_at, h.state"
    if criteria._replace(text=None) == ALL_RUNS:
        return f"SELECT {columns} FROM history AS h WHERE h.n < ?{text} ORDER BY h.n DESC LIMIT ?", []
    by = next((name for name in ("run_id", "id", "parent") if getattr(criteria, name) is not None), None)
    plus = "" if by is None else "+"
    conditions, values = combine_filters(
        (f"{'' if by == 'run_id' else '+'}r.run_id = ?", criteria.run_id),
        (f"{'' if by == 'id' else '+'}r.id = ?", criteria.id),
        (f"{'' if by == 'parent' else '+'}r.parent = ?", criteria.parent),
        (f'{plus}r."group" = ?', criteria.group),
        (f"{plus}r.status = ?", criteria.status),
        ("+r.is_inner = ?", None if criteria.inner else 0),
        ("+r.ended_at >= ?", criteria.since),
        ("+r.started_at <= ?", criteria.until),
    )
    return (
        f"SELECT {columns} FROM runs AS r CROSS JOIN history AS h ON h.n = r.n "
        f"WHERE {conditions}r.n < ?{text} ORDER BY r.n DESC LIMIT ?"
    ), values
