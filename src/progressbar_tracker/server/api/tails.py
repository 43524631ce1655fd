"""The last lines of the output of a run. Writes carry them as a field of an item; only this route returns them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.request import Request, get_query_text
from progressbar_tracker.server.http.response import Response, json_response
from progressbar_tracker.server.models import optional_rfc3339
from progressbar_tracker.server.problems import ProblemError

from .history_query import find_run, report_unreadable

if TYPE_CHECKING:
    from progressbar_tracker.server.models import StoredTail
    from progressbar_tracker.server.pools import Cancellation


async def get_tail(request: Request) -> Response:
    """``GET /api/v1/tails/{id}?run_id=``: the output of the current or the latest run, or of the named one."""
    item_id, run_id = request.parse_item_id(), get_query_text(request.parse_query(), "run_id")
    services = request.services
    run = await find_run(request, item_id, run_id)
    if run is None:
        raise ProblemError("item-not-found", "there is no such run")

    def read(cancellation: Cancellation) -> StoredTail | None:
        return services.store.read_tail(item_id, run.item.run_id, cancellation=cancellation)

    with report_unreadable():
        tail = await run_while_connected(request, services.pools.history, read)
    text = "" if tail is None else tail.text
    etag = f'W/"{zlib.crc32(run.item.run_id.encode()):x}-{zlib.crc32(text.encode()):x}-{len(text):x}"'.encode()
    headers = [(b"etag", etag), (b"cache-control", b"no-store")]
    if request.matches_etag(etag):
        return Response(304, headers=tuple(headers))
    document = {
        "id": item_id,
        "run_id": run.item.run_id,
        "tail": text,
        "updated_at": None if tail is None else optional_rfc3339(tail.at),
    }
    return json_response(document, 200, headers)
