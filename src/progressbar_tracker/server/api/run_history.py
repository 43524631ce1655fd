"""The ended runs of ids, as small JSON objects: the newest runs of many ids, and the statistics of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.request import Request, validate_id
from progressbar_tracker.server.http.response import Response, encode_json
from progressbar_tracker.server.items.run_statistics import compute_statistics
from progressbar_tracker.server.models import RunRow, extract_error_line, rfc3339
from progressbar_tracker.server.problems import ProblemError

from .history_query import report_unreadable
from .items import parse_limit

if TYPE_CHECKING:
    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.pools import Cancellation

MAX_RECENT_IDS: Final = 50
"""Ids of one request."""

DEFAULT_RECENT_RUNS: Final = 20
MAX_RECENT_RUNS: Final = 100

MAX_STATISTICS_RUNS: Final = 1000
"""The newest runs from which statistics are computed."""

MAX_LISTED_RUNS: Final = 100
"""The newest runs that statistics list."""


async def list_recent_runs(request: Request) -> Response:
    """``GET /api/v1/history:recent?id=&id=``: the newest runs of the history of each id."""
    ids = list(dict.fromkeys(map(validate_id, request.parse_query_values("id"))))
    limit = parse_limit(request.parse_query(), DEFAULT_RECENT_RUNS, MAX_RECENT_RUNS)
    if not 1 <= len(ids) <= MAX_RECENT_IDS:
        raise ProblemError("invalid-field", f"from 1 to {MAX_RECENT_IDS} ids are required", field="id")
    services = request.services

    def read(cancellation: Cancellation) -> bytes:
        runs = services.store.read_recent_runs(ids, limit=limit, cancellation=cancellation)
        return encode_json({"items": {item_id: list(map(_serialize_run, runs.get(item_id, ()))) for item_id in ids}})

    with report_unreadable():
        return Response(200, await run_while_connected(request, services.pools.history, read))


async def get_statistics(request: Request) -> Response:
    """``GET /api/v1/history:statistics?id=``: the statistics of an id, with an ended run on the board."""
    item_id = validate_id(request.parse_query().get("id"))
    services = request.services
    await services.fetch_item(item_id)
    item = services.read_board.get(item_id) or services.board.get(item_id)
    current = None if item is None else _build_ended_row(item)

    def read(cancellation: Cancellation) -> bytes:
        stored = services.store.read_recent_runs([item_id], limit=MAX_STATISTICS_RUNS, cancellation=cancellation)
        runs = stored.get(item_id, [])
        if current is not None and current.run_id not in {run.run_id for run in runs}:
            runs = [current, *runs]
        listed = [_serialize_run(run) for run in runs[:MAX_LISTED_RUNS]]
        return encode_json({**compute_statistics(runs)._asdict(), "runs": listed})

    with report_unreadable():
        return Response(200, await run_while_connected(request, services.pools.history, read))


def _build_ended_row(item: Item) -> RunRow | None:
    """Return the ended run of an item on the board; ``None`` if it is running."""
    if item.status == "running" or item.ended_at is None:
        return None
    return RunRow(
        0, item.id, item.run_id, item.group, item.status, item.started_at, item.ended_at, item.title,
        extract_error_line(item.error),
    )  # fmt: skip


def _serialize_run(run: RunRow) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "status": run.status,
        "duration_seconds": round(run.duration, 3),
        "started_at": rfc3339(run.started_at),
        "ended_at": rfc3339(run.ended_at),
    }
