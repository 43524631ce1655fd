"""Ping tokens: administrators list, create and revoke them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._models import FieldError
from progressbar_tracker.server.access import ping_tokens
from progressbar_tracker.server.http.response import Response, json_response
from progressbar_tracker.server.items.validation import parse_instant
from progressbar_tracker.server.models import PingTokenRecord, optional_rfc3339, rfc3339
from progressbar_tracker.server.mutations import DropPingToken, SavePingToken
from progressbar_tracker.server.problems import ProblemError, field_problem

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request


async def list_ping_tokens(request: Request) -> Response:
    """``GET /api/v1/ping-tokens``."""
    records = request.services.credentials.ping_tokens.all()
    return json_response({"ping_tokens": [_serialize_token(record) for record in records]})


async def create_ping_token(request: Request) -> Response:
    """``POST /api/v1/ping-tokens``: only this response contains the token."""
    body, services = await request.read_json(), request.services
    try:
        record, token = ping_tokens.new_ping_token(
            services.clock(),
            name=body.get("name"),
            group=body.get("group"),
            expires_at=parse_instant("expires_at", body.get("expires_at")),
        )
    except FieldError as error:
        raise field_problem(error) from None
    if len(services.credentials.ping_tokens) >= ping_tokens.MAX_PING_TOKENS:
        maximum = ping_tokens.MAX_PING_TOKENS
        raise ProblemError("too-many-ping-tokens", f"there are {maximum} ping tokens, the most there may be")
    await services.unit_of_work.commit([SavePingToken(record)], lambda: [DropPingToken(record.token_id)])
    services.credentials.ping_tokens.add(record)
    path, base = f"ping/{token}", services.settings.public_url
    link = {"token": token, "path": path, "url": f"{base}/{path}" if base else None}
    return json_response({**_serialize_token(record), **link}, 201)


async def revoke_ping_token(request: Request) -> Response:
    """``DELETE /api/v1/ping-tokens/{token_id}``: the token ends at once."""
    tokens = request.services.credentials.ping_tokens
    record = tokens.get(request.parse_path_text("token_id"))
    if record is None:
        raise ProblemError("not-found", "there is no ping token with this token_id")
    await request.services.unit_of_work.commit([DropPingToken(record.token_id)])
    tokens.drop(record)
    return json_response(_serialize_token(record))


def _serialize_token(record: PingTokenRecord) -> dict[str, object]:
    return {
        "token_id": record.token_id,
        "name": record.name,
        "group": record.group,
        "created_at": rfc3339(record.created_at),
        "expires_at": optional_rfc3339(record.expires_at),
    }
