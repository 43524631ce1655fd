"""The page of one item: its current state, its curve, and its runs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from progressbar_tracker._text import format_age
from progressbar_tracker.server.api.history import HistoryFilter, build_page_query, read_history
from progressbar_tracker.server.dashboard.bar import build_curve, present_bar
from progressbar_tracker.server.dashboard.history import compute_median_duration, format_instant, present_history_run
from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.request import Request, validate_id
from progressbar_tracker.server.items.serializer import item_url, serialize_item, serialize_run
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

from .templates import board_event_id, render_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker.server.http.response import Response

MAX_FORMER_RUNS: Final = 50
"""Former runs on the page."""


async def show_item(request: Request) -> Response:
    """``GET /items/{id}``, or ``GET /items/?id=`` for the ids ``.`` and ``..``, which browsers resolve in a path."""
    item_id = request.parse_item_id() if request.path_params["id"] else validate_id(request.parse_query().get("id"))
    services = request.services
    await services.fetch_item(item_id)
    rows = await read_history(request, HistoryFilter(id=item_id), None, MAX_FORMER_RUNS)
    now = services.clock()
    current, event_id = services.read_board.get(item_id) or services.board.get(item_id), board_event_id(request)
    if current is None:
        # A run that has just left the board is in the history after the pending commit.
        with contextlib.suppress(ProblemError):
            await services.unit_of_work.commit([])
        rows = await read_history(request, HistoryFilter(id=item_id), None, MAX_FORMER_RUNS)
    if current is None and not rows:
        return render_page(request, "item.html", 404, id=item_id, bar=None, runs=[])
    wire: Mapping[str, object]
    ended_at: float | None
    if current is not None:
        state, wire, ended_at = current, serialize_item(current, now), current.ended_at
    else:
        last = rows[0]
        state, wire, ended_at = last.item, serialize_run(last.item, last.status, last.ended_at), last.ended_at
    try:
        samples = await run_while_connected(
            request,
            services.pools.history,
            lambda cancellation: services.store.read_samples(item_id, state.run_id, cancellation=cancellation),
        )
    except StoreError:
        samples = []
    usual_seconds = compute_median_duration(rows)
    return render_page(
        request,
        "item.html",
        id=item_id,
        event_id=event_id,
        is_on_board=current is not None,
        bar=present_bar(wire),
        group=state.group,
        parent=None if state.parent is None else {"id": state.parent, "url": item_url(state.parent)},
        times=[
            (name, field, "" if at is None else rfc3339(at), "" if at is None else format_instant(at))
            for name, field, at in (
                ("Started", "created_at", state.created_at),
                ("Last heard from", "updated_at", state.updated_at),
                ("Deadline", "deadline", state.deadline_at),
                ("Ended", "ended_at", ended_at),
            )
        ],
        facts=[
            (name, str(value))
            for name, value in (
                ("Owner", state.owner),
                ("Weight", state.weight or ""),
                ("Run", state.run_id),
                ("Notifies", ", ".join(state.notify)),
            )
            if value
        ],
        meta=sorted(state.meta.items()),
        curve=build_curve(samples, state, now if ended_at is None else ended_at),
        usual_duration=None if usual_seconds is None else format_age(usual_seconds),
        runs=[present_history_run(row) for row in rows],
        all_runs_url="history" + build_page_query(HistoryFilter(id=item_id), None)
        if len(rows) == MAX_FORMER_RUNS
        else None,
    )
