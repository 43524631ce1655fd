"""The page of the board."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.items.serializer import serialize_item, serialize_run
from progressbar_tracker.server.stores.base import StoreError

from .board_view import BoardQuery, present_board, present_run
from .templates import board_event_id, build_base_url, render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response

MAX_RECENT_RUNS: Final = 8
"""Recently ended runs on the board."""


async def show_board(request: Request) -> Response:
    """``GET /``: the board. The first paint is complete without scripts."""
    services = request.services
    now = services.clock()
    query = BoardQuery.from_query(request.parse_query())
    items, event_id = services.read_board.page(), board_event_id(request)
    try:
        runs = await run_while_connected(
            request,
            services.pools.history,
            lambda cancellation: services.store.read_history(limit=MAX_RECENT_RUNS, cancellation=cancellation),
        )
    except StoreError:
        runs = []
    permissions = request.principal.permissions
    dismissible = "all" if "delete_all" in permissions else "own" if "delete_own" in permissions else "none"
    # Rendered in a thread: thousands of items would block the event loop for too long.
    return await run_while_connected(
        request,
        services.pools.pages,
        lambda _: render_page(
            request,
            "home.html",
            **present_board([serialize_item(item, now) for item in items], query, now),
            runs=[present_run(serialize_run(row.item, row.status, row.ended_at)) for row in runs],
            dismissible=dismissible,
            event_id=event_id,
            base_url=build_base_url(request),
        ),
    )
