"""Format numbers of items for the pages; ``format.js`` produces the same texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from progressbar_tracker._models import floor_percent

if TYPE_CHECKING:
    from collections.abc import Callable

STATE_ICONS: Final = {
    "running": "▶", "stalled": "!", "succeeded": "✓", "failed": "✕", "stopped": "■", "deleted": "∅",
}  # fmt: skip
_RATE_UNITS: Final = ((1, "s"), (60, "min"), (3600, "h"))
_BYTE_UNITS: Final = ("kB", "MB", "GB", "TB", "PB")


def format_percent(value: float) -> str:
    """Format a fraction; 100 % only at the end.

    >>> format_percent(0.999), format_percent(1.0)
    ('99 %', '100 %')
    """
    return f"{floor_percent(value)} %"


def format_number(value: object) -> str:
    """Format a number with two decimals at most.

    >>> format_number(1234567), format_number(0.1234), format_number(12.0)
    ('1,234,567', '0.12', '12')
    """
    assert isinstance(value, int | float)
    value += 0  # turn -0.0 into 0.0
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.2f}"


def format_count(completed: object, total: object, unit: str) -> str:
    """Format a count with its total and unit.

    >>> format_count(1281167, None, "rows"), format_count(3, 5, ""), format_count(6_449_483_717, 48_000_000_000, "B")
    ('1,281,167 rows', '3 / 5', '6.4 / 48.0 GB')
    """
    if completed is None:
        return ""
    assert isinstance(completed, int | float)
    known_total = total if isinstance(total, int | float) and total > 0 else None
    unit, format_value = _scale_unit(unit, max(known_total or 0, completed))
    of = "" if known_total is None else f" / {format_value(known_total)}"
    return f"{format_value(completed)}{of} {unit}".rstrip()


def format_rate(value: object, unit: str) -> str:
    """Format a rate per second, minute or hour.

    >>> format_rate(None, ""), format_rate(2.5, ""), format_rate(1 / 600, "epochs"), format_rate(52_345_678, "B")
    ('', '2.50 it/s', '0.10 epochs/min', '52.3 MB/s')
    """
    if value is None:
        return ""
    assert isinstance(value, int | float)
    unit, format_value = _scale_unit(unit or "it", value)
    seconds, name = next(((n, name) for n, name in _RATE_UNITS if value * n >= 0.1), _RATE_UNITS[-1 if value else 0])
    return f"{format_value(value * seconds)} {unit}/{name}"


def _scale_unit(unit: str, maximum: float) -> tuple[str, Callable[[float], str]]:
    """Return the unit for numbers up to ``maximum``, and a formatter that rounds down."""
    if unit != "B" or not 1e4 <= maximum < 1e18:
        return unit, format_number
    power = next(power for power in range(len(_BYTE_UNITS), 0, -1) if maximum >= 1000**power)
    size = 1000**power
    digits = 2 if maximum < 10 * size else 1 if maximum < 100 * size else 0
    return _BYTE_UNITS[power - 1], lambda value: f"{math.floor(value / size * 10**digits) / 10**digits:.{digits}f}"
