"""Loops over a bar that end before the sender reads them: nothing is sent, and little is done."""

from __future__ import annotations

import contextlib
import io
import sys
import threading

import pytest
from tqdm import tqdm as stock_tqdm
from tqdm.utils import disp_len

from progressbar_tracker import _runtime, track
from progressbar_tracker._sender.reconciler import Reconciler
from progressbar_tracker._sender.sender import Sender
from progressbar_tracker._tracking import nesting, tqdm_loop
from progressbar_tracker._tracking import run as run_module
from progressbar_tracker._tracking.run import MIN_REPORTED_SECONDS
from progressbar_tracker._tracking.tqdm_bar import find_run
from progressbar_tracker._tracking.tqdm_printer import make_status_printer, measure_width
from progressbar_tracker.tqdm import tqdm


class IdleSender(Sender):
    """Collects the runs, and never works."""

    def __init__(self):
        super().__init__(lambda: None)
        self.runs = []

    def add(self, source):
        self.runs.append(source)


@pytest.fixture
def sender():
    sender = IdleSender()
    token = nesting._open_bars.set(())  # bars of other tests
    with _runtime.replace_sender(sender):
        yield sender
    nesting._open_bars.reset(token)


def make_bar(*args, **options):
    return tqdm(*args, file=io.StringIO(), **options)


def is_complete(run):
    return run._is_complete


def add_to_reconciler(*runs):
    reconciler = Reconciler()
    for run in runs:
        reconciler.add(run, 0.0)
    return reconciler


def test_short_loop_is_skipped_without_being_completed(sender):
    list(make_bar(range(3)))
    (run,) = sender.runs
    assert add_to_reconciler(run).stats.elided == 1
    assert not is_complete(run)


def test_short_inner_loop_has_the_outer_one_as_parent(sender):
    for _ in make_bar(range(2)):
        list(make_bar(range(3)))
    outer, *inner = sender.runs
    assert [run.parent for run in inner] == [outer, outer]


def test_loop_after_a_closed_bar_is_incomplete(sender):
    make_bar(total=3).close()
    list(make_bar(range(3)))
    assert not is_complete(sender.runs[-1])


def test_loop_beside_an_open_bar_is_complete_at_once(sender):
    with make_bar(total=3):
        list(make_bar(range(3)))
    assert not isinstance(sender.runs[-1], tqdm_loop.LoopMirror)


@pytest.mark.parametrize("kind", [tqdm, track])
def test_run_inside_a_short_loop_has_it_as_parent(sender, kind):
    for _ in make_bar(range(1)):
        options = {"file": io.StringIO()} if kind is tqdm else {"display": False}
        list(kind(range(1), title="inner", **options))
    outer, inner = sender.runs
    assert inner.parent is outer


def test_loop_that_is_read_is_complete(sender):
    bar = make_bar(range(5), desc="rows", unit="B")
    iterator = iter(bar)
    next(iterator)
    (run,) = sender.runs
    snapshot = run.sample()
    assert (snapshot.title, snapshot.total, snapshot.status, run.options.unit) == ("rows", 5, "running", "B")
    list(iterator)
    assert (run.sample().completed, run.status, run.ended_at is None) == (5, "succeeded", False)


def test_loop_without_a_description_has_its_line_as_title(sender):
    frame = sys._getframe()
    bar = tqdm(range(5), file=io.StringIO())
    assert sender.runs[0].sample().title == f"test_short_loops.py:{frame.f_lineno - 1}"
    bar.close()


def test_loop_that_is_left_keeps_its_count(sender):
    for n in make_bar(range(5)):
        if n == 2:
            break
    (run,) = sender.runs
    assert (run.sample().completed, run.status, run.is_tentative) == (2, "stopped", True)


def test_loop_that_fails_keeps_its_error(sender):
    def fail():
        yield 1
        raise ValueError("bad row")

    with contextlib.suppress(ValueError):
        list(make_bar(fail()))
    (run,) = sender.runs
    assert (run.sample().completed, run.status, run.error) == (1, "failed", "ValueError: bad row")


def test_long_loop_is_complete_at_its_end(sender, monkeypatch):
    bar = make_bar(range(3))
    now = tqdm_loop.read_clock()
    for module in (tqdm_loop, run_module):
        monkeypatch.setattr(module, "read_clock", lambda: now + MIN_REPORTED_SECONDS)
    list(bar)
    (run,) = sender.runs
    assert is_complete(run)
    assert (run.sample().completed, run.is_skippable) == (3, False)


def test_loop_that_ends_while_it_is_read_keeps_its_count(sender):
    """The sender's thread reads it at any point."""
    done = threading.Event()

    def read():
        while not done.is_set():
            for run in sender.runs[-2:]:
                run.sample()

    reader = threading.Thread(target=read)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader.start()
    try:
        for _ in range(200):
            list(make_bar(range(3)))
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(interval)
    read_runs = [run for run in sender.runs if is_complete(run)]
    assert {(run.sample().completed, run.status) for run in read_runs} <= {(3, "succeeded"), (0, "succeeded")}
    assert all(run.is_skippable for run in read_runs)


def test_attributes_of_a_new_run_need_no_completion(sender):
    bar = make_bar(range(3))
    (run,) = sender.runs
    for name in tqdm_loop._EARLY_ATTRIBUTES:
        getattr(run, name)
    assert not is_complete(run)
    bar.close()


def test_every_other_attribute_completes_a_run(sender):
    for name in tqdm_loop._LATE_ATTRIBUTES:
        bar = make_bar(range(3))
        getattr(find_run(bar), name)
        assert is_complete(find_run(bar)), name
        bar.close()


def test_unknown_attribute_of_a_run_is_an_error(sender):
    bar = make_bar(range(3))
    with pytest.raises(AttributeError):
        _ = find_run(bar).colour
    bar.close()


@pytest.mark.parametrize("option", [{"id": "a"}, {"title": "t"}, {"keep": True}, {"weight": 1}, {"stuck_after": 9}])
def test_bar_with_options_of_ours_is_complete_at_once(sender, option):
    bar = make_bar(range(3), **option)
    assert not isinstance(find_run(bar), tqdm_loop.LoopMirror)
    bar.close()


@pytest.mark.parametrize("option", [{"weight": 0.0}, {"weight": False}, {"stuck_after": "never"}, {"id": ""}])
def test_invalid_option_of_ours_is_an_error(sender, option):
    with pytest.raises((TypeError, ValueError)):
        make_bar(range(3), **option)


# The printer


def test_every_character_has_the_width_that_tqdm_measures():
    assert [hex(code) for code in range(0x10000) if measure_width(chr(code)) != disp_len(chr(code))] == []


@pytest.mark.parametrize(
    "lines",
    [
        ["long line", "short", ""],
        ["\N{CJK UNIFIED IDEOGRAPH-4E00}" * 3, "ab", "\x1b[31mred\x1b[0m", "c"],
        ["100%|\N{FULL BLOCK}\N{LEFT HALF BLOCK}| 3/3", "\N{PILE OF POO}", "x"],
    ],
)
def test_printer_writes_what_tqdm_writes(lines):
    outputs = []
    for make in (stock_tqdm.status_printer, make_status_printer):
        file = io.StringIO()
        show = make(file)
        for line in lines:
            show(line)
        outputs.append(file.getvalue())
    assert outputs[0] == outputs[1]


def test_printer_flushes_the_other_terminal_stream(monkeypatch):
    flushed = []

    class Stream(io.StringIO):
        def flush(self):
            flushed.append(self)

    out, err = Stream(), Stream()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    make_status_printer(err)
    assert flushed == [err, out]
