"""One item for people: what is known of it now, its curve, and its runs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.api.history import Filter, page_query, read
from progressbar_tracker.server.dashboard.bar import curve, shown_bar
from progressbar_tracker.server.dashboard.board_view import span
from progressbar_tracker.server.dashboard.history import instant, shown_row, usual
from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.request import Call, checked_id
from progressbar_tracker.server.items.serializer import item_url, told, told_run
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

from .templates import page, painted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker.server.http.response import Reply

RUNS: Final = 50
"""Former runs that are shown."""


async def item(call: Call) -> Reply:
    """``GET /items/{id}``, or ``GET /items/?id=`` for the ids that no browser leaves in a path, ``.`` and ``..``."""
    item_id = call.item_id() if call.path["id"] else checked_id(call.query().get("id"))
    services = call.services
    await services.fetch(item_id)
    rows = await read(call, Filter(id=item_id), None, RUNS)
    now = services.clock()
    there, state_of = services.shown.get(item_id) or services.board.get(item_id), painted(call)
    if there is None:
        # A run that left the board a moment ago is in the history when what is being written now is written.
        with contextlib.suppress(ProblemError):
            await services.commit([])
        rows = await read(call, Filter(id=item_id), None, RUNS)
    if there is None and not rows:
        return page(call, "item.html", 404, id=item_id, bar=None, runs=[])
    wire: Mapping[str, object]
    ended_at: float | None
    if there is not None:
        state, wire, ended_at = there, told(there, now), there.ended_at
    else:
        last = rows[0]
        state, wire, ended_at = last.item, told_run(last.item, last.status, last.ended_at), last.ended_at
    try:
        samples = await run_while_connected(
            call,
            services.pools.past,
            lambda cancellation: services.store.samples(item_id, state.run_id, cancellation=cancellation),
        )
    except StoreError:
        samples = []
    took = usual(rows)
    return page(
        call,
        "item.html",
        id=item_id,
        painted=state_of,
        listed=there is not None,
        bar=shown_bar(wire),
        group=state.group,
        parent=None if state.parent is None else {"id": state.parent, "url": item_url(state.parent)},
        times=[
            (name, field, "" if at is None else rfc3339(at), "" if at is None else instant(at))
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
                ("Tells", ", ".join(state.notify)),
            )
            if value
        ],
        meta=sorted(state.meta.items()),
        curve=curve(samples, state, now if ended_at is None else ended_at),
        usual=None if took is None else span(took),
        runs=[shown_row(row) for row in rows],
        more="history" + page_query(Filter(id=item_id), None) if len(rows) == RUNS else None,
    )
