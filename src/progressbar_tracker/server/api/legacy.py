"""Part 1 of the protocol: ``/progress``, as the 1.0.0 SDK speaks it. Frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.access.authorization import authorize
from progressbar_tracker.server.http.json_body import decode_object
from progressbar_tracker.server.http.request import Request, validate_id
from progressbar_tracker.server.http.response import Response, json_response, json_stream_response
from progressbar_tracker.server.items.change import Change, Owner
from progressbar_tracker.server.items.validation import parse_legacy, parse_legacy_fast

from .items import is_repeated_delete

if TYPE_CHECKING:
    from progressbar_tracker._models import LegacyItem


async def list_items(request: Request) -> Response:
    """``GET /progress``: a bare array of all items."""
    board = request.services.board
    ids = [item.id for item in board.page()]
    return json_stream_response(
        request, request.services.serializer.serialize_items(board.iter_items(ids), request.services.now())
    )


async def create_item(request: Request) -> Response:
    """``POST /progress``."""
    body = await _read_legacy_body(request)
    services, principal = request.services, request.principal
    now = services.now()
    owner = Owner(principal.id, principal.name)
    change = await services.unit_of_work.change_item(
        body["id"],
        lambda: services.board.create(body, owner, now, group=request.principal.group),
        request.reauthorize,
        lambda known: _is_repeated_create(known, owner, body),
    )
    assert change.after is not None
    return json_response(
        request.services.serializer.serialize_item(change.after, now), 201, services.board.quota(owner.id).headers()
    )


async def update_item(request: Request) -> Response:
    """``PUT /progress``."""
    body = await _read_legacy_body(request)
    services = request.services
    now = services.now()

    def decide() -> Change:
        authorize(request.optional_principal, "update", services.board.require(body["id"]).owner_id)
        return services.board.update(body, now)

    change = await services.unit_of_work.change_item(body["id"], decide, request.reauthorize)
    assert change.after is not None
    return json_response(request.services.serializer.serialize_item(change.after, now))


async def delete_item(request: Request) -> Response:
    """``DELETE /progress?id=ID``."""
    item_id = validate_id(request.parse_query().get("id"))
    services = request.services
    now = services.now()

    def decide() -> Change:
        authorize(request.optional_principal, "delete", services.board.require(item_id).owner_id)
        return services.board.delete(item_id, now)

    change = await services.unit_of_work.change_item(
        item_id, decide, request.reauthorize, lambda known: is_repeated_delete(known, request.optional_principal)
    )
    assert change.before is not None
    return json_response(request.services.serializer.serialize_item(change.before, now))


def _is_repeated_create(change: Change, owner: Owner, body: LegacyItem) -> bool:
    """Return whether a change is the creation that a client repeats."""
    item = change.after
    return (
        change.before is None
        and item is not None
        and item.owner_id == owner.id
        and all(getattr(item, name) == value for name, value in body.items())
    )


async def _read_legacy_body(request: Request) -> LegacyItem:
    raw = await request.read_raw_json()
    return parse_legacy_fast(raw) or parse_legacy(decode_object(raw))
