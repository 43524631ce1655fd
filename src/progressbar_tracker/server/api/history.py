"""The history: runs that have left the board, as JSON, as a table for spreadsheets, and as a page."""

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
    from collections.abc import AsyncGenerator

    from progressbar_tracker.server.stores.base import HistoryRow

DEFAULT_HISTORY_PAGE: Final = 100
MAX_HISTORY_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 512 * 1024
"""About how large a page of the history becomes: of large runs it has fewer than ``limit``, and a link to the next."""

READ_ROWS: Final = 16
"""How many rows are read first: their size says how many more come at once."""

READ_BYTES: Final = 256 * 1024
"""About how many bytes of runs are read at once."""

END_STATUSES: Final[tuple[EndStatus, ...]] = get_args(EndStatus)

CSV_COLUMNS: Final = (
    "id", "title", "group", "status", "started_at", "ended_at", "seconds", "completed", "total", "unit", "value",
    "owner", "error", "description", "run_id", "parent", "host", "pid", "command",
)  # fmt: skip
"""The columns of the table."""


class HistoryFilter(NamedTuple):
    """Which runs are looked for; ``None`` lets all pass."""

    group: str | None = None
    status: EndStatus | None = None
    id: str | None = None
    text: str | None = None

    @classmethod
    def from_query(cls, query: dict[str, str], *, allow_empty: bool = True) -> HistoryFilter:
        """Return the filter that a query asks for.

        Args:
            query: Names to values.
            allow_empty: Whether an empty value means something. A form sends all its fields.

        Raises:
            ProblemError: ``invalid-field``.
        """
        given = {name: value for name, value in query.items() if value or allow_empty}
        for name in ("group", "id", "q"):
            get_query_text(given, name)
        status = next((end for end in END_STATUSES if end == given.get("status")), None)
        if "status" in given and status is None:
            raise ProblemError("invalid-field", f"status must be one of {', '.join(END_STATUSES)}", field="status")
        return cls(given.get("group"), status, given.get("id"), given.get("q") or None)

    def to_query(self) -> dict[str, str]:
        """Return the query that asks for it."""
        named = {"group": self.group, "status": self.status, "id": self.id, "q": self.text}
        return {name: value for name, value in named.items() if value is not None}


async def list_runs(request: Request) -> Response:
    """``GET /api/v1/history``: newest first."""
    query = request.parse_query()
    limit = parse_limit(query, DEFAULT_HISTORY_PAGE, MAX_HISTORY_PAGE)
    told: list[bytes] = []
    size, last = 0, 0
    headers: list[Header] = []
    async with aclosing(
        _iterate_runs(request, HistoryFilter.from_query(query), parse_cursor(query), watch_client=True)
    ) as runs:
        async for row in runs:
            if len(told) == limit or size >= MAX_PAGE_BYTES:
                headers.append(build_next_link(request, query, str(last)))
                break
            told.append(encode_json(_serialize_row(row)))
            size, last = size + len(told[-1]), row.n
    return Response(200, b'{"items":[%s]}' % b",".join(told), headers=tuple(headers))


async def export_csv(request: Request) -> Response:
    """``GET /api/v1/history.csv``: all of it, for spreadsheets."""
    return await _export_runs(request, b"text/csv; charset=utf-8", "csv")


async def export_json(request: Request) -> Response:
    """``GET /api/v1/history.json``: all of it, in one document."""
    return await _export_runs(request, b"application/json", "json")


async def read_history(
    request: Request, criteria: HistoryFilter, after: int | None, limit: int, *, watch_client: bool = True
) -> list[HistoryRow]:
    """Return rows of the history, newest first.

    Args:
        request: The request.
        criteria: Which runs.
        after: The row after which to begin.
        limit: The most rows.
        watch_client: Look here whether the client is still there; a stream does so itself.

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
    """Return the row after which a query wants to begin.

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
    """Return the query, with its question mark, of the page of a filter; empty where nothing is to be said.

    >>> build_page_query(HistoryFilter(group="a b"), 7)
    '?group=a+b&after=7'
    """
    named = criteria.to_query() | ({} if after is None else {"after": str(after)})
    return f"?{urlencode(named)}" if named else ""


