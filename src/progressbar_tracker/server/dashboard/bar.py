"""Template values of one bar and of its curve, for the item page and the share page; ``bar.js`` renders the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._models import is_indeterminate
from progressbar_tracker._text import format_duration
from progressbar_tracker.server.items.serializer import item_url
from progressbar_tracker.server.models import rfc3339

from .format import STATE_ICONS, format_count, format_percent, format_rate
from .history import format_instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from progressbar_tracker._models import Number
    from progressbar_tracker.server.models import Item, Sample

CURVE_WIDTH: Final = 600
CURVE_HEIGHT: Final = 160


def present_bar(item: Mapping[str, object]) -> dict[str, object]:
    """Return the template values of a serialized item."""
    state = "stalled" if item["stalled"] else str(item["status"])
    completed, total, value, unit = item["completed"], item["total"], item["value"], str(item["unit"])
    left = item["eta"]
    assert isinstance(value, float)
    assert left is None or isinstance(left, int | float)
    assert completed is None or isinstance(completed, int | float)
    assert total is None or isinstance(total, int | float)
    indeterminate = is_indeterminate(completed, total, str(item["status"]))
    return {
        "id": item["id"],
        "title": item["title"] or item["id"],
        "url": item_url(str(item["id"])),
        "state": state,
        "late": "late" if item["late"] else "",
        "icon": STATE_ICONS[state],
        "value": None if indeterminate and state in {"running", "stalled"} else value,
        "percent": "" if indeterminate else format_percent(value),
        "count": format_count(completed, total, unit),
        "rate": format_rate(item["rate"], unit),
        "eta": "" if left is None else f"{format_duration(left)} left",
        "description": item["description"],
        "error": item["error"] or "",
    }


class Curve(NamedTuple):
    """Progress over time, as a line in a box of :data:`CURVE_WIDTH` by :data:`CURVE_HEIGHT`.

    Attributes:
        points: The ``points`` of an SVG polyline.
        data: JSON pairs of an instant in seconds and a height, which the script continues.
        top: The value at the top of the box.
        shows_counts: Whether the heights are counts instead of fractions of 1.
        started_at: The instant of the left edge.
        ended_at: The instant of the right edge.
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
        samples: The samples of the run, oldest first.
        item: The current or last state of the item.
        ended_at: The instant of that state.

    Returns:
        ``None`` if there are not two instants.
    """
    shows_counts = is_indeterminate(item.completed, item.total, item.status)
    pairs = [(sample.at, _get_height(sample.value, sample.completed, shows_counts=shows_counts)) for sample in samples]
    pairs = [
        *((at, y) for at, y in pairs if at < ended_at),
        (ended_at, _get_height(item.value, item.completed, shows_counts=shows_counts)),
    ]
    first, last = pairs[0][0], pairs[-1][0]
    if last <= first:
        return None
    top = max(y for _, y in pairs) if shows_counts else 1.0
    points = " ".join(
        f"{(at - first) / (last - first) * CURVE_WIDTH:.1f},{CURVE_HEIGHT - _clamp_fraction(y, top) * CURVE_HEIGHT:.1f}"
        for at, y in pairs
    )
    return Curve(
        points,
        json.dumps(pairs),
        format_count(top, None, item.unit) if shows_counts else "100 %",
        shows_counts,
        rfc3339(first),
        format_instant(first),
        rfc3339(last),
        format_instant(last),
    )


def _get_height(value: float, completed: Number | None, *, shows_counts: bool) -> float:
    return float(completed or 0) if shows_counts else value


def _clamp_fraction(y: float, top: float) -> float:
    return min(max(y / top, 0.0), 1.0) if top > 0 else 0.0
