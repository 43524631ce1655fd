"""Stop requests: ``track(..., stoppable=True)``, its block form, and the drop-in."""

from __future__ import annotations

import asyncio
import copy
import functools
import io
import itertools
import pickle
import subprocess
import sys
import threading
from collections import deque

import pytest

from progressbar_tracker import StopRequested, _runtime, track
from progressbar_tracker._endings import is_stop
from progressbar_tracker._sender.reconciler import Reconciler
from progressbar_tracker._sender.snapshot import StaticFields, add_static_fields
from progressbar_tracker._tracking.stop import StopSwitch
from progressbar_tracker.testing import recording
from progressbar_tracker.tqdm import install, tqdm, uninstall
from tests.support.tracking import FakeSource

stoppable_track = functools.partial(track, id="a", stoppable=True, display=False)
silent_tqdm = functools.partial(tqdm, id="a", stoppable=True, file=io.StringIO())
hidden_tqdm = functools.partial(silent_tqdm, disable=None)

each_loop = pytest.mark.parametrize(
    "wrap", [stoppable_track, silent_tqdm, hidden_tqdm], ids=["track", "tqdm", "hidden"]
)


@pytest.fixture
def recorded():
    with recording() as recorded:
        yield recorded


class Source:
    """A generator function that notes how far it came, and whether it was closed."""

    def __init__(self, count=10):
        self.count, self.last, self.is_closed = count, None, False

    def generate(self):
        try:
            for number in range(self.count):
                self.last = number
                yield number
        finally:
            self.is_closed = True

    async def generate_async(self):
        try:
            for number in range(self.count):
                self.last = number
                await asyncio.sleep(0)
                yield number
        finally:
            self.is_closed = True


def stop_at(recorded, number, item):
    if item == number:
        recorded.request_stop("a", "ci")
    return item


# Loops


@each_loop
@pytest.mark.parametrize("kind", ["generator", "range", "list", "map"])
def test_loop_ends_before_its_next_item(recorded, wrap, kind):
    source = Source()
    items = {"generator": source.generate(), "range": range(10), "list": list(range(10)), "map": map(abs, range(10))}
    loop = wrap(items[kind])
    assert [stop_at(recorded, 3, item) for item in loop] == [0, 1, 2, 3]
    assert loop.stop_requested
    assert (recorded["a"].status, recorded["a"].completed, recorded["a"].error) == ("stopped", 4, None)
    if kind == "generator":
        assert (source.last, source.is_closed) == (3, True)


@pytest.mark.parametrize("consume", [
    list, tuple, set, deque, sorted, lambda it: list(zip(it, itertools.count(), strict=False)),
    lambda it: list(enumerate(it)), lambda it: list(itertools.chain(it)), lambda it: [*it], lambda it: list(iter(it)),
    lambda it: list(itertools.islice(it, 99)), lambda it: dict.fromkeys(it),
], ids=range(12))  # fmt: skip
def test_every_consumer_in_c_notices_the_stop(recorded, consume):
    items = (stop_at(recorded, 3, item) for item in range(10))
    assert len(consume(stoppable_track(items))) == 4
    assert recorded["a"].status == "stopped"


@each_loop
def test_loop_raises_if_the_program_wants_it(recorded, wrap):
    source, items = Source(), []
    loop = wrap(source.generate(), on_stop="raise")
    with pytest.raises(StopRequested, match="'a' was requested by ci"):
        items.extend(stop_at(recorded, 3, item) for item in loop)
    assert (recorded["a"].status, recorded["a"].completed, recorded["a"].error) == ("stopped", 4, None)
    assert (loop.stop_requested, source.is_closed) == (True, True)


def test_stop_that_raises_in_a_block_is_no_failure(recorded):
    with pytest.raises(StopRequested), stoppable_track(range(10), on_stop="raise") as bar:
        for item in bar:
            stop_at(recorded, 3, item)
    assert (recorded["a"].status, recorded["a"].error) == ("stopped", None)
    assert is_stop(StopRequested())


