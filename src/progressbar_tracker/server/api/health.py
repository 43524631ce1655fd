"""Is the server there, can it do its work, and what is it doing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from progressbar_tracker.server import metrics
from progressbar_tracker.server.http.response import Reply, answer
from progressbar_tracker.server.models import Probe
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Call


async def alive(call: Call) -> Reply:
    """``GET /healthz``."""
    return answer({"status": "ok", "boot_id": call.services.boot_id})


async def ready(call: Call) -> Reply:
    """``GET /readyz``: 200 if the disk took a write, else 503."""
    if call.services.stopping:
        raise ProblemError("unavailable", "the server is stopping", retry_after=1)
    probe = call.services.store.commit([Probe(call.services.clock())])
    try:
        await asyncio.wait_for(asyncio.wrap_future(probe), 2.0)
    except (StoreError, TimeoutError) as error:
        detail = error.detail if isinstance(error, StoreError) else None
        raise ProblemError("unavailable", detail or "the server cannot write to its database", retry_after=5) from None
    return answer({"status": "ok"})


async def measured(call: Call) -> Reply:
    """``GET /metrics``: in Prometheus's text."""
    services = call.services
    now = services.clock()
    items = services.shown.all()
    count = metrics.Count()
    for start in range(0, len(items), metrics.SLICE):
        if start:
            await asyncio.sleep(0)
        count.add(items[start : start + metrics.SLICE], now)
    most = services.settings.metrics_items
    listed = services.shown.listed(limit=most) if most else []
    return Reply(body=services.metrics.exposed(count, listed, now), type=metrics.TYPE.encode())
