"""progressbar2: its counts begin at 0, and it draws each closed bar as full."""

from __future__ import annotations

import progressbar
import pytest


@pytest.fixture
def make_bar(install, recorder, terminal):
    install("progressbar2")

    def make(kind=progressbar.ProgressBar, **options):
        return kind(fd=terminal, **options)

    return make


def final_states(recorder):
    return [(run.completed, run.total, run.status, run.error) for run in recorder]


def test_block_with_the_index_as_value_is_complete(make_bar, recorder):
    with make_bar(max_value=60) as bar:
        for index in range(60):
            bar.update(index)
    assert final_states(recorder) == [(60, 60, "succeeded", None)]


def test_block_that_is_left_keeps_its_count(make_bar, recorder):
    with make_bar(max_value=60) as bar:
        bar.update(20)
    assert final_states(recorder) == [(20, 60, "stopped", None)]


def test_block_with_large_steps_is_complete(make_bar, recorder):
    with make_bar(max_value=60) as bar:
        for start in range(0, 60, 20):
            bar.update(start)
    assert final_states(recorder) == [(60, 60, "succeeded", None)]


def test_block_with_an_exception_has_failed(make_bar, recorder):
    with pytest.raises(ValueError, match="no flour"), make_bar(max_value=60) as bar:
        bar.update(20)
        raise ValueError("no flour")
    assert final_states(recorder) == [(20, 60, "failed", "ValueError: no flour")]


def test_loop_in_a_block_fails_with_the_exception(make_bar, recorder):
    with pytest.raises(ValueError, match="no flour"), make_bar() as bar:
        for number in bar(range(60)):
            if number == 20:
                raise ValueError("no flour")
    assert final_states(recorder) == [(20, 60, "failed", "ValueError: no flour")]


def test_loop_in_a_block_that_is_left_is_stopped(make_bar, recorder):
    with make_bar() as bar:
        for number in bar(range(60)):
            if number == 20:
                break
    assert final_states(recorder) == [(20, 60, "stopped", None)]


@pytest.mark.parametrize("count", [0, 1, 60])
def test_loop_without_a_length_counts_each_item(make_bar, recorder, count):
    assert len(list(make_bar()(iter(range(count))))) == count
    assert final_states(recorder) == [(count, None, "succeeded", None)]


def test_next_of_a_bar_counts_each_item(make_bar, recorder):
    bar = make_bar()(iter(range(60)))
    while next(bar, None) is not None:
        pass
    assert final_states(recorder) == [(60, None, "succeeded", None)]


def test_loop_that_ends_before_its_total_keeps_its_count(make_bar, recorder):
    list(make_bar(max_value=100)(iter(range(60))))
    assert final_states(recorder) == [(60, 100, "succeeded", None)]


def test_finish_completes_a_bar(make_bar, recorder):
    bar = make_bar(max_value=60).start()
    bar.update(20)
    bar.finish()
    assert final_states(recorder) == [(60, 60, "succeeded", None)]


def test_dirty_finish_keeps_the_count(make_bar, recorder):
    bar = make_bar(max_value=60).start()
    bar.update(20)
    bar.finish(dirty=True)
    assert final_states(recorder) == [(20, 60, "stopped", None)]


def test_finish_in_a_finally_keeps_the_count(make_bar, recorder):
    bar = make_bar(max_value=60).start()
    with pytest.raises(ValueError, match="no flour"):
        try:
            bar.update(20)
            raise ValueError("no flour")
        finally:
            bar.finish()
    assert final_states(recorder) == [(20, 60, "stopped", None)]


def test_bar_that_starts_again_is_a_new_run(make_bar, recorder):
    bar = make_bar()
    list(bar(range(3)))
    bar.start()
    bar.update(1)
    bar.finish(dirty=True)
    assert final_states(recorder) == [(3, 3, "succeeded", None), (1, 3, "stopped", None)]


def test_minimum_is_the_start_of_the_count(make_bar, recorder):
    with make_bar(min_value=100, max_value=160) as bar:
        bar.update(120)
    assert final_states(recorder) == [(20, 60, "stopped", None)]


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"prefix": "Baking: "}, "Baking"),
        ({"desc": "Baking"}, "Baking"),
        ({"widgets": ["Baking ", progressbar.Percentage()]}, "Baking"),
        ({"prefix": "{variables.what} > ", "variables": {"what": "Bread"}}, "Bread >"),
        ({"kind": progressbar.FastProgressBar, "prefix": "{Bread} "}, "{Bread}"),
        ({"widgets": [" [", progressbar.Timer(), "] "]}, None),
    ],
)
def test_text_before_the_bar_is_the_title(make_bar, recorder, options, title):
    list(make_bar(**options)(range(3)))
    (run,) = recorder
    assert run.title == title or (title is None and run.title.startswith("test_progressbar2.py:"))


def test_key_in_a_multibar_is_the_title(install, recorder, terminal):
    install("progressbar2")
    with progressbar.MultiBar(fd=terminal) as bars:
        list(bars["Baking"](range(3)))
    assert [(run.title, run.completed, run.status) for run in recorder] == [("Baking", 3, "succeeded")]


def test_unit_is_taken_over(make_bar, recorder):
    list(make_bar(unit="loaves")(range(3)))
    list(make_bar(progressbar.DataTransferBar)(range(3)))
    assert [run.unit for run in recorder] == ["loaves", "B"]


def test_null_bar_is_not_shown(make_bar, recorder):
    with make_bar(progressbar.NullBar, max_value=3) as bar:
        bar.update(3)
    assert list(recorder) == []


def test_bars_that_the_program_updates_are_siblings(make_bar, recorder):
    first = make_bar(max_value=3).start()
    second = make_bar(max_value=3).start()
    for _ in range(3):
        first.increment()
        second.increment()
    first.finish()
    second.finish()
    assert [run.parent for run in recorder] == [None, None]


def test_bar_in_the_programs_loop_has_the_outer_bar_as_parent(make_bar, recorder):
    outer = make_bar(max_value=2).start()
    for _ in range(2):
        inner = make_bar(max_value=3).start()
        for _ in range(3):
            inner.increment()
        inner.finish()
        outer.increment()
    outer.finish()
    first, *others = recorder
    assert (first.parent, [run.parent for run in others]) == (None, [first.id] * 2)
