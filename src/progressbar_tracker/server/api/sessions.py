"""The browsers that are signed in: for admins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.http.request import decoded
from progressbar_tracker.server.http.response import answer
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.problems import ProblemError

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Call
    from progressbar_tracker.server.http.response import Reply
    from progressbar_tracker.server.models import SessionRecord


async def listed(call: Call) -> Reply:
    """``GET /api/v1/sessions``."""
    services = call.services
    own = own_session(call)
    return answer({"sessions": [_told(record, own) for record in services.sessions.all(services.clock())]})


async def revoke(call: Call) -> Reply:
    """``DELETE /api/v1/sessions/{session_id}``: signs a browser out, at once."""
    services = call.services
    record = services.sessions.get(decoded(call.path["session_id"].encode("latin-1")))
    if record is None:
        raise ProblemError("not-found", "there is no session with this session_id")
    own = own_session(call)
    await services.end_session(record)
    return answer(_told(record, own))


def own_session(call: Call) -> SessionRecord | None:
    """Return the session of the browser that asks."""
    cookie = call.cookie()
    return None if cookie is None else call.services.sessions.find(cookie, call.services.clock())


def _told(record: SessionRecord, own: SessionRecord | None) -> dict[str, object]:
    return {
        "session_id": record.session_id,
        "created_at": rfc3339(record.created_at),
        "seen_at": None if record.seen_at is None else rfc3339(record.seen_at),
        "expires_at": rfc3339(record.expires_at),
        "current": own is not None and own.hash == record.hash,
        "key_id": record.key_id,
        "agent": record.agent,
    }
