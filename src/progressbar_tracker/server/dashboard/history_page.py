"""The page of the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.api.history import (
    END_STATUSES,
    HistoryFilter,
    build_page_query,
    parse_cursor,
    read_history,
)
from progressbar_tracker.server.dashboard.history import present_history_run

from .templates import render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response

PAGE_ROWS: Final = 50
"""Runs a page."""


async def show_history(request: Request) -> Response:
    """``GET /history?q=&group=&status=&id=&after=``: the runs that have ended, newest first. Works without scripts."""
    query = request.parse_query()
    history_filter, after = (
        HistoryFilter.from_query(query, allow_empty=False),
        parse_cursor({name: text for name, text in query.items() if text}),
    )
    rows = await read_history(request, history_filter, after, PAGE_ROWS + 1)
    page_rows = rows[:PAGE_ROWS]
    return render_page(
        request,
        "history.html",
        runs=[present_history_run(row) for row in page_rows],
        filter=history_filter,
        statuses=END_STATUSES,
        export_query=build_page_query(history_filter, None),
        newest_url="history" + build_page_query(history_filter, None) if after is not None else None,
        older_url="history" + build_page_query(history_filter, page_rows[-1].n) if len(rows) > PAGE_ROWS else None,
    )
