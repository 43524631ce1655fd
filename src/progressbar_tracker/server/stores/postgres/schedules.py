"""Write and read schedules: rows with revisions, which the servers of a database follow.

The row of the monitor is locked by the first write of a transaction, so revisions become visible in order. A deletion
leaves no row: servers with an older revision read all schedules again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from progressbar_tracker.server.mutations import DropSchedule, MarkSchedules, SaveSchedule, TouchSchedule
from progressbar_tracker.server.stores.reading import parse_mark, parse_schedules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from progressbar_tracker.server.models import ScheduleMark, ScheduleRecord

    from .database import Connection
    from .rows import Cursor

ScheduleWrite: TypeAlias = SaveSchedule | DropSchedule | TouchSchedule | MarkSchedules

SCHEDULE_WRITES: Final = (SaveSchedule, DropSchedule, TouchSchedule, MarkSchedules)
"""The mutations of schedules, as a tuple of types."""

_encode = msgspec.json.Encoder().encode

_SCHEDULE_COLUMNS: Final = "id, state, started_at, missed_at"


class ScheduleRevisions(NamedTuple):
    """The revision of the latest change, and that of the latest deletion."""

    rev: int
    dropped_rev: int


def write_schedules(cursor: Cursor, writes: Sequence[ScheduleWrite]) -> None:
    """Execute mutations of schedules in order; the touched ones in one statement, because there may be thousands."""
    changes = [write for write in writes if not isinstance(write, MarkSchedules)]
    if changes:
        cursor.execute("UPDATE schedule_monitor SET rev = rev + 1 RETURNING rev")
        (rev,) = cursor.fetchone() or (0,)
        touched = dict[str, TouchSchedule]()
        for change in changes:
            match change:
                case SaveSchedule(schedule):
                    cursor.execute(
                        f"INSERT INTO schedules ({_SCHEDULE_COLUMNS}, rev) VALUES (%s, %s, %s, %s, %s) "
                        "ON CONFLICT (id) DO UPDATE SET state = excluded.state, rev = excluded.rev",
                        [schedule.id, _encode(schedule).decode(), schedule.started_at, schedule.missed_at, rev],
                    )
                case DropSchedule(schedule_id):
                    cursor.execute("DELETE FROM schedules WHERE id = %s", [schedule_id])
                    cursor.execute("UPDATE schedule_monitor SET dropped_rev = %s", [rev])
                case TouchSchedule():
                    touched[change.id] = change
        if touched:
            rows = [(touch.id, touch.started_at, touch.missed_at) for touch in touched.values()]
            cursor.execute(
                "UPDATE schedules SET started_at = (row->>1)::float8, missed_at = (row->>2)::float8, rev = %s "
                "FROM json_array_elements(%s::json) AS rows (row) WHERE id = row->>0",
                [rev, _encode(rows).decode()],
            )
    for write in writes:
        if isinstance(write, MarkSchedules):
            cursor.execute(
                "UPDATE schedule_monitor SET state = %s",
                [_encode(write.mark).decode()],
            )


def read_all_schedules(connection: Connection) -> tuple[list[ScheduleRecord], ScheduleRevisions]:
    """Return all schedules and their revisions, in one transaction."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = connection.execute("SELECT rev, dropped_rev FROM schedule_monitor").fetchone() or (0, 0)
        records = parse_schedules(connection.execute(f"SELECT {_SCHEDULE_COLUMNS} FROM schedules"))
    return records, ScheduleRevisions(*row)


def read_changed_schedules(connection: Connection, rev: int) -> list[ScheduleRecord]:
    """Return the schedules that have changed after a revision."""
    return parse_schedules(connection.execute(f"SELECT {_SCHEDULE_COLUMNS} FROM schedules WHERE rev > %s", [rev]))


def read_schedules(connection: Connection, ids: Iterable[str]) -> list[ScheduleRecord]:
    """Return the schedules of some ids."""
    return parse_schedules(
        connection.execute(f"SELECT {_SCHEDULE_COLUMNS} FROM schedules WHERE id = ANY(%s)", [list(ids)])
    )


def read_mark(connection: Connection) -> ScheduleMark:
    """Return the progress of the monitor."""
    return parse_mark(connection.execute("SELECT one, state FROM schedule_monitor WHERE state IS NOT NULL"))
