"""Pings: the interface of healthchecks, for its clients and for lines of ``curl``.

The URL has a ping token, which can do nothing else. A ping reports a start or an end of a run, with the body as output.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from progressbar_tracker._models import MAX_TAIL_BYTES, FieldError, check_id
from progressbar_tracker.server.http.response import Response
from progressbar_tracker.server.items.change import Change, Owner, add_tail
from progressbar_tracker.server.problems import ProblemError

from .output import mask_output

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.items.validation import WriteFields
    from progressbar_tracker.server.models import Item, PingTokenRecord

MAX_PING_BYTES: Final = 1024 * 1024
"""Of the body; the last lines are kept."""

MAX_EXIT_CODE: Final = 255

_RID_PATTERN: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OK_RESPONSE: Final = Response(200, b"OK", b"text/plain; charset=utf-8")


class _Signal(NamedTuple):
    """What a ping reports: a start, a line of the log, or an end with its error."""

    kind: Literal["start", "log", "end"]
    error: str | None = None


async def receive_ping(request: Request) -> Response:
    """``/ping/{token}/{slug}`` and ``/ping/{token}/{slug}/{signal}``, by GET, HEAD or POST."""
    record = await _require_token(request)
    services = request.services
    request.quota_headers = services.ping_limiter.acquire(record.token_id, services.monotonic()).headers()
    signal = _parse_signal(request.path_params.get("signal"))
    run_id = _parse_run_id(request.parse_query().get("rid"))
    body = await request.read_body(MAX_PING_BYTES) if request.scope["method"] == "POST" else b""
    output: WriteFields = {"tail": body.decode("utf-8", "replace")[-MAX_TAIL_BYTES:]} if body else {}
    await mask_output(request, [output])
    slug = _parse_slug(request)
    await services.fetch_item(slug)
    schedule = services.schedules.get(slug)
    if schedule is None and services.cluster is not None:
        schedule = await services.cluster.read_schedule(slug)
    has_schedule = schedule is not None and schedule.group == record.group
    request.reauthorize()
    now = services.now()

    def decide() -> Change:
        item = services.board.get(slug)
        if not (has_schedule if item is None else item.group == record.group):
            raise _nothing_problem()
        change = _apply_ping(services.board, item, slug, signal, run_id, record, now)
        return add_tail(change, output.get("tail"), now)

    await services.unit_of_work.change_item(slug, decide, request.reauthorize)
    return _OK_RESPONSE


def _apply_ping(
    board: Board, item: Item | None, slug: str, signal: _Signal, run_id: str | None, record: PingTokenRecord, now: float
) -> Change:
    is_current = item is not None and run_id in (None, item.run_id)
    is_running = item is not None and item.status == "running" and is_current
    if item is not None and (
        (run_id is not None and (run_id in item.past or (is_current and not is_running)))
        or (signal.kind == "log" and not is_running)
    ):
        return Change(item, item)  # a repeated ping, one of an earlier run, or a line without a run
    fields: WriteFields = {}
    if is_running and item is not None and (signal.kind != "start" or run_id is not None):
        fields["run_id"] = item.run_id
        if signal.kind == "end":
            fields |= _end_fields(signal)
        return board.patch(slug, fields, now)
    if signal.kind == "log":
        raise _nothing_problem()
    fields = {"run_id": run_id or secrets.token_hex(8), "group": record.group, "completed": 0}  # nothing is counted
    if item is not None:
        fields |= {"title": item.title, "weight": item.weight, "notify": list(item.notify)}
    if signal.kind == "end":
        fields |= _end_fields(signal)
    return board.put(slug, fields, Owner(f"ping-{record.token_id}", record.name), now)


def _end_fields(signal: _Signal) -> WriteFields:
    return {"status": "succeeded"} if signal.error is None else {"status": "failed", "error": signal.error}


def _parse_signal(text: str | None) -> _Signal:
    """Return what the end of the path reports.

    Raises:
        ProblemError: ``not-found``.
    """
    match text:
        case None | "0":
            return _Signal("end")
        case "start":
            return _Signal("start")
        case "log":
            return _Signal("log")
        case "fail":
            return _Signal("end", "reported as failed")
    if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= MAX_EXIT_CODE:
        code = int(text)
        return _Signal("end", f"exit code {code}" if code else None)
    raise _nothing_problem()


def _parse_run_id(rid: str | None) -> str | None:
    """Return the run id of a ``rid``, a UUID.

    Raises:
        ProblemError: ``bad-request``.
    """
    if rid is None:
        return None
    if not _RID_PATTERN.fullmatch(rid):
        raise ProblemError("bad-request", "rid must be a UUID")
    return rid.lower()


def _parse_slug(request: Request) -> str:
    try:
        return check_id(request.parse_path_text("slug"), "slug")
    except FieldError:
        raise _nothing_problem() from None


def _nothing_problem() -> ProblemError:
    """Return the same problem for an unknown token, slug and signal."""
    return ProblemError("not-found", "there is nothing at this path")


async def _require_token(request: Request) -> PingTokenRecord:
    record = _find_token(request)
    if record is None and await request.services.reload_credentials():
        record = _find_token(request)
    if record is None:
        raise _nothing_problem()
    token_id = record.token_id

    def is_granted() -> bool:
        current = _find_token(request)
        return current is not None and current.token_id == token_id

    request.is_granted = is_granted
    return record


def _find_token(request: Request) -> PingTokenRecord | None:
    credentials = request.services.credentials
    return credentials.find_token(credentials.ping_tokens, request.path_params["token"])
