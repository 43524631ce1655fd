"""Parse rows into records. An unreadable row is skipped, counted, and logged once.

Disk damage, manual edits or another program can make a row unreadable. Such a row must not prevent a server from
starting or a page from showing the other rows. An unreadable key grants nothing.
"""

from __future__ import annotations

import logging
import math
import threading
import zlib
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, get_args

import msgspec
from msgspec.structs import replace

from progressbar_tracker._estimate import start_progress
from progressbar_tracker._models import MAX_TAIL_BYTES
from progressbar_tracker.server.items.curves import StoredCurve, decode_curve
from progressbar_tracker.server.items.former_runs import FormerRunRow
from progressbar_tracker.server.items.patterns import find_pattern
from progressbar_tracker.server.models import (
    DeliveryStats,
    EndedRun,
    EndStatus,
    Item,
    KeyRecord,
    Notice,
    PingTokenRecord,
    RunRow,
    Sample,
    SampledRun,
    ScheduleMark,
    ScheduleRecord,
    SessionRecord,
    ShareRecord,
    StoredTail,
    extract_error_line,
)
from progressbar_tracker.server.mutations import KeptMessage

from .base import HistoryRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from progressbar_tracker.server.items.curves import Curve

T = TypeVar("T")

TableName: TypeAlias = Literal[
    "curves", "history", "items", "keys", "kept_messages", "outbox", "ping_tokens", "runs", "samples",
    "schedule_monitor", "schedules", "sessions", "shares", "subscriptions", "tails",
]  # fmt: skip
"""The tables whose unreadable rows are skipped."""

logger = logging.getLogger("progressbar_tracker.server.store")

MAX_SKIPPED_ROWS: Final = 10_000
"""Skipped rows to remember, so that each is counted and logged once."""

MIN_TAIL_SIZE: Final = 4096
"""Bytes that the shortest tail counts for a quota: the quota bounds the rows, too."""

MAX_ROW: Final = 2**63 - 1
"""Above all row numbers of the history."""

MAX_INSTANT: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
MAX_NUMBER: Final = 1e305
"""Above all numbers that clients may send, and above sums of them."""

_ROW_ERRORS: Final = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)
_decode_item = msgspec.json.Decoder(Item).decode
_encode = msgspec.json.Encoder().encode
_END_STATUSES: Final = frozenset(get_args(EndStatus))
_TABLE_NAMES: Final[dict[type, TableName]] = {
    KeyRecord: "keys", SessionRecord: "sessions", ShareRecord: "shares", Sample: "samples", SampledRun: "samples",
    Notice: "outbox", KeptMessage: "kept_messages", DeliveryStats: "outbox", PingTokenRecord: "ping_tokens",
}  # fmt: skip


