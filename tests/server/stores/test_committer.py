"""How commits leave the loop and come back to it: what comes together goes as one, each with its own outcome."""

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
    """Keeps what is submitted until a test says what became of it."""

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


def test_the_store_is_woken_once_after_all_that_came_together() -> None:
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


def test_waiters_of_one_commit_are_woken_together_each_with_its_outcome() -> None:
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
        thread.join(10)
        return outcomes

    outcomes = asyncio.run(main())
    assert outcomes[:3] + outcomes[4:] == [None] * 4
    assert isinstance(outcomes[3], StoreError)


def test_commits_that_do_not_come_back_are_given_up_each_in_its_time() -> None:
    async def main() -> list[object]:
        store = FakeStore()
        committer = Committer(store, 0.01)
        told: list[object] = []
        for _ in range(2):
            first = start_commits(committer, 2)
            told += [type(one) for one in await asyncio.gather(*first, return_exceptions=True)]
        for done in store.callbacks:
            done(None)  # nobody waits for it any more
        # In the turn of the loop in which it was submitted: later, it might have been given up too.
        (lands,) = start_commits(committer, 1)
        await asyncio.sleep(0)
        store.callbacks.pop()(None)
        told.append(await lands)
        return [*told, len(committer._waiters)]

    assert asyncio.run(main()) == [CommitTimeoutError] * 4 + [None, 0]


def test_a_commit_that_comes_back_is_not_given_up_with_one_that_does_not() -> None:
    async def main() -> list[object]:
        store = FakeStore()
        committer = Committer(store, 0.01)
        hangs, lands = start_commits(committer, 2)
        await asyncio.sleep(0)  # both are submitted in this turn of the loop, and no timer is looked at before the next
        store.callbacks[1](None)
        await lands
        return list(map(type, await asyncio.gather(hangs, lands, return_exceptions=True)))

    assert asyncio.run(main()) == [CommitTimeoutError, type(None)]


def test_who_goes_away_is_not_missed() -> None:
    async def main() -> None:
        store = FakeStore()
        (waiting,) = start_commits(Committer(store, 10), 1)
        await asyncio.wait_for(store.wake_event.wait(), 10)
        waiting.cancel()
        await asyncio.sleep(0)
        store.callbacks.pop()(OSError())
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_commit_that_comes_back_after_the_end_of_the_loop_troubles_nobody() -> None:
    async def main() -> FakeStore:
        store = FakeStore()
        (waiting,) = start_commits(Committer(store, 10), 1)
        await asyncio.wait_for(store.wake_event.wait(), 10)
        waiting.cancel()
        return store

    asyncio.run(main()).callbacks.pop()(None)
