"""Schedules: list, read, set and delete when items are expected to start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from progressbar_tracker._models import MAX_GROUP_LENGTH, FieldError, check_notify, check_text
from progressbar_tracker.server import audit_log
from progressbar_tracker.server.access.authorization import authorize
from progressbar_tracker.server.http.request import get_query_text
from progressbar_tracker.server.http.response import Response, json_response
from progressbar_tracker.server.models import ScheduleRecord, optional_rfc3339, rfc3339
from progressbar_tracker.server.mutations import DropSchedule, SaveSchedule
from progressbar_tracker.server.problems import ProblemError, field_problem
from progressbar_tracker.server.schedules import recurrence, table

from .items import build_next_link, parse_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker.server.access.authorization import Action
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.mutations import Write
    from progressbar_tracker.server.services import Services

DEFAULT_SCHEDULE_PAGE: Final = 100
MAX_SCHEDULE_PAGE: Final = 1000


async def list_schedules(request: Request) -> Response:
    """``GET /api/v1/schedules``."""
    query, services = request.parse_query(), request.services
    limit = parse_limit(query, DEFAULT_SCHEDULE_PAGE, MAX_SCHEDULE_PAGE)
    now = services.now()
    if "id" in query:
        known = services.schedules.get(query["id"])
        records = [] if known is None else [known]
    else:
        records = services.schedules.page(after=get_query_text(query, "after"), limit=limit + 1)
    headers = [build_next_link(request, query, records[limit - 1].id)] if len(records) > limit else []
    return json_response({"schedules": [serialize_schedule(record, now) for record in records[:limit]]}, 200, headers)


async def get_schedule(request: Request) -> Response:
    """``GET /api/v1/schedules/{id}``."""
    schedule_id = request.parse_item_id()
    record = await _find_schedule(request.services, schedule_id)
    if record is None:
        raise _missing_problem(schedule_id)
    return json_response(serialize_schedule(record, request.services.now()))


async def put_schedule(request: Request) -> Response:
    """``PUT /api/v1/schedules/{id}``."""
    schedule_id, services = request.parse_item_id(), request.services
    body = await request.read_json()
    known = await _find_schedule(services, schedule_id)
    request.reauthorize()
    _authorize_owner(request, schedule_id, known)
    if known is None and len(services.schedules) >= table.MAX_SCHEDULES:
        raise ProblemError("too-many-schedules", f"there are {table.MAX_SCHEDULES} schedules, the most there may be")
    now = services.now()
    try:
        record = _parse_schedule(request, schedule_id, body, known, now)
    except FieldError as error:
        raise field_problem(error) from None
    undo: list[Write] = [DropSchedule(schedule_id) if known is None else SaveSchedule(known)]
    await services.unit_of_work.commit([SaveSchedule(record)], lambda: undo)
    services.schedules.put(record)
    audit_log.log_schedule("schedule set", record, request.principal.id)
    return json_response(serialize_schedule(record, now), 201 if known is None else 200)


async def delete_schedule(request: Request) -> Response:
    """``DELETE /api/v1/schedules/{id}``."""
    schedule_id, services = request.parse_item_id(), request.services
    known = await _find_schedule(services, schedule_id)
    request.reauthorize()
    if known is None:
        raise _missing_problem(schedule_id)
    _authorize_owner(request, schedule_id, known, "delete")
    await services.unit_of_work.commit([DropSchedule(schedule_id)])
    services.schedules.drop(schedule_id)
    audit_log.log_schedule("schedule deleted", known, request.principal.id)
    return json_response(serialize_schedule(known, services.now()))


def serialize_schedule(record: ScheduleRecord, now: float) -> dict[str, object]:
    """Return a schedule as the API shows it."""
    return {
        "id": record.id,
        "cron": record.cron,
        "every": record.every,
        "timezone": record.timezone,
        "grace": record.grace,
        "group": record.group,
        "notify": record.notify,
        "owner": record.owner,
        "created_at": rfc3339(record.created_at),
        "updated_at": rfc3339(record.updated_at),
        "next_at": optional_rfc3339(recurrence.find_shown_start(record, now)),
        "started_at": optional_rfc3339(record.started_at or None),
        "missed_at": optional_rfc3339(record.missed_at or None),
        "missed": recurrence.is_missed(record),
    }


async def _find_schedule(services: Services, schedule_id: str) -> ScheduleRecord | None:
    """Return a schedule; with other servers on the database, the stored one.

    Raises:
        ProblemError: ``unavailable``.
    """
    if services.cluster is None:
        return services.schedules.get(schedule_id)
    return await services.cluster.read_schedule(schedule_id)


def _missing_problem(schedule_id: str) -> ProblemError:
    return ProblemError("not-found", f"there is no schedule of {schedule_id!r}")


def _authorize_owner(
    request: Request, schedule_id: str, known: ScheduleRecord | None, action: Action = "update"
) -> None:
    """Check that the client may change a schedule, and that the item of its id is not that of another key.

    Raises:
        ProblemError: ``forbidden``.
    """
    authorize(request.principal, action, None if known is None else known.owner_id)
    if known is None and (item := request.services.board.get(schedule_id)) is not None:
        authorize(request.principal, action, item.owner_id)


def _parse_schedule(
    request: Request, schedule_id: str, body: Mapping[str, object], known: ScheduleRecord | None, now: float
) -> ScheduleRecord:
    """Return the schedule of a body.

    Raises:
        FieldError: A field breaks a rule.
    """
    cron, every, timezone = body.get("cron"), body.get("every"), body.get("timezone")
    if (cron is None) is (every is None):
        raise FieldError("cron", "a schedule has either cron or every: name one of the two")
    if every is not None and timezone is not None:
        raise FieldError("timezone", "timezone belongs to cron: every counts seconds")
    grace, group, notify = body.get("grace"), body.get("group"), body.get("notify")
    principal = request.principal
    record = ScheduleRecord(
        id=schedule_id,
        owner_id=principal.id if known is None else known.owner_id,
        owner=principal.name if known is None else known.owner,
        created_at=now if known is None else known.created_at,
        updated_at=now,
        since=now,
        cron=None if cron is None else recurrence.check_cron(cron),
        every=None if every is None else recurrence.check_every(every),
        timezone="UTC" if timezone is None else recurrence.check_timezone(timezone),
        grace=recurrence.DEFAULT_GRACE_SECONDS if grace is None else recurrence.check_grace(grace),
        group=None if group is None else check_text("group", group, MAX_GROUP_LENGTH, min_length=1),
        notify=() if notify is None else check_notify(notify),
    )
    if known is None:
        return record
    if (record.cron, record.every, record.timezone) == (known.cron, known.every, known.timezone):
        record = replace(record, since=known.since)
    return replace(record, started_at=known.started_at, missed_at=known.missed_at)
