"""The history: runs that have left the board, as pages of JSON and as JSON and CSV exports."""

from __future__ import annotations

import csv
import io
import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple, get_args
from urllib.parse import urlencode

from progressbar_tracker.server.budget import CHUNK_BYTES
from progressbar_tracker.server.http.blocking import run_in_pool, run_while_connected
from progressbar_tracker.server.http.request import Request, get_query_text
from progressbar_tracker.server.http.response import Header, Response, encode_json
from progressbar_tracker.server.items.serializer import serialize_run
from progressbar_tracker.server.models import EndStatus, rfc3339
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

from .items import build_next_link, parse_limit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from progressbar_tracker.server.stores.base import HistoryRow

DEFAULT_HISTORY_PAGE: Final = 100
MAX_HISTORY_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 512 * 1024
"""Approximate maximum size of a page. A page of large runs has fewer than ``limit``, and a link to the next one."""

READ_ROWS: Final = 16
"""Rows of the first read; their size determines the number of rows of the next reads."""

READ_BYTES: Final = 256 * 1024
"""Approximate bytes of runs per read."""

END_STATUSES: Final[tuple[EndStatus, ...]] = get_args(EndStatus)

CSV_COLUMNS: Final = (
    "id", "title", "group", "status", "started_at", "ended_at", "seconds", "completed", "total", "unit", "value",
    "owner", "error", "description", "run_id", "parent", "host", "pid", "command",
)  # fmt: skip
"""The columns of the CSV export."""


class HistoryFilter(NamedTuple):
    """The criteria of a search; ``None`` matches all runs."""

    group: str | None = None
    status: EndStatus | None = None
    id: str | None = None
    text: str | None = None

    @classmethod
    def from_query(cls, query: dict[str, str], *, allow_empty: bool = True) -> HistoryFilter:
        """Return the filter of a query.

        Args:
            query: Names to values.
            allow_empty: Whether an empty value is a criterion. A form sends all its fields.

        Raises:
            ProblemError: ``invalid-field``.
        """
        criteria = {name: value for name, value in query.items() if value or allow_empty}
        for name in ("group", "id", "q"):
            get_query_text(criteria, name)
        status = next((end for end in END_STATUSES if end == criteria.get("status")), None)
        if "status" in criteria and status is None:
            raise ProblemError("invalid-field", f"status must be one of {', '.join(END_STATUSES)}", field="status")
        return cls(criteria.get("group"), status, criteria.get("id"), criteria.get("q") or None)

    def to_query(self) -> dict[str, str]:
        """Return the query of the filter."""
        named = {"group": self.group, "status": self.status, "id": self.id, "q": self.text}
        return {name: value for name, value in named.items() if value is not None}


async def list_runs(request: Request) -> Response:
    """``GET /api/v1/history``: a page of runs, newest first."""
    query = request.parse_query()
    limit = parse_limit(query, DEFAULT_HISTORY_PAGE, MAX_HISTORY_PAGE)
    items: list[bytes] = []
    size, last = 0, 0
    headers: list[Header] = []
    async with aclosing(
        _iterate_runs(request, HistoryFilter.from_query(query), parse_cursor(query), watch_client=True)
    ) as runs:
        async for row in runs:
            if len(items) == limit or size >= MAX_PAGE_BYTES:
                headers.append(build_next_link(request, query, str(last)))
                break
            items.append(_encode_row(row))
            size, last = size + len(items[-1]), row.n
    return Response(200, b'{"items":[%s]}' % b",".join(items), headers=tuple(headers))


async def export_csv(request: Request) -> Response:
    """``GET /api/v1/history.csv``: all matching runs, for spreadsheets."""
    return await _export_runs(request, b"text/csv; charset=utf-8", "csv")


async def export_json(request: Request) -> Response:
    """``GET /api/v1/history.json``: all matching runs, in one document."""
    return await _export_runs(request, b"application/json", "json")


async def read_history(
    request: Request, criteria: HistoryFilter, after: int | None, limit: int, *, watch_client: bool = True
) -> list[HistoryRow]:
    """Return rows of the history, newest first.

    Args:
        request: The request.
        criteria: The filter.
        after: Begin after this row.
        limit: The maximum number of rows.
        watch_client: Cancel the search if the client disconnects; a stream detects that on its own.

    Raises:
        ProblemError: ``unavailable``.
    """
    services = request.services
    run = run_while_connected if watch_client else run_in_pool
    try:
        return await run(
            request,
            services.pools.history if criteria.text is None else services.pools.search,
            lambda cancellation: services.store.read_history(
                group=criteria.group,
                status=criteria.status,
                item_id=criteria.id,
                text=criteria.text,
                after=after,
                limit=limit,
                cancellation=cancellation,
            ),
        )
    except StoreError as error:
        raise ProblemError("unavailable", "the history cannot be read at the moment", retry_after=5) from error


