"""The board as the first paint shows it; ``arrange.js``, ``row.js`` and ``words.js`` say the same in the same words."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypedDict

from progressbar_tracker._models import is_endless, whole_percent
from progressbar_tracker.server.items.serializer import item_url
from progressbar_tracker.server.models import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from progressbar_tracker._models import Item as WireItem

ICONS: Final = {
    "running": "▶", "stalled": "!", "succeeded": "✓", "failed": "✕", "stopped": "■", "deleted": "∅",
}  # fmt: skip


class View(NamedTuple):
    """What the reader of the board asked for, in the page's own URL.

    Attributes:
        q: Text that is looked for, in titles, descriptions, ids, groups and owners.
        status: One of :data:`STATUSES`.
        sort: One of :data:`SORTS`.
    """

    q: str = ""
    status: str = ""
    sort: str = ""

    @classmethod
    def asked(cls, query: Mapping[str, str]) -> Self:
        """Return the view of a query; what is unknown is as if it was not there."""
        status, sort = query.get("status", ""), query.get("sort", "")
        return cls(
            query.get("q", "").strip()[:200], status if status in STATUSES else "", sort if sort in SORTS else ""
        )


STATUSES: Final = {
    "": "All", "running": "Running", "stalled": "Stalled", "ended": "Ended", "failed": "Failed",
    "succeeded": "Succeeded", "stopped": "Stopped",
}  # fmt: skip

SORTS: Final = {
    "": "By weight", "progress": "Furthest first", "left": "Soonest done", "newest": "Newest first",
    "title": "By title", "status": "By status",
}  # fmt: skip

PAINTED: Final = 300
"""How many rows the first paint has; the script adds the others."""

PAINTED_CHARACTERS: Final = 256 * 1024
"""About how many characters of descriptions and errors the first paint has."""

_DEEPEST: Final = 3
_ANCESTORS: Final = 100
_URGENCY: Final = ("failed", "stalled", "running", "stopped", "succeeded")


def board(items: Sequence[WireItem], view: View, now: float) -> dict[str, object]:
    """Return what the template shows of the board.

    Args:
        items: All items, in the order of the list.
        view: What is asked for.
        now: Seconds since the epoch.
    """
    sections: list[dict[str, object]] = []
    room, more, characters = PAINTED, 0, 0
    for group, rows in _arranged(items, view):
        for place, (item, _) in enumerate(rows[:room]):
            characters += len(item["description"]) + len(item["error"] or "")
            if characters > PAINTED_CHARACTERS:
                room = place
                break
        more += max(len(rows) - room, 0)
        if room == 0:
            continue
        running = _sum([item for item, _ in rows])
        share = running["share"]
        sections.append(
            {
                "group": group,
                "told": _told(running),
                "share": share,
                "percent": "" if share is None else percent(share),
                "rows": [{**shown_item(item, now), "depth": depth} for item, depth in rows[:room]],
            }
        )
        room = max(room - len(rows), 0)
    blank = {**shown_item(_BLANK, now), "depth": 0}
    return {
        "view": view,
        "statuses": STATUSES.items(),
        "sorts": SORTS.items(),
        "listed": len(items),
        "summary": _told(_sum(items)) if items else "",
        "sections": sections,
        "more": more,
        "blank": blank,
        "blank_run": shown_run({**_BLANK, "ended_at": rfc3339(now)}),
        "blank_section": {"group": "", "told": "", "share": None, "percent": "", "rows": []},
    }


def shown_item(item: WireItem, now: float) -> dict[str, object]:
    """Return what the template shows of an item as told on the wire."""
    state = _state(item)
    completed, total, value = item["completed"], item["total"], item["value"]
    unit = item["unit"]
    begun, ended = item["created_at"], item["ended_at"]
    return {
        "id": item["id"],
        "url": item_url(item["id"]),
        "title": item["title"] or item["id"],
        "description": item["description"],
        "group": item["group"],
        "state": state,
        "icon": ICONS[state],
        "value": None if _open(item) else value,
        "percent": "" if _open(item) else percent(value),
        "count": count(completed, total, unit),
        "rate": pace(item["rate"], unit),
        "left": "" if item["eta"] is None else f"{duration(item['eta'])} left",
        "age": f"for {span(now - _instant(begun))}" if ended is None else f"{span(now - _instant(ended))} ago",
        "since": f"started {begun}" if ended is None else f"started {begun}, ended {ended}",
        "heard": f"last heard from {span(now - _instant(item['updated_at']))} ago" if item["stalled"] else "",
        "late": "" if not item["late"] else f"{span(now - _instant(item['deadline'] or ''))} late",
        "updated_at": item["updated_at"],
        "reason": (item["error"] or "").split("\n", 1)[0],
        "error": item["error"] or "",
        "owner": item["owner"],
    }


def shown_run(run: Mapping[str, object]) -> dict[str, object]:
    """Return what the template shows of a run of the history."""
    state, ended = str(run["status"]), str(run["ended_at"])
    error = str(run["error"] or "")
    return {
        "url": item_url(str(run["id"])),
        "title": run["title"] or run["id"],
        "state": state,
        "icon": ICONS[state],
        "took": f"after {duration(max(_instant(ended) - _instant(str(run['created_at'])), 0))}",
        "ended_at": ended,
        "reason": error.split("\n", 1)[0],
        "error": error,
    }


def _state(item: WireItem) -> str:
    return "stalled" if item["stalled"] else item["status"]


def _open(item: WireItem) -> bool:
    return item["status"] == "running" and is_endless(item["completed"], item["total"], "running")


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _matches(item: WireItem, view: View) -> bool:
    if view.status == "ended":
        if item["status"] == "running":
            return False
    elif view.status not in ("", _state(item)):
        return False
    sought = view.q.lower()
    texts = (item["title"] or item["id"], item["id"], item["description"], item["group"] or "", item["owner"])
    return not sought or any(sought in text.lower() for text in texts)


def _sorted(items: list[WireItem], sort: str) -> list[WireItem]:
    # They come by weight, and Python's sort keeps the order of equals.
    if sort == "progress":
        return sorted(items, key=lambda item: -item["value"])
    if sort == "left":
        return sorted(items, key=lambda item: math.inf if item["eta"] is None else item["eta"])
    if sort == "newest":
        return sorted(items, key=lambda item: item["created_at"], reverse=True)
    if sort == "title":
        return sorted(items, key=lambda item: (item["title"] or item["id"]).casefold())
    if sort == "status":
        return sorted(items, key=lambda item: _URGENCY.index(_state(item)))
    return items


def _arranged(items: Sequence[WireItem], view: View) -> list[tuple[str, list[tuple[WireItem, int]]]]:
    """Return groups in order with their items and depths, children beneath their parents."""
    shown = _sorted([item for item in items if _matches(item, view)], view.sort)
    known = {item["id"]: item for item in shown}
    children: dict[str, list[WireItem]] = {}
    sections: dict[str, list[tuple[WireItem, int]]] = {}
    roots = []
    for item in shown:
        if _hangs(item, known):
            assert item["parent"] is not None
            children.setdefault(item["parent"], []).append(item)
        else:
            roots.append(item)
    for root in roots:
        rows = sections.setdefault(root["group"] or "", [])
        waiting = [(root, 0)]
        while waiting:
            item, depth = waiting.pop()
            rows.append((item, min(depth, _DEEPEST)))
            waiting.extend((child, depth + 1) for child in reversed(children.get(item["id"], [])))
    return list(sections.items())


def _hangs(item: WireItem, known: Mapping[str, WireItem]) -> bool:
    """Say whether an item stands beneath its parent: one that is shown, and not beneath the item itself."""
    above = known.get(item["parent"] or "")
    if above is None:
        return False
    for _ in range(_ANCESTORS):
        if above is item:
            return False
        above = known.get(above["parent"] or "")
        if above is None:
            return True
    return False


class _Sum(TypedDict):
    running: int
    stalled: int
    failed: int
    share: float | None


def _sum(items: Sequence[WireItem]) -> _Sum:
    """Count what runs, and take the mean of the shares that are known."""
    running = [item for item in items if item["status"] == "running"]
    shares = [item["value"] for item in running if not _open(item)]
    return {
        "running": len(running),
        "stalled": sum(item["stalled"] for item in running),
        "failed": sum(item["status"] == "failed" for item in items),
        "share": sum(shares) / len(shares) if shares else None,
    }


def _told(found: _Sum) -> str:
    words = [f"{found['running']:,} running"]
    words += [f"{n:,} {word}" for word, n in (("stalled", found["stalled"]), ("failed", found["failed"])) if n]
    return ", ".join(words)


def percent(value: float) -> str:
    """Return a share as text; never 100 % before the end is reached.

    >>> percent(0.999), percent(1.0)
    ('99 %', '100 %')
    """
    return f"{whole_percent(value)} %"


def number(value: object) -> str:
    """Return a number for reading.

    >>> number(1234567), number(0.1234), number(12.0)
    ('1,234,567', '0.12', '12')
    """
    assert isinstance(value, int | float)
    value += 0  # there is no -0 to read
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.2f}"


def count(completed: object, total: object, unit: str) -> str:
    """Return how many of how many.

    >>> count(1281167, None, "rows"), count(3, 5, ""), count(6_449_483_717, 48_000_000_000, "B")
    ('1,281,167 rows', '3 / 5', '6.4 / 48.0 GB')
    """
    if completed is None:
        return ""
    assert isinstance(completed, int | float)
    known = total if isinstance(total, int | float) and total > 0 else None
    unit, write = _scale(unit, max(known or 0, completed))
    of = "" if known is None else f" / {write(known)}"
    return f"{write(completed)}{of} {unit}".rstrip()


def pace(value: object, unit: str) -> str:
    """Return a rate as text.

    >>> pace(None, ""), pace(2.5, ""), pace(1 / 600, "epochs"), pace(52_345_678, "B")
    ('', '2.50 it/s', '0.10 epochs/min', '52.3 MB/s')
    """
    if value is None:
        return ""
    assert isinstance(value, int | float)
    unit, write = _scale(unit or "it", value)
    seconds, name = next(((n, name) for n, name in _SPANS if value * n >= 0.1), _SPANS[-1 if value else 0])
    return f"{write(value * seconds)} {unit}/{name}"


_SPANS: Final = ((1, "s"), (60, "min"), (3600, "h"))


def _scale(unit: str, most: float) -> tuple[str, Callable[[float], str]]:
    """Return the unit in which numbers up to ``most`` are read, and what writes them: never more than there is."""
    if unit != "B" or not 1e4 <= most < 1e18:
        return unit, number
    power = next(power for power in range(len(_BYTES), 0, -1) if most >= 1000**power)
    size = 1000**power
    digits = 2 if most < 10 * size else 1 if most < 100 * size else 0
    return _BYTES[power - 1], lambda value: f"{math.floor(value / size * 10**digits) / 10**digits:.{digits}f}"


_BYTES: Final = ("kB", "MB", "GB", "TB", "PB")


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


def span(seconds: float) -> str:
    """Return how old something is, at a glance.

    >>> span(12.7), span(150), span(11520), span(40000), span(200000)
    ('12 s', '2 min', '3 h 12 min', '11 h', '2 d')
    """
    past = max(int(seconds), 0)
    if past < 60:
        return f"{past} s"
    if past < 3600:
        return f"{past // 60} min"
    if past < 36000:
        return f"{past // 3600} h {past % 3600 // 60} min"
    return f"{past // 3600} h" if past < 172800 else f"{past // 86400} d"


_BLANK: Final[WireItem] = {
    "id": "", "title": "", "description": "", "value": 0.0, "completed": None, "total": None, "unit": "", "weight": 0,
    "status": "running", "stalled": False, "late": False, "error": None, "group": None, "parent": None, "meta": {},
    "rate": None, "eta": None, "owner": "", "run_id": "", "seq": -1, "created_at": rfc3339(0.0),
    "updated_at": rfc3339(0.0), "ended_at": None, "heartbeat_timeout": None, "deadline": None, "notify": [],
    "ttl": None,
}  # fmt: skip
