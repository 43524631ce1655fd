"""The page of an item, and of one of its runs: a shell, which ``item.js`` fills and keeps up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.access.authorization import GUEST_ID, find_scope
from progressbar_tracker.server.api.history_query import find_run
from progressbar_tracker.server.http.request import Request, get_query_text, validate_id
from progressbar_tracker.server.items.serializer import item_url
from progressbar_tracker.server.notifications.web_push import is_installed

from .schedules_page import may_change_schedule, present_schedule
from .templates import render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.response import Response


async def show_item(request: Request) -> Response:
    """``GET /items/{id}?run=``, or ``GET /items/?id=&run=`` for the ids ``.`` and ``..``, which browsers resolve."""
    query = request.parse_query()
    item_id = request.parse_item_id() if request.path_params["id"] else validate_id(query.get("id"))
    run_id = get_query_text(query, "run") or None
    title = await _find_title(request, item_id, run_id)
    has_item = title is not None or (run_id is not None and await _find_title(request, item_id, None) is not None)
    schedule = request.services.schedules.get(item_id)
    return render_page(
        request,
        "item.html",
        404 if title is None else 200,
        id=item_id,
        run_id=run_id,
        url=item_url(item_id),
        item_title=title,
        has_item=has_item,
        schedule=None if schedule is None else present_schedule(schedule, request.services.now()),
        may_schedule=may_change_schedule(request.principal, schedule),
        stop_scope=find_scope(request.principal, "stop"),
        may_read_tail=request.principal.reads_tails,
        has_push=is_installed() and request.principal.id != GUEST_ID,
    )


async def _find_title(request: Request, item_id: str, run_id: str | None) -> str | None:
    """Return the title of an item or of one of its runs; ``None`` if neither the board nor the history has it."""
    run = await find_run(request, item_id, run_id)
    return None if run is None else run.item.title or item_id
