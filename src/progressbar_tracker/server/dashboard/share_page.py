"""The public routes of a share: its page, its items, ended runs and timeline, its event stream, and its badge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.api.events import EVENTS_CONTENT_TYPE, UNBUFFERED_HEADERS
from progressbar_tracker.server.api.history_query import read_history
from progressbar_tracker.server.api.items import begin_list
from progressbar_tracker.server.api.timeline import build_timeline
from progressbar_tracker.server.dashboard.badge import build_group_badge, build_item_badge
from progressbar_tracker.server.frames import View, encode, public_view
from progressbar_tracker.server.http.response import Header, Response, json_stream_response
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import HistoryFilter

from .templates import is_for_wall, render_page, render_template
from .today_page import render_today

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.models import EndStatus, Item, ShareRecord

MAX_ENDED_RUNS: Final = 8
"""Ended runs of a group on its page."""

_SVG_CONTENT_TYPE: Final = b"image/svg+xml; charset=utf-8"
_EMBED_HEADERS: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-cache"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
"""Headers of a badge, which other sites embed."""


async def show_share(request: Request) -> Response:
    """``GET /s/{token}``: the page of a share, which its script fills."""
    record = await _require_share(request)
    item = None if record.item is None else request.services.board.get(record.item)
    name = record.group or record.item if item is None else item.title or item.id
    is_single = record.group is None
    return render_page(
        request, "share.html", name=name, is_single=is_single, is_tv=not is_single and is_for_wall(request)
    )


async def show_shared_today(request: Request) -> Response:
    """``GET /s/{token}/today``: the timeline of a shared group."""
    record = await _require_share(request)
    if record.group is None:
        raise ProblemError("not-found", "there is nothing at this path")
    return render_today(request, f"share {record.group}", record.group)


async def list_shared_items(request: Request) -> Response:
    """``GET /s/{token}/items``: the items of a share, and the event id from which its stream continues."""
    record = await _require_share(request)
    services, view, now = request.services, _build_view(record), request.services.now()
    if record.item is not None:
        await services.fetch_item(record.item)
    headers, is_known = begin_list(request, now)
    if is_known:
        return Response(304, headers=tuple(headers))
    suffix = b'],"rev":%d}' % services.rev
    items = view.iter_items(services.board)
    return json_stream_response(
        request,
        services.serializer.serialize_items(items, now, view.transform, prefix=b'{"items":[', suffix=suffix),
        headers,
    )


async def list_shared_runs(request: Request) -> Response:
    """``GET /s/{token}/history``: the last runs that ended."""
    record = await _require_share(request)
    transform = _build_view(record).transform or bytes
    serializer = request.services.serializer
    runs = [transform(encode(serializer.serialize_run(*row))) for row in await _read_ended_runs(request, record)]
    return Response(200, b'{"items":[%s]}' % b",".join(runs))


async def get_shared_timeline(request: Request) -> Response:
    """``GET /s/{token}/timeline``: the timeline of a shared group."""
    record = await _require_share(request)
    if record.group is None:
        raise ProblemError("not-found", "the share of an item has no timeline")
    return await build_timeline(request, record.group, is_public=True)


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
    items = await _read_shared_items(request, record)
    badge = (
        build_item_badge(record.item, next(iter(items), None))
        if record.item is not None
        else build_group_badge(record.group or "", items)
    )
    return Response(200, render_template("badge.jinja", badge=badge), _SVG_CONTENT_TYPE, _EMBED_HEADERS)


async def _read_shared_items(request: Request, record: ShareRecord) -> list[dict[str, object]]:
    """Return the shared items on the board; for an item that has left it, its last run."""
    now, serializer = request.services.clock(), request.services.serializer
    if record.item is not None:
        await request.services.fetch_item(record.item)
    items = [serializer.serialize_item(item, now) for item in _build_view(record).list_items(request.services.board)]
    if record.item is None or items:
        return [public_view(item) for item in items]
    return [public_view(serializer.serialize_run(*run)) for run in await _read_ended_runs(request, record)]


async def _read_ended_runs(request: Request, record: ShareRecord) -> list[tuple[Item, EndStatus, float]]:
    history_filter = HistoryFilter(group=record.group, id=record.item, inner=record.item is not None)
    rows = await read_history(request, history_filter, None, MAX_ENDED_RUNS if record.item is None else 1)
    return [(row.item, row.status, row.ended_at) for row in rows]


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
    credentials = request.services.credentials
    return credentials.find_token(credentials.shares, request.path_params["token"])
