"""Sessions of signed-in browsers: admins list and end them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.http.response import json_response
from progressbar_tracker.server.models import optional_rfc3339, rfc3339
from progressbar_tracker.server.problems import ProblemError

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response
    from progressbar_tracker.server.models import SessionRecord


async def list_sessions(request: Request) -> Response:
    """``GET /api/v1/sessions``."""
    services = request.services
    own = find_own_session(request)
    return json_response(
        {"sessions": [_serialize_session(record, own) for record in services.sessions.all(services.clock())]}
    )


async def revoke_session(request: Request) -> Response:
    """``DELETE /api/v1/sessions/{session_id}``: sign a browser out at once."""
    services = request.services
    record = services.sessions.get(request.parse_path_text("session_id"))
    if record is None:
        raise ProblemError("not-found", "there is no session with this session_id")
    own = find_own_session(request)
    await services.credentials.end_session(record)
    return json_response(_serialize_session(record, own))


def find_own_session(request: Request) -> SessionRecord | None:
    """Return the session of the requesting browser."""
    cookie = request.get_session_cookie()
    return None if cookie is None else request.services.sessions.find(cookie, request.services.clock())


def _serialize_session(record: SessionRecord, own: SessionRecord | None) -> dict[str, object]:
    return {
        "session_id": record.session_id,
        "created_at": rfc3339(record.created_at),
        "seen_at": optional_rfc3339(record.seen_at),
        "expires_at": rfc3339(record.expires_at),
        "current": own is not None and own.hash == record.hash,
        "key_id": record.key_id,
        "agent": record.agent,
    }
