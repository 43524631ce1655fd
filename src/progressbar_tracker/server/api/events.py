"""Part 2 of the protocol: the event stream of changes."""

from __future__ import annotations

from typing import Final

from progressbar_tracker.server.access.authorization import GUEST_ID
from progressbar_tracker.server.frames import View
from progressbar_tracker.server.http.request import Request, get_query_text
from progressbar_tracker.server.http.response import Header, Response

EVENTS_CONTENT_TYPE: Final = b"text/event-stream; charset=utf-8"
UNBUFFERED_HEADERS: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would buffer the stream otherwise
)


async def stream_events(request: Request) -> Response:
    """``GET /api/v1/events?group=&id=``: a snapshot, then changes."""
    hub, query = request.services.hub, request.parse_query()
    view = View(get_query_text(query, "group"), get_query_text(query, "id"))
    holder = request.holder
    address = holder if request.principal.id == GUEST_ID else None
    hub.admit(holder, address=address)
    last_event_id = request.headers.get(b"last-event-id", b"").decode("latin-1") or None
    # A guest's stream is counted once, by its network.
    events = hub.events(view, last_event_id, request.is_still_authorized, holder)
    return Response(200, b"", EVENTS_CONTENT_TYPE, (*UNBUFFERED_HEADERS, *hub.quota(holder).headers()), events)
