"""Items as lines of text for a terminal: pure functions from items and a width to lines.

Whatever a title holds, a line stays a line: control characters have no way in, and what is too wide is cut.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

from ._models import is_endless, whole_percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._models import Item, Number

MARKS: Final = {"running": ">", "succeeded": "+", "failed": "x", "stopped": "-", "stalled": "?"}
HEADINGS: Final = ("STATUS", "DONE", "COUNT", "LEFT", "TITLE", "ID")


def width_of(text: str) -> int:
    """Return how many columns a terminal needs for a text: two for a wide character, none for a combining one.

    >>> width_of("abc"), width_of("日本"), width_of("e\u0301")
    (3, 4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def plain(text: object) -> str:
    """Return a text on one line and without anything that moves a cursor or turns the direction of writing."""
    line = " ".join(str(text or "").split())
    return "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def cut(text: str, width: int) -> str:
    """Return a text that needs at most ``width`` columns.

    >>> cut("abcdef", 4), cut("日本語", 4)
    ('abc…', '日…')
    """
    if width_of(text) <= width:
        return text
    kept, used = [], 0
    for character in text:
        used += width_of(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…" if width > 0 else ""


def duration(seconds: float | None) -> str:
    """Return seconds as people say them.

    >>> duration(5), duration(65), duration(3700), duration(200000), duration(None)
    ('00:05', '01:05', '1:01:40', '2d 07h', '')
    """
    if seconds is None:
        return ""
    if not seconds < 1e9:
        return "ages"
    whole = int(seconds)
    if whole >= 86400:
        return f"{whole // 86400}d {whole % 86400 // 3600:02}h"
    if whole >= 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
    return f"{whole // 60:02}:{whole % 60:02}"


def amount(number: Number, unit: str) -> str:
    """Return a number as short as it may be; bytes with a prefix.

    >>> amount(1234567, "B"), amount(1234567, "it"), amount(0.5, "s"), amount(10**300, "B")
    ('1.2M', '1234567', '0.5', '1e+300')
    """
    if abs(number) >= 1e18:
        return f"{float(number):.3g}"
    if unit != "B":
        return f"{number:.10g}" if isinstance(number, float) else str(number)
    for prefix in ("", "K", "M", "G", "T"):
        if abs(number) < 1024:
            return f"{number:.1f}{prefix}" if prefix else f"{number:.0f}"
        number /= 1024
    return f"{number:.1f}P"


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
