"""Iterables of every kind that ``for`` accepts, copies, and Pythons without the GIL or without daemon threads."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import threading

import pytest

from progressbar_tracker import track
from progressbar_tracker._tracking import counter as counter_module
from progressbar_tracker._tracking.counter import Counter
from progressbar_tracker.testing import recording
from tests.support.tracking import lock_in_another_thread


class OnlyNext:
    def __init__(self):
        self.left = 3

    def __next__(self):
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        return self.left


class OnlyIter:
    def __iter__(self):
        return OnlyNext()


class OnlyItems:
    def __getitem__(self, index):
        return [2, 1, 0][index]


class SingleUseIterator(OnlyNext):
    """An iterator whose ``__iter__`` can be called only once."""

    is_used = False

    def __iter__(self):
        if self.is_used:
            raise RuntimeError("called twice")
        self.is_used = True
        return self


class OtherIterator(OnlyNext):
    """An iterator whose own iterator is another object."""

    def __iter__(self):
        return iter("other") if self.left < 3 else self


class Sized(OnlyIter):
    def __init__(self, length):
        self._length = length

    def __len__(self):
        if isinstance(self._length, BaseException):
            raise self._length
        return self._length


class Hinted(OnlyIter):
    def __length_hint__(self):
        raise ValueError("no hint")


class AttributelessIterable(OnlyIter):
    """An object whose attributes raise."""

    def __getattr__(self, name):
        raise RuntimeError(name)


SOURCE_MAKERS = {
    "only next": OnlyIter,
    "only items": OnlyItems,
    "once": SingleUseIterator,
    "other iterator": OtherIterator,
    "callable": lambda: iter(OnlyNext().__next__, 0),
    "hint raises": Hinted,
    "untouchable": AttributelessIterable,
    **{
        f"length {length!r}": lambda length=length: Sized(length)
        for length in (-1, 2**63, "3", 1.5, None, ValueError("no"), SystemExit(2), MemoryError())
    },
}


def collect_items(iterable):
    items = []
    for item in iterable:  # not list(), which reads the length
        items.append(item)  # noqa: PERF402
    return items


@pytest.mark.parametrize("make", SOURCE_MAKERS.values(), ids=SOURCE_MAKERS)
def test_any_iterable_yields_the_same_items_when_tracked(make):
    plain = collect_items(make())
    with recording() as recorded:
        tracked = collect_items(track(make(), id="job", display=False))
    assert tracked == plain
    assert (recorded["job"].status, recorded["job"].completed) == ("succeeded", len(plain))


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(), KeyboardInterrupt(), SystemExit(2)])
def test_error_of_iter_is_raised_unchanged(error):
    class RaisingIter:
        def __iter__(self):
            raise error

    with pytest.raises(type(error)) as raised:
        for _ in track(RaisingIter(), display=False):
            pass
    assert raised.value is error


@pytest.mark.parametrize("kind", [int, type("NoIterator", (), {"__iter__": lambda self: 3}), OnlyNext])
def test_non_iterable_raises_the_same_type_as_for(kind):
    with pytest.raises(TypeError):
        for _ in kind():
            pass
    with pytest.raises(TypeError):
        for _ in track(kind(), display=False):
            pass


def test_async_iterator_needs_only_anext():
    class Next:
        left = 3

        async def __anext__(self):
            if self.left == 0:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    class Source:
        def __aiter__(self):
            return Next()

    async def main():
        return [item async for item in track(Source(), display=False)]

    assert asyncio.run(main()) == [2, 1, 0]


COPY_METHODS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}


@pytest.mark.parametrize("make", COPY_METHODS.values(), ids=COPY_METHODS)
@pytest.mark.parametrize("used", [False, True])
def test_a_copy_of_a_tracker_has_no_effect_on_it(make, used):
    with recording() as recorded:
        with track([1, 2, 3], total=3, id="job", display=False) as bar:
            bar.advance(1)
            duplicate = make(bar)
            assert (duplicate.id, duplicate.completed, duplicate.total) == ("job", 1, 3)
            if used:
                duplicate.advance(2)
                duplicate.fail("no")
                duplicate.title = "other"
                assert list(duplicate) == [1, 2, 3]
                duplicate.close()
            del duplicate
            gc.collect()
            assert (bar.status, bar.completed, bar.title) == ("running", 1, None)
        assert [run.id for run in recorded] == ["job"]


@pytest.mark.parametrize("make", COPY_METHODS.values(), ids=COPY_METHODS)
def test_copy_of_a_loops_iterator_is_independent(make):
    with recording() as recorded:
        iterator = iter(track([1, 2, 3], id="job", display=False))
        next(iterator)
        duplicate = make(iterator)
        assert list(duplicate) == [2, 3]
        del duplicate
        gc.collect()
        assert recorded["job"].status == "running"
        assert list(iterator) == [2, 3]
        assert (recorded["job"].status, recorded["job"].completed) == ("succeeded", 3)


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_iterator_without_copy_support_still_raises(make):
    with pytest.raises(TypeError, match="generator"):
        make(iter(track((n for n in range(3)), display=False)))


@pytest.mark.parametrize("make", COPY_METHODS.values(), ids=COPY_METHODS)
def test_copied_share_is_equal(make):
    with track(total=1, id="job", display=False) as bar:
        share = bar.share()
        assert make(share) == share


def test_without_the_gil_every_advance_takes_the_lock(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    counter = Counter()
    counter.advance()
    assert (counter.unit_iterator, counter.position) == (None, 1)
    threads = [threading.Thread(target=lambda: [counter.advance() for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counter.set(counter.position + 1)
    counter.advance(2)
    assert counter.position == 8004


def test_without_the_gil_a_tracker_counts_a_loop_and_by_hand(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with track(range(5), id="job", display=False) as bar:
        for _ in bar:
            bar.advance()
        assert bar.completed == 10


def test_with_the_gil_an_advance_is_one_step(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    counter = Counter()
    counter.advance()
    assert counter.unit_iterator is not None


def test_a_lock_whose_holder_is_gone_is_replaced(monkeypatch):
    monkeypatch.setattr(counter_module, "LOCK_TIMEOUT", 0.01)
    monkeypatch.setattr(counter_module, "_lock", threading.RLock())
    with lock_in_another_thread(counter_module._lock):
        counter = Counter()
        counter.advance(2)
        assert counter.position == 2


SUBINTERPRETER_PROGRAM = """
try:
    import _interpreters as interpreters
    interpreter, execute = interpreters.create("isolated"), interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters
    interpreter, execute = interpreters.create(isolated=True), interpreters.run_string
