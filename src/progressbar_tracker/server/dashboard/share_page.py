"""What a share shows: its page, its stream of events, and its badge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.api.events import EVENTS, UNBUFFERED
from progressbar_tracker.server.api.history import Filter, read
from progressbar_tracker.server.dashboard.badge import badge_of_group, badge_of_item
from progressbar_tracker.server.dashboard.bar import shown_bar
from progressbar_tracker.server.http.response import Header, Reply
from progressbar_tracker.server.hub import View, bare
from progressbar_tracker.server.items.serializer import told, told_run
from progressbar_tracker.server.problems import ProblemError

from .templates import page, rendered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker.server.http.request import Call
    from progressbar_tracker.server.models import ShareRecord

PAINTED: Final = 100
"""How many bars the first paint has."""

RECENT: Final = 8
"""Ended runs of a group that are shown."""

_SVG: Final = b"image/svg+xml; charset=utf-8"
_EMBEDDED: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-cache"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
"""A badge is for the pages of others."""


async def seen(call: Call) -> Reply:
    """``GET /s/{token}``: the page behind a share; its script adds the bars beyond the first ones."""
    record = await _need(call)
    bars, ended = await _within(call, record, PAINTED)
    return page(
        call,
        "share.html",
        name=record.group if record.item is None else (bars or ended)[0]["title"] if bars or ended else record.item,
        single=record.item is not None,
        bars=bars,
        ended=ended,
        events=f"{call.path['token']}/events",
    )


async def stream(call: Call) -> Reply:
    """``GET /s/{token}/events``: what changes of what the share is for."""
    record = await _need(call)
    call.services.hub.admit(record.share_id, address=call.holder)
    last = call.headers.get(b"last-event-id", b"").decode("latin-1") or None
    events = call.services.hub.events(_view(record), last, call.may_go_on, record.share_id, call.holder)
    return Reply(200, b"", EVENTS, (*UNBUFFERED, *call.services.hub.quota(record.share_id).headers()), events)


async def badge(call: Call) -> Reply:
    """``GET /badge/{token}.svg``: a picture of the bar, to be put on other pages."""
    record = await _need(call)
    bars, ended = await _within(call, record)
    shown = (
        badge_of_item(record.item, next(iter(bars or ended), None))
        if record.item is not None
        else badge_of_group(record.group or "", bars)
    )
    return Reply(200, rendered("badge.jinja", badge=shown), _SVG, _EMBEDDED)


async def _within(
    call: Call, record: ShareRecord, limit: int | None = None
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return what a share shows: what is on the board, and the runs that have left it."""
    now, view = call.services.clock(), _view(record)
    if record.item is not None:
        await call.services.fetch(record.item)
    items = view.of(call.services.board)[:limit]
    bars = [_shown(told(item, now)) for item in items]
    if record.item is not None and bars:
        return bars, []
    which = Filter(group=record.group, id=record.item)
    rows = await read(call, which, None, RECENT if record.item is None else 1)
    return bars, [_shown(told_run(row.item, row.status, row.ended_at)) for row in rows]


def _shown(item: Mapping[str, object]) -> dict[str, object]:
    return shown_bar(bare(item))


def _view(record: ShareRecord) -> View:
    return View(record.group, record.item, bare=True)


async def _need(call: Call) -> ShareRecord:
    record = _find(call)
    if record is None and await call.services.look_again():
        record = _find(call)
    if record is None:
        # Whether it was guessed, has expired or was revoked is nobody's business.
        raise ProblemError("not-found", "there is nothing at this path")
    shown = record.group, record.item

    def is_granted() -> bool:
        found = _find(call)
        return found is not None and (found.group, found.item) == shown

    call.is_granted = is_granted
    return record


def _find(call: Call) -> ShareRecord | None:
    services = call.services
    services.check_credentials_age()
    found = services.shares.find(call.path["token"], services.secure_now())
    return None if found is None or services.is_over(found.share_id, found.expires_at) else found
