"""Items as rows of a table on a terminal: pure functions from items and a width to lines.

A row is always one line: its cells have no control characters, and a cell that is too wide is truncated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker._amounts import format_item_count, format_item_percent, format_rate
from progressbar_tracker._phrases import (
    format_basis,
    format_estimate,
    format_estimated_total,
    format_lateness,
    format_progress_age,
    format_short_estimate,
    format_silence,
    format_slowness,
    format_stop,
    format_usual_duration,
    get_start,
    read_instant,
    read_number,
)
from progressbar_tracker._text import display_width, format_age, format_duration, sanitize_line, truncate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from progressbar_tracker._models import Item
    from progressbar_tracker._reader_clock import Clock

STATUS_MARKS: Final = {
    "running": ">", "succeeded": "+", "failed": "x", "stopped": "-", "stalled": "?", "stuck": "!",
    "deleted": ".",
}  # fmt: skip
STATUS_COLOURS: Final = {
    "succeeded": "green", "failed": "red", "stopped": "yellow", "deleted": "yellow", "stalled": "magenta",
    "stuck": "magenta",
}  # fmt: skip
TABLE_HEADINGS: Final = ("STATUS", "DONE", "COUNT", "RATE", "LEFT", "PROGRESS", "TITLE", "ID")
TIME_COLUMNS: Final = frozenset({3, 4, 5})
"""The columns of :data:`TABLE_HEADINGS` that change while time passes."""

ID_COLUMN: Final = 7
"""The column whose texts are never cut: they are arguments of other commands."""

OPTIONAL_COLUMNS: Final = (3, 2, 5, 4, 6)
"""The columns that a narrow terminal does not show, the first one first."""

STATUS_FILTERS: Final = ("running", "stalled", "stuck", "late", "slower", "succeeded", "failed", "stopped")
"""The values of ``ls --status``: those of the HTTP interface."""

MIN_COLUMN_WIDTH: Final = 8
"""Characters to which a column shrinks."""

WORTHWHILE_WIDTH: Final = 16
"""Characters of a column that are shown before a column of less importance is."""

MAX_CLOCK_DRIFT: Final = 2.0
"""Seconds by which the clocks of server and terminal may differ; the journey of a response is no difference."""


def format_status(item: Mapping[str, object]) -> str:
    """Return the status, or ``stalled`` or ``stuck``."""
    if item.get("stalled"):
        return "stalled"
    return "stuck" if _has_flag(item, "stuck") else str(item.get("status", "running"))


def format_flags(item: Mapping[str, object]) -> str:
    """Return the mark and the status of an item, with its conditions, such as ``> running, late``."""
    flags = [format_status(item), *(flag for flag in ("late", "slower") if _has_flag(item, flag))]
    return sanitize_line(f"{STATUS_MARKS.get(flags[0], ' ')} {', '.join(flags)}")


def format_details(item: Mapping[str, object]) -> str:
    """Return the title of an item, with its error if it has failed, its stop request, or its description."""
    title = sanitize_line(item.get("title"))
    text = item.get("error") if item.get("status") == "failed" else format_stop(item) or item.get("description")
    details = sanitize_line(text)
    return f"{title}: {details}" if details else title


def format_took(run: Mapping[str, object]) -> str:
    """Return how long a run took, such as ``5 min 3 s``; empty if it is not known.

    >>> format_took({"started_at": "2026-01-31T12:00:00.000Z", "ended_at": "2026-01-31T12:05:03.000Z"})
    '5 min 3 s'
    """
    started_at, ended_at = get_start(run), read_instant(run, "ended_at")
    return "" if started_at is None or ended_at is None else format_duration(max(ended_at - started_at, 0.0))


def is_inner_run(run: Mapping[str, object]) -> bool:
    """Return whether lists of runs leave one out: an inner bar is a part of a run that is listed, unless it failed."""
    return run.get("parent") is not None and run.get("status") != "failed"


def has_status(item: Mapping[str, object], status: str) -> bool:
    """Return whether one of :data:`STATUS_FILTERS` applies to an item."""
    if status in ("stalled", "stuck", "late", "slower"):
        return _has_flag(item, status)
    return item.get("status", "running") == status


def _has_flag(item: Mapping[str, object], name: str) -> bool:
    return item.get("status", "running") == "running" and bool(item.get(name))


def find_clock_offset(items: Iterable[Mapping[str, object]], now: float) -> float:
    """Return by how many seconds the server's clock is ahead of this one, from items that it has just serialized.

    Args:
        items: The items.
        now: Seconds since the epoch, by this machine's clock.
    """
    offsets, latest = list[float](), 0.0
    for item in items:
        finish_at, eta = read_instant(item, "finish_at"), read_number(item, "eta")
        if finish_at is not None and eta is not None and eta > 0:
            offsets.append(finish_at - eta - now)
        latest = max(latest, read_instant(item, "updated_at") or 0.0)
    offset = sorted(offsets)[len(offsets) // 2] if offsets else max(latest - now, 0.0)
    return offset if abs(offset) > MAX_CLOCK_DRIFT else 0.0


def format_item_row(item: Item, now: float, clock: Clock) -> tuple[str, ...]:
    """Return an item's cells, in the order of :data:`TABLE_HEADINGS`.

    Args:
        item: The item; fields that the server does not know are absent.
        now: Seconds since the epoch, by the server's clock.
        clock: The clock of the terminal.
    """
    return (
        format_flags(item),
        format_item_percent(item),
        sanitize_line(format_item_count(item)),
        sanitize_line(format_rate(item)) if item.get("status", "running") == "running" else "",
        format_short_estimate(item, now, clock),
        format_silence(item, now) or format_progress_age(item, now).removeprefix("progress "),
        format_details(item),
        sanitize_line(item["id"]),
    )


def describe_item(item: Mapping[str, object], now: float, clock: Clock) -> list[tuple[str, str]]:
    """Return names and phrases about the progress and the time of an item. Arguments as for :func:`format_item_row`."""
    started_at, took = get_start(item), format_took(item)
    is_running = item.get("status", "running") == "running"
    if is_running:
        duration = "" if started_at is None else f"running for {format_age(now - started_at)}"
    else:
        duration = f"took {took}" if took else ""
    if estimate := format_estimate(item, now, clock):
        estimate = ", ".join(filter(None, (estimate, format_basis(item))))
    alerts = (format_silence(item, now), format_slowness(item, now), format_lateness(item, now) if is_running else "")
    lines = (
        ("stop", format_stop(item)),
        ("alert", "; ".join(filter(None, alerts))),
        ("count", ", ".join(filter(None, (format_item_percent(item), format_item_count(item))))),
        ("rate", format_rate(item) if is_running else ""),
        ("progress", format_progress_age(item, now).removeprefix("progress ")),
        ("duration", ", ".join(filter(None, (duration, format_usual_duration(item))))),
        ("estimate", estimate),
        ("inner bars", _format_short_runs(item)),
        ("in total", format_estimated_total(item).removesuffix(" in total, estimated")),
    )
    return [(name, sanitize_line(text)) for name, text in lines if text]


def _format_short_runs(item: Mapping[str, object]) -> str:
    count = read_number(item, "short_runs") or 0.0
    return f"{count:,.0f} ended too soon to be listed" if count >= 1 else ""


def format_table(
    rows: Iterable[Sequence[str]],
    width: int | None = None,
    headings: Sequence[str] = TABLE_HEADINGS,
    *,
    whole: Collection[int] = (),
    optional: Sequence[int] = (),
) -> list[str]:
    """Return aligned lines, the headings first.

    Args:
        rows: Cells, as many in each as there are headings.
        width: The terminal's width, to which the widest columns are cut; ``None`` cuts nothing.
        headings: The first line.
        whole: The columns that are never cut, so a line may be longer than the terminal is wide.
        optional: The columns that are left out if the terminal is too narrow, the first one first.

    >>> format_table([("a", "1"), ("bcd", "22")], headings=("N", "V"))
    ['N    V', 'a    1', 'bcd  22']
    >>> format_table([("a long title", "1 h", "id-1")], 14, ("TITLE", "LEFT", "ID"), whole={2}, optional=(1,))
    ['TITLE     ID', 'a long …  id-1']
    """
    lines = [tuple(headings), *(tuple(cells) for cells in rows)]
    widths = [max(display_width(line[column]) for line in lines) for column in range(len(headings))]
    columns = list(range(len(headings)))
    if width is not None:
        for column in whole:
            # A few longer texts do not push the other columns off the screen: their own lines are longer.
            widths[column] = max(min(display_width(line[column]), width // 2) for line in lines)
        empty = {column for column in optional if not any(line[column] for line in lines[1:])}
        columns = [column for column in columns if column not in empty]
        for column in optional:
            if column not in empty and _sum_widths([_get_least_width(widths[n], n in whole) for n in columns]) > width:
                columns.remove(column)
        # The widest column shrinks, down to 8 characters.
        elastic = [column for column in columns if column not in whole]
        while _sum_widths([widths[column] for column in columns]) > width:
            widest = max(elastic, key=lambda column: widths[column], default=None)
            if widest is None or widths[widest] <= MIN_COLUMN_WIDTH:
                break
            widths[widest] -= 1
    return [
        "  ".join(
            line[column] if column in whole and display_width(line[column]) > widths[column]
            else pad(line[column], widths[column])
            for column in columns
        ).rstrip()
        for line in lines
    ]  # fmt: skip


def _sum_widths(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _get_least_width(width: int, is_whole: bool) -> int:
    """Return the width below which a column is not worth its place."""
    return width if is_whole else min(width, WORTHWHILE_WIDTH)


def pad(text: str, width: int) -> str:
    """Return a text in exactly ``width`` columns; a longer one is cut."""
    shown = truncate(text, width)
    return shown + " " * (width - display_width(shown))
