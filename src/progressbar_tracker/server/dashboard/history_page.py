"""The page of the history: a shell, which ``history.js`` fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.api.history_query import END_STATUSES

from .templates import render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response


async def show_history(request: Request) -> Response:
    """``GET /history?q=&group=&status=&id=&inner=&after=``: the runs that have ended, newest first."""
    return render_page(request, "history.html", statuses=END_STATUSES)
