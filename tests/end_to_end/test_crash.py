"""A few rounds of the crash harness, and tests of its oracle. ``crash.py`` alone runs fifty rounds and more."""

from __future__ import annotations

import random
import secrets
import time
from collections import deque

import pytest

from tests.support.postgres import Cluster, create_database

from .crash import MAX_STALE_SECONDS, TrackedItem, Viewer, run_rounds


def test_acknowledged_writes_survive_kill_9_at_random_moments(tmp_path):
    seed = secrets.randbelow(1_000_000)
    done = run_rounds(tmp_path, tmp_path / "progress.db", 3, seed=seed, writers=4, longest=0.4)
    assert done.faults == [], f"seed {seed}"
    assert done.counts["kills"] == 3
    # The load included every kind of write.
    for kind in ("creates", "progress", "ends", "deletes", "keys", "shares", "integrity checks"):
        assert done.counts[kind] > 0, done.counts


def test_acknowledged_writes_survive_kill_9_of_one_of_servers(tmp_path, postgres_url):
    seed = secrets.randbelow(1_000_000)
    done = run_rounds(tmp_path, postgres_url, 2, seed=seed, writers=4, longest=0.4, replicas=2)
    assert done.faults == [], f"seed {seed}"
    assert done.counts["kills"] == 2


def test_acknowledged_writes_survive_a_crash_of_postgresql(tmp_path):
    seed = secrets.randbelow(1_000_000)
    cluster = Cluster()
    try:
        database = create_database(cluster)
        done = run_rounds(
            tmp_path, database, 2, seed=seed, writers=4, longest=0.4, replicas=2, interrupt=cluster.interrupt
        )
        assert done.faults == [], f"seed {seed}"
    finally:
        cluster.remove()


# The oracle


def make_tracked_item(**state):
    tracked = TrackedItem("a", random.Random(0))
    tracked.run_id = "r"
    tracked.created = True
    for name, value in state.items():
        setattr(tracked, name, value)
    return tracked


def make_found_item(seq=0, status="running", **more):
    return {"id": "a", "run_id": "r", "seq": seq, "completed": seq, "status": status, **more}


DELETE_OP = {"op": "delete"}
END_OP = {"op": "patch", "seq": 3, "status": "failed"}


@pytest.mark.parametrize(
    ("known", "item", "runs", "complaint"),
    [
        (make_tracked_item(), None, [], "is nowhere"),
        (make_tracked_item(seq=3, durable=3, ended="failed"), make_found_item(3), [], "is running instead of failed"),
        (make_tracked_item(seq=3, durable=3), make_found_item(2), [], "not from 3 to 3"),
        (make_tracked_item(seq=3, progress=deque([(98.5, 2), (99.8, 3)])), make_found_item(1), [], "not from 2 to 3"),
        (make_tracked_item(seq=3), make_found_item(4), [], "not from 0 to 3"),
        (make_tracked_item(seq=3), make_found_item(3, completed=2), [], "has 2 of the write 3"),
        (make_tracked_item(), make_found_item(run_id="s"), [], "another run"),
        (make_tracked_item(gone="deleted"), make_found_item(), [], "is listed after its delete"),
        (make_tracked_item(gone="deleted"), None, [], "not in the history"),
        (make_tracked_item(gone="deleted"), None, [make_found_item(status="deleted")] * 2, "2 times"),
        (
            make_tracked_item(gone="failed"),
            None,
            [make_found_item(status="deleted")],
            "deleted in the history instead of failed",
        ),
        (make_tracked_item(), make_found_item(), [make_found_item(status="deleted")], "listed and in the history"),
        (make_tracked_item(), None, [make_found_item(status="deleted")], "without a delete"),
        (make_tracked_item(created=False), make_found_item(), [], "without a create"),
    ],
)
def test_crash_oracle_reports_each_fault(known, item, runs, complaint):
    assert complaint in "; ".join(known.find_faults(item, runs, 100.0))


@pytest.mark.parametrize(
    ("known", "item", "runs"),
    [
        (make_tracked_item(), make_found_item(), []),
        (make_tracked_item(seq=3, progress=deque([(98.5, 2), (99.8, 3)])), make_found_item(2), []),
        (make_tracked_item(gone="deleted"), None, [make_found_item(status="deleted")]),
        (make_tracked_item(pending=DELETE_OP), None, [make_found_item(status="deleted")]),
        (make_tracked_item(pending=DELETE_OP), make_found_item(), []),
        (make_tracked_item(seq=2, pending=END_OP), make_found_item(2), []),
        (make_tracked_item(seq=2, pending=END_OP), make_found_item(3, "failed"), []),
        (make_tracked_item(created=False, pending={"op": "put"}), None, []),
        (make_tracked_item(created=False, pending={"op": "put"}), make_found_item(), []),
        (make_tracked_item(created=False), None, []),
    ],
)
def test_crash_oracle_accepts_both_outcomes_of_a_pending_write(known, item, runs):
    assert list(known.find_faults(item, runs, 100.0)) == []


@pytest.mark.parametrize(
    ("first", "then", "complaints"),
    [
        (make_found_item(3), make_found_item(3), 0),
        (make_found_item(4), make_found_item(3), 0),  # a write that was shown before it was refused
        (make_found_item(3), make_found_item(2), 1),
        (make_found_item(4, "failed"), make_found_item(3), 0),
        (make_found_item(3, "succeeded"), make_found_item(3), 1),
    ],
)
def test_crash_oracle_reports_a_run_that_moves_backwards(first, then, complaints):
    end = "succeeded" if first["status"] == "succeeded" else None
    tracked = make_tracked_item(acknowledgements=deque([(time.monotonic() - MAX_STALE_SECONDS - 1, 3, end)]))
    viewer = Viewer(list, random.Random(0), lambda: {"a": tracked})
    latest = {}
    for item in (first, then):
        viewer.apply_event("change", {"items": [item]}, latest)
    assert len(viewer.faults) == complaints
