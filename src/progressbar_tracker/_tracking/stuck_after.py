"""The silence after which a run without progress is stuck: automatic, off, or in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._models import MAX_AGE_SECONDS, format_value
from progressbar_tracker._text import parse_duration

if TYPE_CHECKING:
    from progressbar_tracker._models import StuckAfter


def check_stuck_after(value: object) -> StuckAfter:
    """Return the argument ``stuck_after`` of ``track()`` if it is valid.

    Raises:
        TypeError: It is not a number, ``None`` or ``"auto"``.
        ValueError: The number is not above 0 seconds, or is above ten years.

    >>> check_stuck_after(90), check_stuck_after(None), check_stuck_after("auto")
    (90.0, None, 'auto')
    """
    if isinstance(value, str) and value == "auto":
        return "auto"
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"stuck_after must be a number of seconds, None or 'auto', not {format_value(value)}")
    if not 0 < value <= MAX_AGE_SECONDS:
        raise ValueError(f"stuck_after must be more than 0 seconds and at most ten years, not {format_value(value)}")
    return float(value)


def parse_stuck_after(text: str) -> float | None:
    """Parse ``90s``, ``1h30m``, or ``off``.

    Raises:
        ValueError: The text is neither, or the time is out of range.

    >>> parse_stuck_after("1h30m"), parse_stuck_after("90"), parse_stuck_after("off")
    (5400.0, 90.0, None)
    """
    if text.strip().lower() == "off":
        return None
    try:
        seconds = parse_duration(text, default_unit="s")
    except ValueError:
        raise ValueError(f"{text!r} is neither a time such as 90s or 1h30m nor off") from None
    check_stuck_after(seconds)
    return seconds
