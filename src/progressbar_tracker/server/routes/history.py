"""The history: runs that have left the board."""

from __future__ import annotations

import asyncio
from typing import Final, get_args

from progressbar_tracker.server.board import told_run
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.records import EndStatus
from progressbar_tracker.server.stores.base import StoreError

from .http import Call, Reply, answer
from .items import next_page, page_limit

LIMIT: Final = 100
MOST: Final = 1000
ENDS: Final[tuple[EndStatus, ...]] = get_args(EndStatus)


async def listed(call: Call) -> Reply:
    """``GET /api/v1/history``: newest first."""
    query = call.query()
    limit = page_limit(query, LIMIT, MOST)
    status = next((end for end in ENDS if end == query.get("status")), None)
    if "status" in query and status is None:
        raise ProblemError("invalid-field", f"status must be one of {', '.join(ENDS)}", field="status")
    after = query.get("after")
    if after is not None and not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise ProblemError("invalid-field", "after is not a cursor of this list", field="after")
    try:
        rows = await asyncio.to_thread(
            call.services.store.history,
            group=query.get("group"),
            status=status,
            after=None if after is None else int(after),
            limit=limit + 1,
        )
    except StoreError as error:
        raise ProblemError("unavailable", "the history cannot be read at the moment", retry_after=5) from error
    page = rows[:limit]
    headers = [next_page(call, query, str(page[-1].n))] if len(rows) > limit else []
    return answer({"items": [told_run(row.item, row.status, row.ended_at) for row in page]}, 200, headers)
