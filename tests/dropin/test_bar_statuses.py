"""The final status of a bar: each kind of end in a bare loop, a block, an ``async for`` and explicit calls."""

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
from tests.support.fault_server import WRITE_KEY, FaultServer


class BrokenError(Exception):
    pass


def iterate_rows(broken_at=None):
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


LOOP_KINDS = [bare_loop, held_loop, block]
ASYNC_LOOP_KINDS = [async_for, async_source]


def final_state(recorded):
    run = recorded["job"]
    return run.status, run.completed, run.error


@pytest.mark.parametrize("loop", LOOP_KINDS + ASYNC_LOOP_KINDS)
def test_complete_loop_has_succeeded(loop, recorder, terminal):
    loop(iterate_rows(), stop_at(None), id="job", file=terminal)
    assert final_state(recorder) == ("succeeded", 5, None)


@pytest.mark.parametrize("loop", LOOP_KINDS)
@pytest.mark.parametrize("last", [2, 4])
def test_loop_left_early_is_stopped_even_on_last_item(loop, last, recorder, terminal):
    loop(iterate_rows(), stop_at(last), id="job", file=terminal)
    assert final_state(recorder) == ("stopped", last, None)


def test_async_for_left_early_is_stopped_with_tqdms_count(recorder, terminal):
    async_for(iterate_rows(), stop_at(2), id="job", file=terminal)
    assert final_state(recorder) == ("stopped", 3, None)


@pytest.mark.parametrize("loop", LOOP_KINDS + ASYNC_LOOP_KINDS)
def test_exception_of_iterable_fails_run_with_text(loop, recorder, terminal):
    with pytest.raises(BrokenError):
        loop(iterate_rows(broken_at=2), stop_at(None), id="job", file=terminal)
    status, _, error = final_state(recorder)
    assert (status, error) == ("failed", "BrokenError: line dropped")


def test_block_that_raises_has_failed_with_text(recorder, terminal):
    with pytest.raises(BrokenError):
        block(iterate_rows(), raise_at(2), id="job", file=terminal)
    assert final_state(recorder) == ("failed", 2, "BrokenError: bad row")


@pytest.mark.parametrize("loop", [bare_loop, held_loop, async_for])
def test_bare_loop_that_raises_is_stopped_in_live_process(loop, recorder, terminal):
    with pytest.raises(BrokenError):
        loop(iterate_rows(), raise_at(2), id="job", file=terminal)
    gc.collect()
    assert final_state(recorder)[0] == "stopped"


def test_block_can_fail_after_complete_loop(recorder, terminal):
    with pytest.raises(BrokenError), tqdm(iterate_rows(), id="job", file=terminal) as bar:
        for _ in bar:
            pass
        assert recorder["job"].status == "running"
        raise BrokenError("afterwards")
    assert final_state(recorder) == ("failed", 5, "BrokenError: afterwards")


def test_block_without_loop_has_succeeded(recorder, terminal):
    with tqdm(total=10, id="job", file=terminal) as bar:
        bar.update(3)
    assert final_state(recorder) == ("succeeded", 3, None)


def test_bar_closed_explicitly_has_succeeded(recorder, terminal):
    bar = tqdm(total=10, id="job", file=terminal)
    bar.update(3)
    bar.close()
    assert final_state(recorder) == ("succeeded", 3, None)


def test_bar_closed_during_exception_is_stopped(recorder, terminal):
    bar = tqdm(total=10, id="job", file=terminal)
    with pytest.raises(BrokenError):
        try:
            raise BrokenError
        finally:
            bar.close()
    assert final_state(recorder)[0] == "stopped"


def test_exception_before_start_does_not_stop_bar(recorder, terminal):
    try:
        raise BrokenError
    except BrokenError:
        bar = tqdm(total=1, id="job", file=terminal)
        bar.close()
        assert recorder["job"].status == "succeeded"
        bare_loop(iterate_rows(), stop_at(None), id="job", file=terminal)
        assert recorder["job"].status == "succeeded"
        block(iterate_rows(), stop_at(None), id="job", file=terminal)
        assert recorder["job"].status == "succeeded"


def test_abandoned_bar_is_stopped_unless_complete(recorder, terminal):
    bar = tqdm(total=10, id="job", file=terminal)
    bar.update(9)
    del bar
    gc.collect()
    assert final_state(recorder) == ("stopped", 9, None)
    bar = tqdm(total=10, id="job", file=terminal)
    bar.update(10)
    del bar
    gc.collect()
    assert final_state(recorder) == ("succeeded", 10, None)