@each_loop
@pytest.mark.parametrize("is_explicit", [True, False])
def test_run_that_is_not_stoppable_ignores_requests(recorded, wrap, is_explicit):
    loop = wrap(range(10), stoppable=False if is_explicit else None)
    assert [stop_at(recorded, 3, item) for item in loop] == list(range(10))
    assert (loop.stop_requested, recorded["a"].status, recorded["a"].stoppable) == (False, "succeeded", False)


@each_loop
def test_request_during_the_last_item_leaves_a_success(recorded, wrap):
    loop = wrap(iter(range(4)))
    assert [stop_at(recorded, 3, item) for item in loop] == [0, 1, 2, 3]
    # Whether the source has another item is known only after the stop was requested.
    assert (recorded["a"].status, recorded["a"].completed) == ("stopped", 4)


def test_source_that_is_exhausted_first_has_succeeded(recorded):
    with stoppable_track(Source(4).generate()) as bar:
        assert list(bar) == [0, 1, 2, 3]
        recorded.request_stop("a")
    assert (bar.stop_requested, recorded["a"].status) == (True, "succeeded")


def test_each_loop_of_a_block_ends(recorded):
    with stoppable_track(range(5)) as bar:
        lengths = [len([stop_at(recorded, 2, inner) if outer == 2 else inner for inner in bar]) for outer in bar]
        assert list(bar) == []
    assert lengths == [5, 5, 3]
    assert recorded["a"].status == "stopped"


def test_next_run_of_a_tracker_is_not_stopped(recorded):
    loop = stoppable_track(range(5))
    assert [stop_at(recorded, 2, item) for item in loop] == [0, 1, 2]
    assert list(loop) == [0, 1, 2, 3, 4]
    assert [run.status for run in recorded.runs] == ["stopped", "succeeded"]


def test_request_from_another_thread_ends_a_step_of_the_source(recorded):
    entered, go_on = threading.Event(), threading.Event()

    def wait():
        entered.set()
        assert go_on.wait(60)
        return 1

    def request():
        assert entered.wait(60)
        recorded.request_stop("a")
        go_on.set()

    thread = threading.Thread(target=request)
    thread.start()
    # The source is in the middle of a step: its item is still handed out.
    assert list(stoppable_track(iter(wait, 0))) == [1]
    thread.join()


def test_error_of_a_closed_generator_reaches_the_loop(recorded):
    def generate():
        try:
            yield from range(10)
        finally:
            raise OSError("cannot close")

    with pytest.raises(OSError, match="cannot close"):
        [stop_at(recorded, 2, item) for item in stoppable_track(generate())]
    assert recorded["a"].status == "stopped"


def test_file_stays_open_after_the_stop(recorded, tmp_path):
    path = tmp_path / "lines"
    path.write_text("0\n1\n2\n")
    with path.open() as lines:
        assert len([stop_at(recorded, 0, int(line)) for line in stoppable_track(lines)]) == 1
        assert lines.readline() == "1\n"


def test_exception_of_a_source_is_unchanged(recorded):
    numbers = itertools.count()

    def step():
        number = next(numbers)
        if number == 1:
            raise ValueError(number)
        return number

    loop = iter(stoppable_track(iter(step, 4)))
    assert next(loop) == 0
    with pytest.raises(ValueError, match="1"):
        next(loop)
    assert list(loop) == [2, 3]  # such a source continues, as without a tracker


def test_iterator_of_a_stoppable_loop_is_copied_as_its_source(recorded):
    loop = iter(stoppable_track([1, 2, 3]))
    assert next(loop) == 1
    assert [list(other) for other in (copy.copy(loop), copy.deepcopy(loop), pickle.loads(pickle.dumps(loop)))] == (
        [[2, 3]] * 3
    )
    assert list(loop) == [2, 3]


