"""Part 2 of the protocol: items, one by one, listed, and in batches."""

from __future__ import annotations

import base64
import binascii
import contextlib
import zlib
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlencode

import msgspec

from progressbar_tracker._models import BATCH_BYTES, BATCH_OPS, STATUSES, FieldError, OpResult, check_text, shown
from progressbar_tracker.server.access.authorization import Principal, authorize
from progressbar_tracker.server.cluster import Judged
from progressbar_tracker.server.http.request import Call, checked_id, checked_text, decoded_object
from progressbar_tracker.server.http.response import Header, Reply, answer, in_pieces
from progressbar_tracker.server.items.board import Board, Change, Owner
from progressbar_tracker.server.items.index import Order, order
from progressbar_tracker.server.items.serializer import pieces, told
from progressbar_tracker.server.items.validation import (
    quick_batch,
    quick_write,
    read_write,
    sound,
    sound_step,
)
from progressbar_tracker.server.problems import ProblemError, missing, of_field

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker.server.items.validation import Op
    from progressbar_tracker.server.models import Item

LIMIT: Final = 1000
MOST: Final = 10_000

DRIFT: Final = 10.0
"""Seconds for which a rate and a time left may be told unchanged: they follow from the time alone."""

CURSOR: Final = 2000
"""The most characters of a cursor, which holds an id."""


async def listed(call: Call) -> Reply:
    """``GET /api/v1/items``."""
    services, board = call.services, call.services.board
    query = call.query()
    limit = page_limit(query, LIMIT, MOST)
    after = _cursor(query["after"]) if "after" in query else None
    group = checked_text(query, "group")
    status = next((known for known in STATUSES if known == query.get("status")), None)
    if "status" in query and status is None:
        raise ProblemError("invalid-field", f"status must be one of {', '.join(STATUSES)}", field="status")
    now = services.clock()
    # What falls silent or expires in this instant is to be seen under a new revision.
    services.sweep(now)
    etag = _etag(call, now)
    headers: list[Header] = [(b"etag", etag), (b"cache-control", b"private, no-cache")]
    if {etag, b"*"} & {tag.strip() for tag in call.headers.get(b"if-none-match", b"").split(b",")}:
        return Reply(304, headers=tuple(headers))
    rev = services.rev
    found = board.listed(group=group, status=status, after=after, limit=limit + 1)
    if len(found) > limit:
        headers.append(next_page(call, query, _told_cursor(found[limit - 1])))
    page = board.current([item.id for item in found[:limit]], group=group, status=status)
    return in_pieces(call, pieces(page, now, begin=b'{"items":[', end=b'],"rev":%d}' % rev), headers)


