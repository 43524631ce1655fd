"""Is the server there, and can it do its work."""

from __future__ import annotations

import asyncio

from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.records import Probe
from progressbar_tracker.server.stores.base import StoreError

from .http import Call, Reply, answer


async def alive(call: Call) -> Reply:
    """``GET /healthz``."""
    return answer({"status": "ok", "boot_id": call.services.boot_id})


async def ready(call: Call) -> Reply:
    """``GET /readyz``: 200 if the disk took a write, else 503."""
    probe = call.services.store.commit([Probe(call.services.clock())])
    try:
        await asyncio.wait_for(asyncio.wrap_future(probe), 2.0)
    except (StoreError, TimeoutError):
        raise ProblemError("unavailable", "the server cannot write to its database", retry_after=5) from None
    return answer({"status": "ok"})