import sys
code = '''
import logging, sys
sys.path[:] = %r
logging.basicConfig(stream=sys.stdout, format="%%(message)s")
from progressbar_tracker import track
for n in range(2):
    for x in track(range(2), display=True): print(n, x)
with track(total=2) as bar: bar.advance()
''' % sys.path
print(execute(interpreter, code))
interpreters.destroy(interpreter)
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no interpreter forbids daemon threads")
def test_interpreter_without_daemon_threads_runs_the_loop():
    program = subprocess.run([sys.executable, "-c", SUBINTERPRETER_PROGRAM], capture_output=True, text=True, timeout=60)
    first, *lines = program.stdout.splitlines()
    assert "no thread can be started" in first
    assert (lines, program.returncode) == (["0 0", "0 1", "1 0", "1 1", "None"], 0)


class AsyncSteps:
    """Yields 1 to 5; the third call awaits ``interrupt`` first."""

    def __init__(self, interrupt):
        self.interrupt, self.calls, self.last_item = interrupt, 0, 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.calls += 1
        if self.calls == 3:
            await self.interrupt()
        if self.last_item == 5:
            raise StopAsyncIteration
        self.last_item += 1
        return self.last_item


async def raise_once():
    raise ValueError("once")


async def wait_once():
    await asyncio.Event().wait()


async def end_once():
    raise StopAsyncIteration


async def take_all(iterator):
    outcomes = []
    for _ in range(8):
        try:
            outcomes.append(await asyncio.wait_for(anext(iterator), 0.05))
        except (StopAsyncIteration, TimeoutError, ValueError) as error:
            outcomes.append(type(error).__name__)
    return outcomes


@pytest.mark.parametrize("interrupt", [raise_once, wait_once, end_once])
def test_async_source_continues_after_a_failed_step(interrupt):
    untracked = asyncio.run(take_all(aiter(AsyncSteps(interrupt))))
    assert asyncio.run(take_all(aiter(track(AsyncSteps(interrupt), display=False)))) == untracked
    assert 5 in untracked


def test_async_step_that_timed_out_does_not_end_the_run():
    with recording() as recorded:
        asyncio.run(take_all(aiter(track(AsyncSteps(wait_once), id="steps", keep=True))))
    assert (recorded["steps"].status, recorded["steps"].completed) == ("succeeded", 5)


def test_two_tasks_can_share_an_async_source():
    async def yield_once():
        await asyncio.sleep(0)

    async def work():
        iterator = aiter(track(AsyncSteps(yield_once), id="shared", keep=True))
        return await asyncio.gather(*[take_some(iterator) for _ in range(2)])

    async def take_some(iterator):
        return [item async for item in iterator]

    with recording() as recorded:
        first, second = asyncio.run(work())
    assert sorted(first + second) == [1, 2, 3, 4, 5]
    assert (recorded["shared"].status, recorded["shared"].completed) == ("succeeded", 5)


def test_break_out_of_an_async_loop_leaves_no_task():
    code = """if True:
    import asyncio
    from progressbar_tracker import track
    class Source:
        def __aiter__(self): return self
        async def __anext__(self): return 1
    async def main():
        async for _ in track(Source(), display=False): break
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    """
    result = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
