"""A bar as an SVG badge, to be embedded in other pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._amounts import (
    format_item_count,
    format_item_percent,
    format_percent,
    get_estimated_share,
    is_open_ended,
)
from progressbar_tracker._text import sanitize_line, truncate

from .format import STATE_ICONS, get_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BAR_WIDTH: Final = 240
"""The width of a complete bar, in units of the picture."""

TEXT_WIDTH: Final = 222
"""The width of the texts, beside the mark of the project."""

LETTER_WIDTH: Final = 7
"""The width of a letter of usual width."""

ZERO_WIDTH_JOINER: Final = "\u200d"
"""Joins emoji to one picture."""

# Legible on light and dark pages.
STATE_COLOURS: Final = {
    "running": "#1a67c7", "slower": "#6a48c9", "stuck": "#a3226f", "stalled": "#8f5c00", "late": "#a84300",
    "succeeded": "#17754a", "failed": "#bb3027", "stopped": "#56616f", "deleted": "#56616f", "waiting": "#56616f",
}  # fmt: skip

_WORST_STATES: Final = ("failed", "stuck", "stalled", "late", "slower")
_MOVING_STATES: Final = frozenset({"late", "slower"})


class Badge(NamedTuple):
    """The texts and the bar of the picture.

    Attributes:
        title: The title, truncated to the available space.
        full: The full title, for screen readers and tooltips.
        state: The progress in words.
        colour: The colour of the bar.
        width: The width of the bar, up to :data:`BAR_WIDTH`.
        is_estimated: Whether the width is an estimate; such a bar is hollow.
    """

    title: str
    full: str
    state: str
    colour: str
    width: float
    is_estimated: bool = False


def build_item_badge(item_id: str, item: Mapping[str, object] | None) -> Badge:
    """Return the badge of an item.

    Args:
        item_id: The id of the item.
        item: The serialized item, or its last run; ``None`` if it does not exist.
    """
    if item is None:
        return _build_badge(item_id, "waiting", "waiting", 0.0)
    state, share = get_state(item), get_estimated_share(item)
    progress = format_item_percent(item) or format_item_count(item)
    text = progress if state == "running" else f"{STATE_ICONS[state]} {state}"
    if state in _MOVING_STATES and progress:
        text = f"{STATE_ICONS[state]} {progress}, {state}"
    fraction = 1.0 if state == "succeeded" else _get_share(item) or 0.0 if share is None else share
    badge = _build_badge(str(item["title"] or item["id"]), state, text, fraction)
    return badge._replace(is_estimated=share is not None)


def build_group_badge(group: str, items: Sequence[Mapping[str, object]]) -> Badge:
    """Return the badge of a group: the mean value of running items, and the number of those in the worst state."""
    states = [get_state(item) for item in items]
    running = [item for item in items if item["status"] == "running"]
    shares = [share for item in running if (share := _get_share(item)) is not None]
    mean = sum(shares) / len(shares) if shares else 0.0
    worst = next((state for state in _WORST_STATES if state in states), "running" if running else "waiting")
    if not running:
        return _build_badge(
            group, worst, f"{states.count('failed')} failed" if worst == "failed" else "nothing runs", 0.0
        )
    failures = "" if worst == "running" else f", {states.count(worst)} {worst}"
    return _build_badge(group, worst, f"{len(running)} running, {format_percent(mean)}{failures}", mean)


def _get_share(item: Mapping[str, object]) -> float | None:
    """Return the known share of the work of an item, 0 to 1; ``None`` if it is unknown or only estimated."""
    value = item["value"]
    is_unknown = is_open_ended(item) or get_estimated_share(item) is not None
    return value if isinstance(value, float) and not is_unknown else None


def _build_badge(title: str, state: str, text: str, fraction: float) -> Badge:
    full, text = sanitize_line(title, keep=ZERO_WIDTH_JOINER), sanitize_line(text)
    max_width = max(TEXT_WIDTH // LETTER_WIDTH - len(text) - 1, 6)
    width = round(min(max(fraction, 0.0), 1.0) * BAR_WIDTH, 1)
    return Badge(truncate(full, max_width), full, text, STATE_COLOURS[state], width)
