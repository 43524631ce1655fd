"""The parents of bars that the program updates itself."""

from __future__ import annotations

import pytest
from tqdm import std


class LibraryBar(std.tqdm):
    """As in Lightning: callbacks create the bars, and set their counts."""


@pytest.fixture
def open_bar(installed_dropin, terminal):
    bars = []

    def open_bar(title, kind=LibraryBar, **options):
        bars.append(kind(desc=title, file=terminal, **{"total": 2, **options}))
        return bars[-1]

    yield open_bar
    for bar in bars:
        bar.close()


def start_epoch(open_bar):
    return open_bar("epoch")


def start_validation(open_bar):
    return open_bar("validation")


def list_parents(recorded):
    titles = {run.id: run.title for run in recorded}
    return {run.title: titles.get(run.parent) for run in recorded}


def send_first(recorded):
    """Do what the sender does at the first send of the runs."""
    return recorded.runs


def test_bar_of_a_waiting_bar_is_inside_it(open_bar, recorder):
    epoch = start_epoch(open_bar)
    epoch.update()
    validation = start_validation(open_bar)
    validation.n = 1
    send_first(recorder)
    epoch.update()
    assert list_parents(recorder) == {"epoch": None, "validation": "epoch"}


def test_loop_inside_a_waiting_bar_has_it_as_parent(open_bar, recorder):
    start_epoch(open_bar)
    for _ in open_bar("validation", iterable=range(3), total=None):
        pass
    assert list_parents(recorder) == {"epoch": None, "validation": "epoch"}


def test_bars_that_move_together_are_siblings(open_bar, recorder):
    bars = [start_epoch(open_bar), start_validation(open_bar)]
    for bar in bars:
        bar.update()
    assert list_parents(recorder) == {"epoch": None, "validation": None}


def test_bars_of_one_line_are_siblings(open_bar, recorder):
    bars = [open_bar(f"file {number}") for number in range(3)]
    bars[2].update()
    assert set(list_parents(recorder).values()) == {None}


def test_bar_after_a_closed_one_has_no_parent(open_bar, recorder):
    start_epoch(open_bar).close()
    start_validation(open_bar).update()
    assert list_parents(recorder) == {"epoch": None, "validation": None}


def test_bar_in_a_loop_is_inside_the_loop_only(open_bar, recorder):
    start_epoch(open_bar)
    for _ in open_bar("folders", iterable=range(1), total=None):
        start_validation(open_bar).update()
        send_first(recorder)
    assert list_parents(recorder)["validation"] == "folders"


def test_bars_of_a_loop_can_be_nested(open_bar, recorder):
    for _ in open_bar("folders", iterable=range(1), total=None):
        epoch = start_epoch(open_bar)
        start_validation(open_bar).update()
        send_first(recorder)
        epoch.update()
    assert list_parents(recorder) == {"folders": None, "epoch": "folders", "validation": "epoch"}
