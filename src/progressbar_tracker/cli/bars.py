"""Items as bars on a screen of any width: pure functions from items and a size to lines.

An id is never cut, because it is the argument of other commands. The title, the count and the rate give way to it. An
item has one line on a screen that is wide enough for all but its description, and two on others: its title and id, and
its bar. An id that is too long for these has a line of its own, which the terminal continues on the next row. Inner
bars are below their parent and indented.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._amounts import (
    format_item_count,
    format_item_percent,
    format_rate,
    get_estimated_share,
    is_open_ended,
)
from progressbar_tracker._phrases import (
    format_lateness,
    format_short_estimate,
    format_silence,
    format_stop,
    get_start,
    read_instant,
    read_number,
)
from progressbar_tracker._text import display_width, format_age, sanitize_line, truncate

from .table import STATUS_MARKS, format_details, format_flags, format_status, format_table, format_took, pad

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from progressbar_tracker._models import Item
    from progressbar_tracker._reader_clock import Clock

MIN_TABLE_WIDTH: Final = 140
"""Columns of the narrowest screen on which an item has one line."""

INDENT_WIDTH: Final = 2
MAX_DEPTH: Final = 4
"""Levels of inner bars that are indented further than their parent."""

TABLE_BAR_WIDTH: Final = 20
MAX_BAR_WIDTH: Final = 40

MIN_TITLE_WIDTH: Final = 12
"""Characters of a title beside an id; below them the id has a line of its own."""

TABLE_HEADINGS: Final = ("STATUS", "BAR", "DONE", "COUNT", "RATE", "TIME", "TITLE", "ID")
_TITLE_COLUMN: Final = 6
_WHOLE_COLUMNS: Final = frozenset(range(len(TABLE_HEADINGS))) - {_TITLE_COLUMN}

MAX_ENDED: Final = 5
"""Runs below the items that have left the board."""


class Glyphs(NamedTuple):
    """The characters of bars: of the part that is done, of the rest, and of a bar without a share."""

    done: str
    rest: str
    unknown: str


UNICODE_GLYPHS: Final = Glyphs("\u2501", "\u2500", "\u00b7")
ASCII_GLYPHS: Final = Glyphs("#", "-", ".")


class Line(NamedTuple):
    """A line of a frame.

    Attributes:
        text: Without control characters.
        status: The status that gives the line its colour; empty for none.
        is_heading: Whether it is a heading.
    """

    text: str
    status: str = ""
    is_heading: bool = False


def draw_bar(item: Mapping[str, object], width: int, glyphs: Glyphs) -> str:
    """Return the bar of an item, as wide as ``width``; full only at the end.

    >>> draw_bar({"value": 0.5}, 8, ASCII_GLYPHS), draw_bar({"completed": 3, "total": None}, 8, ASCII_GLYPHS)
    ('####----', '........')
    """
    share = get_estimated_share(item)
    if share is None and is_open_ended(item):
        return glyphs.unknown * width
    value = read_number(item, "value") or 0.0 if share is None else share
    done = width if value >= 1 else min(math.floor(max(value, 0.0) * width), width - 1)
    return glyphs.done * done + glyphs.rest * (width - done)


def arrange_items(items: Sequence[Item]) -> list[tuple[int, Item]]:
    """Return items with their depth, in their order, and each inner bar below its parent.

    >>> items = [{"id": "a"}, {"id": "b"}, {"id": "c", "parent": "a"}, {"id": "d", "parent": "gone"}]
    >>> [(depth, item["id"]) for depth, item in arrange_items(items)]
    [(0, 'a'), (1, 'c'), (0, 'b'), (0, 'd')]
    """
    known = {item["id"] for item in items}
    children: dict[str | None, list[Item]] = {}
    for item in items:
        parent = item.get("parent")
        children.setdefault(parent if parent in known else None, []).append(item)
    arranged: list[tuple[int, Item]] = []
    waiting = [(0, item) for item in reversed(children.pop(None, []))]
    while waiting or children:
        if not waiting:  # items that are each other's parents
            waiting = [(0, next(iter(children.values())).pop(0))]
            children = {parent: inner for parent, inner in children.items() if inner}
        depth, item = waiting.pop()
        arranged.append((depth, item))
        waiting += [(min(depth + 1, MAX_DEPTH), inner) for inner in reversed(children.pop(item["id"], []))]
    return arranged


def describe_moment(item: Mapping[str, object], now: float, clock: Clock) -> str:
    """Return what matters about the time of an item: its silence, its expected end, its age, or when it ended."""
    status = str(item.get("status", "running"))
    if status != "running":
        ended_at = read_instant(item, "ended_at")
        return sanitize_line(status if ended_at is None else f"{status} {format_age(now - ended_at)} ago")
    lateness = format_lateness(item, now)
    moment = format_silence(item, now) or format_short_estimate(item, now, clock)
    if not moment and (started_at := get_start(item)) is not None:
        moment = f"for {format_age(now - started_at)}"
    return sanitize_line(", ".join(filter(None, (lateness, moment))))


def describe_end(run: Mapping[str, object]) -> str:
    """Return how a run ended and how long it took, such as ``failed after 5 min 3 s: ValueError: bad row``."""
    text = str(run.get("status"))
    if took := format_took(run):
        text = f"{text} after {took}"
    reason = sanitize_line(run.get("error")) if run.get("status") == "failed" else format_stop(run)
    return sanitize_line(f"{text}: {reason}" if reason else text)


def format_frame(
    items: Sequence[Item],
    ended: Sequence[Mapping[str, object]],
    now: float,
    clock: Clock,
    columns: int,
    glyphs: Glyphs = UNICODE_GLYPHS,
) -> list[Line]:
    """Return the lines of items, and of the runs that have left the board.

    Args:
        items: The items of the board, in their order.
        ended: The runs, the latest first.
        now: Seconds since the epoch, by the server's clock.
        clock: The clock of the terminal.
        columns: The width of the terminal.
        glyphs: The characters of bars.
    """
    arranged = arrange_items(items)
    lines = _format_wide(arranged, now, clock, columns, glyphs) if columns >= MIN_TABLE_WIDTH else None
    if lines is None:
        lines = [line for depth, item in arranged for line in _format_block(item, depth, now, clock, columns, glyphs)]
    if ended:
        lines += [Line(""), Line("Ended", is_heading=True)]
        lines += [_format_ended(run, now, columns) for run in ended[:MAX_ENDED]]
    return lines


def _format_wide(
    arranged: Sequence[tuple[int, Item]], now: float, clock: Clock, columns: int, glyphs: Glyphs
) -> list[Line] | None:
    """Return a table with a line for each item; ``None`` if it would cut more than the descriptions.

    The descriptions do not decide, because they change with each update.
    """
    rows, least_rows = list[tuple[str, ...]](), list[tuple[str, ...]]()
    for depth, item in arranged:
        cells = (
            format_flags(item), draw_bar(item, TABLE_BAR_WIDTH, glyphs), format_item_percent(item),
            sanitize_line(format_item_count(item)), _format_rate(item), describe_moment(item, now, clock),
        )  # fmt: skip
        indent, item_id = " " * INDENT_WIDTH * depth, sanitize_line(item["id"])
        rows.append((*cells, indent + format_details(item), item_id))
        least_rows.append((*cells, indent + sanitize_line(item.get("title")), item_id))
    if any(display_width(text) > columns for text in format_table(least_rows, headings=TABLE_HEADINGS)):
        return None
    heading, *texts = format_table(rows, columns, TABLE_HEADINGS, whole=_WHOLE_COLUMNS)
    lines = [Line(text, format_status(item)) for (_, item), text in zip(arranged, texts, strict=True)]
    return [Line(heading, is_heading=True), *lines] if lines else []


def _format_rate(item: Mapping[str, object]) -> str:
    return sanitize_line(format_rate(item)) if item.get("status", "running") == "running" else ""


def _format_block(item: Item, depth: int, now: float, clock: Clock, columns: int, glyphs: Glyphs) -> list[Line]:
    """Return the lines of an item on a narrow screen."""
    status, item_id = format_status(item), sanitize_line(item["id"])
    indent = min(INDENT_WIDTH * depth, columns // 4)
    names = _format_name(item, item_id, columns - indent)
    return [
        Line(" " * indent + text if display_width(text) + indent <= columns else text, status)
        for text in (*names, _format_gauge(item, indent, now, clock, columns, glyphs))
    ]


def _format_name(item: Item, item_id: str, columns: int) -> list[str]:
    mark, details = STATUS_MARKS.get(format_status(item), " "), format_details(item)
    title = sanitize_line(item["title"])
    if title in ("", item_id):
        details = details.removeprefix(title)
        room = columns - 2 - display_width(item_id)
        return [f"{mark} {item_id}{truncate(details, room) if room >= 3 else ''}"]
    room = columns - 4 - display_width(item_id)
    if room >= MIN_TITLE_WIDTH:
        return [f"{mark} {pad(details, room)}  {item_id}"]
    indent = "  " if display_width(item_id) + 2 <= columns else ""
    return [truncate(f"{mark} {details}", columns), f"{indent}{item_id}"]


def _format_gauge(item: Item, indent: int, now: float, clock: Clock, columns: int, glyphs: Glyphs) -> str:
    """Return the bar of an item, with as many texts beside it as fit.

    All bars of a screen end in the same column, so that they can be compared, and none moves when a text changes.
    """
    width = max(min(columns * 2 // 5, MAX_BAR_WIDTH) - indent, 1)
    columns -= indent
    line = f"  {draw_bar(item, width, glyphs)}  {format_item_percent(item):>5}"
    moment, count = describe_moment(item, now, clock), sanitize_line(format_item_count(item))
    if moment:
        line = f"{line}  {moment}"
    for text in (count, _format_rate(item)):
        if text and display_width(line) + 2 + display_width(text) <= columns:
            line = f"{line}  {text}"
    return truncate(line.rstrip(), columns)


def _format_ended(run: Mapping[str, object], now: float, columns: int) -> Line:
    run_id, status, ended_at = sanitize_line(run.get("id")), str(run.get("status")), read_instant(run, "ended_at")
    age = "" if ended_at is None else f", {format_age(now - ended_at)} ago"
    error = describe_end(run).partition(": ")
    text = f"{error[0]}{age}{error[1]}{error[2]}"
    name = f"{STATUS_MARKS.get(status, ' ')} {run_id}"
    room = columns - display_width(name) - 2
    return Line(f"{name}  {truncate(text, room)}" if room >= 3 else name, status)


def count_rows(text: str, columns: int) -> int:
    """Return the rows of a terminal that a line takes.

    >>> count_rows("", 50), count_rows("a" * 50, 50), count_rows("a" * 51, 50)
    (1, 1, 2)
    """
    return max(math.ceil(display_width(text) / max(columns, 1)), 1)


def fit_rows(lines: Sequence[Line], columns: int, rows: int) -> list[Line]:
    """Return the first lines that fit on a screen, and how many rows are missing.

    >>> [line.text for line in fit_rows([Line("a"), Line("b"), Line("c")], 50, 2)]
    ['a', '... 2 more lines']
    """
    used = [count_rows(line.text, columns) for line in lines]
    if sum(used) <= rows:
        return list(lines)
    shown, left = list[Line](), rows - 1
    for line, height in zip(lines, used, strict=True):
        if height > left:
            break
        shown.append(line)
        left -= height
    return [*shown, Line(f"... {len(lines) - len(shown)} more lines")] if rows > 0 else []
