"""The history: runs that have left the board."""

from __future__ import annotations

import asyncio
from typing import Final, get_args

from progressbar_tracker.server.board import told
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.records import EndStatus, rfc3339
from progressbar_tracker.server.stores.base import HistoryRow, StoreError

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
    return answer({"items": [told_run(row) for row in page]}, 200, headers)


def told_run(row: HistoryRow) -> dict[str, object]:
    """Return a run as it is told on the wire: the item's fields, with the end that it came to."""
    return {**told(row.item, row.ended_at), "status": row.status, "stalled": False, "rate": None, "eta": None,
            "ended_at": rfc3339(row.ended_at)}  # fmt: skip
