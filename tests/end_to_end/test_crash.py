"""A few rounds of the crash harness, and that it would notice. ``crash.py`` by itself goes through fifty and more."""

from __future__ import annotations

import random
import secrets
import time
from collections import deque

import pytest

from tests.support.postgres import Cluster, create_database

from .crash import STALE, Bar, Viewer, crash


@pytest.mark.timeout(150)
def test_what_was_acknowledged_outlives_kill_9_at_random_moments(tmp_path):
    seed = secrets.randbelow(1_000_000)
    done = crash(tmp_path, tmp_path / "progress.db", 3, seed=seed, writers=4, longest=0.4)
    assert done.wrong == [], f"seed {seed}"
    assert done.counts["kills"] == 3
    # It was under load, and there was something to lose.
    for what in ("creates", "progress", "ends", "deletes", "keys", "shares", "integrity checks"):
        assert done.counts[what] > 0, done.counts


@pytest.mark.timeout(150)
def test_what_one_of_several_servers_acknowledged_outlives_its_kill_9(tmp_path, postgres_url):
    seed = secrets.randbelow(1_000_000)
    done = crash(tmp_path, postgres_url, 2, seed=seed, writers=4, longest=0.4, replicas=2)
    assert done.wrong == [], f"seed {seed}"
    assert done.counts["kills"] == 2


@pytest.mark.timeout(150)
def test_what_was_acknowledged_outlives_a_crash_of_postgresql(tmp_path):
    seed = secrets.randbelow(1_000_000)
    cluster = Cluster()
    try:
        database = create_database(cluster)
        done = crash(tmp_path, database, 2, seed=seed, writers=4, longest=0.4, replicas=2, interrupt=cluster.interrupt)
        assert done.wrong == [], f"seed {seed}"
    finally:
        cluster.remove()


# What it complains of


def bar(**state):
    made = Bar("a", random.Random(0))
    made.run_id = "r"
    made.created = True
    for name, value in state.items():
        setattr(made, name, value)
    return made


def found(seq=0, status="running", **more):
    return {"id": "a", "run_id": "r", "seq": seq, "completed": seq, "status": status, **more}


DELETE = {"op": "delete"}
END = {"op": "patch", "seq": 3, "status": "failed"}


@pytest.mark.parametrize(
    ("known", "item", "runs", "complaint"),
    [
        (bar(), None, [], "is nowhere"),
        (bar(seq=3, durable=3, ended="failed"), found(3), [], "is running instead of failed"),
        (bar(seq=3, durable=3), found(2), [], "not from 3 to 3"),
        (bar(seq=3, answered=deque([(98.5, 2), (99.8, 3)])), found(1), [], "not from 2 to 3"),
        (bar(seq=3), found(4), [], "not from 0 to 3"),
        (bar(seq=3), found(3, completed=2), [], "has 2 of the write 3"),
        (bar(), found(run_id="s"), [], "another run"),
        (bar(gone="deleted"), found(), [], "was deleted"),
        (bar(gone="deleted"), None, [], "not in the history"),
        (bar(gone="deleted"), None, [found(status="deleted")] * 2, "2 times"),
        (bar(gone="failed"), None, [found(status="deleted")], "deleted in the history instead of failed"),
        (bar(), found(), [found(status="deleted")], "listed and in the history"),
        (bar(), None, [found(status="deleted")], "nobody has deleted it"),
        (bar(created=False), found(), [], "nobody has created it"),
    ],
)
def test_it_complains_of_what_must_not_be(known, item, runs, complaint):
    assert complaint in "; ".join(known.complaints(item, runs, 100.0))


@pytest.mark.parametrize(
    ("known", "item", "runs"),
    [
        (bar(), found(), []),
        (bar(seq=3, answered=deque([(98.5, 2), (99.8, 3)])), found(2), []),
        (bar(gone="deleted"), None, [found(status="deleted")]),
        (bar(pending=DELETE), None, [found(status="deleted")]),
        (bar(pending=DELETE), found(), []),
        (bar(seq=2, pending=END), found(2), []),
        (bar(seq=2, pending=END), found(3, "failed"), []),
        (bar(created=False, pending={"op": "put"}), None, []),
        (bar(created=False, pending={"op": "put"}), found(), []),
        (bar(created=False), None, []),
    ],
)
def test_it_takes_either_outcome_of_what_was_not_answered(known, item, runs):
    assert list(known.complaints(item, runs, 100.0)) == []


@pytest.mark.parametrize(
    ("first", "then", "complaints"),
    [
        (found(3), found(3), 0),
        (found(4), found(3), 0),  # a write that was shown, and then refused
        (found(3), found(2), 1),
        (found(4, "failed"), found(3), 0),
        (found(3, "succeeded"), found(3), 1),
    ],
)
def test_it_complains_of_what_moves_backwards_before_the_eyes_of_a_viewer(first, then, complaints):
    end = "succeeded" if first["status"] == "succeeded" else None
    seen = bar(heard=deque([(time.monotonic() - STALE - 1, 3, end)]))
    viewer = Viewer(list, random.Random(0), lambda: {"a": seen})
    latest = {}
    for item in (first, then):
        viewer.take("change", {"items": [item]}, latest)
    assert len(viewer.wrong) == complaints
