"""Items as rows of a table on a terminal: pure functions from items and a width to lines.

A row is always one line: its cells have no control characters, and a cell that is too wide is truncated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker._models import floor_percent, is_indeterminate
from progressbar_tracker._text import display_width, format_amount, format_clock, sanitize_line, truncate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from progressbar_tracker._models import Item

STATUS_MARKS: Final = {"running": ">", "succeeded": "+", "failed": "x", "stopped": "-", "stalled": "?"}
TABLE_HEADINGS: Final = ("STATUS", "DONE", "COUNT", "LEFT", "TITLE", "ID")


def format_counts(item: Item) -> str:
    """Return the count with its total and unit, or nothing if the count is unknown."""
    completed, total, unit = item.get("completed"), item.get("total"), sanitize_line(item.get("unit"))
    if completed is None:
        return ""
    of = "" if total is None or total <= 0 else f"/{format_amount(total, unit)}"
    return f"{format_amount(completed, unit)}{of} {unit}".strip()


def format_percent(item: Item) -> str:
    """Return the percentage, rounded down because 100 % means done; or nothing if it is unknown."""
    status = item.get("status", "running")
    if status != "succeeded" and is_indeterminate(item.get("completed"), item.get("total"), status):
        return ""
    return f"{floor_percent(item['value'])} %"


def format_status(item: Item) -> str:
    """Return the status, or ``stalled``."""
    return "stalled" if item.get("stalled") else str(item.get("status", "running"))


def format_item_row(item: Item) -> tuple[str, ...]:
    """Return an item's cells, in the order of :data:`TABLE_HEADINGS`."""
    title = sanitize_line(item["title"])
    details = sanitize_line(item.get("error") if item.get("status") == "failed" else item.get("description"))
    status = format_status(item)
    return (
        f"{STATUS_MARKS.get(status, ' ')} {status}{', late' if item.get('late') else ''}",
        format_percent(item),
        format_counts(item),
        format_clock(item.get("eta")),
        f"{title}: {details}" if details else title,
        sanitize_line(item["id"]),
    )


def format_table(
    rows: Iterable[Sequence[str]], width: int | None = None, headings: Sequence[str] = TABLE_HEADINGS
) -> list[str]:
    """Return aligned lines, the headings first.

    Args:
        rows: Cells, as many in each as there are headings.
        width: The terminal's width, to which the widest columns are cut; ``None`` cuts nothing.
        headings: The first line.

    >>> format_table([("a", "1"), ("bcd", "22")], headings=("N", "V"))
    ['N    V', 'a    1', 'bcd  22']
    """
    lines = [tuple(headings), *(tuple(cells) for cells in rows)]
    widths = [max(display_width(line[column]) for line in lines) for column in range(len(headings))]
    if width is not None:
        # The widest column shrinks, down to 8 characters.
        while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 8:
            widths[widths.index(max(widths))] -= 1
    return [
        "  ".join(
            truncate(cell, wide) + " " * (wide - display_width(truncate(cell, wide)))
            for cell, wide in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
