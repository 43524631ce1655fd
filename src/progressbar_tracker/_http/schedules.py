"""The calls for schedules, as exchanges. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker._models import check_id

from .exchanges import request_json, request_mapping, request_rows
from .messages import Request, encode_json, quote_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .exchanges import Exchange

MAX_SCHEDULE_PAGE: Final = 1000  # schedules of one page
MAX_LISTED_SCHEDULES: Final = 100_000  # more than a server has


def request_schedule(item_id: str, fields: Mapping[str, object]) -> Exchange[dict[str, object]]:
    """Set the schedule of an id, and return it."""
    check_id(item_id, "item_id")
    return (
        yield from request_mapping(Request("PUT", f"api/v1/schedules/{quote_id(item_id)}", encode_json(dict(fields))))
    )


def request_schedule_deletion(item_id: str) -> Exchange[object]:
    """Delete the schedule of an id."""
    check_id(item_id, "item_id")
    return (yield from request_json(Request("DELETE", f"api/v1/schedules/{quote_id(item_id)}")))


def request_schedules() -> Exchange[list[dict[str, object]]]:
    """List all schedules of a server, by id."""
    schedules, _ = yield from request_rows("api/v1/schedules", "schedules", {}, MAX_LISTED_SCHEDULES, MAX_SCHEDULE_PAGE)
    return schedules
