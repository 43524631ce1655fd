"""The pages on which an administrator looks after keys, shares and signed-in browsers, and after channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._models import KEY_TYPES
from progressbar_tracker.server.api.channels import known
from progressbar_tracker.server.api.sessions import own_session
from progressbar_tracker.server.dashboard.admin import shown_channel, shown_key, shown_session, shown_share

from .templates import own_url, page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Call
    from progressbar_tracker.server.http.response import Reply


async def keys(call: Call) -> Reply:
    """``GET /keys?share=``: what is changed here goes through the API. ``share`` is an item that is to be shared."""
    services = call.services
    asked_for = call.query().get("share", "")
    services.refresh_keys()
    own = own_session(call)
    now = services.clock()
    shown = [shown_key(record, now) for record in reversed(services.ring.all())]
    return page(
        call,
        "keys.html",
        types=KEY_TYPES,
        url=own_url(call),
        keys=[key for key in shown if key["works"]],
        former=[key for key in shown if not key["works"]],
        shares=[shown_share(record) for record in reversed(services.shares.all())],
        share_item=asked_for,
        sessions=[shown_session(record, own, services.ring) for record in services.sessions.all(now)],
        groups=sorted({item.group for item in services.board.all() if item.group is not None}),
    )


async def channels(call: Call) -> Reply:
    """``GET /channels``: whom the server tells of items; what is tried here goes through the API."""
    return page(call, "channels.html", channels=[shown_channel(*one) for one in await known(call)])
