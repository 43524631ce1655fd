"""How commits come back to the loop: all of them, each with its own outcome, in one turn."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from progressbar_tracker.server.stores.landing import Landing


def test_waiters_of_one_commit_are_woken_together_each_with_its_outcome() -> None:
    async def main() -> list[object]:
        landing, futures = Landing(), [Future[None]() for _ in range(5)]
        waiting = [asyncio.ensure_future(landing.of(future, 10)) for future in futures]
        await asyncio.sleep(0)

        def commit() -> None:
            for n, future in enumerate(futures):
                future.set_exception(OSError(n)) if n == 3 else future.set_result(None)

        thread = threading.Thread(target=commit)
        thread.start()
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
        thread.join(10)
        return outcomes

    outcomes = asyncio.run(main())
    assert outcomes[:3] + outcomes[4:] == [None] * 4
    assert isinstance(outcomes[3], OSError)


def test_a_commit_that_does_not_come_back_is_given_up() -> None:
    async def main() -> None:
        landing, future = Landing(), Future[None]()
        with pytest.raises(TimeoutError):
            await landing.of(future, 0.01)
        future.set_result(None)  # nobody waits for it any more
        await asyncio.sleep(0)
        await landing.of(future, 10)

    asyncio.run(main())


def test_who_goes_away_is_not_missed() -> None:
    async def main() -> None:
        landing, future = Landing(), Future[None]()
        waiting = asyncio.ensure_future(landing.of(future, 10))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        future.set_exception(OSError())
        await asyncio.sleep(0)

    asyncio.run(main())
