"""A bar that the program updates itself, and the loop around another bar."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading

import pytest

from progressbar_tracker.integrations._enclosing_loops import add_open_bar, find_enclosing_bar


class FakeRun:
    def __init__(self):
        self.status = "running"
        self.is_done = False

    def poll(self):
        pass


@pytest.fixture
def open_bar():
    """Create a bar in the calling function."""
    runs = []

    def create():
        run = FakeRun()
        runs.append(run)
        add_open_bar(run, sys._getframe(1))
        return run

    yield create
    for run in runs:
        run.status = "succeeded"


def find_parent():
    return find_enclosing_bar(sys._getframe(1))


def test_for_loop_after_a_bar_is_in_it(open_bar):
    run = open_bar()
    for _ in range(2):
        assert find_parent() is run


def test_while_loop_after_a_bar_is_in_it(open_bar):
    run = open_bar()
    count = 2
    while count:
        assert find_parent() is run
        count -= 1


def test_asynchronous_loop_after_a_bar_is_in_it(open_bar):
    async def count_numbers():
        yield 1
        yield 2

    async def work():
        run = open_bar()
        async for _ in count_numbers():
            assert find_parent() is run

    contextvars.copy_context().run(asyncio.run, work())


def test_function_that_the_loop_calls_is_in_the_bar(open_bar):
    def work():
        return find_parent()

    run = open_bar()
    for _ in range(2):
        assert work() is run


def test_code_before_and_after_the_loop_is_outside(open_bar):
    open_bar()
    assert find_parent() is None
    for _ in range(2):
        pass
    assert find_parent() is None


def test_loop_around_both_bars_is_no_parent(open_bar):
    for _ in range(2):
        run = open_bar()
        assert find_parent() is None
        run.status = "succeeded"


def test_innermost_bar_is_the_parent(open_bar):
    open_bar()
    for _ in range(1):
        inner = open_bar()
        for _ in range(1):
            assert find_parent() is inner


def test_ended_bar_is_no_parent(open_bar):
    run = open_bar()
    run.status = "stopped"
    for _ in range(1):
        assert find_parent() is None


def test_complete_bar_is_no_parent(open_bar):
    open_bar().is_done = True
    for _ in range(1):
        assert find_parent() is None


def test_bar_of_another_thread_is_no_parent(open_bar):
    found = []

    def work():
        while not found:
            found.append(find_parent())

    open_bar()
    for _ in range(1):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [None]
