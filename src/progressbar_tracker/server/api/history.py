"""The list of the history: pages of runs that have left the board, newest first."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.http.request import Request, get_query_text
from progressbar_tracker.server.http.response import Header, Response, encode_json
from progressbar_tracker.server.problems import ProblemError

from .history_query import parse_cursor, parse_filter, read_former_runs, read_history
from .items import build_next_link, parse_limit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from progressbar_tracker.server.items.serializer import ItemSerializer
    from progressbar_tracker.server.stores.base import HistoryFilter, HistoryRow

DEFAULT_HISTORY_PAGE: Final = 100
MAX_HISTORY_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 512 * 1024
"""Approximate maximum size of a page. A page of large runs has fewer than ``limit``, and a link to the next one."""

READ_ROWS: Final = 16
"""Rows of the first read; their size determines the number of rows of the next reads."""

READ_BYTES: Final = 256 * 1024
"""Approximate bytes of runs per read."""


async def list_runs(request: Request) -> Response:
    """``GET /api/v1/history``: a page of runs, newest first."""
    query = request.parse_query()
    limit = parse_limit(query, DEFAULT_HISTORY_PAGE, MAX_HISTORY_PAGE)
    if "former_of" in query:
        return await _list_former_runs(request, query, limit)
    items: list[bytes] = []
    size, last = 0, 0
    headers: list[Header] = []
    async with aclosing(iterate_runs(request, parse_filter(query), parse_cursor(query), watch_client=True)) as runs:
        async for row in runs:
            if len(items) == limit or size >= MAX_PAGE_BYTES:
                headers.append(build_next_link(request, query, str(last)))
                break
            items.append(encode_row(request.services.serializer, row))
            size, last = size + len(items[-1]), row.n
    return Response(200, b'{"items":[%s]}' % b",".join(items), headers=tuple(headers))


async def _list_former_runs(request: Request, query: dict[str, str], limit: int) -> Response:
    for name in ("group", "status", "id", "q", "run_id", "parent", "inner", "since", "until", "after"):
        if name in query:
            raise ProblemError("invalid-field", f"{name} cannot be combined with former_of", field=name)
    item_id = get_query_text(query, "former_of") or ""
    rows = await read_former_runs(request, item_id)
    serialize = request.services.serializer.serialize_run
    items = [encode_json(serialize(row.item, "succeeded", row.ended_at)) for row in rows[:limit]]
    return Response(200, b'{"items":[%s]}' % b",".join(items))


async def iterate_runs(
    request: Request,
    criteria: HistoryFilter,
    after: int | None,
    first_rows: list[HistoryRow] | None = None,
    *,
    watch_client: bool = False,
) -> AsyncGenerator[HistoryRow]:
    """Yield runs from a cursor on, newest first, with about :data:`READ_BYTES` of them in memory."""
    limit = READ_ROWS
    rows = (
        await read_history(request, criteria, after, limit, watch_client=watch_client)
        if first_rows is None
        else first_rows
    )
    while rows:
        complete, size, count = len(rows) < limit, 0, len(rows)
        after = rows[-1].n
        for row in rows:
            size += _estimate_size(row)
            yield row
        if complete:
            return
        del row
        rows = []  # frees the last rows before the next are read
        limit = min(max(READ_BYTES * count // max(size, 1), 1), MAX_HISTORY_PAGE)
        rows = await read_history(request, criteria, after, limit, watch_client=watch_client)


def _estimate_size(row: HistoryRow) -> int:
    """Return the approximate bytes of a run."""
    item = row.item
    texts = (item.title, item.description, item.error or "", *item.meta.keys(), *item.meta.values())
    return 500 + 4 * sum(map(len, texts))


def encode_row(serializer: ItemSerializer, row: HistoryRow) -> bytes:
    """Return the JSON of a run."""
    return encode_json(serializer.serialize_run(row.item, row.status, row.ended_at))
