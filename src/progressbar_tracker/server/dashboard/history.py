"""Template values of the runs of the history."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from progressbar_tracker._text import format_duration
from progressbar_tracker.server.items.serializer import item_url
from progressbar_tracker.server.models import rfc3339

from .format import STATE_ICONS, format_count, format_percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from progressbar_tracker.server.stores.base import HistoryRow


def present_history_run(row: HistoryRow) -> dict[str, object]:
    """Return the template values of a run."""
    item = row.item
    return {
        "n": row.n,
        "id": item.id,
        "title": item.title or item.id,
        "url": item_url(item.id),
        "group": item.group or "",
        "state": row.status,
        "icon": STATE_ICONS[row.status],
        "started_at": rfc3339(item.created_at),
        "started": format_instant(item.created_at),
        "ended_at": rfc3339(row.ended_at),
        "ended": format_instant(row.ended_at),
        "seconds": measure_duration(row),
        "duration": format_duration(measure_duration(row)),
        "percent": "" if item.completed is not None and item.total is None else format_percent(item.value),
        "count": format_count(item.completed, item.total, item.unit),
        "error": item.error or "",
        "owner": item.owner,
    }


def measure_duration(row: HistoryRow) -> float:
    """Return the duration of a run in seconds, at least 0 if the clock was set back."""
    return max(row.ended_at - row.item.created_at, 0.0)


def compute_median_duration(rows: Sequence[HistoryRow]) -> float | None:
    """Return the median duration of the succeeded runs in seconds; ``None`` without any."""
    durations = [measure_duration(row) for row in rows if row.status == "succeeded"]
    return median(durations) if durations else None


def format_instant(at: float) -> str:
    """Format an instant in UTC; the script replaces it by the viewer's local time.

    >>> format_instant(0.0)
    '1970-01-01 00:00 UTC'
    """
    return f"{rfc3339(at)[:16].replace('T', ' ')} UTC"
