"""A bar as a small picture for other people's pages."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

from .board_view import ICONS, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH: Final = 240
"""The width of the bar at its end, in the picture's units."""

LETTER: Final = 7
"""The width of a usual letter."""

# They are read on light pages and on dark ones.
COLOURS: Final = {
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


def badge_of_item(item_id: str, bar: Mapping[str, object] | None) -> Badge:
    """Return the badge of an item.

    Args:
        item_id: Its id.
        bar: It, as ``shown_bar`` has it; ``None`` if it was never there.
    """
    if bar is None:
        return _badge(item_id, "waiting", "waiting", 0.0)
    state, value = str(bar["state"]), bar["value"]
    told = str(bar["percent"]) or str(bar["count"])
    word = told if state == "running" else f"{ICONS[state]} {state}"
    share = value if isinstance(value, float) else 0.0
    return _badge(str(bar["title"]), state, word, 1.0 if state == "succeeded" else share)


def badge_of_group(group: str, bars: Sequence[Mapping[str, object]]) -> Badge:
    """Return the badge of a group: the mean of what runs, or that something is wrong."""
    states = [str(bar["state"]) for bar in bars]
    going = [bar for bar in bars if bar["state"] in {"running", "stalled"}]
    shares = [value for bar in going if isinstance(value := bar["value"], float)]
    mean = sum(shares) / len(shares) if shares else 0.0
    worst = next((state for state in ("failed", "stalled") if state in states), "running" if going else "waiting")
    if not going:
        return _badge(group, worst, f"{states.count('failed')} failed" if worst == "failed" else "nothing runs", 0.0)
    trouble = "" if worst == "running" else f", {states.count(worst)} {worst}"
    return _badge(group, worst, f"{len(going)} running, {percent(mean)}{trouble}", mean)


def _badge(title: str, state: str, word: str, share: float) -> Badge:
    full, word = legible(title), legible(word)
    room = max(WIDTH // LETTER - len(word) - 1, 6)
    return Badge(cut(full, room), full, word, COLOURS[state], round(min(max(share, 0.0), 1.0) * WIDTH, 1))


def legible(text: str) -> str:
    r"""Return a text without what XML cannot hold and what would turn the line around.

    >>> legible("a\ufffeb\u202ec")
    'abc'
    """
    return "".join(c for c in text if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Cn", "Co"} or c == "\u200d")


def cut(text: str, room: int) -> str:
    """Return as much of a text as there is room for, in letters of usual width; a wide one takes two.

    >>> cut("abc", 4), cut("abcdef", 4), cut("進捗状況", 5)
    ('abc', 'abc…', '進捗…')
    """
    taken, place = 0, 0
    for number, letter in enumerate(text):
        width = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if taken + width <= room - 1:
            place = number + 1
        taken += width
    return text if taken <= room else text[:place] + "…"
