"""alive-progress: loops, manual mode, titles and texts."""

from __future__ import annotations

import io

import pytest
from alive_progress import alive_bar, alive_it


@pytest.fixture(params=["terminal", "pipe"])
def file(request, terminal, install, recorder):
    install("alive_progress")
    return terminal if request.param == "terminal" else io.StringIO()


def final_states(recorder):
    return [(run.completed, run.total, run.unit, run.status) for run in recorder]


def test_loop_has_succeeded_at_its_end(file, recorder):
    assert list(alive_it(range(60), file=file)) == list(range(60))
    assert final_states(recorder) == [(60, 60, "it", "succeeded")]


def test_loop_has_succeeded_below_its_total(file, recorder):
    list(alive_it(range(60), total=100, file=file))
    assert final_states(recorder) == [(60, 100, "it", "succeeded")]


def test_loop_that_is_left_is_stopped(file, recorder):
    for number in alive_it(range(60), file=file):
        if number == 20:
            break
    assert final_states(recorder) == [(20, 60, "it", "stopped")]


def test_loop_fails_with_the_error_of_its_source(file, recorder):
    def read_numbers():
        yield 1
        raise OSError("line dropped")

    with pytest.raises(OSError, match="line dropped"):
        list(alive_it(read_numbers(), file=file))
    assert [(run.completed, run.status, run.error) for run in recorder] == [(1, "failed", "OSError: line dropped")]


def test_bar_without_a_total_has_succeeded(file, recorder):
    with alive_bar(file=file) as bar:
        bar(20)
    assert final_states(recorder) == [(20, None, "it", "succeeded")]


def test_manual_bar_without_a_total_counts_percent(file, recorder):
    with alive_bar(manual=True, file=file) as bar:
        bar(0.25)
    assert final_states(recorder) == [(25, 100, "%", "stopped")]


def test_manual_bar_with_a_total_counts_units(file, recorder):
    with alive_bar(60, manual=True, unit=" loaves", file=file) as bar:
        bar(1.0)
    assert final_states(recorder) == [(60, 60, "loaves", "succeeded")]


def test_title_and_text_follow_the_bar(file, recorder):
    with alive_bar(60, title="Baking 日本", file=file, dual_line=True) as bar:
        bar.text = "bread"
        (run,) = recorder
        assert (run.title, run.description) == ("Baking 日本", "bread")
        bar.title = "Cooling"
        (run,) = recorder
        assert run.title == "Cooling"


def test_captured_interrupt_is_a_failure(file, recorder):
    with alive_bar(60, ctrl_c=False, file=file):
        raise KeyboardInterrupt
    assert [(run.status, run.error) for run in recorder] == [("failed", "KeyboardInterrupt")]


def test_bar_as_a_decorator_is_shown_for_each_call(file, recorder):
    @alive_bar(60, file=file)
    def bake():
        pass

    bake()
    bake()
    assert [run.status for run in recorder] == ["stopped", "stopped"]


def test_disabled_bar_is_not_shown(file, recorder):
    with alive_bar(3, disable=True, file=file) as bar:
        bar(3)
    assert list(recorder) == []
