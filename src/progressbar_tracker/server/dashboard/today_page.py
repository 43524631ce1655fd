"""The page of the day: a timeline of runs. The script loads the runs and draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .templates import is_for_wall, render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response

RANGE_LABELS: Final = (
    ("1h", "1 h", "Last hour"),
    ("6h", "6 h", "Last 6 hours"),
    ("day", "Today", "Today"),
    ("24h", "24 h", "Last 24 hours"),
    ("7d", "7 days", "Last 7 days"),
    ("30d", "30 days", "Last 30 days"),
)
"""The intervals of the page: value, label and accessible name."""

LEGEND_LABELS: Final = (
    ("running", "running"),
    ("expected", "expected finish, with its range"),
    ("succeeded", "succeeded"),
    ("failed", "failed"),
    ("stopped", "stopped"),
)
"""The legend: class and label."""


async def show_today(request: Request) -> Response:
    """``GET /today``: the timeline of today, or of the interval in the query."""
    return render_today(request, request.principal.name)


def render_today(request: Request, viewer: str, share_name: str | None = None) -> Response:
    """Return the page.

    Args:
        request: The request.
        viewer: The name under which a browser remembers the last visit.
        share_name: The name of a shared group. ``None`` for signed-in viewers.
    """
    return render_page(
        request,
        "today.html",
        viewer=viewer,
        ranges=RANGE_LABELS,
        legend=LEGEND_LABELS,
        share_name=share_name,
        is_tv=is_for_wall(request),
    )
