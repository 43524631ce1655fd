"""How a bar ended: what happened x bare loop, block, ``async for``, by hand."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import subprocess
import sys
import textwrap

import pytest

from progressbar_tracker.tqdm import tqdm
from tests.support.fault_server import KEY, FaultServer


class BrokenError(Exception):
    pass


def rows(broken_at=None):
    for i in range(5):
        if i == broken_at:
            raise BrokenError("line dropped")
        yield i


def stop_at(n):
    def body(i):
        return i == n

    return body


def raise_at(n):
    def body(i):
        if i == n:
            raise BrokenError("bad row")
        return False

    return body


def bare_loop(source, body, **options):
    for i in tqdm(source, total=5, **options):
        if body(i):
            break


def held_loop(source, body, **options):
    bar = tqdm(source, total=5, **options)
    for i in bar:
        if body(i):
            break


def block(source, body, **options):
    with tqdm(source, total=5, **options) as bar:
        for i in bar:
            if body(i):
                break


def async_for(source, body, **options):
    async def main():
        async for i in tqdm(source, total=5, **options):
            if body(i):
                break

    asyncio.run(main())


def async_source(source, body, **options):
    async def asynchronous():
        for i in source:
            yield i

    async def main():
        rows = asynchronous()
        async for i in tqdm(rows, total=5, **options):
            if body(i):
                break
        await rows.aclose()

    asyncio.run(main())


LOOPS = [bare_loop, held_loop, block]
ASYNC = [async_for, async_source]


def seen(recorded):
    run = recorded["job"]
    return run.status, run.completed, run.error


@pytest.mark.parametrize("loop", LOOPS + ASYNC)
def test_a_loop_that_comes_to_its_end_has_succeeded(loop, recorded, screen):
    loop(rows(), stop_at(None), id="job", file=screen)
    assert seen(recorded) == ("succeeded", 5, None)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("last", [2, 4])
def test_a_loop_that_is_left_early_is_stopped_also_on_the_last_item(loop, last, recorded, screen):
    loop(rows(), stop_at(last), id="job", file=screen)
    assert seen(recorded) == ("stopped", last, None)


def test_an_async_for_that_is_left_early_is_stopped_with_the_count_that_tqdm_shows(recorded, screen):
    async_for(rows(), stop_at(2), id="job", file=screen)
    assert seen(recorded) == ("stopped", 3, None)


@pytest.mark.parametrize("loop", LOOPS + ASYNC)
def test_an_exception_of_the_source_fails_the_run_with_its_text(loop, recorded, screen):
    with pytest.raises(BrokenError):
        loop(rows(broken_at=2), stop_at(None), id="job", file=screen)
    status, _, error = seen(recorded)
    assert (status, error) == ("failed", "BrokenError: line dropped")


def test_a_block_that_raises_has_failed_with_the_text(recorded, screen):
    with pytest.raises(BrokenError):
        block(rows(), raise_at(2), id="job", file=screen)
    assert seen(recorded) == ("failed", 2, "BrokenError: bad row")


@pytest.mark.parametrize("loop", [bare_loop, held_loop, async_for])
def test_a_bare_loop_that_raises_is_stopped_as_long_as_the_process_lives(loop, recorded, screen):
    with pytest.raises(BrokenError):
        loop(rows(), raise_at(2), id="job", file=screen)
    gc.collect()
    assert seen(recorded)[0] == "stopped"


def test_a_block_whose_loop_is_through_may_fail_yet(recorded, screen):
    with pytest.raises(BrokenError), tqdm(rows(), id="job", file=screen) as bar:
        for _ in bar:
            pass
        assert recorded["job"].status == "running"
        raise BrokenError("afterwards")
    assert seen(recorded) == ("failed", 5, "BrokenError: afterwards")


def test_a_block_without_a_loop_has_succeeded_when_it_is_left_well(recorded, screen):
    with tqdm(total=10, id="job", file=screen) as bar:
        bar.update(3)
    assert seen(recorded) == ("succeeded", 3, None)


def test_a_bar_that_is_closed_by_hand_has_succeeded(recorded, screen):
    bar = tqdm(total=10, id="job", file=screen)
    bar.update(3)
    bar.close()
    assert seen(recorded) == ("succeeded", 3, None)


def test_a_bar_that_is_closed_while_an_exception_is_on_its_way_is_stopped(recorded, screen):
    bar = tqdm(total=10, id="job", file=screen)
    with pytest.raises(BrokenError):
        try:
            raise BrokenError
        finally:
            bar.close()
    assert seen(recorded)[0] == "stopped"


def test_an_exception_that_was_being_handled_before_the_bar_began_is_not_its_own(recorded, screen):
    try:
        raise BrokenError
    except BrokenError:
        bar = tqdm(total=1, id="job", file=screen)
        bar.close()
        assert recorded["job"].status == "succeeded"
        bare_loop(rows(), stop_at(None), id="job", file=screen)
        assert recorded["job"].status == "succeeded"
        block(rows(), stop_at(None), id="job", file=screen)
        assert recorded["job"].status == "succeeded"


def test_a_bar_that_is_let_go_of_is_stopped_unless_all_of_its_total_is_done(recorded, screen):
    bar = tqdm(total=10, id="job", file=screen)
    bar.update(9)
    del bar
    gc.collect()
    assert seen(recorded) == ("stopped", 9, None)
    bar = tqdm(total=10, id="job", file=screen)
    bar.update(10)
    del bar
    gc.collect()
    assert seen(recorded) == ("succeeded", 10, None)


def test_a_bar_that_is_iterated_twice_has_one_run(recorded, screen):
    bar = tqdm([1, 2], id="job", file=screen)
    assert [*bar, *bar] == [1, 2, 1, 2]
    assert len(recorded) == 1
    assert seen(recorded) == ("succeeded", 2, None)


def test_a_generator_that_is_closed_is_stopped(recorded, screen):
    iterator = iter(tqdm(rows(), id="job", file=screen))
    next(iterator)
    next(iterator)
    iterator.close()
    assert seen(recorded) == ("stopped", 1, None)


def test_a_bar_that_is_never_iterated_is_stopped(recorded, screen):
    tqdm(rows(), id="job", total=5, file=screen)
    gc.collect()
    assert seen(recorded) == ("stopped", 0, None)


# --- the end of the process -------------------------------------------------------------------------------------------

PROGRAMS = {
    "an exception through a bare loop": """
        for i in tqdm(range(5), id='job'):
            flush(20)
            if i == 2: raise ValueError('bad row')
        """,
    "an exception through a loop that is closed in a finally": """
        bar = tqdm(total=5, id='job')
        try:
            bar.update(2)
            flush(20)
            raise ValueError('no')
        finally:
            bar.close()
        """,
    "Ctrl-C in a bare loop": """
        import os, signal, time
        for i in tqdm(range(5), id='job'):
            flush(20)
            if i == 2: os.kill(os.getpid(), signal.SIGINT); time.sleep(9)
        """,
    "sys.exit(3) in a block": """
        import sys
        with tqdm(range(5), id='job') as bar:
            for i in bar:
                flush(20)
                if i == 2: sys.exit(3)
        """,
    "a bar that is open at the end, held by a closure": """
        def work():
            bar = tqdm(total=5, id='job')
            def step(): bar.update()
            return step
        step = work()
        step(); step()
        flush(20)
        """,
    "a child of a fork that closes the bar it inherited": """
        import os
        bar = tqdm(range(5), id='job')
        for i in bar:
            flush(20)
            if i == 2:
                if (pid := os.fork()) == 0:
                    bar.close()
                    sys.exit()
                os.waitpid(pid, 0)
        """,
    "a bar that is open at the end, and all done": """
        bar = tqdm(total=2, id='job')
        bar.update(2)
        flush(20)
        """,
}
STATES = {
    "an exception through a bare loop": ("failed", 2, "ValueError: bad row"),
    "an exception through a loop that is closed in a finally": ("failed", 2, "ValueError: no"),
    "Ctrl-C in a bare loop": ("failed", 2, "KeyboardInterrupt"),
    "sys.exit(3) in a block": ("failed", 2, "SystemExit: 3"),
    "a bar that is open at the end, held by a closure": ("stopped", 2, None),
    "a child of a fork that closes the bar it inherited": ("succeeded", 5, None),
    "a bar that is open at the end, and all done": ("succeeded", 2, None),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_the_end_of_the_process_is_told_as_it_was(what, tmp_path):
    head = "import sys\nfrom progressbar_tracker import flush\nfrom progressbar_tracker.tqdm import tqdm\n"
    server = FaultServer()
    try:
        subprocess.run(
            [sys.executable, "-W", "error", "-c", head + textwrap.dedent(PROGRAMS[what])],
            env={**os.environ, "PROGRESSBAR_URL": server.url, "PROGRESSBAR_API_KEY": KEY},
            capture_output=True,
            timeout=100,
        )
        run = server.items.get("job") or server.ended("job")  # what has failed stays listed
    finally:
        server.close()
    assert (run["status"], run["completed"], run.get("error")) == STATES[what]


# --- bars that disable=None hides -------------------------------------------------------------------------------------


@pytest.fixture
def hidden():
    out = io.StringIO()
    yield {"file": out, "disable": None, "id": "job", "desc": "batch", "postfix": {"a": 1}, "unit": "rows"}
    assert out.getvalue() == ""


@pytest.mark.parametrize("loop", LOOPS + ASYNC)
def test_a_hidden_bar_that_comes_to_its_end_has_succeeded(loop, recorded, hidden):
    loop(rows(), stop_at(None), **hidden)
    assert seen(recorded) == ("succeeded", 5, None)
    run = recorded["job"]
    assert (run.title, run.description, run.unit, run.total) == ("batch", "a=1", "rows", 5)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_hidden_bar_that_is_left_early_is_stopped(loop, recorded, hidden):
    loop(rows(), stop_at(2), **hidden)
    assert seen(recorded) == ("stopped", 2, None)


def test_a_hidden_block_that_raises_has_failed(recorded, hidden):
    with pytest.raises(BrokenError):
        block(rows(), raise_at(2), **hidden)
    assert seen(recorded) == ("failed", 2, "BrokenError: bad row")


def test_a_hidden_bar_is_moved_by_hand_like_any_other(recorded, hidden):
    with tqdm(total=9, initial=1, **hidden) as bar:
        bar.update(2)
        bar.update()
        bar.update(None)  # which stock tqdm, turned off, takes as well
        bar.set_description("renamed")
        bar.set_postfix_str("better")
        run = recorded["job"]
        assert (run.completed, run.title, run.description, bar.disable) == (4, "renamed", "better", True)
        bar.reset(total=3)
        bar.n = 2
        assert (recorded["job"].completed, recorded["job"].total) == (2, 3)
    assert recorded["job"].status == "succeeded"
