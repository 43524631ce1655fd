"""The counter is exact, also when it is read from another thread."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker._tracking import counter as counter_module
from progressbar_tracker._tracking.counter import Counter
from tests.support.tracking import lock_in_another_thread


class Listener:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_exhausted(self) -> None:
        self.calls.append("exhausted")

    def on_released(self) -> None:
        self.calls.append("released")

    def on_source_error(self, error: BaseException) -> None:
        self.calls.append(f"raised {error!r}")


SOURCE_MAKERS = {
    "list": lambda: [1, 2, 3, 4],
    "tuple": lambda: (1, 2, 3, 4),
    "range": lambda: range(4),
    "generator": lambda: (i for i in range(4)),
    "dict view": lambda: dict.fromkeys(range(4)).items(),
    "set": lambda: {1, 2, 3, 4},
    "deque": lambda: deque(range(4)),
    "str": lambda: "abcd",
    "falsy items": lambda: [0, None, "", False],
}


@pytest.mark.parametrize("make", SOURCE_MAKERS.values(), ids=SOURCE_MAKERS)
def test_counted_loop_yields_the_items_of_the_source(make):
    assert list(Counter().wrap_iterator(make(), Listener())) == list(make())


@pytest.mark.parametrize("make", SOURCE_MAKERS.values(), ids=SOURCE_MAKERS)
def test_current_item_of_a_loop_is_not_counted(make):
    counter = Counter()
    positions = [counter.position for _ in counter.wrap_iterator(make(), Listener())]
    assert positions == [0, 1, 2, 3]
    assert counter.position == 4


STEP_LISTS = st.lists(st.sampled_from(["next", "loop", 1, 3, 2.5, "set", "fold"]), max_size=20)


@given(STEP_LISTS)
def test_is_at_after_any_steps_never_claims_an_old_position(steps):
    counter, loop = Counter(), iter(())
    counter.is_exhausted = False
    for step in steps:
        old_position = counter.position
        if step == "next":
            next(loop, None)
        elif step == "loop":
            loop = counter.wrap_iterator([1, 2, 3], Listener())
        elif step == "set":
            counter.set(old_position + 1)
        elif step == "fold":
            counter._fold(counter._deltas or deque())
        else:
            counter.advance(step)
        has_moved = counter.position != old_position
        assert not (has_moved and counter.is_at(old_position))
        assert counter.is_at(counter.position) or counter._deltas is not None


def test_is_at_with_a_held_lock_does_not_wait():
    counter = Counter()
    counter.advance()
    with lock_in_another_thread(counter_module._lock):
        assert counter.is_at(1)
        assert not counter.is_at(0)


def test_listener_gets_the_exhaustion_once_then_the_release():
    listener = Listener()
    for _ in Counter().wrap_iterator([1], listener):
        pass
    assert listener.calls == ["exhausted", "released"]


def test_break_on_the_last_item_is_not_exhaustion():
    counter, listener = Counter(), Listener()
    for item in counter.wrap_iterator([1, 2, 3], listener):
        if item == 3:
            break
    assert (counter.position, counter.is_exhausted, listener.calls) == (2, False, ["released"])


def test_exception_in_the_source_is_not_exhaustion():
    def source():
        yield 1
        raise ValueError("broken source")

    counter, listener = Counter(), Listener()
    with pytest.raises(ValueError, match="broken source"):
        for _ in counter.wrap_iterator(source(), listener):
            pass
    assert (counter.position, counter.is_exhausted, listener.calls) == (0, False, ["released"])


def test_an_empty_source_is_exhausted_at_zero():
    counter, listener = Counter(), Listener()
    assert list(counter.wrap_iterator([], listener)) == []
    assert (counter.position, counter.is_exhausted) == (0, True)


def test_list_that_grows_during_the_loop_is_counted_exactly():
    counter, items = Counter(), [1, 2, 3]
    for item in counter.wrap_iterator(items, Listener()):
        if item == 1:
            items.extend([4, 5])
    assert counter.position == 5


def test_second_loop_over_a_counter_adds_to_the_first():
    counter = Counter()
    for _ in range(2):
        for _ in counter.wrap_iterator([1, 2, 3], Listener()):
            pass
    assert counter.position == 6


def test_unfinished_iterator_is_released_when_it_is_dropped():
    counter, listener = Counter(), Listener()
    iterator = iter(counter.wrap_iterator([1, 2, 3], listener))
    next(iterator)
    del iterator
    gc.collect()
    assert listener.calls == ["released"]


def test_the_counter_keeps_no_reference_to_the_source():
    class Source(list):
        pass

    import weakref

    counter, source = Counter(), Source([1, 2])
    for _ in counter.wrap_iterator(source, Listener()):
        pass
    reference = weakref.ref(source)
    del source
    gc.collect()
    assert reference() is None


def test_advance_from_eight_threads_loses_nothing():
    counter = Counter()
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for _ in range(5000):
            counter.advance()
            counter.advance(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.position == 5000 * (8 + sum(range(8)))


def test_position_read_during_advances_never_decreases():
    counter = Counter()
    test_ended = threading.Event()
    readings: list[float] = []

    def read() -> None:
        while not test_ended.is_set():
            readings.append(counter.position)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20_000):
        counter.advance(3)
    test_ended.set()
    reader.join()
    assert readings == sorted(readings)
    assert counter.position == 60_000


@given(st.lists(st.one_of(st.integers(-(10**6), 10**6), st.just(1)), max_size=50), st.integers(-100, 100))
def test_later_steps_add_to_a_position_that_was_set(steps, start):
    counter = Counter()
    counter.advance(17)
    counter.advance()
    counter.set(start)
    for step in steps:
        counter.advance(step)
    assert counter.position == start + sum(steps)


def test_pending_deltas_are_bounded():
    counter = Counter()
    for _ in range(100_000):
        counter.advance(2)
    assert len(counter._deltas) <= 1024
    assert counter.position == 200_000


def test_async_loop_is_counted_and_its_end_is_notified():
    async def source():
        for item in range(3):
            yield item

    async def main():
        counter, listener = Counter(), Listener()
        steps = [(item, counter.position) async for item in counter.wrap_async_iterator(source(), listener)]
        return steps, counter.position, listener.calls

    steps, position, calls = asyncio.run(main())
    assert steps == [(0, 0), (1, 1), (2, 2)]
    assert position == 3
    assert calls == ["exhausted", "released"]


def test_async_source_that_raises_notifies_its_exception():
    async def source():
        yield 1
        raise ValueError("no more")

    async def main():
        listener = Listener()
        with pytest.raises(ValueError, match="no more"):
            async for _ in Counter().wrap_async_iterator(source(), listener):
                pass
        return listener.calls

    assert asyncio.run(main()) == ["raised ValueError('no more')", "released"]


def test_signal_handler_during_a_step_can_read_and_advance():
    import signal

    counter = Counter()
    readings = []

    def handler(*_):
        counter.advance(5)
        readings.append(counter.position)

    original_handler = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        steps = 0
        while len(readings) < 20:
            counter.advance(2)
            steps += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, original_handler)
    assert counter.position == 2 * steps + 5 * len(readings)
