"""asyncio: ``as_completed`` and ``gather`` with a bar. For an ``async for`` use ``track()``.

from progressbar_tracker.integrations.asyncio import as_completed, gather

for page in as_completed([fetch(url) for url in urls], id="pages"):
    print(await page)

pages = await gather(*[fetch(url) for url in urls], id="pages")
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, TypeVar, overload

from progressbar_tracker import track

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from typing import Unpack

    from progressbar_tracker import Tracker
    from progressbar_tracker._tracking.creation import HasSender
    from progressbar_tracker._tracking.tracker import TrackOptions

__all__ = ["as_completed", "gather"]

T = TypeVar("T")


def as_completed(
    aws: Iterable[Awaitable[T]],
    *,
    timeout: float | None = None,
    client: HasSender | None = None,
    **options: Unpack[TrackOptions],
) -> Tracker[Awaitable[T]]:
    """Return ``asyncio.as_completed()`` with a bar, for one loop. Python 3.13 also allows an ``async for``.

    The bar counts the passes of the loop that are complete, as in ``track()``.

    Args:
        aws: The awaitables.
        timeout: Seconds after which the loop raises ``TimeoutError``.
        client: A ``ProgressBar`` that replaces the configured server and key.
        **options: Options of ``track()``.

    Raises:
        TypeError, ValueError: As in ``track()``, before any awaitable starts.

    Example:
        >>> async def double(n: int) -> int:
        ...     return 2 * n
        >>> async def main() -> int:
        ...     return sum([await done for done in as_completed([double(1), double(2)], id="doubles", display=False)])
        >>> asyncio.run(main())
        6
    """
    awaitables = list(aws)
    options.setdefault("total", len(set(map(id, awaitables))))
    track(client=client, **options)  # raises for invalid options before any awaitable starts
    return track(asyncio.as_completed(awaitables, timeout=timeout), client=client, **options)


@overload
async def gather(
    *aws: Awaitable[T],
    return_exceptions: Literal[False] = False,
    client: HasSender | None = None,
    **options: Unpack[TrackOptions],
) -> list[T]: ...
@overload
async def gather(
    *aws: Awaitable[T],
    return_exceptions: bool,
    client: HasSender | None = None,
    **options: Unpack[TrackOptions],
) -> list[T | BaseException]: ...
async def gather(
    *aws: Awaitable[T],
    return_exceptions: bool = False,
    client: HasSender | None = None,
    **options: Unpack[TrackOptions],
) -> list[T] | list[T | BaseException]:
    """Run ``asyncio.gather()`` with a bar of the awaitables that are done.

    The item ends like a block: *failed* with the text of an exception, *stopped* on cancellation.

    Args:
        *aws: The awaitables.
        return_exceptions: Return exceptions among the results instead of raising the first.
        client: A ``ProgressBar`` that replaces the configured server and key.
        **options: Options of ``track()``.

    Returns:
        The results in the order of ``aws``.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> async def double(n: int) -> int:
        ...     return 2 * n
        >>> async def main() -> list[int]:
        ...     return await gather(double(1), double(2), id="doubles", display=False)
        >>> asyncio.run(main())
        [2, 4]
    """
    options.setdefault("total", len(set(map(id, aws))))
    with track(client=client, **options) as bar:

        def count_done(future: asyncio.Future[T]) -> None:
            if not future.cancelled():
                bar.advance()

        futures: dict[int, asyncio.Future[T]] = {}
        try:
            for awaitable in aws:
                if id(awaitable) not in futures:  # asyncio runs a repeated awaitable once
                    futures[id(awaitable)] = asyncio.ensure_future(awaitable)
                    futures[id(awaitable)].add_done_callback(count_done)
            return await asyncio.gather(
                *[futures[id(awaitable)] for awaitable in aws], return_exceptions=return_exceptions
            )
        finally:
            for future in futures.values():
                future.remove_done_callback(count_done)  # after the first exception the others are not counted
