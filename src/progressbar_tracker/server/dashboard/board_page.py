"""The page of the board: a shell that the scripts fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.access.authorization import GUEST_ID, find_scope
from progressbar_tracker.server.notifications.web_push import is_installed

from .templates import build_base_url, is_for_wall, render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response


async def show_board(request: Request) -> Response:
    """``GET /``: the board."""
    return render_page(
        request,
        "home.html",
        dismissible=find_scope(request.principal, "delete"),
        stop_scope=find_scope(request.principal, "stop"),
        has_push=is_installed() and request.principal.id != GUEST_ID,
        base_url=build_base_url(request),
        is_tv=is_for_wall(request),
    )
