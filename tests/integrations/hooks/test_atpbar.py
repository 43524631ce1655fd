"""atpbar: names, repeated loops and threads."""

from __future__ import annotations

import threading

import atpbar
import pytest


@pytest.fixture
def installed(install, recorder):
    install("atpbar")
    yield
    atpbar.funcs.shutdown()  # ends its thread; flush() starts another one


@pytest.mark.parametrize("iterable", [range(3), [1, 2, 3], {1: 2}, {1: 2}.keys(), (1, 2)], ids=repr)
def test_bar_without_a_name_is_named_by_its_line(installed, recorder, iterable):
    assert list(atpbar.atpbar(iterable)) == list(iterable)
    assert [run.title.partition(":")[0] for run in recorder] == ["test_atpbar.py"]


@pytest.mark.parametrize("name", ["[1/3] Baking", "range of loaves", "(a) Baking"])
def test_name_of_the_program_is_the_title(installed, recorder, name):
    list(atpbar.atpbar(range(3), name=name))
    assert [run.title for run in recorder] == [name]


def test_second_loop_over_a_bar_starts_at_zero(installed, recorder):
    bar = atpbar.atpbar(range(3), name="Baking")
    list(bar)
    for _ in bar:
        first, second = recorder
        assert (first.completed, first.status) == (3, "succeeded")
        assert (second.completed, second.status) == (0, "running")
        break
    assert list(recorder)[-1].status == "stopped"


def test_error_of_the_iterable_fails_the_bar(installed, recorder):
    class Loaves:
        def __len__(self):
            return 3

        def __iter__(self):
            yield 1
            raise OSError("oven is cold")

    with pytest.raises(OSError, match="oven is cold"):
        list(atpbar.atpbar(Loaves(), name="Baking"))
    assert [(run.completed, run.status, run.error) for run in recorder] == [(1, "failed", "OSError: oven is cold")]


def test_bars_of_threads_are_siblings(installed, recorder):
    def work(name):
        list(atpbar.atpbar(range(3), name=name))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("Baking", "Stirring")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((run.title, run.parent, run.status) for run in recorder) == [
        ("Baking", None, "succeeded"),
        ("Stirring", None, "succeeded"),
    ]
