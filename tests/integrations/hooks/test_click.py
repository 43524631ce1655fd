"""click: off a terminal, the library counts nothing in a loop."""

from __future__ import annotations

import io

import click
import pytest


@pytest.fixture(params=["terminal", "pipe"])
def file(request, terminal, install, recorder):
    install("click")
    return terminal if request.param == "terminal" else io.StringIO()


def final_states(recorder):
    return [(run.completed, run.total, run.status) for run in recorder]


def test_loop_without_a_length_is_counted(file, recorder):
    with click.progressbar((number for number in range(60)), file=file) as bar:
        assert list(bar) == list(range(60))
    assert final_states(recorder) == [(60, None, "succeeded")]


def test_loop_without_a_length_that_is_left_is_stopped(file, recorder):
    with click.progressbar((number for number in range(60)), file=file) as bar:
        for number in bar:
            if number == 20:
                break
    assert final_states(recorder) == [(20, None, "stopped")]


def list_events(file):
    """Return what happens when a loop over a generator is left."""
    events = []

    def read_numbers():
        try:
            yield from (1, 2)
        finally:
            events.append("closed")

    with click.progressbar(read_numbers(), file=file) as bar:
        for _ in bar:
            break
        events.append("after the loop")
    del bar
    return events


def test_source_is_closed_at_the_same_time(file, install):
    events = list_events(file)
    install("click").uninstall()
    assert list_events(file) == events


def test_updates_are_counted_below_the_minimum_of_steps(file, recorder):
    with click.progressbar(length=60, file=file, update_min_steps=50) as bar:
        bar.update(20)
        (run,) = recorder
        assert run.completed == 20
    assert final_states(recorder) == [(20, 60, "stopped")]


def test_updates_up_to_the_length_have_succeeded(file, recorder):
    with click.progressbar(length=60, file=file) as bar:
        for _ in range(6):
            bar.update(10)
    assert final_states(recorder) == [(60, 60, "succeeded")]


def test_hidden_bar_is_not_shown(file, recorder):
    with click.progressbar(range(3), file=file, hidden=True) as bar:
        assert list(bar) == [0, 1, 2]
    assert list(recorder) == []


def test_exit_of_click_is_a_stop(file, recorder):
    with pytest.raises(click.exceptions.Exit), click.progressbar(range(60), file=file) as bar:
        for number in bar:
            if number == 20:
                raise click.exceptions.Exit(0)
    assert final_states(recorder) == [(20, 60, "stopped")]
