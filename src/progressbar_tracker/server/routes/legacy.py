"""Part 1 of the protocol: ``/progress``, as the 1.0.0 SDK speaks it. Frozen."""

from __future__ import annotations

from progressbar_tracker.server.auth import authorize
from progressbar_tracker.server.board import Owner
from progressbar_tracker.server.telling import told
from progressbar_tracker.server.writes import read_legacy

from .http import Call, Reply, answer, checked_id


async def listed(call: Call) -> Reply:
    """``GET /progress``: a bare array of all items."""
    now = call.services.clock()
    return answer([told(item, now) for item in call.services.board.listed()])


async def create(call: Call) -> Reply:
    """``POST /progress``."""
    body = read_legacy(await call.json())
    services, asker = call.services, call.asker
    now = services.clock()
    change = services.board.create(body, Owner(asker.id, asker.name), now, group=asker.group)
    await services.settle([change])
    assert change.after is not None
    return answer(told(change.after, now), 201)


async def update(call: Call) -> Reply:
    """``PUT /progress``."""
    body = read_legacy(await call.json())
    services = call.services
    authorize(call.principal, "update", services.board.need(body["id"]).owner_id)
    now = services.clock()
    change = services.board.update(body, now)
    await services.settle([change])
    assert change.after is not None
    return answer(told(change.after, now))


async def delete(call: Call) -> Reply:
    """``DELETE /progress?id=ID``."""
    item_id = checked_id(call.query().get("id"))
    services = call.services
    item = services.board.need(item_id)
    authorize(call.principal, "delete", item.owner_id)
    now = services.clock()
    await services.settle([services.board.delete(item_id, now)])
    return answer(told(item, now))