def test_bar_iterated_twice_has_one_run(recorder, terminal):
    bar = tqdm([1, 2], id="job", file=terminal)
    assert [*bar, *bar] == [1, 2, 1, 2]
    assert len(recorder) == 1
    assert final_state(recorder) == ("succeeded", 2, None)


def test_closed_generator_is_stopped(recorder, terminal):
    iterator = iter(tqdm(iterate_rows(), id="job", file=terminal))
    next(iterator)
    next(iterator)
    iterator.close()
    assert final_state(recorder) == ("stopped", 1, None)


def test_bar_never_iterated_is_stopped(recorder, terminal):
    tqdm(iterate_rows(), id="job", total=5, file=terminal)
    gc.collect()
    assert final_state(recorder) == ("stopped", 0, None)


# --- the end of the process -------------------------------------------------------------------------------------------

PROGRAM_CODE = {
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
        import os, warnings
        warnings.filterwarnings('ignore', 'This process')  # tqdm has a thread of its own
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
EXPECTED_STATES = {
    "an exception through a bare loop": ("failed", 2, "ValueError: bad row"),
    "an exception through a loop that is closed in a finally": ("failed", 2, "ValueError: no"),
    "Ctrl-C in a bare loop": ("failed", 2, "KeyboardInterrupt"),
    "sys.exit(3) in a block": ("failed", 2, "SystemExit: 3"),
    "a bar that is open at the end, held by a closure": ("stopped", 2, None),
    "a child of a fork that closes the bar it inherited": ("succeeded", 5, None),
    "a bar that is open at the end, and all done": ("succeeded", 2, None),
}


@pytest.mark.parametrize("scenario", PROGRAM_CODE)
def test_process_exit_reports_final_status(scenario, tmp_path):
    head = "import sys\nfrom progressbar_tracker import flush\nfrom progressbar_tracker.tqdm import tqdm\n"
    server = FaultServer()
    try:
        subprocess.run(
            [sys.executable, "-W", "error", "-c", head + textwrap.dedent(PROGRAM_CODE[scenario])],
            env={**os.environ, "PROGRESSBAR_URL": server.url, "PROGRESSBAR_API_KEY": WRITE_KEY},
            capture_output=True,
            timeout=100,
        )
        run = server.items.get("job") or server.last_run("job")  # a failed item stays on the board
    finally:
        server.close()
    assert (run["status"], run["completed"], run.get("error")) == EXPECTED_STATES[scenario]


# --- bars that disable=None hides -------------------------------------------------------------------------------------


@pytest.fixture
def hidden_options():
    """Options of a reported bar that draws nothing."""
    out = io.StringIO()
    yield {"file": out, "disable": None, "id": "job", "desc": "batch", "postfix": {"a": 1}, "unit": "rows"}
    assert out.getvalue() == ""


@pytest.mark.parametrize("loop", LOOP_KINDS + ASYNC_LOOP_KINDS)
def test_complete_hidden_bar_has_succeeded(loop, recorder, hidden_options):
    loop(iterate_rows(), stop_at(None), **hidden_options)
    assert final_state(recorder) == ("succeeded", 5, None)
    run = recorder["job"]
    assert (run.title, run.description, run.unit, run.total) == ("batch", "a=1", "rows", 5)


@pytest.mark.parametrize("loop", LOOP_KINDS)
def test_hidden_bar_left_early_is_stopped(loop, recorder, hidden_options):
    loop(iterate_rows(), stop_at(2), **hidden_options)
    assert final_state(recorder) == ("stopped", 2, None)


def test_hidden_block_that_raises_has_failed(recorder, hidden_options):
    with pytest.raises(BrokenError):
        block(iterate_rows(), raise_at(2), **hidden_options)
    assert final_state(recorder) == ("failed", 2, "BrokenError: bad row")


def test_hidden_bar_accepts_explicit_updates(recorder, hidden_options):
    with tqdm(total=9, initial=1, **hidden_options) as bar:
        bar.update(2)
        bar.update()
        bar.update(None)  # a disabled stock tqdm accepts them too
        bar.set_description("renamed")
        bar.set_postfix_str("better")
        run = recorder["job"]
        assert (run.completed, run.title, run.description, bar.disable) == (4, "renamed", "better", True)
        bar.reset(total=3)
        bar.n = 2
        assert (recorder["job"].completed, recorder["job"].total) == (2, 3)
    assert recorder["job"].status == "succeeded"
