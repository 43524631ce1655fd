"""Requests to stop a run. The program receives them with the response to its next write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._models import FieldError, check_id
from progressbar_tracker.server import audit_log
from progressbar_tracker.server.access.authorization import authorize
from progressbar_tracker.server.http.response import json_response
from progressbar_tracker.server.problems import ProblemError, field_problem

from .history_query import find_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response
    from progressbar_tracker.server.items.change import Change


async def request_stop(request: Request) -> Response:
    """``POST /api/v1/items/{id}:stop``: record a request that ends with the run."""
    item_id = request.parse_item_id()
    run_id = _parse_run_id(await request.read_json())
    services, now = request.services, request.services.now()

    def decide() -> Change:
        item = services.board.get(item_id)
        authorize(request.principal, "stop", None if item is None else item.owner_id)
        return services.board.request_stop(item_id, request.principal.name, now, run_id=run_id)

    try:
        try:
            change = await services.unit_of_work.change_item(item_id, decide, request.reauthorize)
        except ProblemError as problem:
            if problem.code == "item-not-found":
                await _refuse_former_run(request, item_id, run_id)
            raise
    except ProblemError as problem:
        _log_request(request, item_id, run_id, problem.code)
        raise
    assert change.after is not None
    _log_request(request, item_id, change.after.run_id, "accepted")
    return json_response(services.serializer.serialize_item(change.after, now))


def _log_request(request: Request, item_id: str, run_id: str | None, outcome: str) -> None:
    if (principal := request.optional_principal) is not None:
        audit_log.log_stop_request(item_id, run_id, principal.name, principal.id, outcome)


async def _refuse_former_run(request: Request, item_id: str, run_id: str | None) -> None:
    """Refuse the request if the run has left the board for the history.

    Raises:
        ProblemError: ``run-ended``, ``forbidden`` or ``unavailable``.
    """
    run = await find_run(request, item_id, run_id)
    request.reauthorize()
    if run is not None and run.ended_at is not None:
        authorize(request.principal, "stop", run.item.owner_id)
        raise ProblemError("run-ended", f"the run {run.item.run_id!r} of {item_id!r} has ended: {run.status}")


def _parse_run_id(body: Mapping[str, object]) -> str | None:
    """Return the run of a body, or ``None`` for the current one.

    Raises:
        ProblemError: ``invalid-field``.
    """
    run_id = body.get("run_id")
    try:
        return None if run_id is None else check_id(run_id, "run_id")
    except FieldError as error:
        raise field_problem(error) from None