def test_released_loops_leave_nothing_behind(recorded):
    with stoppable_track([1]) as bar:
        for _ in range(3):
            assert list(bar) == [1]
        assert bar._run.stop._gates == []


# Asynchronous loops


@pytest.mark.parametrize("wrap", [stoppable_track, silent_tqdm], ids=["track", "tqdm"])
@pytest.mark.parametrize("on_stop", ["end", "raise"])
def test_asynchronous_loop_ends_before_its_next_item(recorded, wrap, on_stop):
    source, items = Source(), []

    async def run():
        async for item in wrap(source.generate_async(), on_stop=on_stop):
            stop_at(recorded, 3, item)
            items.append(item)

    if on_stop == "raise":
        with pytest.raises(StopRequested):
            asyncio.run(run())
    else:
        asyncio.run(run())
    assert (items, source.is_closed) == ([0, 1, 2, 3], True)
    assert (recorded["a"].status, recorded["a"].completed) == ("stopped", 4)


def test_tasks_that_share_an_asynchronous_loop_all_end(recorded):
    async def consume(loop):
        return [stop_at(recorded, 3, item) async for item in loop]

    class Numbers:
        number = -1

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.number += 1
            await asyncio.sleep(0)
            return self.number

    async def run():
        loop = aiter(stoppable_track(Numbers()))
        return await asyncio.wait_for(asyncio.gather(consume(loop), consume(loop)), 60)

    assert len(list(itertools.chain(*asyncio.run(run())))) <= 6
    assert recorded["a"].status == "stopped"


# Blocks


def test_block_sees_the_request_and_ends_stopped(recorded):
    with stoppable_track(total=9) as bar:
        while not bar.stop_requested:
            bar.advance()
            stop_at(recorded, 3, bar.completed)
    assert (recorded["a"].status, recorded["a"].completed) == ("stopped", 3)


def test_block_that_completes_its_total_has_succeeded(recorded):
    with stoppable_track(total=2) as bar:
        recorded.request_stop("a")
        bar.advance(2)
    assert recorded["a"].status == "succeeded"


def test_block_that_fails_after_the_request_has_failed(recorded):
    with pytest.raises(ValueError, match="bad"), stoppable_track(total=2):
        recorded.request_stop("a")
        raise ValueError("bad")
    assert (recorded["a"].status, recorded["a"].error) == ("failed", "ValueError: bad")


def test_manual_bar_of_the_drop_in_sees_the_request(recorded):
    with silent_tqdm(total=9) as bar:
        while not bar.stop_requested:
            bar.update()
            stop_at(recorded, 3, bar.n)
    assert (recorded["a"].status, recorded["a"].completed) == ("stopped", 3)


# The drop-in


def test_stoppable_bar_is_otherwise_the_same(recorded):
    bar = silent_tqdm([1, 2, 3])
    assert (len(bar), 2 in bar, 7 in bar, list(reversed(bar.iterable)), bar.total) == (3, True, False, [3, 2, 1], 3)
    bar = silent_tqdm(iter("ab"))
    assert (bar.total, list(bar)) == (None, ["a", "b"])
    assert not hasattr(bar.iterable, "__len__")
    assert pickle.loads(pickle.dumps(silent_tqdm([1]).iterable)) == [1]


# Arguments


@pytest.mark.parametrize(("options", "error"), [({"stoppable": 1}, TypeError), ({"on_stop": "end "}, ValueError)])
def test_invalid_stop_arguments_are_refused(options, error):
    with pytest.raises(error, match=next(iter(options))):
        track([], **options)
    with pytest.raises(error, match=next(iter(options))):
        tqdm([], **options)


@pytest.mark.parametrize("is_stoppable", [True, False])
def test_operation_names_only_stoppable_runs(is_stoppable):
    op = {}
    add_static_fields(op, StaticFields("it", None, None, stoppable=is_stoppable), 1.0)
    assert op.get("stoppable", False) is is_stoppable


