"""The page of the schedules, and the schedule of an item for its page."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from progressbar_tracker._text import format_duration
from progressbar_tracker.server.api.schedules import MAX_SCHEDULE_PAGE
from progressbar_tracker.server.http.request import get_query_text
from progressbar_tracker.server.items.serializer import item_url
from progressbar_tracker.server.schedules import recurrence

from .admin import format_time
from .templates import render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response
    from progressbar_tracker.server.models import ScheduleRecord


async def show_schedules(request: Request) -> Response:
    """``GET /schedules?after=``: when items are expected to start, by id."""
    now, after = request.services.now(), get_query_text(request.parse_query(), "after")
    records = request.services.schedules.page(after=after, limit=MAX_SCHEDULE_PAGE + 1)
    shown = records[:MAX_SCHEDULE_PAGE]
    return render_page(
        request,
        "schedules.html",
        schedules=[present_schedule(record, now) for record in shown],
        next_query=urlencode({"after": shown[-1].id}) if len(records) > len(shown) else "",
    )


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
