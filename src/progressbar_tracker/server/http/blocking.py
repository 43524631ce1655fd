"""Blocking work of a request: in the pool of its purpose, and only while the client is there."""

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
"""Seconds after which a client may try again if a pool is full."""


class ClientGoneError(ProblemError):
    """The client has disconnected, and nobody reads the answer."""

    def __init__(self) -> None:
        super().__init__("bad-request", "the connection was closed before the answer")


async def run_in_pool(
    request: Request, pool: Pool, work: Callable[[Cancellation], T], *, priority_holder: str | None = None
) -> T:
    """Return what blocking work returns; it is interrupted if this task is cancelled.

    For the parts of a stream, of which the connection is watched already.

    Args:
        request: The request.
        pool: Where the work is done.
        work: Is called in a thread, and hands the cancellation to the store.
        priority_holder: A holder that is known, whose turn is the next; by default, the key or the address has to wait.

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
        why = "the server has too much of this kind to do at the moment"
        raise ProblemError("unavailable", why, retry_after=RETRY_AFTER_SECONDS) from error
    except CancelledWorkError as error:
        raise ClientGoneError from error


async def run_while_connected(
    request: Request, pool: Pool, work: Callable[[Cancellation], T], *, priority_holder: str | None = None
) -> T:
    """Do the same, and leave the queue or interrupt the work once the client disconnects.

    Raises:
        ClientGoneError: It has disconnected.
        ProblemError: ``unavailable`` if the pool is full.
    """
    job = asyncio.ensure_future(run_in_pool(request, pool, work, priority_holder=priority_holder))
    gone = asyncio.ensure_future(request.wait_for_disconnect())
    try:
        await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise ClientGoneError
        return job.result()
    finally:
        for task in (job, gone):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