def _etag(call: Call, now: float) -> bytes:
    """Return the tag of what a list is now: it varies with the query, the board, and the time where that shows."""
    services = call.services
    drift = int(now // DRIFT) if services.board.listed(status="running", limit=1) else 0
    query = zlib.crc32(call.scope["query_string"])
    return f'W/"{services.life}-{services.board.rev}-{services.rev}-{drift:x}-{query:x}"'.encode()


async def one(call: Call) -> Reply:
    """``GET /api/v1/items/{id}``."""
    item = await call.services.item(call.item_id())
    return answer(told(item, call.services.clock()))


async def put(call: Call) -> Reply:
    """``PUT /api/v1/items/{id}``."""
    return await _write(call, "put")


async def patch(call: Call) -> Reply:
    """``PATCH /api/v1/items/{id}``."""
    return await _write(call, "patch")


async def _write(call: Call, op: str) -> Reply:
    item_id = call.item_id()
    raw = await call.raw_json()
    quick = quick_write(raw)
    body = decoded_object(raw) if quick is None else quick
    if body.get("id", item_id) != item_id:
        raise ProblemError("invalid-field", "id is not the one in the path", field="id")
    services, now = call.services, call.services.clock()
    change = await services.change(
        item_id, lambda: _OPS[op](services.board, call.asker, item_id, body, now, quick is not None), call.reauthorize
    )
    assert change.after is not None
    # A client with ever more items is told how far it may go; one with updates, which are many, is told nothing.
    headers = services.board.quota(call.asker.id).headers() if change.status == 201 else ()
    return answer(told(change.after, now), change.status, headers)


async def delete(call: Call) -> Reply:
    """``DELETE /api/v1/items/{id}?run_id=``."""
    item_id = call.item_id()
    body: dict[str, object] = {**call.query()}
    services, now = call.services, call.services.clock()
    change = await services.change(
        item_id,
        lambda: _delete(services.board, call.asker, item_id, body, now, False),
        call.reauthorize,
        lambda known: _is_deleted(known, call.asker, body),
    )
    assert change.before is not None
    return answer(told(change.before, now))


async def batch(call: Call) -> Reply:
    """``POST /api/v1/items:batch``: every operation is judged by itself, and one commit keeps them all."""
    raw = await call.raw_json(BATCH_BYTES)
    quick = quick_batch(raw)
    ops = _ops(decoded_object(raw)) if quick is None else quick
    services, board = call.services, call.services.board
    now = services.clock()
    results: list[OpResult] = []

    def judge() -> Judged:
        asker = call.asker
        results.clear()
        changes: list[Change] = []
        refused: list[tuple[str, ProblemError]] = []
        for op in ops:
            try:
                change = None if quick is None else _progressed(board, asker, op, now)
                if change is None:
                    change = _judged(board, asker, op, now, quick is not None)
            except ProblemError as problem:
                item_id = op.get("id") if isinstance(op, dict) else None
                told_id = item_id if isinstance(item_id, str) and item_id.isprintable() else ""
                if isinstance(op, dict) and op.get("op") == "delete":
                    with contextlib.suppress(ProblemError):
                        services.unsettled.repeated(told_id, problem, lambda known: _is_deleted(known, asker, op))  # noqa: B023
                        results.append({"id": told_id, "status": 200})
                        continue
                refused.append((told_id, problem))
                results.append({"id": told_id, "status": problem.status, "problem": problem.document()})
            else:
                changes.append(change)
                results.append({"id": op["id"], "status": change.status})  # type: ignore[index]  # it has been judged
        return Judged(changes, refused)

    ids = [item_id for op in ops if isinstance(op, dict) and isinstance(item_id := op.get("id"), str)]
    await services.carry_out(judge, call.reauthorize, ids)
    made = any(result["status"] in {201, 429} for result in results)
    headers = services.board.quota(call.asker.id).headers() if made else ()
    return answer({"results": results, "rev": services.rev}, 200, headers)


def _ops(body: dict[str, object]) -> list[object]:
    ops = body.get("ops")
    if ops is None:
        raise missing("ops")
    if not isinstance(ops, list):
        raise ProblemError("invalid-field", f"ops must be a list, not {shown(ops)}", field="ops")
    if len(ops) > BATCH_OPS:
        raise ProblemError("invalid-field", f"ops must have at most {BATCH_OPS} entries, not {len(ops)}", field="ops")
    return ops


def _progressed(board: Board, asker: Principal, op: object, now: float) -> Change | None:
    """Do what nearly every operation is, a run that has come further, at half the cost; return ``None`` for all others.

    Args:
        board: Where.
        asker: Who.
        op: An operation of which the quick reader has taken the shape.
        now: The instant.

    Raises:
        ProblemError: They may not.
    """
    fields = cast("Op", op)
    before = board.get(fields.get("id", "")) if fields["op"] == "patch" and sound_step(fields) else None
    if before is None:
        return None
    authorize(asker, "update", before.owner_id)
    return board.progressed(before, fields, now)


def _judged(board: Board, asker: Principal, op: object, now: float, quick: bool) -> Change:
    if not isinstance(op, dict):
        raise ProblemError("invalid-field", "an operation must be an object", field="ops")
    name = op.get("op")
    perform = _OPS.get(name) if isinstance(name, str) else None
    if perform is None:
        raise ProblemError("invalid-field", f"op must be put, patch or delete, not {shown(name)}", field="op")
    item_id = op.get("id")
    in_order = quick and sound(op)
    return perform(board, asker, checked_id(item_id) if item_id is None or not in_order else item_id, op, now, in_order)


def _put(board: Board, asker: Principal, item_id: str, body: dict[str, object], now: float, in_order: bool) -> Change:
    item = board.get(item_id)
    authorize(asker, "create" if item is None else "update", None if item is None else item.owner_id)
    fields = read_write(body, merge=False, in_order=in_order)
    if asker.group is not None and fields.get("group") is None:
        fields["group"] = asker.group
    return board.put(item_id, fields, Owner(asker.id, asker.name), now)


def _patch(board: Board, asker: Principal, item_id: str, body: dict[str, object], now: float, in_order: bool) -> Change:
    item = board.get(item_id)
    authorize(asker, "update", None if item is None else item.owner_id)
    return board.patch(item_id, read_write(body, merge=True, in_order=in_order), now)


def _delete(
    board: Board, asker: Principal, item_id: str, body: dict[str, object], now: float, in_order: bool
) -> Change:
    item = board.get(item_id)
    authorize(asker, "delete", None if item is None else item.owner_id)
    run_id = body.get("run_id")
    if run_id is not None:
        run_id = read_write({"run_id": run_id}, merge=True, in_order=in_order)["run_id"]
    return board.delete(item_id, now, run_id=run_id)


def _is_deleted(known: Change, asker: Principal, body: dict[str, object]) -> bool:
    """Return whether a change is the deletion that a client asks for again."""
    if (
        known.after is not None
        or known.before is None
        or body.get("run_id", known.before.run_id) != known.before.run_id
    ):
        return False
    authorize(asker, "delete", known.before.owner_id)
    return True


_OPS: Final[dict[str, Callable[[Board, Principal, str, dict[str, object], float, bool], Change]]] = {
    "put": _put,
    "patch": _patch,
    "delete": _delete,
}


def page_limit(query: dict[str, str], usual: int, most: int) -> int:
    """Return the ``limit`` of a query.

    Raises:
        ProblemError: ``invalid-field``.
    """
    text = query.get("limit")
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= most or len(text) > 9:
        raise ProblemError("invalid-field", f"limit must be from 1 to {most}", field="limit")
    return int(text)


def next_page(call: Call, query: dict[str, str], cursor: str) -> Header:
    """Return the ``Link`` to the next page: relative, so that it holds behind any proxy."""
    again = urlencode({**query, "after": cursor})
    name = call.scope["path"].rpartition("/")[2]
    return b"link", f'<{name}?{again}>; rel="next"'.encode()


def _told_cursor(item: Item) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(order(item))).decode().rstrip("=")


def _cursor(text: str) -> Order:
    try:
        check_text("after", text, CURSOR, least=1)
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=tuple[int, float, int, str])
    except FieldError as error:
        raise of_field(error) from None
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise ProblemError("invalid-field", "after is not a cursor of this list", field="after") from None
