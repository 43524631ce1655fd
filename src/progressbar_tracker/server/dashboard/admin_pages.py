"""The pages on which an administrator looks after keys, shares and signed-in browsers, and after channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._models import KEY_TYPES
from progressbar_tracker.server.api.channels import read_channel_stats
from progressbar_tracker.server.api.sessions import find_own_session
from progressbar_tracker.server.dashboard.admin import present_channel, present_key, present_session, present_share

from .templates import build_base_url, render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response


async def show_keys(request: Request) -> Response:
    """``GET /keys?share=``: what is changed here goes through the API. ``share`` is an item that is to be shared."""
    services = request.services
    asked_for = request.parse_query().get("share", "")
    services.credentials.refresh_keys()
    own = find_own_session(request)
    now = services.clock()
    shown = [present_key(record, now) for record in reversed(services.keyring.all())]
    return render_page(
        request,
        "keys.html",
        types=KEY_TYPES,
        url=build_base_url(request),
        keys=[key for key in shown if key["works"]],
        former=[key for key in shown if not key["works"]],
        shares=[present_share(record) for record in reversed(services.shares.all())],
        share_item=asked_for,
        sessions=[present_session(record, own, services.keyring) for record in services.sessions.all(now)],
        groups=sorted({item.group for item in services.board.snapshot() if item.group is not None}),
    )


async def show_channels(request: Request) -> Response:
    """``GET /channels``: whom the server tells of items; what is tried here goes through the API."""
    return render_page(
        request, "channels.html", channels=[present_channel(*one) for one in await read_channel_stats(request)]
    )
