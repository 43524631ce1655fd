"""Liveness, readiness and metrics of the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from progressbar_tracker.server import metrics
from progressbar_tracker.server.http.response import Response, json_response
from progressbar_tracker.server.mutations import Probe
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request


async def get_health(request: Request) -> Response:
    """``GET /healthz``."""
    return json_response({"status": "ok", "boot_id": request.services.epoch})


async def check_readiness(request: Request) -> Response:
    """``GET /readyz``: 200 after a successful write to the database, else 503."""
    if request.services.is_draining:
        raise ProblemError("unavailable", "the server is stopping", retry_after=1)
    probe = request.services.store.commit([Probe(request.services.clock())])
    try:
        await asyncio.wait_for(asyncio.wrap_future(probe), 2.0)
    except (StoreError, TimeoutError) as error:
        detail = error.detail if isinstance(error, StoreError) else None
        raise ProblemError("unavailable", detail or "the server cannot write to its database", retry_after=5) from None
    return json_response({"status": "ok"})


async def get_metrics(request: Request) -> Response:
    """``GET /metrics``: in the text format of Prometheus."""
    services = request.services
    now = services.clock()
    items = services.read_board.snapshot()
    counts = metrics.ItemCounts(request.services.conditions)
    for start in range(0, len(items), metrics.ITEMS_PER_SLICE):
        if start:
            await asyncio.sleep(0)
        counts.add(items[start : start + metrics.ITEMS_PER_SLICE], now)
    limit = services.settings.metrics_items
    listed = services.read_board.page(limit=limit) if limit else []
    return Response(body=services.metrics.render(counts, listed, now), content_type=metrics.CONTENT_TYPE.encode())
