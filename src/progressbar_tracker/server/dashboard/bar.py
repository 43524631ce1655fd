"""One bar as the pages beside the board show it, and its curve; ``bar.js`` says the same with the same words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._models import is_indeterminate
from progressbar_tracker._text import format_duration
from progressbar_tracker.server.items.serializer import item_url
from progressbar_tracker.server.models import rfc3339

from .board_view import STATE_ICONS, format_count, format_percent, format_rate
from .history import format_instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from progressbar_tracker._models import Number
    from progressbar_tracker.server.models import Item, Sample

CURVE_WIDTH: Final = 600
CURVE_HEIGHT: Final = 160


def present_bar(item: Mapping[str, object]) -> dict[str, object]:
    """Return what the templates show of an item as told on the wire."""
    state = "stalled" if item["stalled"] else str(item["status"])
    completed, total, value, unit = item["completed"], item["total"], item["value"], str(item["unit"])
    left = item["eta"]
    assert isinstance(value, float)
    assert left is None or isinstance(left, int | float)
    assert completed is None or isinstance(completed, int | float)
    assert total is None or isinstance(total, int | float)
    endless = is_indeterminate(completed, total, str(item["status"]))
    return {
        "id": item["id"],
        "title": item["title"] or item["id"],
        "url": item_url(str(item["id"])),
        "state": state,
        "late": "late" if item["late"] else "",
        "icon": STATE_ICONS[state],
        "value": None if endless and state in {"running", "stalled"} else value,
        "percent": "" if endless else format_percent(value),
        "count": format_count(completed, total, unit),
        "rate": format_rate(item["rate"], unit),
        "eta": "" if left is None else f"{format_duration(left)} left",
        "description": item["description"],
        "error": item["error"] or "",
    }


class Curve(NamedTuple):
    """Progress over time, as a line in a box of :data:`WIDTH` by :data:`CURVE_HEIGHT`.

    Attributes:
        points: For the ``points`` of an SVG polyline.
        data: Pairs of an instant in seconds and a height, in JSON, for the script that goes on with it.
        top: What the top of the box stands for.
        counts: The heights are counts, and not shares of 1.
        began_at: The left edge.
        ended_at: The right edge.
    """

    points: str
    data: str
    top: str
    shows_counts: bool
    started_at: str
    started: str
    ended_at: str
    ended: str


def build_curve(samples: Sequence[Sample], item: Item, ended_at: float) -> Curve | None:
    """Return the curve of a run.

    Args:
        samples: What was sampled of it, oldest first.
        item: Its present or last state.
        ended_at: The instant of that state.

    Returns:
        ``None`` where there is nothing to draw a line between.
    """
    counts = is_indeterminate(item.completed, item.total, item.status)
    pairs = [(sample.at, _get_height(sample.value, sample.completed, counts=counts)) for sample in samples]
    pairs = [
        *((at, y) for at, y in pairs if at < ended_at),
        (ended_at, _get_height(item.value, item.completed, counts=counts)),
    ]
    first, last = pairs[0][0], pairs[-1][0]
    if last <= first:
        return None
    top = max(y for _, y in pairs) if counts else 1.0
    points = " ".join(
        f"{(at - first) / (last - first) * CURVE_WIDTH:.1f},{CURVE_HEIGHT - _clamp_share(y, top) * CURVE_HEIGHT:.1f}"
        for at, y in pairs
    )
    return Curve(
        points,
        json.dumps(pairs),
        format_count(top, None, item.unit) if counts else "100 %",
        counts,
        rfc3339(first),
        format_instant(first),
        rfc3339(last),
        format_instant(last),
    )


def _get_height(value: float, completed: Number | None, *, counts: bool) -> float:
    return float(completed or 0) if counts else value


def _clamp_share(y: float, top: float) -> float:
    return min(max(y / top, 0.0), 1.0) if top > 0 else 0.0
