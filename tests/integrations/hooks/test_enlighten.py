"""enlighten: programs update a counter, and need not close it."""

from __future__ import annotations

import io

import enlighten
import pytest

from progressbar_tracker.integrations import enlighten as integration


@pytest.fixture
def manager(install, recorder):
    install("enlighten")
    return enlighten.get_manager(stream=io.StringIO())


def final_states(recorder):
    return [(run.title, run.completed, run.total, run.unit, run.status) for run in recorder]


def test_closed_counter_has_succeeded(manager, recorder):
    counter = manager.counter(total=60, desc="Baking:", unit="loaves")
    for _ in range(60):
        counter.update()
    counter.close()
    assert final_states(recorder) == [("Baking", 60, 60, "loaves", "succeeded")]


def test_counter_that_is_closed_early_is_stopped(manager, recorder):
    counter = manager.counter(total=60, desc="Baking")
    counter.update(20)
    counter.close()
    assert final_states(recorder) == [("Baking", 20, 60, "it", "stopped")]


def test_counter_without_a_total_has_succeeded(manager, recorder):
    counter = manager.counter(desc="Baking")
    counter.update(20)
    counter.close()
    assert final_states(recorder) == [("Baking", 20, None, "it", "succeeded")]


def test_complete_counter_ends_when_it_no_longer_changes(manager, recorder, monkeypatch):
    counter = manager.counter(total=60, desc="Baking")
    counter.update(60)
    assert final_states(recorder)[0][-1] == "running"
    monkeypatch.setattr(integration, "COMPLETE_SECONDS", -1.0)
    assert final_states(recorder)[0][-1] == "succeeded"


def test_stopped_manager_ends_its_counters(manager, recorder):
    other_manager = enlighten.get_manager(stream=io.StringIO())
    other_manager.counter(total=60, desc="Stirring")
    with pytest.raises(ValueError, match="no flour"), enlighten.Manager(stream=io.StringIO()) as manager:
        manager.counter(total=60, desc="Baking").update(20)
        raise ValueError("no flour")
    assert [(run.title, run.status, run.error) for run in recorder] == [
        ("Stirring", "running", None),
        ("Baking", "failed", "ValueError: no flour"),
    ]


def test_replaced_counter_has_ended(manager, recorder):
    counter = manager.counter(total=60, desc="Baking")
    counter.update(60)
    manager.counter(total=60, desc="Stirring", replace=counter)
    assert [run.status for run in recorder] == ["succeeded", "running"]


def test_counter_in_the_programs_loop_has_a_parent(manager, recorder):
    outer = manager.counter(total=2, desc="Centers")
    for _ in range(2):
        inner = manager.counter(total=3, desc="Systems", leave=False)
        inner.update(3)
        inner.close()
        outer.update()
    outer.close()
    first, *others = recorder
    assert (first.parent, [run.parent for run in others]) == (None, [first.id] * 2)


def test_counter_of_a_function_that_the_loop_calls_has_a_parent(manager, recorder):
    def stir():
        with manager.counter(total=3, desc="Stirring") as counter:
            counter.update(3)

    outer = manager.counter(total=2, desc="Baking")
    while outer.count < 2:
        stir()
        outer.update()
    outer.close()
    first, *others = recorder
    assert [run.parent for run in others] == [first.id] * 2


def test_counters_side_by_side_have_no_parent(manager, recorder):
    counters = [manager.counter(total=3, desc=desc) for desc in ("Baking", "Stirring")]
    third = manager.counter(total=3, desc="Cooling")
    for counter in (*counters, third):
        counter.update(3)
        counter.close()
    assert [run.parent for run in recorder] == [None] * 3


def test_iteration_makes_a_counter_the_parent(manager, recorder):
    outer = manager.counter(total=2, desc="Baking")
    for _ in outer(range(2)):
        manager.counter(total=3, desc="Stirring").close()
    outer.close()
    first, *others = recorder
    assert (first.completed, [run.parent for run in others]) == (2, [first.id] * 2)


def test_status_bar_is_not_shown(manager, recorder):
    manager.status_bar("Baking")
    assert list(recorder) == []


def test_counter_that_the_program_disables_is_not_shown(install, recorder, terminal):
    install("enlighten")
    manager = enlighten.get_manager(stream=terminal, enabled=False)
    manager.counter(total=3).update(3)
    assert list(recorder) == []


def test_second_close_warns_with_the_line_of_the_program(manager):
    counter = manager.counter(total=3)
    counter.close()
    with pytest.warns(enlighten.EnlightenWarning, match="already closed") as warnings:
        counter.close()
    assert warnings[0].filename == __file__
