"""Shares: administrators list, create and revoke them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._models import FieldError
from progressbar_tracker.server.access import shares
from progressbar_tracker.server.http.response import Response, json_response
from progressbar_tracker.server.items.validation import parse_instant
from progressbar_tracker.server.models import ShareRecord, optional_rfc3339, rfc3339
from progressbar_tracker.server.mutations import DropShare, SaveShare
from progressbar_tracker.server.problems import ProblemError, field_problem

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request


async def list_shares(request: Request) -> Response:
    """``GET /api/v1/shares``."""
    return json_response({"shares": [_serialize_share(record) for record in request.services.shares.all()]})


async def create_share(request: Request) -> Response:
    """``POST /api/v1/shares``: only this response contains the link."""
    body = await request.read_json()
    try:
        record, token = shares.new_share(
            request.services.clock(),
            group=body.get("group"),
            item=body.get("item"),
            expires_at=parse_instant("expires_at", body.get("expires_at")),
        )
    except FieldError as error:
        raise field_problem(error) from None
    if len(request.services.shares) >= shares.MAX_SHARES:
        raise ProblemError("too-many-shares", f"there are {shares.MAX_SHARES} shares, the most there may be")
    await request.services.unit_of_work.commit([SaveShare(record)], lambda: [DropShare(record.share_id)])
    request.services.shares.add(record)
    path, badge = f"s/{token}", f"badge/{token}.svg"
    base = request.services.settings.public_url
    links = {
        "token": token,
        "path": path,
        "badge": badge,
        "url": f"{base}/{path}" if base else None,
        "badge_url": f"{base}/{badge}" if base else None,
    }
    return json_response({**_serialize_share(record), **links}, 201)


async def revoke_share(request: Request) -> Response:
    """``DELETE /api/v1/shares/{share_id}``: the link and its open streams end at once."""
    record = request.services.shares.get(request.parse_path_text("share_id"))
    if record is None:
        raise ProblemError("not-found", "there is no share with this share_id")
    await request.services.unit_of_work.commit([DropShare(record.share_id)])
    request.services.shares.drop(record)
    request.services.hub.wake()
    return json_response(_serialize_share(record))


def _serialize_share(record: ShareRecord) -> dict[str, object]:
    return {
        "share_id": record.share_id,
        "group": record.group,
        "item": record.item,
        "created_at": rfc3339(record.created_at),
        "expires_at": optional_rfc3339(record.expires_at),
    }
