"""Part 2 of the protocol: single items, the list of items, and batches."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import zlib
from typing import TYPE_CHECKING, Final, Literal, get_args
from urllib.parse import urlencode

import msgspec

from progressbar_tracker._models import (
    ITEM_STATUSES,
    MAX_BATCH_BYTES,
    FieldError,
    OpResult,
    WriteWarning,
    check_text,
    format_value,
)
from progressbar_tracker.server.access.authorization import Principal, authorize
from progressbar_tracker.server.cluster import Verdict
from progressbar_tracker.server.http.json_body import decode_object
from progressbar_tracker.server.http.request import Request, get_query_text
from progressbar_tracker.server.http.response import Header, Response, json_response, json_stream_response
from progressbar_tracker.server.items.change import Change, Owner, add_tail
from progressbar_tracker.server.items.conditions import CONDITION_NAMES, StatusFilter
from progressbar_tracker.server.items.index import SortKey, sort_key
from progressbar_tracker.server.items.validation import (
    InvalidOperation,
    parse_batch,
    parse_batch_fast,
    parse_write,
    parse_write_fast,
)
from progressbar_tracker.server.problems import ProblemError, field_problem

from .output import mask_output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from progressbar_tracker._models import Status
    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.items.conditions import Condition
    from progressbar_tracker.server.items.validation import WriteFields
    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.services import Services

DEFAULT_PAGE_SIZE: Final = 1000
MAX_PAGE_SIZE: Final = 10_000

ETAG_DRIFT_SECONDS: Final = 10.0
"""Seconds for which an ETag stays valid although rates and ETAs change with the time."""

STATUS_FILTERS: Final = get_args(StatusFilter)
"""The statuses and conditions by which items are filtered."""

ITEMS_PER_SLICE: Final = 1000
"""Running items searched for a condition per event-loop turn."""

MAX_CURSOR_LENGTH: Final = 2000
"""Maximum characters of a cursor, which contains an id."""


async def list_items(request: Request) -> Response:
    """``GET /api/v1/items``."""
    services, board = request.services, request.services.board
    query = request.parse_query()
    limit = parse_limit(query, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    after = _decode_cursor(query["after"]) if "after" in query else None
    group = get_query_text(query, "group")
    status, condition = _parse_status(query.get("status"))
    now = services.now()
    headers, is_known = begin_list(request, now)
    if is_known:
        return Response(304, headers=tuple(headers))
    rev = services.rev
    if condition is None:
        items = board.page(group=group, status=status, after=after, limit=limit + 1)
    else:
        items = await _find_items(board, condition, now, group=group, after=after, limit=limit + 1)
    if len(items) > limit:
        headers.append(build_next_link(request, query, _encode_cursor(items[limit - 1])))
    page = board.iter_items([item.id for item in items[:limit]], group=group, status=status)
    if condition is not None:
        page = (item for item in page if board.conditions.has(condition, item, now))
    return json_stream_response(
        request,
        services.serializer.serialize_items(page, now, prefix=b'{"items":[', suffix=b'],"rev":%d}' % rev),
        headers,
    )


async def _find_items(
    board: Board, condition: Condition, now: float, *, group: str | None, after: SortKey | None, limit: int
) -> list[Item]:
    """Return running items with a condition, in the order of the list; other requests run in between."""
    found: list[Item] = []
    while True:
        running = board.page(group=group, status="running", after=after, limit=ITEMS_PER_SLICE)
        found += (item for item in running if board.conditions.has(condition, item, now))
        if len(found) >= limit or len(running) < ITEMS_PER_SLICE:
            return found[:limit]
        after = sort_key(running[-1])
        await asyncio.sleep(0)


def _parse_status(text: str | None) -> tuple[Status | None, Condition | None]:
    """Return the status of a filter, and the condition if it names one, which only a running item has.

    Raises:
        ProblemError: ``invalid-field``.
    """
    if text is None:
        return None, None
    for status in ITEM_STATUSES:
        if text == status:
            return status, None
    for condition in CONDITION_NAMES:
        if text == condition:
            return "running", condition
    raise ProblemError("invalid-field", f"status must be one of {', '.join(STATUS_FILTERS)}", field="status")


def begin_list(request: Request, now: float) -> tuple[list[Header], bool]:
    """Prepare a list of items, from which an event stream can continue.

    Returns:
        The headers of the list, and whether the client already has it.
    """
    services = request.services
    # Items that become stalled or expire now need a new revision.
    services.maintenance.sweep_board(now)
    etag = _build_etag(request, now)
    event_id = services.hub.begin_handover().encode()
    headers = [(b"etag", etag), (b"cache-control", b"private, no-cache"), (b"event-id", event_id)]
    return headers, request.matches_etag(etag)


def _build_etag(request: Request, now: float) -> bytes:
    """Return the ETag of a list: it depends on the query, the board, and on the time if an item is running."""
    services = request.services
    drift = int(now // ETAG_DRIFT_SECONDS) if services.board.page(status="running", limit=1) else 0
    query = zlib.crc32(request.scope["query_string"])
    return f'W/"{services.boot_id}-{services.board.rev}-{services.rev}-{drift:x}-{query:x}"'.encode()


async def get_item(request: Request) -> Response:
    """``GET /api/v1/items/{id}``."""
    item = await request.services.require_item(request.parse_item_id())
    return json_response(request.services.serializer.serialize_item(item, request.services.now()))


async def put_item(request: Request) -> Response:
    """``PUT /api/v1/items/{id}``."""
    return await _write_item(request, "put")


async def patch_item(request: Request) -> Response:
    """``PATCH /api/v1/items/{id}``."""
    return await _write_item(request, "patch")


async def _write_item(request: Request, op: Literal["put", "patch"]) -> Response:
    item_id = request.parse_item_id()
    fields = _parse_fields(await request.read_raw_json(), item_id, merge=op == "patch")
    await mask_output(request, [fields])
    services, now, perform = request.services, request.services.now(), _OP_FUNCTIONS[op]
    change = await services.unit_of_work.change_item(
        item_id, lambda: perform(services.board, request.principal, item_id, fields, now), request.reauthorize
    )
    assert change.after is not None
    document: dict[str, object] = dict(services.serializer.serialize_item(change.after, now))
    if notes := _list_warnings(services, fields):
        document["warnings"] = notes
    # Clients that create items get their quota; updates, which are many, do not carry it.
    if change.before is None:
        return json_response(document, 201, services.board.quota(request.principal.id).headers())
    return json_response(document)


def _list_warnings(services: Services, fields: WriteFields) -> list[WriteWarning]:
    """Return what an accepted write asks for without effect: channels that do not exist."""
    return [
        {"code": "unknown-channel", "field": "notify", "detail": f"this server has no channel {format_value(name)}"}
        for name in services.notifier.find_unknown_channels(fields.get("notify") or ())
    ]


def _parse_fields(raw: bytes, item_id: str, *, merge: bool) -> WriteFields:
    fast = parse_write_fast(raw)
    body: Mapping[str, object] = decode_object(raw) if fast is None else fast
    if body.get("id", item_id) != item_id:
        raise ProblemError("invalid-field", "id is not the one in the path", field="id")
    return parse_write(body, merge=merge) if fast is None else fast


async def delete_item(request: Request) -> Response:
    """``DELETE /api/v1/items/{id}?run_id=``."""
    item_id = request.parse_item_id()
    query = request.parse_query()
    fields = parse_write({"run_id": query["run_id"]} if "run_id" in query else {}, merge=True)
    services, now = request.services, request.services.now()
    change = await services.unit_of_work.change_item(
        item_id,
        lambda: _apply_delete(services.board, request.principal, item_id, fields, now),
        request.reauthorize,
        lambda known: is_repeated_delete(known, request.principal, fields.get("run_id")),
    )
    assert change.before is not None
    return json_response(services.serializer.serialize_item(change.before, now))


async def write_batch(request: Request) -> Response:
    """``POST /api/v1/items:batch``: each operation has its own result, and one commit persists them all."""
    raw = await request.read_raw_json(MAX_BATCH_BYTES)
    fast = parse_batch_fast(raw)
    ops = parse_batch(decode_object(raw)) if fast is None else fast
    await mask_output(request, [op for op in ops if not isinstance(op, InvalidOperation)])
    services, board = request.services, request.services.board
    now = services.now()
    results: list[OpResult] = []

    def decide() -> Verdict:
        principal = request.principal
        results.clear()
        changes: list[Change] = []
        refused: list[tuple[str, ProblemError]] = []
        for op in ops:
            if isinstance(op, InvalidOperation):
                results.append(_build_refusal(op.id, op.problem))
                continue
            item_id = op["id"]
            try:
                change = _OP_FUNCTIONS[op["op"]](board, principal, item_id, op, now)
            except ProblemError as problem:
                if op["op"] == "delete":
                    with contextlib.suppress(ProblemError):
                        services.unit_of_work.unknown_outcomes.resolve_repeat(
                            item_id,
                            problem,
                            lambda known: is_repeated_delete(known, principal, op.get("run_id")),  # noqa: B023
                        )
                        results.append({"id": item_id, "status": 200})
                        continue
                refused.append((item_id, problem))
                results.append(_build_refusal(item_id, problem))
            else:
                changes.append(change)
                result: OpResult = {"id": item_id, "status": 201 if change.before is None else 200}
                if (item := change.after) is not None and item.stop_request is not None and item.status == "running":
                    result["stop_request"] = {"run_id": item.run_id, "requested_by": item.stop_request.by}
                results.append(result)
        return Verdict(changes, refused)

    ids = [op["id"] for op in ops if not isinstance(op, InvalidOperation)]
    await services.unit_of_work.execute(decide, request.reauthorize, ids)
    for op, result in zip(ops, results, strict=True):
        if not isinstance(op, InvalidOperation) and result["status"] < 300 and (notes := _list_warnings(services, op)):
            result["warnings"] = notes
    has_creations = any(result["status"] in {201, 429} for result in results)
    headers = services.board.quota(request.principal.id).headers() if has_creations else ()
    return json_response({"results": results, "rev": services.rev}, 200, headers)


def _build_refusal(item_id: str, problem: ProblemError) -> OpResult:
    return {"id": item_id, "status": problem.status, "problem": problem.document()}


def _apply_put(board: Board, principal: Principal, item_id: str, fields: WriteFields, now: float) -> Change:
    item = board.get(item_id)
    authorize(principal, "create" if item is None else "update", None if item is None else item.owner_id)
    if principal.group is not None and fields.get("group") is None:
        fields["group"] = principal.group
    change = board.put(item_id, fields, Owner(principal.id, principal.name), now)
    return add_tail(change, fields.get("tail"), now) if "tail" in fields else change


def _apply_patch(board: Board, principal: Principal, item_id: str, fields: WriteFields, now: float) -> Change:
    item = board.get(item_id)
    authorize(principal, "update", None if item is None else item.owner_id)
    change = board.patch(item_id, fields, now)
    return add_tail(change, fields.get("tail"), now) if "tail" in fields else change


def _apply_delete(board: Board, principal: Principal, item_id: str, fields: WriteFields, now: float) -> Change:
    item = board.get(item_id)
    authorize(principal, "delete", None if item is None else item.owner_id)
    return board.delete(item_id, now, run_id=fields.get("run_id"))


def is_repeated_delete(change: Change, principal: Principal | None, run_id: str | None = None) -> bool:
    """Return whether a change is the deletion that a client repeats, of one run or of any.

    Raises:
        ProblemError: It is, but the principal may not delete the item.
    """
    if change.after is not None or change.before is None or run_id not in {None, change.before.run_id}:
        return False
    authorize(principal, "delete", change.before.owner_id)
    return True


_OP_FUNCTIONS: Final[dict[str, Callable[[Board, Principal, str, WriteFields, float], Change]]] = {
    "put": _apply_put,
    "patch": _apply_patch,
    "delete": _apply_delete,
}


def parse_limit(query: dict[str, str], default: int, maximum: int) -> int:
    """Return the ``limit`` of a query.

    Raises:
        ProblemError: ``invalid-field``.
    """
    return parse_number(query, "limit", default, 1, maximum)


def parse_number(query: dict[str, str], name: str, default: int, minimum: int, maximum: int) -> int:
    """Return an integer of a query.

    Raises:
        ProblemError: ``invalid-field``.
    """
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or not minimum <= int(text[:9]) <= maximum or len(text) > 9:
        raise ProblemError("invalid-field", f"{name} must be from {minimum} to {maximum}", field=name)
    return int(text)


def build_next_link(request: Request, query: dict[str, str], cursor: str) -> Header:
    """Return the ``Link`` to the next page: relative, so that it works behind any proxy."""
    next_query = urlencode({**query, "after": cursor})
    name = request.scope["path"].rpartition("/")[2]
    return b"link", f'<{name}?{next_query}>; rel="next"'.encode()


def _encode_cursor(item: Item) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(sort_key(item))).decode().rstrip("=")


def _decode_cursor(text: str) -> SortKey:
    try:
        check_text("after", text, MAX_CURSOR_LENGTH, min_length=1)
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=tuple[int, float, int, str])
    except FieldError as error:
        raise field_problem(error) from None
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise ProblemError("invalid-field", "after is not a cursor of this list", field="after") from None
