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
from progressbar_tracker.server.http.request import Call, checked_text
from progressbar_tracker.server.http.response import Header, Reply, encode
from progressbar_tracker.server.items.serializer import told_run
from progressbar_tracker.server.models import EndStatus, rfc3339
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

from .items import next_page, page_limit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from progressbar_tracker.server.stores.base import HistoryRow

LIMIT: Final = 100
MOST: Final = 1000
PAGE_BYTES: Final = 512 * 1024
"""About how large a page of the history becomes: of large runs it has fewer than ``limit``, and a link to the next."""

READ_ROWS: Final = 16
"""How many rows are read first: their size says how many more come at once."""

READ_BYTES: Final = 256 * 1024
"""About how many bytes of runs are read at once."""

ENDS: Final[tuple[EndStatus, ...]] = get_args(EndStatus)

COLUMNS: Final = (
    "id", "title", "group", "status", "started_at", "ended_at", "seconds", "completed", "total", "unit", "value",
    "owner", "error", "description", "run_id", "parent", "host", "pid", "command",
)  # fmt: skip
"""The columns of the table."""


class Filter(NamedTuple):
    """Which runs are looked for; ``None`` lets all pass."""

    group: str | None = None
    status: EndStatus | None = None
    id: str | None = None
    text: str | None = None

    @classmethod
    def of(cls, query: dict[str, str], *, empty: bool = True) -> Filter:
        """Return the filter that a query asks for.

        Args:
            query: Names to values.
            empty: Whether an empty value means something. A form sends all its fields.

        Raises:
            ProblemError: ``invalid-field``.
        """
        given = {name: value for name, value in query.items() if value or empty}
        for name in ("group", "id", "q"):
            checked_text(given, name)
        status = next((end for end in ENDS if end == given.get("status")), None)
        if "status" in given and status is None:
            raise ProblemError("invalid-field", f"status must be one of {', '.join(ENDS)}", field="status")
        return cls(given.get("group"), status, given.get("id"), given.get("q") or None)

    def query(self) -> dict[str, str]:
        """Return the query that asks for it."""
        named = {"group": self.group, "status": self.status, "id": self.id, "q": self.text}
        return {name: value for name, value in named.items() if value is not None}


async def listed(call: Call) -> Reply:
    """``GET /api/v1/history``: newest first."""
    query = call.query()
    limit = page_limit(query, LIMIT, MOST)
    told: list[bytes] = []
    size, last = 0, 0
    headers: list[Header] = []
    async with aclosing(_runs(call, Filter.of(query), cursor(query), watched=True)) as runs:
        async for row in runs:
            if len(told) == limit or size >= PAGE_BYTES:
                headers.append(next_page(call, query, str(last)))
                break
            told.append(encode(_told(row)))
            size, last = size + len(told[-1]), row.n
    return Reply(200, b'{"items":[%s]}' % b",".join(told), headers=tuple(headers))


async def as_csv(call: Call) -> Reply:
    """``GET /api/v1/history.csv``: all of it, for spreadsheets."""
    return await _exported(call, b"text/csv; charset=utf-8", "csv")


async def as_json(call: Call) -> Reply:
    """``GET /api/v1/history.json``: all of it, in one document."""
    return await _exported(call, b"application/json", "json")


async def read(call: Call, which: Filter, after: int | None, limit: int, *, watched: bool = True) -> list[HistoryRow]:
    """Return rows of the history, newest first.

    Args:
        call: The request.
        which: Which runs.
        after: The row after which to begin.
        limit: The most rows.
        watched: Look here whether the client is still there; a stream does so itself.

    Raises:
        ProblemError: ``unavailable``.
    """
    services = call.services
    run = run_while_connected if watched else run_in_pool
    try:
        return await run(
            call,
            services.pools.past if which.text is None else services.pools.search,
            lambda cancellation: services.store.history(
                group=which.group,
                status=which.status,
                item_id=which.id,
                text=which.text,
                after=after,
                limit=limit,
                cancellation=cancellation,
            ),
        )
    except StoreError as error:
        raise ProblemError("unavailable", "the history cannot be read at the moment", retry_after=5) from error


def cursor(query: dict[str, str]) -> int | None:
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


def page_query(which: Filter, after: int | None) -> str:
    """Return the query, with its question mark, of the page of a filter; empty where nothing is to be said.

    >>> page_query(Filter(group="a b"), 7)
    '?group=a+b&after=7'
    """
    named = which.query() | ({} if after is None else {"after": str(after)})
    return f"?{urlencode(named)}" if named else ""


