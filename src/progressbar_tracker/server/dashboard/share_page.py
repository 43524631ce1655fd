"""The public routes of a share: its page, its event stream, and its badge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.api.events import EVENTS_CONTENT_TYPE, UNBUFFERED_HEADERS
from progressbar_tracker.server.api.history import HistoryFilter, read_history
from progressbar_tracker.server.dashboard.badge import build_group_badge, build_item_badge
from progressbar_tracker.server.dashboard.bar import present_bar
from progressbar_tracker.server.frames import View, public_view
from progressbar_tracker.server.http.response import Header, Response
from progressbar_tracker.server.items.serializer import serialize_item, serialize_run
from progressbar_tracker.server.problems import ProblemError

from .templates import render_page, render_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.models import ShareRecord

MAX_INITIAL_BARS: Final = 100
"""Bars of the first paint."""

MAX_ENDED_RUNS: Final = 8
"""Ended runs of a group on its page."""

_SVG_CONTENT_TYPE: Final = b"image/svg+xml; charset=utf-8"
_EMBED_HEADERS: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-cache"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
"""Headers of a badge, which other sites embed."""


async def show_share(request: Request) -> Response:
    """``GET /s/{token}``: the page of a share. The script adds the bars beyond the first ones."""
    record = await _require_share(request)
    bars, ended = await _read_share_bars(request, record, MAX_INITIAL_BARS)
    return render_page(
        request,
        "share.html",
        name=record.group if record.item is None else (bars or ended)[0]["title"] if bars or ended else record.item,
        is_single=record.item is not None,
        bars=bars,
        ended=ended,
        events_url=f"{request.path_params['token']}/events",
    )


async def stream_share(request: Request) -> Response:
    """``GET /s/{token}/events``: the changes of the shared items."""
    record = await _require_share(request)
    request.services.hub.admit(record.share_id, address=request.holder)
    last_event_id = request.headers.get(b"last-event-id", b"").decode("latin-1") or None
    events = request.services.hub.events(
        _build_view(record), last_event_id, request.is_still_authorized, record.share_id, request.holder
    )
    return Response(
        200,
        b"",
        EVENTS_CONTENT_TYPE,
        (*UNBUFFERED_HEADERS, *request.services.hub.quota(record.share_id).headers()),
        events,
    )


async def render_badge(request: Request) -> Response:
    """``GET /badge/{token}.svg``: a picture of the bar, to be embedded in other pages."""
    record = await _require_share(request)
    bars, ended = await _read_share_bars(request, record)
    badge = (
        build_item_badge(record.item, next(iter(bars or ended), None))
        if record.item is not None
        else build_group_badge(record.group or "", bars)
    )
    return Response(200, render_template("badge.jinja", badge=badge), _SVG_CONTENT_TYPE, _EMBED_HEADERS)


async def _read_share_bars(
    request: Request, record: ShareRecord, limit: int | None = None
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the bars of items on the board, and of runs that have left it."""
    now, view = request.services.clock(), _build_view(record)
    if record.item is not None:
        await request.services.fetch_item(record.item)
    items = view.list_items(request.services.board)[:limit]
    bars = [_present_public_bar(serialize_item(item, now)) for item in items]
    if record.item is not None and bars:
        return bars, []
    history_filter = HistoryFilter(group=record.group, id=record.item)
    rows = await read_history(request, history_filter, None, MAX_ENDED_RUNS if record.item is None else 1)
    return bars, [_present_public_bar(serialize_run(row.item, row.status, row.ended_at)) for row in rows]


def _present_public_bar(item: Mapping[str, object]) -> dict[str, object]:
    return present_bar(public_view(item))


def _build_view(record: ShareRecord) -> View:
    return View(record.group, record.item, is_public=True)


async def _require_share(request: Request) -> ShareRecord:
    record = _find_share(request)
    if record is None and await request.services.reload_credentials():
        record = _find_share(request)
    if record is None:
        # Do not reveal whether the token was guessed, has expired or was revoked.
        raise ProblemError("not-found", "there is nothing at this path")
    granted = record.group, record.item

    def is_granted() -> bool:
        current = _find_share(request)
        return current is not None and (current.group, current.item) == granted

    request.is_granted = is_granted
    return record


def _find_share(request: Request) -> ShareRecord | None:
    services = request.services
    services.credentials.check_age()
    found = services.shares.find(request.path_params["token"], services.credentials.secure_now())
    return None if found is None or services.credentials.is_expired(found.share_id, found.expires_at) else found
