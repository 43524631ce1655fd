"""The page of the schedules with its form, and the schedule of an item for its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from progressbar_tracker._text import format_duration
from progressbar_tracker.server.access.authorization import find_scope
from progressbar_tracker.server.api.schedules import MAX_SCHEDULE_PAGE
from progressbar_tracker.server.http.request import get_query_text
from progressbar_tracker.server.items.serializer import item_url
from progressbar_tracker.server.schedules import recurrence

from .admin import format_time, list_groups
from .templates import render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.access.authorization import Principal
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response
    from progressbar_tracker.server.models import ScheduleRecord


TIME_UNITS: Final = {86_400: "days", 3_600: "hours", 60: "minutes", 1: "seconds"}
"""The units of times in the form, by their seconds."""


async def show_schedules(request: Request) -> Response:
    """``GET /schedules?after=&id=&set=``: when items are expected to start, by id, and a form to set it.

    ``id`` is the item whose schedule the form shows, and ``set`` the one that it has set.
    """
    query, services, principal = request.parse_query(), request.services, request.principal
    now, after = services.now(), get_query_text(query, "after")
    records = services.schedules.page(after=after, limit=MAX_SCHEDULE_PAGE + 1)
    shown = records[:MAX_SCHEDULE_PAGE]
    edited_id, set_schedule = get_query_text(query, "id") or "", services.schedules.get(query.get("set", ""))
    edited = services.schedules.get(edited_id)
    may_set = may_change_schedule(principal, edited)
    return render_page(
        request,
        "schedules.html",
        schedules=[
            present_schedule(record, now) | {"may_change": may_change_schedule(principal, record)} for record in shown
        ],
        next_query=urlencode({"after": shown[-1].id}) if len(records) > len(shown) else "",
        may_set=may_set,
        form=_present_form(edited, edited_id),
        set_schedule=None if set_schedule is None else present_schedule(set_schedule, now),
        groups=list_groups(services.board) if may_set else [],
        time_units=TIME_UNITS,
    )


def may_change_schedule(principal: Principal, record: ScheduleRecord | None) -> bool:
    """Return whether the reader may change a schedule, or set a new one."""
    scope = find_scope(principal, "update")
    return scope == "all" or (scope == "own" and (record is None or record.owner_id == principal.id))


def _present_form(record: ScheduleRecord | None, item_id: str) -> dict[str, object]:
    """Return the values of the form: those of a schedule, or of a new one."""
    every = None if record is None else record.every
    return {
        "id": item_id,
        "is_new": record is None,
        "kind": "cron" if every is None else "every",
        "cron": "" if record is None else record.cron or "",
        "timezone": "" if record is None else record.timezone,
        "every": _split_seconds(every or 3_600.0),
        "grace": _split_seconds(recurrence.DEFAULT_GRACE_SECONDS if record is None else record.grace),
        "group": "" if record is None else record.group or "",
        "notify": "" if record is None else ", ".join(record.notify),
    }


def _split_seconds(seconds: float) -> tuple[int, int]:
    """Return whole seconds as a number and the largest unit that divides them.

    >>> _split_seconds(5400.0), _split_seconds(7200.0)
    ((90, 60), (2, 3600))
    """
    unit = next(unit for unit in TIME_UNITS if seconds % unit == 0)
    return int(seconds // unit), unit


def present_schedule(record: ScheduleRecord, now: float) -> dict[str, object]:
    """Return a schedule as the templates show it."""
    next_at = recurrence.find_shown_start(record, now)
    return {
        "id": record.id,
        "url": item_url(record.id),
        "next": None if next_at is None else format_time(next_at),
        "is_open": next_at is not None and next_at <= now,
        "started": format_time(record.started_at) if record.started_at else None,
        "missed": format_time(record.missed_at) if recurrence.is_missed(record) else None,
        "rule": f"every {format_duration(record.every)}" if record.every is not None else record.cron,
        "timezone": record.timezone if record.every is None else "",
        "grace": format_duration(record.grace),
        "owner": record.owner,
        "notify": ", ".join(record.notify),
    }
