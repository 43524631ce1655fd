"""The administrator's pages: keys with shares, ping tokens and sessions, and channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.api.channels import read_channel_stats
from progressbar_tracker.server.api.sessions import find_own_session

from .admin import list_groups, present_channel, present_key, present_ping_token, present_session, present_share
from .templates import render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response


async def show_keys(request: Request) -> Response:
    """``GET /keys?share=``: ``share`` is the id of an item for the form. The script sends changes to the API."""
    services = request.services
    share_item = request.parse_query().get("share", "")
    services.credentials.refresh_keys()
    current_session = find_own_session(request)
    now = services.clock()
    keys = [present_key(record, now) for record in reversed(services.keyring.all())]
    return render_page(
        request,
        "keys.html",
        keys=[key for key in keys if key["is_usable"]],
        former_keys=[key for key in keys if not key["is_usable"]],
        shares=[present_share(record) for record in reversed(services.shares.all())],
        cell=services.keyring.find_cell(now),
        share_item=share_item,
        ping_tokens=[present_ping_token(record) for record in reversed(services.credentials.ping_tokens.all())],
        sessions=[present_session(record, current_session, services.keyring) for record in services.sessions.all(now)],
        groups=list_groups(services.board),
    )


async def show_channels(request: Request) -> Response:
    """``GET /channels``: the notification channels. The script sends test messages through the API."""
    return render_page(
        request, "channels.html", channels=[present_channel(*stats) for stats in await read_channel_stats(request)]
    )
