"""``get``: how the runs of an id usually go, and a run that has ended."""

from __future__ import annotations

import io
import sys
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker._reader_clock import Clock
from progressbar_tracker.cli.run_history import BLOCK_COLUMNS, describe_history, draw_columns
from progressbar_tracker.server.models import EndedRun
from progressbar_tracker.server.mutations import AddHistory
from tests.support.clock import START_TIME
from tests.support.items import make_item

ENDED_RUNS = [
    {"run_id": f"r{n}", "status": status, "duration_seconds": seconds}
    for n, (status, seconds) in enumerate(
        [("succeeded", 480.0), ("failed", 5.0), ("succeeded", 60.0), ("stopped", 9.0), ("succeeded", 240.0)]
    )
]
RUN_STATISTICS = {
    "run_count": 5, "success_rate": 0.6, "median_duration_seconds": 240.0, "low_duration_seconds": 60.0,
    "high_duration_seconds": 480.0, "usual_start_seconds": 8100.0, "runs": ENDED_RUNS,
}  # fmt: skip


def test_history_is_described_in_four_lines():
    lines = describe_history(RUN_STATISTICS, START_TIME, Clock(timezone(timedelta(hours=1))), has_blocks=True)
    assert dict(lines) == {
        "success": "60 % of 5 runs succeeded",
        "usually": "4 min (1 min to 8 min)",
        "starts": "about 03:15",
        "last runs": "▄-▁x█ (█ is 8 min, x failed, - stopped)",
    }


def test_columns_without_blocks_are_digits():
    assert draw_columns(RUN_STATISTICS, has_blocks=False) == "4-1x8 (8 is 8 min, x failed, - stopped)"


def test_columns_show_the_last_twenty_runs():
    runs = [{"status": "succeeded", "duration_seconds": float(n)} for n in range(1, 31)]
    drawn = draw_columns({"runs": runs}, has_blocks=True).partition(" ")[0]
    assert (len(drawn), drawn[-1], drawn[0]) == (20, BLOCK_COLUMNS[0], BLOCK_COLUMNS[-1])


@given(
    st.dictionaries(
        st.sampled_from(sorted(RUN_STATISTICS)),
        st.none()
        | st.text()
        | st.floats()
        | st.lists(st.none() | st.dictionaries(st.just("duration_seconds"), st.floats())),
    )
)
def test_invalid_statistics_are_left_out(statistics):
    for name, text in describe_history(statistics, START_TIME, Clock(), has_blocks=True):
        assert name
        assert text


@pytest.fixture
def former_runs(configured_server):
    runs = [
        EndedRun(make_item("a/b", at=START_TIME + n * 86400, run_id=f"run {n}"), status, START_TIME + n * 86400 + 60)
        for n, status in enumerate(["failed", "succeeded", "succeeded"])
    ]
    configured_server.store.commit([AddHistory(run) for run in runs]).result(60)
    return configured_server


def test_get_shows_the_history_of_the_id(former_runs, command):
    command("set", "a/b", "0.5")
    lines = dict(line.split(maxsplit=1) for line in command("get", "a/b").out.splitlines() if "  " in line)
    assert lines["success"] == "66 % of 3 runs succeeded"
    assert lines["usually"] == "1 min"
    assert "██" in command("get", "a/b").out


def test_get_without_unicode_draws_digits(former_runs, command, monkeypatch):
    command("set", "a/b", "0.5")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace"))
    command("get", "a/b")
    sys.stdout.flush()
    text = sys.stdout.buffer.getvalue().decode()
    assert "x88 (8 is 1 min, x failed)" in text


def test_get_run_shows_an_ended_run_and_its_link(former_runs, command):
    done = command("get", "a/b", "--run", "run 1")
    lines = [line.split(maxsplit=1) for line in done.out.splitlines() if line]
    assert ["link", f"{former_runs.url}/items/a%2Fb?run=run%201"] in lines
    assert ["status", "succeeded"] in lines
    assert ["duration", "took 1 min"] in lines
    assert command("get", "a/b", "--run", "run 0", "--json").json["status"] == "failed"


def test_get_run_shows_the_current_run(configured_server, command):
    command("set", "now", "0.5")
    run_id = command("get", "now", "--json").json["run_id"]
    assert command("get", "now", "--run", run_id, "--json").json["status"] == "running"


@pytest.mark.parametrize("item_id", ["a/b", "nobody"])
def test_get_of_an_unknown_run_is_one_line(former_runs, command, item_id):
    done = command("get", item_id, "--run", "other")
    assert (done.code, done.out, done.err) == (1, "", f"progressbar-tracker: '{item_id}' has no run 'other'\n")
