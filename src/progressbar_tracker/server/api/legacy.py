"""Part 1 of the protocol: ``/progress``, as the 1.0.0 SDK speaks it. Frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.access.authorization import authorize
from progressbar_tracker.server.http.request import Call, checked_id, decoded_object
from progressbar_tracker.server.http.response import Reply, answer, in_pieces
from progressbar_tracker.server.items.board import Change, Owner
from progressbar_tracker.server.items.serializer import pieces, told
from progressbar_tracker.server.items.validation import quick_legacy, read_legacy

if TYPE_CHECKING:
    from progressbar_tracker._models import LegacyItem
    from progressbar_tracker.server.access.authorization import Principal


async def listed(call: Call) -> Reply:
    """``GET /progress``: a bare array of all items."""
    board = call.services.board
    ids = [item.id for item in board.listed()]
    return in_pieces(call, pieces(board.current(ids), call.services.clock()))


async def create(call: Call) -> Reply:
    """``POST /progress``."""
    body = await _body(call)
    services, asker = call.services, call.asker
    now = services.clock()
    owner = Owner(asker.id, asker.name)
    change = await services.change(
        body["id"],
        lambda: services.board.create(body, owner, now, group=call.asker.group),
        call.reauthorize,
        lambda known: _is_created(known, owner, body),
    )
    assert change.after is not None
    return answer(told(change.after, now), 201, services.board.quota(owner.id).headers())


async def update(call: Call) -> Reply:
    """``PUT /progress``."""
    body = await _body(call)
    services = call.services
    now = services.clock()

    def judge() -> Change:
        authorize(call.principal, "update", services.board.need(body["id"]).owner_id)
        return services.board.update(body, now)

    change = await services.change(body["id"], judge, call.reauthorize)
    assert change.after is not None
    return answer(told(change.after, now))


async def delete(call: Call) -> Reply:
    """``DELETE /progress?id=ID``."""
    item_id = checked_id(call.query().get("id"))
    services = call.services
    now = services.clock()

    def judge() -> Change:
        authorize(call.principal, "delete", services.board.need(item_id).owner_id)
        return services.board.delete(item_id, now)

    change = await services.change(item_id, judge, call.reauthorize, lambda known: _is_deleted(known, call.principal))
    assert change.before is not None
    return answer(told(change.before, now))


def _is_created(known: Change, owner: Owner, body: LegacyItem) -> bool:
    """Return whether a change is the creation that a client asks for again."""
    item = known.after
    return (
        known.before is None
        and item is not None
        and item.owner_id == owner.id
        and all(getattr(item, name) == value for name, value in body.items())
    )


def _is_deleted(known: Change, principal: Principal | None) -> bool:
    """Return whether a change is the deletion that a client asks for again."""
    if known.after is not None or known.before is None:
        return False
    authorize(principal, "delete", known.before.owner_id)
    return True


async def _body(call: Call) -> LegacyItem:
    raw = await call.raw_json()
    return quick_legacy(raw) or read_legacy(decoded_object(raw))
