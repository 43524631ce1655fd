"""The page on which an administrator looks after keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._models import KEY_TYPES
from progressbar_tracker.server.dashboard.admin import shown_key

from .html import own_url, page

if TYPE_CHECKING:
    from .http import Call, Reply


async def keys(call: Call) -> Reply:
    """``GET /keys``. What is changed here goes through ``/api/v1/keys``."""
    services = call.services
    services.refresh_keys()
    now = services.clock()
    shown = [shown_key(record, now) for record in reversed(services.ring.all())]
    return page(
        call,
        "keys.html",
        types=KEY_TYPES,
        url=own_url(call),
        keys=[key for key in shown if key["works"]],
        former=[key for key in shown if not key["works"]],
    )
