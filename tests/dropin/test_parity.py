"""The terminal bar behaves like tqdm's; each trap of tqdm has a test."""

from __future__ import annotations

import copy
import gc
import io
import itertools
import math
import sys
import threading
import warnings

import pytest
import tqdm as theirs
import tqdm.auto
import tqdm.cli
import tqdm.std

from progressbar_tracker.tqdm import process_map, tenumerate, thread_map, tmap, tqdm, trange, tzip


class FrozenBar(tqdm):
    """A bar with a stopped clock, so that its output can be compared."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.start_t = self.last_print_t = 0.0


def render_bar(kind, use, **options):
    out = io.StringIO()
    bar = kind(file=out, ncols=60, mininterval=0, bar_format="{l_bar}{bar}|{n_fmt}/{total_fmt}{postfix}", **options)
    use(bar)
    bar.close()
    return out.getvalue()


def update_by_hand(bar):
    bar.update()
    bar.set_description("renamed")
    bar.set_postfix(loss=0.5)
    bar.set_postfix_str("text")
    bar.set_description_str("bare")
    bar.update(-1)
    bar.n = 3
    bar.refresh()
    bar.unpause()
    bar.total = 20
    bar.reset(total=5)
    bar.update(2.5)
    bar.clear()
    bar.moveto(0)
    bar.display()


@pytest.mark.parametrize(
    "options",
    [
        {"total": 10},
        {"total": 10, "leave": False},
        {"total": 10, "unit": "B", "unit_scale": True, "unit_divisor": 1024},
        {"total": 10, "unit_scale": 2.5},
        {"total": 10, "initial": 4, "ascii": True, "colour": "red"},
        {"total": 10, "position": 2},
        {"total": 10, "delay": 100},
        {"total": None},
        {"total": math.inf},
        {"total": 10, "postfix": {"a": 1}, "desc": "work"},
    ],
    ids=str,
)
def test_drop_in_draws_like_tqdm(options, recorder):
    assert render_bar(tqdm, update_by_hand, **options) == render_bar(theirs.auto.tqdm, update_by_hand, **options)


def test_drop_in_has_attributes_of_tqdm(recorder, terminal):
    ours, stock = tqdm(range(3), file=terminal), theirs.auto.tqdm(range(3), file=terminal)
    stock.iterable_awaitable, stock.iterable_iterator, stock.iterable_next  # noqa: B018 - cached properties
    assert set(vars(ours)) - {"_progressbar_mirror"} == set(vars(stock)) - {
        "iterable_awaitable",
        "iterable_iterator",
        "iterable_next",
    }
    ours.close()
    stock.close()


def test_error_of_display_override_reaches_user(recorder, terminal):
    class Broken(tqdm):
        def display(self, *args, **options):
            if self.n:
                raise RuntimeError("no picture")
            return super().display(*args, **options)

    with pytest.raises(RuntimeError, match="no picture"):
        list(Broken(range(3), file=terminal, id="job", mininterval=0))
    tqdm.get_lock().release()  # stock tqdm leaves it locked
    run = recorder["job"]
    assert (run.status, run.error) == ("failed", "RuntimeError: no picture")


def test_subclass_methods_work_in_constructor(recorder, terminal):
    class CustomBar(tqdm):
        def __init__(self, *args, **options):
            self.positions = []
            super().__init__(*args, **options)

        def display(self, *args, **options):
            self.positions.append(self.n)
            return super().display(*args, **options)

    bar = CustomBar(range(3), file=terminal, id="mine")
    assert list(bar) == [0, 1, 2]
    assert bar.positions[0] == 0
    assert bar.positions[-1] == 3
    assert recorder["mine"].status == "succeeded"


def test_unknown_argument_raises_tqdms_error(recorder, terminal):
    with pytest.raises(theirs.std.TqdmKeyError, match="colr"):
        tqdm(range(3), colr="red", file=terminal)
    gc.collect()
    assert len(recorder) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"id": 5}, "id"), ({"title": 5}, "title"), ({"weight": "x"}, "weight"), ({"group": 1}, "group")],
)
def test_invalid_own_argument_draws_nothing(options, message, recorder, terminal):
    with pytest.raises(TypeError, match=message):
        tqdm(range(3), file=terminal, **options)
    gc.collect()
    assert terminal.getvalue() == ""
    assert len(recorder) == 0


def test_disable_true_disables_both_displays(recorder, terminal):
    bar = tqdm(range(3), disable=True, id="off", file=terminal)
    assert list(bar) == [0, 1, 2]
    bar.update()
    bar.set_description("x")
    bar.close()
    assert (bar.n, bar.disable, terminal.getvalue(), len(recorder)) == (0, True, "", 0)


def test_disable_none_without_terminal_hides_terminal_bar(recorder):
    out = io.StringIO()
    for _ in tqdm(range(3), disable=None, id="batch", file=out):
        pass
    bar = tqdm(None, None, 5, True, out, None, 0.1, 10.0, None, None, None, id="batch by place")
    bar.update(5)
    bar.close()
    assert out.getvalue() == ""
    assert [(run.status, run.completed, run.total) for run in recorder] == [("succeeded", 3, 3), ("succeeded", 5, 5)]


def test_disable_none_on_terminal_shows_both_displays(recorder, terminal):
    for _ in tqdm(range(3), disable=None, id="seen", file=terminal):
        pass
    assert "3/3" in terminal.getvalue()
    assert recorder["seen"].completed == 3


def test_environment_sets_tqdms_defaults(recorder, monkeypatch):
    # tqdm reads it at import, so the test needs a new process.
    import subprocess

    program = (
        "import io; from progressbar_tracker.tqdm import tqdm; out = io.StringIO()\n"
        "bar = tqdm(total=3, file=out); bar.close(); print(bar.unit, bar.desc)"
    )
    monkeypatch.setenv("TQDM_UNIT", "rows")
    monkeypatch.setenv("TQDM_DESC", "from outside")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.stdout == "rows from outside\n"


def test_assigned_attributes_are_shown(recorder, terminal):
    bar = tqdm(total=10, id="set", file=terminal)
    for n, total, shown in [(3, 10, (3, 10)), (12, 10, (12, 10)), (2.5, None, (2.5, None)), (1, 7, (1, 7))]:
        bar.n, bar.total = n, total
        assert (recorder["set"].completed, recorder["set"].total) == shown
    bar.update(-1)
    assert recorder["set"].completed == 0
    bar.close()


@pytest.mark.parametrize("bad", [math.inf, math.nan, None, "many", [1]], ids=str)
def test_invalid_count_keeps_last_one(bad, recorder, terminal):
    bar = tqdm(total=10, id="odd", file=terminal)
    bar.update(4)
    assert recorder["odd"].completed == 4
    bar.n = bad
    assert recorder["odd"].completed == 4
    bar.n = 5
    bar.close()
    assert recorder["odd"].completed == 5


def test_numeric_unit_scale_multiplies_count_and_total(recorder, terminal):
    bar = tqdm(total=10, unit_scale=8, id="scaled", file=terminal)
    bar.update(3)
    assert (recorder["scaled"].completed, recorder["scaled"].total) == (24, 80)
    bar.close()


def test_infinite_total_is_no_total(recorder, terminal):
    bar = tqdm(itertools.count(), total=math.inf, id="endless", file=terminal)
    assert recorder["endless"].total is None
    bar.close()


def test_description_and_postfix_become_title_and_description(recorder, terminal):
    bar = tqdm(total=1, desc="load", id="a", file=terminal)
    assert (recorder["a"].title, recorder["a"].description) == ("load", "")
    bar.set_description("train")
    bar.set_postfix(epoch=3, loss=0.25)
    assert (recorder["a"].title, recorder["a"].description) == ("train", "epoch=3, loss=0.25")
    bar.close()


def test_own_title_moves_description_beside_postfix(recorder, terminal):
    bar = tqdm(
        total=1, desc="load", id="a", title="Nightly", group="g", weight=7, keep=True, unit=" rows", file=terminal
    )
    bar.set_postfix_str("12 bad")
    run = recorder["a"]
    assert (run.title, run.description) == ("Nightly", "load · 12 bad")
    assert (run.group, run.weight, run.keep, run.unit) == ("g", 7, True, "rows")
    bar.close()


def test_bar_without_name_is_named_by_location(recorder, terminal):
    bar = tqdm(total=1, file=terminal)
    assert recorder.runs[0].title.startswith("test_parity.py:")
    bar.close()


def test_hostile_texts_are_sanitized(recorder, terminal):
    class Bad:
        def __str__(self):
            raise RuntimeError("no text")

    bar = tqdm(total=1, desc="a\x00b\x1b[31m" + "c" * 500, id="bad", file=terminal)
    bar.set_postfix_str("x\x07y")
    run = recorder["bad"]
    assert "\x00" not in run.title
    assert "\x1b" not in run.title
    assert len(run.title) <= 200
    assert "\x07" not in run.description
    bar.postfix = Bad()
    assert recorder["bad"].title == run.title
    bar.postfix = None
    bar.close()


def test_reset_restarts_count_but_not_closed_bar(recorder, terminal):
    bar = tqdm(total=10, id="again", file=terminal)
    bar.update(7)
    bar.reset(total=4)
    assert (recorder["again"].completed, recorder["again"].total) == (0, 4)
    bar.close()
    bar.reset()
    bar.update(3)
    assert (len(recorder), recorder["again"].completed) == (1, 0)


def test_bars_at_one_position_are_kept_apart(recorder, terminal):
    bars = [tqdm(total=9, id=f"bar {i}", position=0, file=terminal) for i in range(3)]
    for i, bar in enumerate(bars):
        bar.update(i)
    assert [run.completed for run in recorder] == [0, 1, 2]
    assert [run.parent for run in recorder] == [None] * 3
    for bar in bars:
        bar.close()


def test_nested_bar_has_outer_bar_as_parent(recorder, terminal):
    for _ in trange(1, id="outer", file=terminal):
        with tqdm(total=1, id="middle", file=terminal):
            list(tqdm([1], id="inner", file=terminal))
    list(tqdm([1], id="after", file=terminal))
    assert [run.parent for run in recorder] == [None, "outer", "middle", None]


def test_container_methods_are_tqdms(recorder, terminal):
    bar = tqdm([1, 2, 3], file=terminal)
    assert (len(bar), bool(bar), 2 in bar) == (3, True, True)
    stock = list(reversed(theirs.auto.tqdm([1, 2, 3], file=terminal)))
    assert list(reversed(tqdm([1, 2, 3], file=terminal))) == stock
    with pytest.raises(TypeError):
        bool(tqdm(file=terminal))


def test_closed_file_raises_nothing(recorder):
    out = io.StringIO()
    bar = tqdm(total=3, file=out, id="closed")
    bar.update(3)
    out.close()
    bar.close()
    assert recorder["closed"].status == "succeeded"


def test_class_methods_exist(recorder, terminal):
    bar = tqdm(total=3, file=terminal)
    with tqdm.external_write_mode(file=terminal):
        pass
    tqdm.write("a line", file=terminal)
    bar.close()
    assert "a line\n" in terminal.getvalue()
    lock = tqdm.get_lock()
    tqdm.set_lock(lock)
    data = io.BytesIO(b"x" * 100)
    with tqdm.wrapattr(data, "read", total=100, id="bytes", file=terminal) as wrapped:
        assert wrapped.read() == b"x" * 100
    assert (recorder["bytes"].completed, recorder["bytes"].unit) == (100, "B")


def test_no_iterator_is_created_before_loop(recorder, terminal):
    class Loader:
        iterator_count = 0

        def __iter__(self):
            self.iterator_count += 1
            return iter([1, 2])

    loader = Loader()
    bar = tqdm(loader, file=terminal)
    assert loader.iterator_count == 0
    assert list(bar) == [1, 2]
    assert loader.iterator_count == 1


def test_bar_can_be_updated_from_many_threads(recorder, terminal):
    bar = tqdm(total=8000, id="threads", file=terminal)
    lock = threading.Lock()

    def work():
        for _ in range(1000):
            with lock:
                bar.update()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bar.close()
    assert recorder["threads"].completed == 8000


def test_unreferenced_bar_is_freed_at_once(recorder, terminal):
    before = len(list(getattr(tqdm, "_instances", ())))
    bar = tqdm(total=3, file=terminal)
    del bar
    assert len(list(tqdm._instances)) == before


def test_bar_can_be_created_while_drawing_lock_is_held(recorder, terminal):
    bar = tqdm(total=3, id="locked", file=terminal)
    with tqdm.get_lock():
        bar.n = 2
        assert recorder["locked"].completed == 2
    bar.close()


def test_tqdm_command_line_reads_class_docstring():
    text = tqdm.__doc__
    assert theirs.std.tqdm.__doc__ in text
    options = dict(theirs.cli.RE_OPTS.findall(text if sys.version_info < (3, 13) else text.replace("\n", "\n    ")))
    assert {"mininterval", "delay"} <= set(options)
    assert "id" not in options


# --- the other names --------------------------------------------------------------------------------------------------


def test_trange_counts_range(recorder, terminal):
    assert list(trange(2, 8, 3, id="r", file=terminal)) == [2, 5]
    assert (recorder["r"].completed, recorder["r"].total) == (2, 2)


def test_contrib_functions_accept_own_options(recorder, terminal):
    assert list(tenumerate("ab", start=1, id="e", file=terminal)) == [(1, "a"), (2, "b")]
    assert list(tzip("ab", [1, 2], id="z", file=terminal)) == [("a", 1), ("b", 2)]
    assert list(tmap(abs, [-1, -2], id="m", file=terminal)) == [1, 2]
    assert thread_map(abs, [-1, -2], id="t", max_workers=2, file=terminal) == [1, 2]
    assert [(run.id, run.status, run.completed) for run in recorder] == [
        (name, "succeeded", 2) for name in ("e", "z", "m", "t")
    ]


def test_process_map_counts_in_parent(recorder, terminal):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns about a fork with threads
        assert process_map(abs, [-1, -2], id="p", max_workers=1, file=terminal) == [1, 2]
    assert (recorder["p"].status, recorder["p"].completed) == ("succeeded", 2)


def test_gather_and_as_completed_are_counted(recorder, terminal):
    import asyncio

    async def twice(n):
        return 2 * n

    async def main():
        assert await tqdm.gather(*(twice(i) for i in range(3)), id="gather", file=terminal) == [0, 2, 4]
        got = [await each for each in tqdm.as_completed([twice(i) for i in range(3)], id="done", file=terminal)]
        assert sorted(got) == [0, 2, 4]

    asyncio.run(main())
    assert [(run.id, run.status, run.completed) for run in recorder] == [
        ("gather", "succeeded", 3),
        ("done", "succeeded", 3),
    ]


def test_copy_of_bar_is_tqdms():
    assert copy.copy(tqdm).__name__ == "tqdm"


def test_deleted_lock_is_recreated(recorder, terminal):
    assert tqdm.get_lock() is theirs.auto.tqdm.get_lock()
    for _ in range(2):
        del tqdm._lock
        with tqdm.external_write_mode(file=terminal):
            pass
