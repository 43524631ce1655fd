"""Mask the output of programs in the writes of a request, without a delay for other requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.http.blocking import run_in_pool
from progressbar_tracker.server.items.output import MAX_INLINE_LENGTH, clean_output, measure_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.items.validation import WriteFields


async def mask_output(request: Request, writes: Sequence[WriteFields]) -> None:
    """Mask the texts of checked writes that come from output. The request is authorized again after it.

    Raises:
        ProblemError: ``unavailable`` if too many requests wait for it.
    """
    length = measure_output(writes)
    if length <= MAX_INLINE_LENGTH:
        if length:
            clean_output(writes)
        return
    await run_in_pool(request, request.services.pools.output, lambda _: clean_output(writes))
    request.reauthorize()