def test_tracking_a_loop_without_stop_imports_no_module_of_it():
    code = "import sys, progressbar_tracker as p; list(p.track([1])); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "progressbar_tracker._tracking.tracker" in done.stdout
    assert "progressbar_tracker._tracking.stop'" not in done.stdout


# Under ``run --stoppable``


@pytest.fixture
def stoppable_by_default(monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_STOPPABLE", "1")
    _runtime.are_loops_stoppable.cache_clear()
    yield
    _runtime.are_loops_stoppable.cache_clear()


def test_outermost_loops_are_stoppable_by_default(recorded, stoppable_by_default):
    for _ in track([1], id="outer", display=False):
        list(track([1], id="inner", display=False))
        list(tqdm([1], id="inner bar", file=io.StringIO()))
    list(track([1], id="fixed", stoppable=False, display=False))
    list(tqdm([1], id="bar", file=io.StringIO()))
    with track(total=1, id="block", display=False), tqdm(total=1, id="manual", file=io.StringIO()):
        pass
    assert {run.id for run in recorded.runs if run.stoppable} == {"outer", "bar"}


@pytest.mark.parametrize("value", ["", "0", "no", "off", "false"])
def test_loops_are_not_stoppable_by_a_negative_word(recorded, monkeypatch, value):
    monkeypatch.setenv("PROGRESSBAR_STOPPABLE", value)
    _runtime.are_loops_stoppable.cache_clear()
    list(track([1], id="a", display=False))
    assert not recorded["a"].stoppable
    _runtime.are_loops_stoppable.cache_clear()


def test_bar_of_a_library_is_stopped(recorded, stoppable_by_default):
    from tqdm import tqdm as other_tqdm

    install()
    try:
        items = []
        for item in other_tqdm(range(10), file=io.StringIO()):
            items.append(item)
            if item == 3:
                recorded.request_stop(recorded.runs[0].id)
    finally:
        uninstall()
    assert items == [0, 1, 2, 3]
    assert [run.status for run in recorded.runs] == ["stopped"]


# Results of a server


@pytest.mark.parametrize("result", [
    {"run_id": "r1", "requested_by": "ci"}, {"run_id": "other", "requested_by": "ci"}, {"requested_by": "ci"}, None,
    "r1", ["r1"], {"run_id": ["r1"]}, {"run_id": "r1"}, {"run_id": "r1", "requested_by": {"a": 1}},
    {"run_id": "r1", "requested_by": "\x1b[31m" + "x" * 9999},
], ids=range(10))  # fmt: skip
def test_request_of_a_server_reaches_its_own_run_only(result):
    reconciler, source, received = Reconciler(), FakeSource(), []
    source.receive_stop = received.append
    reconciler.add(source, 0.0)
    (step,) = reconciler.plan(0.0)
    reconciler.apply([step], [{"id": "a", "status": 201, "stop_request": result}], 0.0)
    is_own = isinstance(result, dict) and result.get("run_id") == "r1"
    assert len(received) == is_own
    assert all(name.isprintable() and 0 < len(name) < 2000 for name in received)


def test_refused_operation_stops_nothing():
    reconciler, source, received = Reconciler(), FakeSource(), []
    source.receive_stop = received.append
    reconciler.add(source, 0.0)
    (step,) = reconciler.plan(0.0)
    result = {"id": "a", "status": 500, "stop_request": {"run_id": "r1", "requested_by": "ci"}}
    reconciler.apply([step], [result], 0.0)
    assert received == []


@pytest.mark.parametrize("is_late", [False, True])
def test_callback_is_called_once_with_the_request(is_late):
    switch, calls = StopSwitch(), []
    for step in ("request", "callback", "request") if is_late else ("callback", "request", "request"):
        if step == "request":
            switch.request("ann", "job")
        else:
            switch.call_on_request(lambda: calls.append("called"))
            assert calls == (["called"] if is_late else [])
    assert calls == ["called"]
