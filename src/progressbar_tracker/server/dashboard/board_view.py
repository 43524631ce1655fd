"""Template values of the board; ``sort.js`` and ``row.js`` produce the same order and texts."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypedDict

from progressbar_tracker._models import is_indeterminate
from progressbar_tracker._text import format_age, format_duration
from progressbar_tracker.server.items.serializer import item_url, serialize_item
from progressbar_tracker.server.models import Item, rfc3339

from .format import STATE_ICONS, format_count, format_percent, format_rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from progressbar_tracker._models import Item as WireItem


class BoardQuery(NamedTuple):
    """The filter and the order of the board, from the URL of the page.

    Attributes:
        q: Search text, for titles, descriptions, ids, groups and owners.
        status: A key of :data:`STATUS_LABELS`.
        sort: A key of :data:`SORT_LABELS`.
    """

    q: str = ""
    status: str = ""
    sort: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """Parse query parameters; ignore unknown values."""
        status, sort = query.get("status", ""), query.get("sort", "")
        return cls(
            query.get("q", "").strip()[:200],
            status if status in STATUS_LABELS else "",
            sort if sort in SORT_LABELS else "",
        )


STATUS_LABELS: Final = {
    "": "All", "running": "Running", "stalled": "Stalled", "ended": "Ended", "failed": "Failed",
    "succeeded": "Succeeded", "stopped": "Stopped",
}  # fmt: skip

SORT_LABELS: Final = {
    "": "By weight", "progress": "Furthest first", "left": "Soonest done", "newest": "Newest first",
    "title": "By title", "status": "By status",
}  # fmt: skip

MAX_INITIAL_ROWS: Final = 300
"""Rows of the first paint; the script adds the others."""

MAX_INITIAL_CHARACTERS: Final = 256 * 1024
"""Approximate limit on the characters of descriptions and errors in the first paint."""

_MAX_DEPTH: Final = 3
_MAX_ANCESTORS: Final = 100
_URGENCY_ORDER: Final = ("failed", "stalled", "running", "stopped", "succeeded")


def present_board(items: Sequence[WireItem], query: BoardQuery, now: float) -> dict[str, object]:
    """Return the template values of the board.

    Args:
        items: All serialized items, by weight.
        query: The filter and the order.
        now: Seconds since the epoch.
    """
    sections: list[dict[str, object]] = []
    rows_left, omitted_rows, characters = MAX_INITIAL_ROWS, 0, 0
    for group, rows in _arrange_items(items, query):
        for index, (item, _) in enumerate(rows[:rows_left]):
            characters += len(item["description"]) + len(item["error"] or "")
            if characters > MAX_INITIAL_CHARACTERS:
                rows_left = index
                break
        omitted_rows += max(len(rows) - rows_left, 0)
        if rows_left == 0:
            continue
        summary = _summarize([item for item, _ in rows])
        mean_value = summary["mean_value"]
        sections.append(
            {
                "name": group,
                "summary": _format_summary(summary),
                "mean_value": mean_value,
                "percent": "" if mean_value is None else format_percent(mean_value),
                "rows": [{**present_item(item, now), "depth": depth} for item, depth in rows[:rows_left]],
            }
        )
        rows_left = max(rows_left - len(rows), 0)
    blank_item = {**present_item(_BLANK_ITEM, now), "depth": 0}
    return {
        "query": query,
        "status_labels": STATUS_LABELS.items(),
        "sort_labels": SORT_LABELS.items(),
        "item_count": len(items),
        "summary": _format_summary(_summarize(items)) if items else "",
        "sections": sections,
        "omitted_rows": omitted_rows,
        "blank_item": blank_item,
        "blank_run": present_run({**_BLANK_ITEM, "ended_at": rfc3339(now)}),
        "blank_section": {"name": "", "summary": "", "mean_value": None, "percent": "", "rows": []},
    }


def present_item(item: WireItem, now: float) -> dict[str, object]:
    """Return the template values of a serialized item."""
    state = _get_state(item)
    completed, total, value = item["completed"], item["total"], item["value"]
    unit = item["unit"]
    started, ended = item["created_at"], item["ended_at"]
    return {
        "id": item["id"],
        "url": item_url(item["id"]),
        "title": item["title"] or item["id"],
        "description": item["description"],
        "group": item["group"],
        "state": state,
        "icon": STATE_ICONS[state],
        "value": None if _is_open_ended(item) else value,
        "percent": "" if _is_open_ended(item) else format_percent(value),
        "count": format_count(completed, total, unit),
        "rate": format_rate(item["rate"], unit),
        "eta": "" if item["eta"] is None else f"{format_duration(item['eta'])} left",
        "age": f"for {format_age(now - _parse_instant(started))}"
        if ended is None
        else f"{format_age(now - _parse_instant(ended))} ago",
        "age_title": f"started {started}" if ended is None else f"started {started}, ended {ended}",
        "last_heard": f"last heard from {format_age(now - _parse_instant(item['updated_at']))} ago"
        if item["stalled"]
        else "",
        "late": "" if not item["late"] else f"{format_age(now - _parse_instant(item['deadline'] or ''))} late",
        "updated_at": item["updated_at"],
        "reason": (item["error"] or "").split("\n", 1)[0],
        "error": item["error"] or "",
        "owner": item["owner"],
    }


def present_run(run: Mapping[str, object]) -> dict[str, object]:
    """Return the template values of a run of the history."""
    state, ended = str(run["status"]), str(run["ended_at"])
    error = str(run["error"] or "")
    return {
        "url": item_url(str(run["id"])),
        "title": run["title"] or run["id"],
        "state": state,
        "icon": STATE_ICONS[state],
        "duration": f"after {format_duration(max(_parse_instant(ended) - _parse_instant(str(run['created_at'])), 0))}",
        "ended_at": ended,
        "reason": error.split("\n", 1)[0],
        "error": error,
    }


def _get_state(item: WireItem) -> str:
    return "stalled" if item["stalled"] else item["status"]


def _is_open_ended(item: WireItem) -> bool:
    return item["status"] == "running" and is_indeterminate(item["completed"], item["total"], "running")


def _parse_instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _matches(item: WireItem, query: BoardQuery) -> bool:
    if query.status == "ended":
        if item["status"] == "running":
            return False
    elif query.status not in ("", _get_state(item)):
        return False
    search_text = query.q.lower()
    texts = (item["title"] or item["id"], item["id"], item["description"], item["group"] or "", item["owner"])
    return not search_text or any(search_text in text.lower() for text in texts)


def _sort_items(items: list[WireItem], sort: str) -> list[WireItem]:
    # The items are ordered by weight, and sorting is stable.
    if sort == "progress":
        return sorted(items, key=lambda item: -item["value"])
    if sort == "left":
        return sorted(items, key=lambda item: math.inf if item["eta"] is None else item["eta"])
    if sort == "newest":
        return sorted(items, key=lambda item: item["created_at"], reverse=True)
    if sort == "title":
        return sorted(items, key=lambda item: (item["title"] or item["id"]).casefold())
    if sort == "status":
        return sorted(items, key=lambda item: _URGENCY_ORDER.index(_get_state(item)))
    return items


def _arrange_items(items: Sequence[WireItem], query: BoardQuery) -> list[tuple[str, list[tuple[WireItem, int]]]]:
    """Return groups in order with their items and depths, children below their parents."""
    matching = _sort_items([item for item in items if _matches(item, query)], query.sort)
    by_id = {item["id"]: item for item in matching}
    children: dict[str, list[WireItem]] = {}
    sections: dict[str, list[tuple[WireItem, int]]] = {}
    roots = []
    for item in matching:
        if _is_nested(item, by_id):
            assert item["parent"] is not None
            children.setdefault(item["parent"], []).append(item)
        else:
            roots.append(item)
    for root in roots:
        rows = sections.setdefault(root["group"] or "", [])
        stack = [(root, 0)]
        while stack:
            item, depth = stack.pop()
            rows.append((item, min(depth, _MAX_DEPTH)))
            stack.extend((child, depth + 1) for child in reversed(children.get(item["id"], [])))
    return list(sections.items())


def _is_nested(item: WireItem, by_id: Mapping[str, WireItem]) -> bool:
    """Return whether an item is shown below its parent: the parent matches, and is no descendant of the item."""
    ancestor = by_id.get(item["parent"] or "")
    if ancestor is None:
        return False
    for _ in range(_MAX_ANCESTORS):
        if ancestor is item:
            return False
        ancestor = by_id.get(ancestor["parent"] or "")
        if ancestor is None:
            return True
    return False


class _Summary(TypedDict):
    running: int
    stalled: int
    failed: int
    mean_value: float | None


def _summarize(items: Sequence[WireItem]) -> _Summary:
    """Count items by state, and compute the mean value of running items with a known total."""
    running = [item for item in items if item["status"] == "running"]
    values = [item["value"] for item in running if not _is_open_ended(item)]
    return {
        "running": len(running),
        "stalled": sum(item["stalled"] for item in running),
        "failed": sum(item["status"] == "failed" for item in items),
        "mean_value": sum(values) / len(values) if values else None,
    }


def _format_summary(summary: _Summary) -> str:
    parts = [f"{summary['running']:,} running"]
    parts += [f"{n:,} {state}" for state, n in (("stalled", summary["stalled"]), ("failed", summary["failed"])) if n]
    return ", ".join(parts)


_BLANK_ITEM: Final = serialize_item(
    Item(id="", owner_id="", owner="", run_id="", created_at=0.0, updated_at=0.0, seq=-1), 0.0
)
