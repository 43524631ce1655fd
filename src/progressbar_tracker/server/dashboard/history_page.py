"""The history for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.api.history import ENDS, Filter, cursor, page_query, read
from progressbar_tracker.server.dashboard.history import shown_row

from .templates import page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Call
    from progressbar_tracker.server.http.response import Reply

ROWS: Final = 50
"""Runs on a page."""


async def history(call: Call) -> Reply:
    """``GET /history?q=&group=&status=&id=&after=``: the runs that have ended, newest first. Works without scripts."""
    query = call.query()
    which, after = Filter.of(query, empty=False), cursor({name: text for name, text in query.items() if text})
    rows = await read(call, which, after, ROWS + 1)
    shown = rows[:ROWS]
    return page(
        call,
        "history.html",
        runs=[shown_row(row) for row in shown],
        which=which,
        ends=ENDS,
        export=page_query(which, None),
        newest="history" + page_query(which, None) if after is not None else None,
        older="history" + page_query(which, shown[-1].n) if len(rows) > ROWS else None,
    )