def parse_cursor(query: dict[str, str]) -> int | None:
    """Return the row after which a query begins, or ``None``.

    Raises:
        ProblemError: ``invalid-field``.
    """
    after = query.get("after")
    if after is None:
        return None
    if not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise ProblemError("invalid-field", "after is not a cursor of this list", field="after")
    return int(after)


def build_page_query(criteria: HistoryFilter, after: int | None) -> str:
    """Return the query of a page, with its question mark; empty without criteria and cursor.

    >>> build_page_query(HistoryFilter(group="a b"), 7)
    '?group=a+b&after=7'
    """
    named = criteria.to_query() | ({} if after is None else {"after": str(after)})
    return f"?{urlencode(named)}" if named else ""


def escape_cell(value: object) -> object:
    """Return the content of a CSV cell, with formulas escaped.

    A spreadsheet may use another separator, depending on the user's language or choice. A cell then begins in the
    middle of a text.

    >>> escape_cell("=1+1"), escape_cell("fine"), escape_cell("a; =1+1"), escape_cell(-1), escape_cell(None)
    ("'=1+1", 'fine', "a;' =1+1", -1, '')
    """
    if value is None:
        return ""
    return _FORMULA_PATTERN.sub("'", value) if isinstance(value, str) else value


_LINE_BREAK_CHARS: Final = r"\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029"
_FORMULA_SIGNS: Final = r"=+@\-\u2212\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
"""The first characters of formulas, in all widths."""

_FORMULA_PATTERN: Final = re.compile(
    # Where a cell may begin: at the start, or after a separator of cells or of lines.
    rf"(?:^|(?<=[;|{_LINE_BREAK_CHARS}]))"
    # Characters that a spreadsheet may skip: quotes, and invisible ones that are neither letters nor digits. Other
    # characters beyond ASCII are skipped too, to be safe.
    rf"(?=(?:[^\w{_LINE_BREAK_CHARS}{_FORMULA_SIGNS}!#$%&'()*,./:;<>?\[\\\]^`{{|}}~]|[\u115f\u1160\u3164\uffa0])*+[{_FORMULA_SIGNS}])"
)


async def _export_runs(request: Request, content_type: bytes, extension: str) -> Response:
    criteria = HistoryFilter.from_query(request.parse_query(), allow_empty=False)
    if request.scope["method"] == "GET":
        exports, holder = request.services.export_slots, request.holder
        exports.acquire(holder)
        request.add_cleanup(lambda: exports.release(holder))
        request.reserve(READ_BYTES + 2 * CHUNK_BYTES)
    first = await read_history(request, criteria, None, READ_ROWS)  # a failure here still sets the status
    runs = _iterate_runs(request, criteria, None, first)
    disposition: Header = (b"content-disposition", b'attachment; filename="history.%s"' % extension.encode())
    chunks = (
        _encode_runs(runs, lambda row: _encode_cells(_build_cells(row)), _encode_cells(CSV_COLUMNS))
        if extension == "csv"
        else _encode_runs(runs, _encode_row, b'{"items":[', b",", b"]}")
    )
    return Response(200, b"", content_type, (disposition,), chunks)


async def _iterate_runs(
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


async def _encode_runs(
    runs: AsyncGenerator[HistoryRow],
    encode: Callable[[HistoryRow], bytes],
    prefix: bytes,
    separator: bytes = b"",
    suffix: bytes = b"",
) -> AsyncGenerator[bytes]:
    async with aclosing(runs):
        parts, size, glue = [prefix], 0, b""
        async for row in runs:
            parts += (glue, encode(row))
            glue, size = separator, size + len(parts[-1])
            if size >= CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
        yield b"".join([*parts, suffix])


def _encode_cells(cells: Iterable[object]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(map(escape_cell, cells))
    return text.getvalue().encode()


def _build_cells(row: HistoryRow) -> tuple[object, ...]:
    item, meta = row.item, row.item.meta
    return (
        item.id, item.title, item.group, row.status, rfc3339(item.created_at), rfc3339(row.ended_at),
        round(max(row.ended_at - item.created_at, 0.0), 3), item.completed, item.total, item.unit, item.value,
        item.owner, item.error, item.description, item.run_id, item.parent,
        meta.get("host"), meta.get("pid"), meta.get("command") or meta.get("program"),
    )  # fmt: skip


def _encode_row(row: HistoryRow) -> bytes:
    return encode_json(serialize_run(row.item, row.status, row.ended_at))
