"""A bar as an SVG badge, to be embedded in other pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._text import sanitize_line, truncate

from .format import STATE_ICONS, format_percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BAR_WIDTH: Final = 240
"""The width of a complete bar, in units of the picture."""

LETTER_WIDTH: Final = 7
"""The width of a letter of usual width."""

ZERO_WIDTH_JOINER: Final = "\u200d"
"""Joins emoji to one picture."""

# Legible on light and dark pages.
STATE_COLOURS: Final = {
    "running": "#1a67c7", "stalled": "#8f5c00", "succeeded": "#17754a", "failed": "#bb3027", "stopped": "#56616f",
    "deleted": "#56616f", "waiting": "#56616f",
}  # fmt: skip


class Badge(NamedTuple):
    """The texts and the bar of the picture.

    Attributes:
        title: The title, truncated to the available space.
        full: The full title, for screen readers and tooltips.
        state: The progress in words.
        colour: The colour of the bar.
        width: The width of the bar, up to :data:`BAR_WIDTH`.
    """

    title: str
    full: str
    state: str
    colour: str
    width: float


def build_item_badge(item_id: str, bar: Mapping[str, object] | None) -> Badge:
    """Return the badge of an item.

    Args:
        item_id: The id of the item.
        bar: The values of :func:`~.bar.present_bar`; ``None`` if the item does not exist.
    """
    if bar is None:
        return _build_badge(item_id, "waiting", "waiting", 0.0)
    state, value = str(bar["state"]), bar["value"]
    progress = str(bar["percent"]) or str(bar["count"])
    text = progress if state == "running" else f"{STATE_ICONS[state]} {state}"
    fraction = value if isinstance(value, float) else 0.0
    return _build_badge(str(bar["title"]), state, text, 1.0 if state == "succeeded" else fraction)


def build_group_badge(group: str, bars: Sequence[Mapping[str, object]]) -> Badge:
    """Return the badge of a group: the mean value of running items, and the number of failed or stalled ones."""
    states = [str(bar["state"]) for bar in bars]
    running = [bar for bar in bars if bar["state"] in {"running", "stalled"}]
    values = [value for bar in running if isinstance(value := bar["value"], float)]
    mean = sum(values) / len(values) if values else 0.0
    worst = next((state for state in ("failed", "stalled") if state in states), "running" if running else "waiting")
    if not running:
        return _build_badge(
            group, worst, f"{states.count('failed')} failed" if worst == "failed" else "nothing runs", 0.0
        )
    failures = "" if worst == "running" else f", {states.count(worst)} {worst}"
    return _build_badge(group, worst, f"{len(running)} running, {format_percent(mean)}{failures}", mean)


def _build_badge(title: str, state: str, text: str, fraction: float) -> Badge:
    full, text = sanitize_line(title, keep=ZERO_WIDTH_JOINER), sanitize_line(text)
    max_width = max(BAR_WIDTH // LETTER_WIDTH - len(text) - 1, 6)
    width = round(min(max(fraction, 0.0), 1.0) * BAR_WIDTH, 1)
    return Badge(truncate(full, max_width), full, text, STATE_COLOURS[state], width)
