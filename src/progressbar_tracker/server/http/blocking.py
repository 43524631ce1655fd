"""Run the blocking work of a request in the pool for its purpose, while the client is connected."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

from progressbar_tracker.server.pools import Cancellation, CancelledWorkError, Pool, PoolFullError
from progressbar_tracker.server.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import Request

T = TypeVar("T")

RETRY_AFTER_SECONDS: Final = 2
"""Sent as Retry-After if a pool is full."""


class ClientGoneError(ProblemError):
    """The client has disconnected, so that no response can be sent."""

    def __init__(self) -> None:
        super().__init__("bad-request", "the connection was closed before the answer")


async def run_in_pool(
    request: Request, pool: Pool, work: Callable[[Cancellation], T], *, priority_holder: str | None = None
) -> T:
    """Return the result of blocking work; interrupt it if this task is cancelled.

    For parts of a stream, whose endpoint watches the connection already.

    Args:
        request: The request.
        pool: The pool of threads.
        work: Called in a thread; passes the cancellation to the store.
        priority_holder: A known holder that goes first in the queue; by default, the request queues under its holder.

    Raises:
        ProblemError: ``unavailable`` if the pool is full.
    """
    cancellation = Cancellation()
    try:
        return await pool.run(
            lambda: work(cancellation),
            priority_holder or request.holder,
            cancellation,
            priority=priority_holder is not None,
        )
    except PoolFullError as error:
        detail = "the server has too much of this kind to do at the moment"
        raise ProblemError("unavailable", detail, retry_after=RETRY_AFTER_SECONDS) from error
    except CancelledWorkError as error:
        raise ClientGoneError from error


async def run_while_connected(
    request: Request, pool: Pool, work: Callable[[Cancellation], T], *, priority_holder: str | None = None
) -> T:
    """Return the result as :func:`run_in_pool` does; leave the queue or interrupt the work if the client disconnects.

    Raises:
        ClientGoneError: The client has disconnected.
        ProblemError: ``unavailable`` if the pool is full.
    """
    work_task = asyncio.ensure_future(run_in_pool(request, pool, work, priority_holder=priority_holder))
    disconnect_task = asyncio.ensure_future(request.wait_for_disconnect())
    try:
        await asyncio.wait({work_task, disconnect_task}, return_when=asyncio.FIRST_COMPLETED)
        if not work_task.done():
            raise ClientGoneError
        return work_task.result()
    finally:
        for task in (work_task, disconnect_task):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
