"""Exports of the history: all matching runs as CSV or JSON, encoded while the client reads them."""

from __future__ import annotations

import csv
import io
import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.budget import CHUNK_BYTES
from progressbar_tracker.server.http.response import Header, Response
from progressbar_tracker.server.models import rfc3339

from .history import READ_BYTES, READ_ROWS, encode_row, iterate_runs
from .history_query import parse_filter, read_history

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.stores.base import HistoryRow

CSV_COLUMNS: Final = (
    "id", "title", "group", "status", "started_at", "ended_at", "seconds", "completed", "total", "unit", "value",
    "owner", "error", "description", "run_id", "parent", "host", "pid", "command", "stop_requested_by",
)  # fmt: skip
"""The columns of the CSV export."""


async def export_csv(request: Request) -> Response:
    """``GET /api/v1/history.csv``: all matching runs, for spreadsheets."""
    return await _export_runs(request, b"text/csv; charset=utf-8", "csv")


async def export_json(request: Request) -> Response:
    """``GET /api/v1/history.json``: all matching runs, in one document."""
    return await _export_runs(request, b"application/json", "json")


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
    criteria = parse_filter(request.parse_query(), allow_empty=False)
    if request.scope["method"] == "GET":
        exports, holder = request.services.export_slots, request.holder
        exports.acquire(holder)
        request.add_cleanup(lambda: exports.release(holder))
        request.reserve(READ_BYTES + 2 * CHUNK_BYTES)
    first = await read_history(request, criteria, None, READ_ROWS)  # a failure here still sets the status
    runs = iterate_runs(request, criteria, None, first)
    disposition: Header = (b"content-disposition", b'attachment; filename="history.%s"' % extension.encode())
    chunks = (
        _encode_runs(runs, lambda row: _encode_cells(_build_cells(row)), _encode_cells(CSV_COLUMNS))
        if extension == "csv"
        else _encode_runs(runs, lambda row: encode_row(request.services.serializer, row), b'{"items":[', b",", b"]}")
    )
    return Response(200, b"", content_type, (disposition,), chunks)


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
        item.id, item.title, item.group, row.status, rfc3339(item.started_at), rfc3339(row.ended_at),
        round(max(row.ended_at - item.started_at, 0.0), 3), item.completed, item.total, item.unit, item.value,
        item.owner, item.error, item.description, item.run_id, item.parent,
        meta.get("host"), meta.get("pid"), meta.get("command") or meta.get("program"),
        None if item.stop_request is None else item.stop_request.by,
    )  # fmt: skip
