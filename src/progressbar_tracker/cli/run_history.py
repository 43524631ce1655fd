"""The runs of an id on a terminal, and the address of a run's page. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from progressbar_tracker._phrases import (
    format_rough_duration,
    format_success_rate,
    format_usual_range,
    format_usual_start,
    read_number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker._reader_clock import Clock

MAX_COLUMNS: Final = 20
"""Runs that are drawn as columns."""

BLOCK_COLUMNS: Final = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
ASCII_COLUMNS: Final = "12345678"
"""Columns of increasing height."""

END_SIGNS: Final = {"failed": "x", "stopped": "-", "deleted": "."}
"""The column of a run that did not succeed."""


def build_item_url(server_url: str, item_id: str) -> str:
    """Return the URL of the page of an item.

    >>> build_item_url("http://server:8989/", "a/b"), build_item_url("http://server/p", ".")
    ('http://server:8989/items/a%2Fb', 'http://server/p/items/?id=.')
    """
    # Browsers resolve dots in a path, encoded or not.
    page = f"?id={item_id}" if item_id in (".", "..") else quote(item_id, safe="")
    return f"{server_url.rstrip('/')}/items/{page}"


def build_run_url(server_url: str, item_id: str, run_id: str) -> str:
    """Return the URL of the page of a run.

    >>> build_run_url("http://server:8989/", "a/b", "r 1"), build_run_url("http://server/p", ".", "r")
    ('http://server:8989/items/a%2Fb?run=r%201', 'http://server/p/items/?id=.&run=r')
    """
    url = build_item_url(server_url, item_id)
    return f"{url}{'&' if '?' in url else '?'}run={quote(run_id, safe='')}"


def describe_history(
    statistics: Mapping[str, object], now: float, clock: Clock, *, has_blocks: bool
) -> list[tuple[str, str]]:
    """Return names and phrases about the runs of an id, for ``get``.

    Args:
        statistics: The statistics of the server; any field may be absent or invalid.
        now: Seconds since the epoch.
        clock: The clock of the terminal.
        has_blocks: Whether the terminal shows block characters.
    """
    lines = (
        ("success", format_success_rate(statistics)),
        ("usually", format_usual_range(statistics).removeprefix("usually ")),
        ("starts", format_usual_start(statistics, now, clock).removeprefix("usually starts ")),
        ("last runs", draw_columns(statistics, has_blocks=has_blocks)),
    )
    return [(name, text) for name, text in lines if text]


class _Run(NamedTuple):
    status: str
    duration: float


def draw_columns(statistics: Mapping[str, object], *, has_blocks: bool) -> str:
    """Return the last runs as columns, the newest last, with a legend; ``""`` without any.

    A succeeded run has a column whose height is its duration. Another one has a sign of :data:`END_SIGNS`.

    >>> runs = [{"status": "succeeded", "duration_seconds": 60 * n} for n in (8, 4, 1)]
    >>> draw_columns({"runs": [*runs, {"status": "failed", "duration_seconds": 9}]}, has_blocks=False)
    'x148 (8 is 8 min, x failed)'
    """
    runs = list(reversed(_read_runs(statistics)))
    if not runs:
        return ""
    columns = BLOCK_COLUMNS if has_blocks else ASCII_COLUMNS
    longest = max((run.duration for run in runs if run.status == "succeeded"), default=0.0)
    drawn = "".join(
        _choose_column(run.duration, longest, columns) if run.status == "succeeded" else END_SIGNS.get(run.status, "?")
        for run in runs
    )
    statuses = {run.status for run in runs}
    legend = [f"{columns[-1]} is {format_rough_duration(longest)}"] if "succeeded" in statuses else []
    legend += [f"{sign} {status}" for status, sign in END_SIGNS.items() if status in statuses]
    return f"{drawn} ({', '.join(legend)})" if legend else drawn


def _choose_column(duration: float, longest: float, columns: str) -> str:
    level = math.ceil(duration / longest * len(columns)) if longest > 0 else 1
    return columns[min(max(level, 1), len(columns)) - 1]


def _read_runs(statistics: Mapping[str, object]) -> list[_Run]:
    """Return the newest runs, newest first; invalid ones are left out."""
    runs = statistics.get("runs")
    found = list[_Run]()
    for run in runs if isinstance(runs, list) else ():
        duration = read_number(run, "duration_seconds") if isinstance(run, dict) else None
        if duration is not None and 0 <= duration < math.inf:
            found.append(_Run(str(run.get("status")), duration))
    return found[:MAX_COLUMNS]