def escape_cell(value: object) -> object:
    """Return the content of a cell of the table: nothing that a spreadsheet takes for a formula.

    A spreadsheet may take another separator than ours, by its user's language or choice, and then a cell begins in the
    middle of a text.

    >>> escape_cell("=1+1"), escape_cell("fine"), escape_cell("a; =1+1"), escape_cell(-1), escape_cell(None)
    ("'=1+1", 'fine', "a;' =1+1", -1, '')
    """
    if value is None:
        return ""
    return _FORMULA_PATTERN.sub("'", value) if isinstance(value, str) else value


_LINE_BREAK_CHARS: Final = r"\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029"
_FORMULA_SIGNS: Final = r"=+@\-\u2212\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
"""What a formula begins with, in all widths."""

_FORMULA_PATTERN: Final = re.compile(
    # Where a cell may begin: at the start, or after a separator of cells or of lines.
    rf"(?:^|(?<=[;|{_LINE_BREAK_CHARS}]))"
    # What a spreadsheet may skip: a quote, and what is neither a letter, a digit nor to be seen. Of what is not ASCII,
    # that is decided in favour of safety.
    rf"(?=(?:[^\w{_LINE_BREAK_CHARS}{_FORMULA_SIGNS}!#$%&'()*,./:;<>?\[\\\]^`{{|}}~]|[\u115f\u1160\u3164\uffa0])*+[{_FORMULA_SIGNS}])"
)


async def _export_runs(request: Request, content_type: bytes, extension: str) -> Response:
    which = HistoryFilter.from_query(request.parse_query(), allow_empty=False)
    if request.scope["method"] == "GET":
        exports, holder = request.services.export_slots, request.holder
        exports.acquire(holder)
        request.add_cleanup(lambda: exports.release(holder))
        request.reserve(READ_BYTES + 2 * CHUNK_BYTES)
    first = await read_history(request, which, None, READ_ROWS)  # so that what cannot be read is told by the status
    runs = _iterate_runs(request, which, None, first)
    disposition: Header = (b"content-disposition", b'attachment; filename="history.%s"' % extension.encode())
    return Response(
        200, b"", content_type, (disposition,), _encode_csv(runs) if extension == "csv" else _encode_json(runs)
    )


async def _iterate_runs(
    request: Request,
    criteria: HistoryFilter,
    after: int | None,
    first_rows: list[HistoryRow] | None = None,
    *,
    watch_client: bool = False,
) -> AsyncGenerator[HistoryRow]:
    """Yield runs from a place on, newest first; about :data:`READ_BYTES` of them are in memory."""
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
        rows = []  # or the last ones would be in memory beside the next
        limit = min(max(READ_BYTES * count // max(size, 1), 1), MAX_HISTORY_PAGE)
        rows = await read_history(request, criteria, after, limit, watch_client=watch_client)


def _estimate_size(row: HistoryRow) -> int:
    """Return about how many bytes a run takes."""
    item = row.item
    texts = (item.title, item.description, item.error or "", *item.meta.keys(), *item.meta.values())
    return 500 + 4 * sum(map(len, texts))


async def _encode_csv(runs: AsyncGenerator[HistoryRow]) -> AsyncGenerator[bytes]:
    async with aclosing(runs):
        lines, size = [_encode_rows([CSV_COLUMNS])], 0
        async for row in runs:
            lines.append(_encode_rows([_build_cells(row)]))
            size += len(lines[-1])
            if size >= CHUNK_BYTES:
                yield b"".join(lines)
                lines, size = [], 0
        yield b"".join(lines)


async def _encode_json(runs: AsyncGenerator[HistoryRow]) -> AsyncGenerator[bytes]:
    async with aclosing(runs):
        parts, size, comma = [b'{"items":['], 0, b""
        async for row in runs:
            parts += (comma, encode_json(_serialize_row(row)))
            comma, size = b",", size + len(parts[-1])
            if size >= CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
        yield b"".join([*parts, b"]}"])


def _encode_rows(rows: list[tuple[object, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[escape_cell(value) for value in row] for row in rows])
    return text.getvalue().encode()


def _build_cells(row: HistoryRow) -> tuple[object, ...]:
    item, meta = row.item, row.item.meta
    return (
        item.id, item.title, item.group, row.status, rfc3339(item.created_at), rfc3339(row.ended_at),
        round(max(row.ended_at - item.created_at, 0.0), 3), item.completed, item.total, item.unit, item.value,
        item.owner, item.error, item.description, item.run_id, item.parent,
        meta.get("host"), meta.get("pid"), meta.get("command") or meta.get("program"),
    )  # fmt: skip


def _serialize_row(row: HistoryRow) -> dict[str, object]:
    return serialize_run(row.item, row.status, row.ended_at)
