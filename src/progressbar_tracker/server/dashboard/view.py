"""Items as the first paint shows them; ``app.js`` says the same with the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ICONS: Final = {
    "running": "▶", "stalled": "!", "succeeded": "✓", "failed": "✕", "stopped": "■", "deleted": "∅",
}  # fmt: skip


def shown_item(item: Mapping[str, object]) -> dict[str, object]:
    """Return what the template shows of an item as told on the wire."""
    state = "stalled" if item["stalled"] else str(item["status"])
    completed, total, value = item["completed"], item["total"], item["value"]
    assert isinstance(value, float)
    open_ended = state in {"running", "stalled"} and isinstance(completed, int | float) and total is None
    unit = str(item["unit"])
    return {
        "id": item["id"],
        "title": item["title"] or item["id"],
        "description": item["description"],
        "group": item["group"],
        "state": state,
        "icon": ICONS[state],
        "value": None if open_ended else value,
        "percent": "" if open_ended else percent(value),
        "count": count(completed, total, unit),
        "rate": "" if item["rate"] is None else f"{number(item['rate'])} {unit or 'it'}/s",
        "eta": "" if item["eta"] is None else f"{duration(item['eta'])} left",
        "error": item["error"] or "",
        "owner": item["owner"],
    }


def shown_run(run: Mapping[str, object]) -> dict[str, object]:
    """Return what the template shows of a run of the history."""
    state = str(run["status"])
    return {
        "title": run["title"] or run["id"],
        "state": state,
        "icon": ICONS[state],
        "ended_at": run["ended_at"],
        "error": run["error"] or "",
    }


def percent(value: float) -> str:
    """Return a share as text; never 100 % before the end is reached.

    >>> percent(0.999), percent(1.0)
    ('99 %', '100 %')
    """
    return f"{int(value * 100)} %"


def number(value: object) -> str:
    """Return a number for reading.

    >>> number(1234567), number(0.1234), number(12.0)
    ('1,234,567', '0.12', '12')
    """
    assert isinstance(value, int | float)
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.2f}"


def count(completed: object, total: object, unit: str) -> str:
    """Return how many of how many."""
    if completed is None:
        return ""
    of = "" if total is None else f" / {number(total)}"
    return f"{number(completed)}{of} {unit}".rstrip()


def duration(seconds: object) -> str:
    """Return seconds for reading.

    >>> duration(59.4), duration(3700), duration(200000)
    ('59 s', '1 h 1 min', '2 d 7 h')
    """
    assert isinstance(seconds, int | float)
    if seconds < 60:
        return f"{int(seconds)} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return f"{int(seconds // 86400)} d {int(seconds % 86400 // 3600)} h" if seconds < 1e9 else "ages"