class SkippedRows:
    """Counts of unreadable rows by table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[tuple[str, str]] = set()
        self.counts: Counter[TableName] = Counter()

    def record(self, table: TableName, row: object, error: BaseException) -> None:
        """Count a skipped row, and log its id but not its content, which may be a secret."""
        name = ascii(row)[:100]
        with self._lock:
            if (table, name) in self._known or len(self._known) >= MAX_SKIPPED_ROWS:
                return
            self._known.add((table, name))
            self.counts[table] += 1
        logger.warning("the row %s of %s cannot be read and is skipped: %s", name, table, type(error).__name__)


skipped_rows: Final = SkippedRows()
"""Shared by all stores of the process."""


def decode_text(raw: bytes) -> str:
    """Decode text from SQLite; invalid UTF-8 becomes surrogates, so that only its row is refused."""
    return raw.decode("utf-8", "surrogateescape")


def parse_item(state: str | bytes, item_id: str | None = None) -> Item:
    """Return a validated item.

    Args:
        state: The JSON of the item.
        item_id: The id of the row, if known.

    Raises:
        ValueError: The item is invalid. All errors that :func:`parse_rows` handles may be raised.
    """
    item = _decode_item(state)
    if not item.started_at:  # a row of an earlier version
        position = item.value if item.completed is None else item.completed
        item = replace(
            item, started_at=item.created_at, progressed_at=item.updated_at,
            progress=start_progress(position, item.updated_at),
        )  # fmt: skip
    progress = item.progress
    for instant in (item.created_at, item.updated_at, item.started_at, item.progressed_at, progress.at,
                    progress.idle_since):  # fmt: skip
        _check_instant(instant)
    stop_requested_at = None if item.stop_request is None else item.stop_request.at
    for optional in (item.ended_at, item.deadline_at, stop_requested_at):
        if optional is not None:
            _check_instant(optional)
    stuck_after = None if item.stuck_after is msgspec.UNSET else item.stuck_after
    for number in (item.completed, item.total, item.own, item.ttl, item.heartbeat_timeout, stuck_after, *progress):
        if number is not None and not -MAX_NUMBER < number < MAX_NUMBER:
            raise ValueError("a number is out of range")
    for part in item.parts.values():
        if not -MAX_NUMBER < part.completed < MAX_NUMBER:
            raise ValueError("a number is out of range")
    if not 0.0 <= item.value <= 1.0 or (item_id is not None and item.id != item_id):
        raise ValueError("a value is out of range, or the id is another one")
    return item


def parse_ended_run(state: str, status: str, ended_at: float) -> EndedRun:
    """Return a run of the history; raises like :func:`parse_item`."""
    _check_end(status, ended_at)
    return EndedRun(parse_item(state), status, ended_at)  # type: ignore[arg-type]  # checked above


def parse_history_row(n: int, status: str, ended_at: float, state: str) -> HistoryRow:
    """Return a row of the history; raises like :func:`parse_item`."""
    _check_end(status, ended_at)
    return HistoryRow(n, parse_item(state), status, ended_at)  # type: ignore[arg-type]


def build_run_columns(run: EndedRun) -> tuple[object, ...]:
    """Return the values of :data:`RUN_COLUMNS` for a new run."""
    item = run.item
    parent = item.parent or None
    return (
        item.id, item.run_id, parent, item.group, run.status, int(parent is not None and run.status != "failed"),
        item.started_at or item.created_at, run.ended_at, item.title, extract_error_line(item.error),
        None if item.stop_request is None else item.stop_request.by,
    )  # fmt: skip


RUN_COLUMNS: Final = (
    'id, run_id, parent, "group", status, is_inner, started_at, ended_at, title, error, stop_requested_by'
)
"""The columns of the table of runs, beside its number."""

RUN_ROW_COLUMNS: Final = (
    'r.n, r.id, r.run_id, r."group", r.status, r.started_at, r.ended_at, r.title, r.error, r.stop_requested_by'
)
"""The columns of a :class:`~.models.RunRow`."""


def parse_run_rows(rows: Iterable[Sequence[object]]) -> list[RunRow]:
    """Return the readable runs of rows with :data:`RUN_ROW_COLUMNS`."""
    return parse_rows("runs", rows, _parse_run_row)


def group_run_rows(rows: Iterable[Sequence[object]]) -> dict[str, list[RunRow]]:
    """Return the readable runs of each id, in the order of the rows."""
    runs = dict[str, list[RunRow]]()
    for run in parse_run_rows(rows):
        runs.setdefault(run.id, []).append(run)
    return runs


def _parse_run_row(*columns: Any) -> RunRow:
    row = RunRow(*columns)
    _check_end(row.status, row.ended_at)
    _check_instant(row.started_at)
    for text in (row.id, row.run_id, row.group or "", row.title, row.error or "", row.stop_requested_by or ""):
        if not text.isascii():
            text.encode()  # raises for text that is not UTF-8
    return row


def convert_record(type: type[T], fields: object) -> T:
    """Return a validated record of its fields; raises like :func:`parse_item`."""
    record = msgspec.convert(fields, type, strict=False)
    _encode(record)  # raises for text that is not UTF-8
    for name in type.__struct_fields__:  # type: ignore[attr-defined]
        value = getattr(record, name)
        if isinstance(value, float):
            _check_instant(value) if name.endswith(("at", "_until")) else _check_number(value)
    if isinstance(record, Notice):
        msgspec.json.decode(record.body, type=dict[str, object])
    return record


def parse_record(type: type[T], state: str) -> T:
    """Return a validated record of its JSON; raises like :func:`parse_item`."""
    return convert_record(type, msgspec.json.decode(state))


def parse_schedules(rows: Iterable[Sequence[object]]) -> list[ScheduleRecord]:
    """Return the readable schedules of rows with an id, a state, and the instants of the latest starts."""

    def parse(_: str, state: str, started_at: float, missed_at: float) -> ScheduleRecord:
        _check_instant(started_at)
        _check_instant(missed_at)
        fields = msgspec.json.decode(state, type=dict[str, object])
        return convert_record(ScheduleRecord, fields | {"started_at": started_at, "missed_at": missed_at})

    return parse_rows("schedules", rows, parse)


def parse_mark(rows: Iterable[Sequence[object]]) -> ScheduleMark:
    """Return the mark of a row with an id and a state; an empty one if there is none, or an unreadable one."""
    marks = parse_rows("schedule_monitor", rows, lambda _, state: parse_record(ScheduleMark, state))
    return marks[0] if marks else ScheduleMark()


def parse_rows(table: TableName, rows: Iterable[Sequence[object]], parse: Callable[..., T]) -> list[T]:
    """Return the results of all readable rows.

    Args:
        table: The table, for the log.
        rows: Rows whose first field identifies them.
        parse: Called with the fields of a row.
    """
    results = []
    for row in rows:
        try:
            results.append(parse(*row))
        except _ROW_ERRORS as error:
            skipped_rows.record(table, _get_row_id(row), error)
    return results


def read_history_page(
    fetch: Callable[[int, int], Sequence[Sequence[Any]]], after: int | None, limit: int
) -> list[HistoryRow]:
    """Return a page of the history, filled up for each unreadable row.

    Args:
        fetch: Returns the rows before ``n``, newest first, up to a number; the first field of a row is its ``n``.
        after: The row before the page; ``None`` for the first page.
        limit: The size of the page.
    """
    page = list[HistoryRow]()
    after = MAX_ROW if after is None else after
    while len(page) < limit:
        wanted = limit - len(page)
        rows = fetch(after, wanted)
        page += parse_rows("history", rows, parse_history_row)
        if len(rows) < wanted:
            break
        after = rows[-1][0]
    return page


def find_run_pattern(item_id: str) -> str | None:
    """Return the pattern of an id for the history; ``None`` if it is the id itself, which has an index already."""
    pattern = find_pattern(item_id)
    return None if pattern == item_id else pattern


def encode_tail(text: str) -> tuple[bytes, int]:
    """Return the stored form of an output tail, and the bytes that it counts for a quota."""
    data = zlib.compress(text.encode(), 1)
    return data, max(len(data), MIN_TAIL_SIZE)


def compute_trimmed_size(max_bytes: int) -> int:
    """Return the bytes of tails to keep of a quota that is exceeded: then it is not exceeded by the next one."""
    return max_bytes - max_bytes // 16


def parse_tail(row: Sequence[object] | None) -> StoredTail | None:
    """Return the tail of a row with an id, an instant and the stored form; ``None`` if it is missing or unreadable."""
    found = [] if row is None else parse_rows("tails", [row], _parse_tail)
    return found[0] if found else None


def _parse_tail(_: str, at: object, data: object) -> StoredTail:
    if not isinstance(at, float) or not isinstance(data, bytes) or not 0 <= at < MAX_INSTANT:
        raise TypeError("a tail has an instant and bytes")
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(data, MAX_TAIL_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not reader.eof and len(text) < MAX_TAIL_BYTES:
        raise ValueError("the text is not complete")
    return StoredTail(at, text.decode("utf-8", "replace"))


def parse_curves(rows: Iterable[Sequence[object]]) -> list[StoredCurve]:
    """Return the readable curves of rows with an id, a run id and a curve."""
    return parse_rows("curves", rows, _parse_curve)


def parse_former_runs(rows: Iterable[Sequence[Any]]) -> dict[str, list[HistoryRow]]:
    """Return the runs of each key, newest first, of rows with the fields of the history and the key."""
    runs = dict[str, list[HistoryRow]]()
    for *row, key in rows:
        for run in parse_rows("history", (row,), parse_history_row):
            runs.setdefault(key, []).append(run)
    return runs


def attach_curves(
    runs: Mapping[str, Iterable[HistoryRow]], curves: Mapping[tuple[str, str], Curve]
) -> dict[str, list[FormerRunRow]]:
    """Return runs with their curves."""
    return {
        key: [FormerRunRow(row.item, row.ended_at, curves.get((row.item.id, row.item.run_id))) for row in rows]
        for key, rows in runs.items()
    }


def _parse_curve(item_id: str, run_id: str, data: bytes) -> StoredCurve:
    return StoredCurve(item_id, run_id, decode_curve(data))


def combine_filters(*filters: tuple[str, object]) -> tuple[str, list[object]]:
    """Return the conditions whose value is not ``None``, each followed by ``AND``, and their values."""
    used = [(condition, value) for condition, value in filters if value is not None]
    return "".join(f"{condition} AND " for condition, _ in used), [value for _, value in used]


def parse_records(type: type[T], rows: Iterable[Sequence[object]], names: Sequence[str] = ()) -> list[T]:
    """Return the readable records of a table.

    Args:
        type: The type of the records, which determines the table.
        rows: Rows of the table.
        names: Field names in the order of the columns; by default the fields of the record.
    """
    names = names or type.__struct_fields__  # type: ignore[attr-defined]
    return parse_rows(_TABLE_NAMES[type], rows, lambda *row: convert_record(type, dict(zip(names, row, strict=True))))


def read_notices(rows: Iterable[Sequence[object]], limit: int) -> list[Notice]:
    """Return the first readable notices, without fetching further rows."""
    return list(islice((notice for row in rows for notice in parse_records(Notice, (row,))), limit))


def _get_row_id(row: Sequence[object]) -> object:
    # For a session, the id is the hash of a cookie. Its first characters are the public id.
    return row[0][:16] if isinstance(row[0], str) else row[0]


def _check_end(status: str, ended_at: float) -> None:
    if status not in _END_STATUSES:
        raise ValueError("the end is unknown")
    _check_instant(ended_at)


def _check_instant(instant: float) -> None:
    if not 0.0 <= instant < MAX_INSTANT:
        raise ValueError("an instant is out of range")


def _check_number(number: float) -> None:
    if not math.isfinite(number):
        raise ValueError("a number is not finite")
