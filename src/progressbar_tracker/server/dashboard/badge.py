"""A bar as a small picture for other people's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._text import sanitize_line, truncate

from .board_view import STATE_ICONS, format_percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BAR_WIDTH: Final = 240
"""The width of the bar at its end, in the picture's units."""

LETTER_WIDTH: Final = 7
"""The width of a usual letter."""

ZERO_WIDTH_JOINER: Final = "\u200d"
"""Joins emoji to one picture."""

# They are read on light pages and on dark ones.
STATE_COLOURS: Final = {
    "running": "#1a67c7", "stalled": "#8f5c00", "succeeded": "#17754a", "failed": "#bb3027", "stopped": "#56616f",
    "deleted": "#56616f", "waiting": "#56616f",
}  # fmt: skip


class Badge(NamedTuple):
    """What the picture shows.

    Attributes:
        title: What it is of, as long as there is room.
        full: The same in full, for who hears it or points at it.
        state: How far it is, in words.
        colour: Of the bar.
        width: Of the bar, up to :data:`WIDTH`.
    """

    title: str
    full: str
    state: str
    colour: str
    width: float


def build_item_badge(item_id: str, bar: Mapping[str, object] | None) -> Badge:
    """Return the badge of an item.

    Args:
        item_id: Its id.
        bar: It, as ``present_bar`` has it; ``None`` if it was never there.
    """
    if bar is None:
        return _build_badge(item_id, "waiting", "waiting", 0.0)
    state, value = str(bar["state"]), bar["value"]
    told = str(bar["percent"]) or str(bar["count"])
    word = told if state == "running" else f"{STATE_ICONS[state]} {state}"
    share = value if isinstance(value, float) else 0.0
    return _build_badge(str(bar["title"]), state, word, 1.0 if state == "succeeded" else share)


def build_group_badge(group: str, bars: Sequence[Mapping[str, object]]) -> Badge:
    """Return the badge of a group: the mean of what runs, or that something is wrong."""
    states = [str(bar["state"]) for bar in bars]
    going = [bar for bar in bars if bar["state"] in {"running", "stalled"}]
    shares = [value for bar in going if isinstance(value := bar["value"], float)]
    mean = sum(shares) / len(shares) if shares else 0.0
    worst = next((state for state in ("failed", "stalled") if state in states), "running" if going else "waiting")
    if not going:
        return _build_badge(
            group, worst, f"{states.count('failed')} failed" if worst == "failed" else "nothing runs", 0.0
        )
    trouble = "" if worst == "running" else f", {states.count(worst)} {worst}"
    return _build_badge(group, worst, f"{len(going)} running, {format_percent(mean)}{trouble}", mean)


def _build_badge(title: str, state: str, word: str, share: float) -> Badge:
    full, word = sanitize_line(title, keep=ZERO_WIDTH_JOINER), sanitize_line(word)
    room = max(BAR_WIDTH // LETTER_WIDTH - len(word) - 1, 6)
    return Badge(
        truncate(full, room), full, word, STATE_COLOURS[state], round(min(max(share, 0.0), 1.0) * BAR_WIDTH, 1)
    )
