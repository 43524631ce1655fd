"""fastprogress: master bars, and bars that fastai updates itself."""

from __future__ import annotations

import pytest
from fastprogress import master_bar, progress_bar


@pytest.fixture(autouse=True)
def installed(install, recorder, capsys):
    install("fastprogress")


def list_states(recorder):
    return [(run.title.partition(":")[0], run.completed, run.total, run.status) for run in recorder]


def test_inner_bars_have_the_master_bar_as_parent(recorder):
    master = master_bar(range(2))
    for _ in master:
        for _ in progress_bar(range(60), parent=master):
            pass
    outer, *inner = recorder
    assert list_states(recorder) == [
        ("test_fastprogress.py", 2, 2, "succeeded"),
        ("Epoch 1/2", 60, 60, "succeeded"),
        ("Epoch 2/2", 60, 60, "succeeded"),
    ]
    assert [run.parent for run in inner] == [outer.id] * 2


def test_updates_as_by_fastai_are_complete(recorder):
    """The callback of fastai updates the master bar with the index of the epoch, and ends both bars itself."""
    master = master_bar(list(range(2)))
    master.on_iter_begin()
    for epoch in range(2):
        master.update(epoch)
        bar = progress_bar(range(60), parent=master, leave=False)
        bar.update(0)
        for number in range(60):
            bar.update(number + 1)
            bar.comment = f"0.{number}"
        bar.on_iter_end()
    master.on_iter_end()
    outer, *inner = recorder
    assert list_states(recorder) == [
        ("test_fastprogress.py", 2, 2, "succeeded"),
        ("Epoch 1/2", 60, 60, "succeeded"),
        ("Epoch 2/2", 60, 60, "succeeded"),
    ]
    assert [run.parent for run in inner] == [outer.id] * 2


def test_training_that_is_cancelled_is_stopped(recorder):
    master = master_bar(range(10))
    master.update(0)
    master.update(3)
    master.on_iter_end()
    assert [(run.completed, run.total, run.status) for run in recorder] == [(3, 10, "stopped")]


def test_comment_is_the_description(recorder):
    bar = progress_bar(range(3))
    for _ in bar:
        bar.comment = "0.25"
    assert [run.description for run in recorder] == ["0.25"]


def test_total_below_the_length_ends_the_loop(recorder):
    assert list(progress_bar(range(60), total=20)) == list(range(20))
    assert [(run.completed, run.total, run.status) for run in recorder] == [(20, 20, "succeeded")]


def test_loop_without_a_length_is_counted(recorder):
    list(progress_bar(iter(range(60)), total="noinfer"))
    assert [(run.completed, run.status) for run in recorder] == [(60, "succeeded")]


def test_error_of_the_source_fails_the_bar(recorder):
    """As with ``track()``, the item before the error does not count."""

    def read_batches():
        yield from (1, 2)
        raise OSError("disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        list(progress_bar(read_batches(), total=3))
    assert [(run.completed, run.status, run.error) for run in recorder] == [(1, "failed", "OSError: disk is gone")]
