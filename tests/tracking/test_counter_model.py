"""A counter on a Python without the GIL, as a model: eight threads, and a switch to any of them at each shared step.

A free-threaded build is not at hand. The model has its essence: a step of ``repeat`` is a read and a write, between
which other threads run. They also run before each step of the lock and of the deque.
"""

from __future__ import annotations

import random
import threading
from collections import deque

import pytest

from progressbar_tracker._tracking import counter as counter_module
from progressbar_tracker._tracking.counter import Counter

MODEL_THREADS, MODEL_ROUNDS = 8, 4
SWITCH_TIMEOUT = 100.0  # seconds


class Scheduler:
    """Lets one thread run at a time, and draws the next one at each switch."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._turn_changed = threading.Condition()
        self._live = []
        self._turn = None
        self.errors = []

    def switch(self):
        me = threading.get_ident()
        if me not in self._live:
            return
        with self._turn_changed:
            self._draw()
            assert self._turn_changed.wait_for(lambda: self._turn == me, SWITCH_TIMEOUT)

    def _draw(self):
        self._turn = self._random.choice(self._live) if self._live else None
        self._turn_changed.notify_all()

    def run(self, *functions):
        """Run each function in a thread; raise their first error."""
        all_started = threading.Barrier(len(functions))
        threads = [threading.Thread(target=self._run_thread, args=(work, all_started)) for work in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in self.errors:
            raise error

    def _run_thread(self, work, all_started):
        me = threading.get_ident()
        with self._turn_changed:
            self._live.append(me)
        all_started.wait(SWITCH_TIMEOUT)
        try:
            self.switch()
            work()
        except Exception as error:
            self.errors.append(error)
        finally:
            with self._turn_changed:
                self._live.remove(me)
                self._draw()


class ModelLock:
    """A re-entrant lock that switches to another thread while it is held."""

    def __init__(self, scheduler):
        self._scheduler = scheduler
        self._owner, self._depth = None, 0

    def acquire(self, _blocking, _timeout):
        me = threading.get_ident()
        self._scheduler.switch()
        while self._owner not in (None, me):
            self._scheduler.switch()
        self._owner, self._depth = me, self._depth + 1
        return True

    def release(self):
        self._depth -= 1
        if not self._depth:
            self._owner = None
        self._scheduler.switch()


@pytest.fixture
def make_counter(monkeypatch):
    """Returns a function that makes a counter under a scheduler."""

    def make(scheduler, *, needs_lock):
        class RacyRepeat:
            def __init__(self, _item, left):
                self._left = left

            def __next__(self):
                left = self._left
                scheduler.switch()
                self._left = left - 1
                return True

            def __length_hint__(self):
                return self._left

        class SwitchingDeque(deque):
            def append(self, delta):
                scheduler.switch()
                super().append(delta)

            def popleft(self):
                scheduler.switch()
                return super().popleft()

        monkeypatch.setattr(counter_module, "repeat", RacyRepeat)
        monkeypatch.setattr(counter_module, "deque", SwitchingDeque)
        monkeypatch.setattr(counter_module, "is_gil_enabled", lambda: not needs_lock)
        monkeypatch.setattr(counter_module, "_MAX_PENDING_DELTAS", 3)  # folds often
        monkeypatch.setattr(counter_module, "_lock", ModelLock(scheduler))
        return Counter()

    return make


def advance_in_threads(scheduler, counter):
    """Return the sum that seven threads add, and the positions that an eighth one reads."""
    readings = []

    def advance():
        for number in range(MODEL_ROUNDS):
            counter.advance()
            counter.advance(number + 2)

    def read():
        readings.extend(counter.position for _ in range(MODEL_ROUNDS))

    scheduler.run(*[advance] * (MODEL_THREADS - 1), read)
    return (MODEL_THREADS - 1) * sum(number + 3 for number in range(MODEL_ROUNDS)), readings


@pytest.mark.parametrize("seed", range(4))
def test_advance_from_eight_threads_without_the_gil_is_exact(make_counter, seed):
    scheduler = Scheduler(seed)
    counter = make_counter(scheduler, needs_lock=True)
    total, readings = advance_in_threads(scheduler, counter)
    assert counter.position == total
    assert readings == sorted(readings)


def test_the_model_loses_steps_of_a_counter_without_the_lock(make_counter):
    def is_exact(seed):
        scheduler = Scheduler(seed)
        counter = make_counter(scheduler, needs_lock=False)
        return advance_in_threads(scheduler, counter)[0] == counter.position

    assert not all(is_exact(seed) for seed in range(20))
