"""Schedules for tests."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from progressbar_tracker.server.models import ScheduleRecord
from tests.support.clock import START_TIME


def make_schedule(schedule_id: str = "job", **fields: object) -> ScheduleRecord:
    """Return a schedule that begins at the start of the tests' clock, hourly by default."""
    known = {
        "id": schedule_id, "owner_id": "k", "owner": "ci", "created_at": START_TIME, "updated_at": START_TIME,
        "since": START_TIME, "grace": 300.0,
    }  # fmt: skip
    if "every" not in fields:
        known["cron"] = "0 * * * *"
    return ScheduleRecord(**(known | fields))


def local(text: str, timezone: str = "Europe/Berlin", fold: int = 0) -> float:
    """Return the instant of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone), fold=fold).timestamp()
