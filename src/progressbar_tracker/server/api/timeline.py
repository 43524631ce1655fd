"""The timeline: the ended runs of an interval, as small JSON objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.request import Request, get_query_text
from progressbar_tracker.server.http.response import Response, encode_json
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.problems import ProblemError

from .history_query import parse_query_instant, report_unreadable

if TYPE_CHECKING:
    from progressbar_tracker.server.models import RunRow
    from progressbar_tracker.server.pools import Cancellation
    from progressbar_tracker.server.stores.base import Timeline

DEFAULT_TIMELINE_SECONDS: Final = 86400.0
"""The length of an interval without a start."""

MAX_TIMELINE_RUNS: Final = 10_000
MAX_TIMELINE_BYTES: Final = 8 * 1024 * 1024
"""Approximate maximum size of a timeline. The earliest runs are omitted."""


async def get_timeline(request: Request) -> Response:
    """``GET /api/v1/timeline?since=&until=&group=``: the runs of the history that overlap an interval."""
    return await build_timeline(request, get_query_text(request.parse_query(), "group"))


async def build_timeline(request: Request, group: str | None, *, is_public: bool = False) -> Response:
    """Return the timeline of a group, or of all.

    Args:
        request: The request, whose query has the interval.
        group: The group; ``None`` for all items.
        is_public: Whether to omit the fields that shares do not show.

    Raises:
        ProblemError: ``invalid-field`` or ``unavailable``.
    """
    services, query = request.services, request.parse_query()
    until = parse_query_instant(query, "until")
    until = services.now() if until is None else until
    since = parse_query_instant(query, "since")
    since = max(until - DEFAULT_TIMELINE_SECONDS, 0.0) if since is None else since
    if since > until:
        raise ProblemError("invalid-field", "since must not be later than until", field="since")

    def read(cancellation: Cancellation) -> bytes:
        timeline = services.store.read_timeline(
            since, until, group=group, limit=MAX_TIMELINE_RUNS, cancellation=cancellation
        )
        return encode_timeline(timeline, since, until, is_public=is_public)

    with report_unreadable():
        return Response(200, await run_while_connected(request, services.pools.history, read))


def encode_timeline(timeline: Timeline, since: float, until: float, *, is_public: bool = False) -> bytes:
    """Return the JSON of a timeline. The runs beyond :data:`MAX_TIMELINE_BYTES` are omitted."""
    parts, size = list[bytes](), 0
    for run in timeline.runs:
        if size >= MAX_TIMELINE_BYTES:
            break
        parts.append(encode_json(_serialize_run(run, is_public=is_public)))
        size += len(parts[-1])
    return b'{"since":"%s","until":"%s","omitted":%d,"runs":[%s]}' % (
        rfc3339(since).encode(),
        rfc3339(until).encode(),
        timeline.omitted + len(timeline.runs) - len(parts),
        b",".join(parts),
    )


def _serialize_run(run: RunRow, *, is_public: bool) -> dict[str, object]:
    private = (
        {} if is_public else {"run_id": run.run_id, "group": run.group, "stop_requested_by": run.stop_requested_by}
    )
    return {
        "id": run.id,
        **private,
        "title": run.title,
        "status": run.status,
        "started_at": rfc3339(run.started_at),
        "ended_at": rfc3339(run.ended_at),
        "error": run.error,
    }
