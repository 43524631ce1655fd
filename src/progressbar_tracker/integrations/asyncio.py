"""asyncio: ``as_completed`` and ``gather`` with a bar. An ``async for`` needs no more than ``track()``.

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
    from progressbar_tracker._tracking.tracker import HasSender, TrackOptions

__all__ = ["as_completed", "gather"]

T = TypeVar("T")


def as_completed(
    aws: Iterable[Awaitable[T]],
    *,
    timeout: float | None = None,
    client: HasSender | None = None,
    **options: Unpack[TrackOptions],
) -> Tracker[Awaitable[T]]:
    """Return ``asyncio.as_completed()`` with a bar, for one loop. From Python 3.13 on the loop may be an ``async for``.

    The count is that of what the loop is through with; as with ``track()`` the one at hand does not count yet.

    Args:
        aws: What to await.
        timeout: Seconds after which the loop raises ``TimeoutError``.
        client: As ``track()`` has it.
        **options: Those of ``track()``.

    Raises:
        TypeError, ValueError: As ``track()``. Nothing is awaited then.

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
    track(client=client, **options)  # raises what there is to be raised, before anything is begun
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
    """Await all at once, with a bar of those that are done, in whatever order they are.

    It ends as a block does: *failed* with the text of the exception that is raised, *stopped* when it is cancelled.

    Args:
        *aws: What to await.
        return_exceptions: Return exceptions among the results, in place of raising the first.
        client: As ``track()`` has it.
        **options: Those of ``track()``.

    Returns:
        The results in the order of ``aws``.

    Raises:
        TypeError, ValueError: As ``track()``.

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

        def done(future: asyncio.Future[T]) -> None:
            if not future.cancelled():
                bar.advance()

        futures: dict[int, asyncio.Future[T]] = {}
        try:
            for one in aws:
                if id(one) not in futures:  # the same twice is done once, as asyncio has it
                    futures[id(one)] = asyncio.ensure_future(one)
                    futures[id(one)].add_done_callback(done)
            return await asyncio.gather(*[futures[id(one)] for one in aws], return_exceptions=return_exceptions)
        finally:
            for future in futures.values():
                future.remove_done_callback(done)  # what goes on after the first exception is not counted any more
