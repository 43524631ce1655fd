"""The benchmark of the ETA: its traces, its measures, its peers, and its command."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.benchmarks.eta_replay.hangs import find_upper_bound, replay_hangs, shuffle_items
from tests.benchmarks.eta_replay.ours import UPDATE_INTERVAL_SECONDS, list_updates, make_former_run, predict_ours
from tests.benchmarks.eta_replay.peers import PEERS_BY_NAME, Estimate
from tests.benchmarks.eta_replay.scoring import SCORED_SHARES, score_contender, score_run
from tests.benchmarks.eta_replay.traces import (
    PACKED_PATH,
    Trace,
    TraceError,
    pack_traces,
    read_traces,
    scale_runs,
    split_kinds,
    unpack_traces,
)

SCRIPT_PATH = Path(__file__).parents[1] / "benchmarks/eta.py"
STEADY_TRACE = Trace("steady", 1, tuple(0.5 * number for number in range(1, 201)))


def run_script(*arguments):
    command = [sys.executable, SCRIPT_PATH, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def make_line(**changes):
    return json.dumps({"job": "sync", "run": 1, "n": 2, "t": [1, 2.5], **changes})


def test_packed_traces_are_small_and_many():
    jobs = unpack_traces(PACKED_PATH.read_bytes())
    assert PACKED_PATH.stat().st_size <= 400_000
    assert len(jobs) >= 15
    assert all(len(runs) >= 8 for runs in jobs.values())
    assert all(10 <= run.duration <= 120 for runs in jobs.values() for run in runs)


def test_packing_keeps_traces():
    traces = [STEADY_TRACE, STEADY_TRACE._replace(run=2)]
    assert unpack_traces(pack_traces(traces)) == {"steady": traces}


def test_kinds_are_split_alternately():
    assert split_kinds({name: [] for name in "dbca"}) == (["a", "c"], ["b", "d"])


def test_scaled_runs_keep_their_proportions():
    runs = [STEADY_TRACE, Trace("steady", 2, (300.0,))]
    assert [run.duration for run in scale_runs(runs, 60)] == pytest.approx([30, 90])


def test_traces_are_read_in_the_order_of_their_runs():
    found = read_traces([make_line(run=2), "\n", make_line(t=[1, 3])])
    assert [run.ends for run in found["sync"]] == [(1.0, 3.0), (1.0, 2.5)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON"),
        ("[]", "expected an object"),
        (make_line(job=""), '"job" must be'),
        (make_line(run="1"), '"run" and "n" must be'),
        (make_line(n=3), '"n" is 3, but "t" has 2'),
        (make_line(n=0, t=[]), "at least 1"),
        (make_line(t=[2, 1]), "must not decrease"),
        (make_line(t=[0, 0]), "must end above 0"),
        (make_line(t=[1, math.nan]), "finite numbers"),
        (make_line(), "is there already"),
    ],
)
def test_bad_line_is_named(line, reason):
    with pytest.raises(TraceError, match=f"^line 2: .*{reason}"):
        read_traces([make_line(), line])


def test_perfect_estimate_scores_no_error():
    score = score_run(STEADY_TRACE, [Estimate(100.0, 90.0, 110.0)] * len(SCORED_SHARES))
    assert score == pytest.approx((0, 0, 1, 0.2, 0.05, 0))


def test_missing_estimate_scores_as_elapsed_time():
    score = score_run(STEADY_TRACE, [None] * len(SCORED_SHARES))
    assert score.missing == 1
    assert score.error == pytest.approx(0, abs=1e-9)
    assert math.isnan(score.coverage)


def test_estimate_before_first_item_scores_as_twice_the_run():
    late = Trace("late", 1, (90.0, 100.0))
    score = score_run(late, [None] * len(SCORED_SHARES))
    assert score.error == pytest.approx((17 * 1.0 + 0.8 + 0.9) / 19)


def test_jump_is_the_mean_movement():
    score = score_run(STEADY_TRACE, [Estimate(90.0), Estimate(110.0)] * 9 + [Estimate(90.0)])
    assert score.jump == pytest.approx(0.2)
    assert score.error == pytest.approx(0.1)


def test_earliness_is_the_moment_after_the_last_large_error():
    score = score_run(STEADY_TRACE, [Estimate(100.0)] * 3 + [Estimate(120.0)] + [Estimate(101.0)] * 15)
    assert score.earliness == pytest.approx(0.25)


def test_run_without_enough_history_is_not_scored():
    runs = [STEADY_TRACE._replace(run=number) for number in range(1, 5)]
    seen = []

    def spy(trace, former, moments):
        seen.append((trace.run, [run.run for run in former]))
        return [None] * len(moments)

    assert len(score_contender(spy, runs, 2)) == 2
    assert seen == [(3, [1, 2]), (4, [2, 3])]


@pytest.mark.parametrize("name", PEERS_BY_NAME)
def test_peer_is_right_about_a_steady_run(name):
    moments = [share * STEADY_TRACE.duration for share in SCORED_SHARES]
    found = PEERS_BY_NAME[name](STEADY_TRACE, [STEADY_TRACE], moments)
    assert all(estimate and estimate.finish == pytest.approx(100, rel=0.03) for estimate in found[4:])


def test_peers_use_the_clock_of_the_trace():
    slow = Trace("slow", 1, tuple(20.0 * end for end in STEADY_TRACE.ends))
    moments = [share * slow.duration for share in SCORED_SHARES]
    for name in ("tqdm", "rich", "alive-progress"):
        found = PEERS_BY_NAME[name](slow, [], moments)
        assert found[9] is not None
        assert found[9].finish == pytest.approx(2000, rel=0.03)


def test_updates_are_half_a_second_apart():
    trace = Trace("fast", 1, tuple(0.01 * number for number in range(1, 1001)))
    updates = list_updates(trace)
    assert updates[-1][1] == 1000
    assert all(late[0] - early[0] > UPDATE_INTERVAL_SECONDS - 1e-9 for early, late in pairwise(updates))


def test_former_run_has_the_positions_of_the_store():
    former = make_former_run(Trace("slow", 1, tuple(36.0 * number for number in range(1, 101))))
    assert 60 <= len(former.positions) <= 128
    assert former.longest_gap == 36
    assert former.positions[-1] == former.total == 100


def test_estimator_learns_from_former_runs():
    growing = Trace("growing", 1, tuple(0.01 * number**2 for number in range(1, 101)))
    moments = [share * growing.duration for share in SCORED_SHARES]
    alone = score_run(growing, predict_ours(growing, [], moments))
    taught = score_run(growing, predict_ours(growing, [growing] * 3, moments))
    assert taught.error < 0.03 < alone.error


def test_shuffled_items_keep_their_durations():
    shuffled = shuffle_items(STEADY_TRACE._replace(ends=(1.0, 3.0, 6.0)), "items", random.Random(2))
    assert shuffled.duration == pytest.approx(6)
    assert shuffled.ends != (1.0, 3.0, 6.0)


def test_bound_of_nothing_seen_is_the_rule_of_three():
    assert find_upper_bound(0, 3000) == pytest.approx(3 / 3000, rel=0.01)
    assert find_upper_bound(5, 5) == 1


def test_hang_of_a_steady_run_is_reported():
    runs = [STEADY_TRACE._replace(run=number) for number in range(1, 4)]
    result = replay_hangs({"steady": runs}, 3600.0, 0, 60)
    assert result.false_alarms == 0
    assert result.in_time >= 54


@pytest.mark.parametrize("options", [(), ("--hang",)], ids=["tables", "hangs"])
def test_command_prints_json(options):
    done = run_script("--quick", "--json", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_command_reads_other_traces(tmp_path):
    path = tmp_path / "traces.jsonl"
    ends = [0.1 * number for number in range(1, 101)]
    path.write_text("".join(make_line(run=run, n=100, t=ends) + "\n" for run in range(1, 9)))
    done = run_script("--traces", path)
    assert done.returncode == 0, done.stderr
    assert "scaled to 10 min on average, 6 former runs, 2 runs scored" in done.stdout


def test_command_names_a_bad_line(tmp_path):
    path = tmp_path / "traces.jsonl"
    path.write_text(make_line() + "\n" + make_line(run=2, n=1) + "\n")
    done = run_script("--traces", path)
    assert done.returncode == 1
    assert "line 2:" in done.stderr