def cell(value: object) -> object:
    """Return the content of a cell of the table: nothing that a spreadsheet takes for a formula.

    A spreadsheet may take another separator than ours, by its user's language or choice, and then a cell begins in the
    middle of a text.

    >>> cell("=1+1"), cell("fine"), cell("a; =1+1"), cell(-1), cell(None)
    ("'=1+1", 'fine', "a;' =1+1", -1, '')
    """
    if value is None:
        return ""
    return _FORMULA.sub("'", value) if isinstance(value, str) else value


_BREAKS: Final = r"\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029"
_SIGNS: Final = r"=+@\-\u2212\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
"""What a formula begins with, in all widths."""

_FORMULA: Final = re.compile(
    # Where a cell may begin: at the start, or after a separator of cells or of lines.
    rf"(?:^|(?<=[;|{_BREAKS}]))"
    # What a spreadsheet may skip: a quote, and what is neither a letter, a digit nor to be seen. Of what is not ASCII,
    # that is decided in favour of safety.
    rf"(?=(?:[^\w{_BREAKS}{_SIGNS}!#$%&'()*,./:;<>?\[\\\]^`{{|}}~]|[\u115f\u1160\u3164\uffa0])*+[{_SIGNS}])"
)


async def _exported(call: Call, kind: bytes, ending: str) -> Reply:
    which = Filter.of(call.query(), empty=False)
    if call.scope["method"] == "GET":
        exports, holder = call.services.exports, call.holder
        exports.take(holder)
        call.finally_(lambda: exports.give_back(holder))
        call.reserve(READ_BYTES + 2 * CHUNK_BYTES)
    first = await read(call, which, None, READ_ROWS)  # so that what cannot be read is told by the status
    runs = _runs(call, which, None, first)
    disposition: Header = (b"content-disposition", b'attachment; filename="history.%s"' % ending.encode())
    return Reply(200, b"", kind, (disposition,), _csv(runs) if ending == "csv" else _json(runs))


async def _runs(
    call: Call, which: Filter, after: int | None, first: list[HistoryRow] | None = None, *, watched: bool = False
) -> AsyncGenerator[HistoryRow]:
    """Yield runs from a place on, newest first; about :data:`READ_BYTES` of them are in memory."""
    limit = READ_ROWS
    rows = await read(call, which, after, limit, watched=watched) if first is None else first
    while rows:
        complete, size, count = len(rows) < limit, 0, len(rows)
        after = rows[-1].n
        for row in rows:
            size += _size(row)
            yield row
        if complete:
            return
        del row
        rows = []  # or the last ones would be in memory beside the next
        limit = min(max(READ_BYTES * count // max(size, 1), 1), MOST)
        rows = await read(call, which, after, limit, watched=watched)


def _size(row: HistoryRow) -> int:
    """Return about how many bytes a run takes."""
    item = row.item
    texts = (item.title, item.description, item.error or "", *item.meta.keys(), *item.meta.values())
    return 500 + 4 * sum(map(len, texts))


async def _csv(runs: AsyncGenerator[HistoryRow]) -> AsyncGenerator[bytes]:
    async with aclosing(runs):
        lines, size = [_lines([COLUMNS])], 0
        async for row in runs:
            lines.append(_lines([_cells(row)]))
            size += len(lines[-1])
            if size >= CHUNK_BYTES:
                yield b"".join(lines)
                lines, size = [], 0
        yield b"".join(lines)


async def _json(runs: AsyncGenerator[HistoryRow]) -> AsyncGenerator[bytes]:
    async with aclosing(runs):
        parts, size, comma = [b'{"items":['], 0, b""
        async for row in runs:
            parts += (comma, encode(_told(row)))
            comma, size = b",", size + len(parts[-1])
            if size >= CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
        yield b"".join([*parts, b"]}"])


def _lines(rows: list[tuple[object, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[cell(value) for value in row] for row in rows])
    return text.getvalue().encode()


def _cells(row: HistoryRow) -> tuple[object, ...]:
    item, meta = row.item, row.item.meta
    return (
        item.id, item.title, item.group, row.status, rfc3339(item.created_at), rfc3339(row.ended_at),
        round(max(row.ended_at - item.created_at, 0.0), 3), item.completed, item.total, item.unit, item.value,
        item.owner, item.error, item.description, item.run_id, item.parent,
        meta.get("host"), meta.get("pid"), meta.get("command") or meta.get("program"),
    )  # fmt: skip


def _told(row: HistoryRow) -> dict[str, object]:
    return told_run(row.item, row.status, row.ended_at)
