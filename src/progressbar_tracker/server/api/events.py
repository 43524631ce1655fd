"""Part 2 of the protocol: the stream of what changes."""

from __future__ import annotations

from typing import Final

from progressbar_tracker.server.access.authorization import GUEST
from progressbar_tracker.server.http.request import Call, checked_text
from progressbar_tracker.server.http.response import Header, Reply
from progressbar_tracker.server.hub import View

EVENTS: Final = b"text/event-stream; charset=utf-8"
UNBUFFERED: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # or nginx would keep it back
)


async def stream(call: Call) -> Reply:
    """``GET /api/v1/events?group=&id=``: what is there, then what changes."""
    hub, query = call.services.hub, call.query()
    view = View(checked_text(query, "group"), checked_text(query, "id"))
    holder = call.holder
    address = holder if call.asker.id == GUEST else None
    hub.admit(holder, address=address)
    seen = call.headers.get(b"last-event-id", b"").decode("latin-1") or None
    # A guest's stream is counted once: by its network.
    events = hub.events(view, seen, call.may_go_on, holder)
    return Reply(200, b"", EVENTS, (*UNBUFFERED, *hub.quota(holder).headers()), events)
