"""The contract of all stores for the queries of runs: filters of the history, timelines, and the newest runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from progressbar_tracker.server.models import EndedRun, EndStatus, RunRow
from progressbar_tracker.server.mutations import AddHistory, TrimHistory
from progressbar_tracker.server.stores.base import HistoryFilter
from tests.support.items import make_item
from tests.support.stores import commit_writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from progressbar_tracker.server.stores.base import HistoryRow, Store


def make_run(
    item_id: str, run_id: str, status: EndStatus, started_at: float, ended_at: float, **fields: object
) -> EndedRun:
    return EndedRun(make_item(item_id, at=started_at, run_id=run_id, **fields), status, ended_at)


def list_run_ids(rows: Iterable[HistoryRow]) -> list[str]:
    return [row.item.run_id for row in rows]


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        (HistoryFilter(run_id="r2"), ["r2"]),
        (HistoryFilter(id="a", run_id="r2"), ["r2"]),
        (HistoryFilter(id="b", run_id="r2"), []),
        (HistoryFilter(parent="a"), ["r4", "r3"]),
        (HistoryFilter(parent="a", status="failed"), ["r4"]),
        (HistoryFilter(inner=False), ["r5", "r4", "r2", "r1"]),
        (HistoryFilter(inner=False, group="g"), ["r4", "r2"]),
        (HistoryFilter(inner=False, text="A/"), ["r4"]),
        (HistoryFilter(since=20.0), ["r5", "r4", "r2"]),
        (HistoryFilter(until=10.0), ["r4", "r3", "r2", "r1"]),
        (HistoryFilter(since=11.0, until=19.0), ["r4", "r2"]),
        (HistoryFilter(text="titled", since=11.0), ["r2"]),
    ],
)
def test_history_is_filtered_by_run_parent_and_interval(
    reopen: Callable[[], Store], criteria: HistoryFilter, found: list[str]
) -> None:
    store = reopen()
    runs = (
        make_run("a", "r1", "succeeded", 1.0, 10.0),
        make_run("a", "r2", "succeeded", 10.0, 20.0, group="g", title="Titled"),
        make_run("a/1", "r3", "succeeded", 9.0, 10.5, parent="a", group="g"),
        make_run("a/2", "r4", "failed", 9.0, 30.0, parent="a", group="g"),
        make_run("b", "r5", "deleted", 25.0, 40.0, parent=""),
    )
    commit_writes(store, *map(AddHistory, runs))
    assert list_run_ids(store.read_history(criteria)) == found
    assert list_run_ids(store.read_history(criteria, limit=1)) == found[:1]
    if len(found) > 1:
        first = store.read_history(criteria, limit=1)
        assert list_run_ids(store.read_history(criteria, after=first[0].n, limit=1)) == found[1:2]


def test_timeline_has_runs_that_overlap_latest_end_first(reopen: Callable[[], Store]) -> None:
    store = reopen()
    runs = (
        make_run("long", "r1", "succeeded", 1.0, 100.0, group="g"),
        make_run("before", "r2", "succeeded", 1.0, 19.0),
        make_run("at start", "r3", "stopped", 1.0, 20.0),
        make_run("inner", "r4", "succeeded", 21.0, 22.0, parent="long"),
        make_run("failed inner", "r5", "failed", 21.0, 23.0, parent="long", title="T", error="x" * 300 + "\ny"),
        make_run("at end", "r6", "deleted", 30.0, 31.0),
        make_run("after", "r7", "succeeded", 31.0, 32.0),
    )
    commit_writes(store, *map(AddHistory, runs))
    timeline = store.read_timeline(20.0, 30.0, limit=9)
    assert [run.id for run in timeline.runs] == ["long", "at end", "failed inner", "at start"]
    assert timeline.omitted == 0
    (_, _, failed, _) = timeline.runs
    expected = RunRow(failed.n, "failed inner", "r5", None, "failed", 21.0, 23.0, "T", "x" * 200)
    assert failed == expected
    short = store.read_timeline(20.0, 30.0, limit=2)
    assert ([run.id for run in short.runs], short.omitted) == (["long", "at end"], 2)
    assert [run.id for run in store.read_timeline(20.0, 30.0, group="g", limit=9).runs] == ["long"]


def test_recent_runs_are_the_newest_of_each_id(reopen: Callable[[], Store]) -> None:
    store = reopen()
    runs = [make_run("ab"[n % 2], f"r{n}", "succeeded", float(n), n + 0.5) for n in range(9)]
    commit_writes(store, *map(AddHistory, runs))
    found = store.read_recent_runs(["b", "a", "a", "none"], limit=2)
    assert {key: [run.run_id for run in rows] for key, rows in found.items()} == {"a": ["r8", "r6"], "b": ["r7", "r5"]}
    assert found["a"][0].duration == 0.5


def test_history_trim_deletes_its_rows_of_the_runs(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, *(AddHistory(make_run("a", f"r{n}", "failed", 1.0, n + 2.0)) for n in range(3)))
    commit_writes(store, TrimHistory(3.5))
    assert [run.run_id for run in store.read_recent_runs(["a"], limit=9)["a"]] == ["r2"]


def test_end_in_the_future_is_moved_in_the_timeline(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, AddHistory(make_run("a", "r", "failed", 1.0, 900.0)))
    commit_writes(store, TrimHistory(0.0, "failed", latest=50.0))
    assert [run.ended_at for run in store.read_timeline(2.0, 60.0, limit=9).runs] == [50.0]


class HistoryModel(NamedTuple):
    """A run of a simple model of the history."""

    id: str
    run_id: str
    parent: str | None
    group: str | None
    status: EndStatus
    started_at: int
    duration: int


def matches_filter(run: HistoryModel, criteria: HistoryFilter) -> bool:
    return all(
        (
            criteria.group in (None, run.group), criteria.status in (None, run.status), criteria.id in (None, run.id),
            criteria.run_id in (None, run.run_id), criteria.parent in (None, run.parent),
            criteria.inner or run.parent is None or run.status == "failed",
            criteria.since is None or run.started_at + run.duration >= criteria.since,
            criteria.until is None or run.started_at <= criteria.until,
            criteria.text is None or criteria.text in run.id,
        )
    )  # fmt: skip


RUN_NAMES = st.sampled_from(["a", "b"])
END_STATUSES = st.sampled_from(["succeeded", "failed", "stopped"])
RUN_INSTANTS = st.integers(1, 12)
MODEL_RUNS = st.lists(
    st.builds(
        HistoryModel,
        RUN_NAMES,
        RUN_NAMES,
        st.none() | RUN_NAMES,
        st.none() | RUN_NAMES,
        END_STATUSES,
        RUN_INSTANTS,
        st.integers(0, 4),
    ),
    max_size=8,
)
RUN_CRITERIA = st.builds(
    HistoryFilter,
    group=st.none() | RUN_NAMES, status=st.none() | END_STATUSES, id=st.none() | RUN_NAMES, text=st.none() | RUN_NAMES,
    run_id=st.none() | RUN_NAMES, parent=st.none() | RUN_NAMES, inner=st.booleans(),
    since=st.none() | RUN_INSTANTS.map(float), until=st.none() | RUN_INSTANTS.map(float),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=MODEL_RUNS, criteria=st.lists(RUN_CRITERIA, min_size=1, max_size=6), limit=st.integers(1, 9))
def test_history_filters_equal_a_simple_model(
    store_with_history: Store, runs: list[HistoryModel], criteria: list[HistoryFilter], limit: int
) -> None:
    store = store_with_history
    commit_writes(store, TrimHistory(1e9))
    added = [
        AddHistory(
            make_run(run.id, run.run_id, run.status, float(run.started_at), float(run.started_at + run.duration),
                     parent=run.parent, group=run.group, unit=str(number))
        )
        for number, run in enumerate(runs)
    ]  # fmt: skip
    commit_writes(store, *added)
    for one in criteria:
        expected = [str(number) for number, run in reversed(list(enumerate(runs))) if matches_filter(run, one)]
        assert [row.item.unit for row in store.read_history(one, limit=limit)] == expected[:limit]


@pytest.fixture
def store_with_history(reopen: Callable[[], Store]) -> Store:
    """One store for all examples of a property."""
    return reopen()
