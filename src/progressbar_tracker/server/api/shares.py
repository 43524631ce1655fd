"""Shares: administrators list, create and revoke them."""

from __future__ import annotations

from progressbar_tracker._models import FieldError
from progressbar_tracker.server.access import shares
from progressbar_tracker.server.http.request import Call, decoded
from progressbar_tracker.server.http.response import Reply, answer
from progressbar_tracker.server.items.validation import instant
from progressbar_tracker.server.models import DropShare, SaveShare, ShareRecord, rfc3339
from progressbar_tracker.server.problems import ProblemError, of_field


async def listed(call: Call) -> Reply:
    """``GET /api/v1/shares``."""
    return answer({"shares": [_told(record) for record in call.services.shares.all()]})


async def create(call: Call) -> Reply:
    """``POST /api/v1/shares``: the answer shows the link this once."""
    body = await call.json()
    try:
        made = shares.new_share(
            call.services.clock(),
            group=body.get("group"),
            item=body.get("item"),
            expires_at=instant("expires_at", body.get("expires_at")),
        )
    except FieldError as error:
        raise of_field(error) from None
    if len(call.services.shares) >= shares.SHARES:
        raise ProblemError("too-many-shares", f"there are {shares.SHARES} shares, the most there may be")
    await call.services.commit([SaveShare(made.record)], lambda: [DropShare(made.record.share_id)])
    call.services.shares.add(made.record)
    links = {"token": made.token, "path": f"s/{made.token}", "badge": f"badge/{made.token}.svg"}
    return answer({**_told(made.record), **links}, 201)


async def revoke(call: Call) -> Reply:
    """``DELETE /api/v1/shares/{share_id}``: the link leads nowhere from now on, and what looks through it is closed."""
    record = call.services.shares.get(decoded(call.path["share_id"].encode("latin-1")))
    if record is None:
        raise ProblemError("not-found", "there is no share with this share_id")
    await call.services.commit([DropShare(record.share_id)])
    call.services.shares.drop(record)
    call.services.hub.ring()
    return answer(_told(record))


def _told(record: ShareRecord) -> dict[str, object]:
    return {
        "share_id": record.share_id,
        "group": record.group,
        "item": record.item,
        "created_at": rfc3339(record.created_at),
        "expires_at": None if record.expires_at is None else rfc3339(record.expires_at),
    }
