"""Items as rows of a table on a terminal: pure functions from items and a width to lines.

Whatever a title holds, a line stays a line: control characters have no way in, and what is too wide is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker._models import is_endless, whole_percent
from progressbar_tracker._text import amount, cut, duration, plain, width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from progressbar_tracker._models import Item

MARKS: Final = {"running": ">", "succeeded": "+", "failed": "x", "stopped": "-", "stalled": "?"}
HEADINGS: Final = ("STATUS", "DONE", "COUNT", "LEFT", "TITLE", "ID")


def counts(item: Item) -> str:
    """Return how many of how many."""
    completed, total, unit = item.get("completed"), item.get("total"), plain(item.get("unit"))
    if completed is None:
        return ""
    of = "" if total is None or total <= 0 else f"/{amount(total, unit)}"
    return f"{amount(completed, unit)}{of} {unit}".strip()


def percent(item: Item) -> str:
    """Return the percentage, rounded down, for 100 % is what is done; or nothing where it is not known."""
    status = item.get("status", "running")
    if status != "succeeded" and is_endless(item.get("completed"), item.get("total"), status):
        return ""
    return f"{whole_percent(item['value'])} %"


def state(item: Item) -> str:
    """Return the status, or that it is stalled."""
    return "stalled" if item.get("stalled") else str(item.get("status", "running"))


def row(item: Item) -> tuple[str, ...]:
    """Return one item's cells."""
    title = plain(item["title"])
    told = plain(item.get("error") if item.get("status") == "failed" else item.get("description"))
    name = state(item)
    return (
        f"{MARKS.get(name, ' ')} {name}{', late' if item.get('late') else ''}",
        percent(item),
        counts(item),
        duration(item.get("eta")),
        f"{title}: {told}" if told else title,
        plain(item["id"]),
    )


def table(rows: Iterable[Sequence[str]], width: int | None = None, headings: Sequence[str] = HEADINGS) -> list[str]:
    """Return aligned lines, the headings first.

    Args:
        rows: Cells, as many in each as there are headings.
        width: The columns of the terminal, which the widest column is cut to; ``None`` cuts nothing.
        headings: The first line.

    >>> table([("a", "1"), ("bcd", "22")], headings=("N", "V"))
    ['N    V', 'a    1', 'bcd  22']
    """
    lines = [tuple(headings), *(tuple(cells) for cells in rows)]
    widths = [max(width_of(line[column]) for line in lines) for column in range(len(headings))]
    if width is not None:
        # The widest gives way, down to a few characters.
        while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 8:
            widths[widths.index(max(widths))] -= 1
    return [
        "  ".join(
            cut(cell, wide) + " " * (wide - width_of(cut(cell, wide))) for cell, wide in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
