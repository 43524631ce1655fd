"""The committer: one wake-up per batch in each direction, and an outcome per waiter."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from progressbar_tracker.server.mutations import DropItem, Write
from progressbar_tracker.server.stores.base import StoreError
from progressbar_tracker.server.stores.committer import Committer, CommitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class FakeStore:
    """Collects submitted writes until a test calls their callbacks."""

    def __init__(self) -> None:
        self.written_ids: list[str] = []
        self.callbacks: list[Callable[[Exception | None], object]] = []
        self.wake_event = asyncio.Event()

    def submit(self, writes: Sequence[Write], done: Callable[[Exception | None], object], /) -> None:
        self.written_ids += [write.id for write in writes if isinstance(write, DropItem)]
        self.callbacks.append(done)

    def wake(self) -> None:
        self.written_ids.append("wake")
        self.wake_event.set()


def start_commits(committer: Committer, count: int) -> list[asyncio.Future[None]]:
    return [asyncio.ensure_future(committer.commit([DropItem(str(n))])) for n in range(count)]


def test_store_is_woken_once_per_turn_of_the_loop() -> None:
    async def main() -> list[str]:
        store = FakeStore()
        committer = Committer(store, 10)
        for count in (3, 1):
            waiting = start_commits(committer, count)
            await asyncio.wait_for(store.wake_event.wait(), 10)
            store.wake_event.clear()
            while store.callbacks:
                store.callbacks.pop()(None)
            await asyncio.wait_for(asyncio.gather(*waiting), 10)
        return store.written_ids

    assert asyncio.run(main()) == ["0", "1", "2", "wake", "0", "wake"]


def test_waiters_of_one_commit_get_their_own_outcomes() -> None:
    async def main() -> list[object]:
        store = FakeStore()
        waiting = start_commits(Committer(store, 10), 5)
        await asyncio.wait_for(store.wake_event.wait(), 10)

        def commit() -> None:
            for n, done in enumerate(store.callbacks):
                done(StoreError(str(n)) if n == 3 else None)

        thread = threading.Thread(target=commit)
        thread.start()
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
        thread.join(60)
        return outcomes

    outcomes = asyncio.run(main())
    assert outcomes[:3] + outcomes[4:] == [None] * 4
    assert isinstance(outcomes[3], StoreError)


def test_hanging_commits_time_out_one_by_one() -> None:
    async def main() -> list[object]:
        store = FakeStore()
        committer = Committer(store, 0.01)
        outcomes: list[object] = []
        for _ in range(2):
            first = start_commits(committer, 2)
            outcomes += [type(outcome) for outcome in await asyncio.gather(*first, return_exceptions=True)]
        for done in store.callbacks:
            done(None)  # its waiter has timed out
        # Finish it in the turn of the loop that submitted it: later, it could time out, too.
        (finishes,) = start_commits(committer, 1)
        await asyncio.sleep(0)
        store.callbacks.pop()(None)
        outcomes.append(await finishes)
        return [*outcomes, len(committer._waiters)]

    assert asyncio.run(main()) == [CommitTimeoutError] * 4 + [None, 0]


def test_finished_commit_is_not_timed_out_with_a_hanging_one() -> None:
    async def main() -> list[object]:
        store = FakeStore()
        committer = Committer(store, 0.01)
        hangs, finishes = start_commits(committer, 2)
        await asyncio.sleep(0)  # submits both in this turn of the loop; timers run in the next one
        store.callbacks[1](None)
        await finishes
        return list(map(type, await asyncio.gather(hangs, finishes, return_exceptions=True)))

    assert asyncio.run(main()) == [CommitTimeoutError, type(None)]


def test_cancelled_waiter_ignores_its_outcome() -> None:
    async def main() -> None:
        store = FakeStore()
        (waiting,) = start_commits(Committer(store, 10), 1)
        await asyncio.wait_for(store.wake_event.wait(), 10)
        waiting.cancel()
        await asyncio.sleep(0)
        store.callbacks.pop()(OSError())
        await asyncio.sleep(0)

    asyncio.run(main())


def test_outcome_after_the_loop_closed_is_ignored() -> None:
    async def main() -> FakeStore:
        store = FakeStore()
        (waiting,) = start_commits(Committer(store, 10), 1)
        await asyncio.wait_for(store.wake_event.wait(), 10)
        waiting.cancel()
        return store

    asyncio.run(main()).callbacks.pop()(None)
