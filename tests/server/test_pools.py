"""Pools: bounds, fairness between holders, and cancellation."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from progressbar_tracker.server.pools import Cancellation, CancelledWorkError, Pool, PoolFullError

if TYPE_CHECKING:
    from collections.abc import Coroutine


class HeldWork:
    """Jobs that wait for a gate and record their order."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.ran: list[str] = []

    def work(self, name: str) -> str:
        assert self.open.wait(60)
        self.ran.append(name)
        return name


async def run_pending() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_pool_holders_take_turns() -> None:
    async def play() -> list[str]:
        gate, pool = HeldWork(), Pool(1)
        names = ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]
        tasks = [asyncio.create_task(pool.run(lambda name=name: gate.work(name), name[0])) for name in names]
        await run_pending()
        gate.open.set()
        await asyncio.gather(*tasks)
        return gate.ran

    assert asyncio.run(play()) == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_priority_job_waits_only_for_the_running_one() -> None:
    async def play() -> tuple[list[str], list[object]]:
        gate, pool = HeldWork(), Pool(1, max_waiting=3)
        tasks = [asyncio.create_task(pool.run(lambda name=name: gate.work(name), name)) for name in "abcd"]
        await run_pending()
        known = [
            asyncio.create_task(pool.run(lambda name=name: gate.work(name), name, priority=True)) for name in ("x", "y")
        ]
        await run_pending()
        gate.open.set()
        return gate.ran, list(await asyncio.gather(*tasks, *known, return_exceptions=True))

    ran, results = asyncio.run(play())
    assert ran == ["a", "y", "x", "b"]
    assert [type(result) for result in results] == [str, str, PoolFullError, PoolFullError, str, str]


def test_queue_is_bounded_per_holder_and_in_total() -> None:
    async def play() -> tuple[list[object], int]:
        gate, pool = HeldWork(), Pool(1, max_waiting=6, max_waiting_of_holder=4)
        holders = [*"aaaaaa", *"bbbb", "c"]
        tasks = [asyncio.create_task(pool.run(lambda name=name: gate.work(name), name)) for name in holders]
        await run_pending()
        waiting = pool.waiting
        gate.open.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True)), waiting

    results, waiting = asyncio.run(play())
    assert waiting == 6
    done = [result for result in results if isinstance(result, str)]
    # Holder a had one running and four waiting jobs; b and then c replaced waiting jobs of a.
    assert sorted(done) == ["a", "a", "a", "a", "b", "b", "c"]
    assert all(isinstance(result, str | PoolFullError) for result in results)


def test_waiting_job_times_out() -> None:
    async def play() -> None:
        gate, pool = HeldWork(), Pool(1, max_wait=0.01)
        first = asyncio.create_task(pool.run(lambda: gate.work("a"), "a"))
        await run_pending()
        with pytest.raises(PoolFullError):
            await pool.run(lambda: gate.work("b"), "b")
        assert pool.waiting == 0
        gate.open.set()
        assert await first == "a"
        assert await pool.run(lambda: gate.work("c"), "b") == "c"

    asyncio.run(play())


@given(some.lists(some.tuples(some.sampled_from("abc"), some.booleans()), max_size=12), some.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_cancelled_jobs_release_every_thread(jobs: list[tuple[str, bool]], threads: int) -> None:
    """A job may be cancelled while it waits, while it runs, or at the instant of its turn."""

    async def play() -> None:
        gate, pool = HeldWork(), Pool(threads, max_waiting=5, max_waiting_of_holder=3)
        tasks = [
            (asyncio.create_task(pool.run(lambda holder=holder: gate.work(holder), holder, Cancellation())), leaves)
            for holder, leaves in jobs
        ]
        await run_pending()
        for n, (task, leaves) in enumerate(tasks):
            if leaves:
                task.cancel()
            if n == len(tasks) // 2:
                gate.open.set()
        gate.open.set()
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        async with asyncio.timeout(20):
            while pool._free_threads < threads:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert (pool._free_threads, pool.waiting, dict(pool._queues)) == (threads, 0, {})

    asyncio.run(play())


def test_job_cancelled_before_its_start_does_nothing() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    cancellation.finish()
    with pytest.raises(CancelledWorkError), cancellation.allow_interrupt(lambda: None):
        pytest.fail("it began")


def test_interrupt_repeats_until_the_job_ends() -> None:
    cancellation, calls = Cancellation(), []
    again = threading.Event()

    def interrupt() -> None:
        calls.append(1)
        if len(calls) > 1:
            again.set()

    with cancellation.allow_interrupt(interrupt):
        cancellation.cancel()
        assert again.wait(60)
    count = len(calls)
    cancellation.finish()
    assert not threading.Event().wait(0.12)
    assert len(calls) == count


def test_pool_returns_the_result_or_error_of_the_job() -> None:
    def fail() -> None:
        raise LookupError("x")

    async def play() -> None:
        pool = Pool(1)
        with pytest.raises(LookupError):
            await pool.run(fail, "a")
        assert await pool.run(lambda: 7, "a") == 7

    def run(play: Coroutine[None, None, None]) -> None:
        asyncio.run(play)

    run(play())
