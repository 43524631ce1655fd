"""Numbers of items as texts: percentages, counts and rates, with bytes in units of 1000.

Pure. ``format.js`` of the pages has the same functions. In English both give the same texts, and both pass the same
table of cases. Items may come from an older or a foreign server, so a missing or invalid field omits its text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ._models import floor_percent, is_indeterminate
from ._phrases import format_estimated_amount, read_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BYTE_UNITS: Final = ("kB", "MB", "GB", "TB", "PB")
_RATE_UNITS: Final = ((1, "s"), (60, "min"), (3600, "h"))


def is_open_ended(item: Mapping[str, object]) -> bool:
    """Return whether an item runs and is counted without a known total."""
    if _get_status(item) != "running" or item.get("completed") is None:
        return False
    total = item.get("total")
    return not isinstance(total, int | float) or is_indeterminate(0, total, "running")


def get_estimated_share(item: Mapping[str, object]) -> float | None:
    """Return the estimated share of the work of a running item whose share is unknown, 0 to 1; else ``None``.

    >>> get_estimated_share({"status": "running", "value": 0.0, "completed": 7, "total": None, "estimated_value": 0.4})
    0.4
    """
    if item.get("estimated_value") is None:
        return None  # the common case first: a board asks for all items
    share = read_number(item, "estimated_value")
    is_unknown = is_open_ended(item) or (item.get("completed") is None and not item.get("value"))
    is_running = _get_status(item) == "running"
    return share if share is not None and 0 <= share <= 1 and is_unknown and is_running else None


def _get_status(item: Mapping[str, object]) -> str:
    return str(item.get("status", "running"))


def _get_unit(item: Mapping[str, object]) -> str:
    unit = item.get("unit")
    return unit if isinstance(unit, str) else ""


def format_item_percent(item: Mapping[str, object]) -> str:
    """Return the percentage of a serialized item: ``~`` marks an estimate, and an unknown share is empty."""
    share = get_estimated_share(item)
    if share is not None:
        return f"~{min(floor_percent(share), 99)} %"
    completed, total = read_number(item, "completed"), read_number(item, "total")
    if is_indeterminate(completed, total, _get_status(item)):
        return ""
    return format_percent(read_number(item, "value") or 0.0)


def format_item_count(item: Mapping[str, object]) -> str:
    """Return the count of a serialized item with its total and unit; ``~`` marks an estimated total.

    >>> format_item_count({"status": "running", "completed": 7, "total": None, "unit": "rows", "estimated_total": 48.2})
    '7 / ~48 rows'
    """
    completed, total = read_number(item, "completed"), read_number(item, "total")
    unit = _get_unit(item)
    amount = format_estimated_amount(item) if _get_status(item) == "running" else ""
    if completed is None or not amount:
        return format_count(completed, total, unit)
    return f"{format_count(completed, None, unit if unit == 'B' else '')} / ~{amount}"


def format_rate(item: Mapping[str, object]) -> str:
    """Return the rate of a serialized item per second, minute or hour; ``""`` without one.

    >>> format_rate({"rate": 23_400_000.0, "unit": "B"}), format_rate({"rate": 0.02, "unit": "files"})
    ('23.4 MB/s', '1.20 files/min')
    """
    rate = read_number(item, "rate")
    if rate is None:
        return ""
    unit, format_value = _scale_unit(_get_unit(item) or "it", rate)
    default = _RATE_UNITS[-1 if rate > 0 else 0]
    seconds, name = next(((seconds, name) for seconds, name in _RATE_UNITS if rate * seconds >= 0.1), default)
    return f"{format_value(rate * seconds)} {unit}/{name}"


def format_percent(value: float) -> str:
    """Format a fraction; 100 % only at the end.

    >>> format_percent(0.999), format_percent(1.0)
    ('99 %', '100 %')
    """
    return f"{floor_percent(value)} %"


def format_number(value: object) -> str:
    """Format a number with two decimals at most.

    >>> format_number(1234567), format_number(0.1234), format_number(12.0), format_number(3e15)
    ('1,234,567', '0.12', '12', '3000T')
    """
    assert isinstance(value, int | float)
    value += 0  # turn -0.0 into 0.0
    if abs(value) >= 1e18:
        mantissa, _, exponent = f"{value:.2E}".partition("E")
        return f"{mantissa.rstrip('0').rstrip('.')}E{int(exponent)}"
    if abs(value) >= 1e15:
        return f"{value / 1e12:,.0f}T" if abs(value) >= 1e16 else f"{value / 1e12:.0f}T"
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


def _scale_unit(unit: str, maximum: float) -> tuple[str, Callable[[float], str]]:
    """Return the unit for numbers up to ``maximum``, and a formatter that rounds down."""
    if unit != "B" or not 1e4 <= maximum < 1e18:
        return unit, format_number
    power = next(power for power in range(len(_BYTE_UNITS), 0, -1) if maximum >= 1000**power)
    size = 1000**power
    digits = 2 if maximum < 10 * size else 1 if maximum < 100 * size else 0
    return _BYTE_UNITS[power - 1], lambda value: f"{math.floor(value / size * 10**digits) / 10**digits:.{digits}f}"
