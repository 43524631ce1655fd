"""Long sequences on a server process: many threads at once, ``kill -9``, SIGTERM, a restart."""

from __future__ import annotations

import itertools
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from progressbar_tracker import ProgressBar, TransportError
from tests.support.connections import list_history, list_items
from tests.support.server_process import ADMIN_KEY
from tests.support.waiting import wait_until

THREAD_COUNT, ITEMS_PER_THREAD, OPEN_ITEMS = 20, 80, 40

# The courses of the items, in turn: the calls, the final status in the list, and the one in the history.
ITEM_COURSES = (
    ("deleted", None, "deleted"),
    ("succeeded", "succeeded", None),
    ("succeeded, deleted", None, "succeeded"),
    ("track, through", None, "succeeded"),
    ("track, fails", "failed", None),
    ("track, left early", None, "stopped"),
    ("track, kept", "succeeded", None),
    ("track, a block", None, "succeeded"),
)


def run_client_course(pb, item_id, course):
    pb.create(item_id, course, "begun", 0.0, weight=1)
    pb.update(item_id, course, "half", 0.5, weight=2)
    if course.startswith("succeeded"):
        pb.update(item_id, course, "done", 1.0, weight=3)
    if course.endswith("deleted"):
        assert pb.delete(item_id)


def begin_tracked_course(pb, item_id, course):
    """Begin a tracked run and return the function that ends it."""
    if course in ("track, through", "track, left early", "track, kept"):
        loop = iter(pb.track(range(5), id=item_id, keep=course == "track, kept"))
        next(loop), next(loop), next(loop)
        return (lambda: loop) if course == "track, left early" else lambda: list(loop)
    bar = pb.track(total=5, id=item_id)
    bar.advance(3)
    return (lambda: bar.fail(ValueError("as intended"))) if course == "track, fails" else lambda: finish_bar(bar)


def finish_bar(bar):
    bar.advance(2)
    bar.close()


def run_thread(pb, number):
    for first in range(0, ITEMS_PER_THREAD, OPEN_ITEMS):
        ends = []
        for n in range(first, first + OPEN_ITEMS):
            course = ITEM_COURSES[n % len(ITEM_COURSES)][0]
            if course.startswith("track"):
                ends.append(begin_tracked_course(pb, f"{number}-{n}", course))
            else:
                run_client_course(pb, f"{number}-{n}", course)
        # The sender skips a short run that it has never reported.
        assert pb.sender.flush(60)
        while ends:
            ends.pop()()


def test_items_of_twenty_threads_end_in_their_states(server_process):
    with server_process.http() as http:
        key = http.post("/api/v1/keys", json={"type": "write", "name": "all of them"}).json()["key"]
        with ProgressBar(server_process.url, key, timeout=100) as pb, ThreadPoolExecutor(THREAD_COUNT) as pool:
            for done in [pool.submit(run_thread, pb, number) for number in range(THREAD_COUNT)]:
                done.result(200)
            assert pb.sender.flush(60)
            assert (pb.sender.stats().dropped, pb.sender.stats().failed) == (0, 0)
        statuses = {name: item["status"] for name, item in list_items(http).items()}
        runs = list_history(http)
    ended = {run["id"]: run["status"] for run in runs}
    assert len(ended) == len(runs), "an item has ended twice"
    courses = {
        f"{number}-{n}": ITEM_COURSES[n % len(ITEM_COURSES)]
        for number in range(THREAD_COUNT)
        for n in range(ITEMS_PER_THREAD)
    }
    assert statuses == {name: course[1] for name, course in courses.items() if course[1]}
    assert ended == {name: course[2] for name, course in courses.items() if course[2]}
    counts = {(courses[run["id"]][0], run["completed"]) for run in runs if courses[run["id"]][0].startswith("track")}
    assert counts == {("track, through", 5), ("track, left early", 2), ("track, a block", 5)}


class AcknowledgedWrites:
    """The state of each item whose latest write a server acknowledged to one thread."""

    def __init__(self):
        self.states = {}
        self.pending = None  # the item of an unanswered write: both of its states are valid
        self.count = 0

    def write(self, item_id, state, call, *arguments):
        self.pending = item_id
        call(*arguments)
        self.pending = None
        self.states[item_id] = state
        self.count += 1


def load_server(url, key, number, acknowledged):
    """Create, end and delete items until the server is down."""
    with ProgressBar(url, key, auto_detect=False) as pb:
        for n in itertools.count():
            item_id = f"{number}-{n}"
            try:
                acknowledged.write(item_id, "running", pb.create, item_id, "Title", "", 0.1)
                if n % 3 == 1:
                    acknowledged.write(item_id, "succeeded", pb.update, item_id, "Title", "", 1.0)
                if n % 3 == 2:
                    acknowledged.write(item_id, "deleted", pb.delete, item_id)
            except TransportError:
                return


def churn_keys(server_process, acknowledged):
    """Make keys, and revoke every second one, until the server is down."""
    with server_process.http() as http:
        for n in itertools.count():
            acknowledged.pending = None
            try:
                key = http.post("/api/v1/keys", json={"type": "read", "name": f"key {n}"}).raise_for_status().json()
                acknowledged.states[key["key"]] = 200
                if n % 2:
                    acknowledged.pending = key["key"]
                    http.delete(f"/api/v1/keys/{key['key_id']}").raise_for_status()
                    acknowledged.states[key["key"]] = 401
            except httpx.TransportError:
                return


def test_server_killed_under_load_keeps_acknowledged_writes(server_process):
    with server_process.http() as http:
        key = http.post("/api/v1/keys", json={"type": "write", "name": "load"}).json()["key"]
    writes, key_changes = [AcknowledgedWrites() for _ in range(6)], AcknowledgedWrites()
    with ProgressBar(server_process.url, key) as pb, ThreadPoolExecutor(7) as pool:
        bar = iter(pb.track(range(1000), id="tracked", keep=True, interval=0.05))
        next(bar)
        assert pb.sender.flush(60)
        working = [pool.submit(load_server, server_process.url, key, n, thread) for n, thread in enumerate(writes)]
        working.append(pool.submit(churn_keys, server_process, key_changes))
        wait_until(lambda: sum(thread.count for thread in writes) >= 600 and len(key_changes.states) >= 10)
        assert server_process.stop(signal.SIGKILL)[0] == -signal.SIGKILL
        for done in working:
            done.result(60)
        server_process.start()
        # The tracked loop is unaffected, and its sender reconnects.
        assert len(list(bar)) == 999
        wait_until(lambda: pb.sender.flush(0.5))
    with server_process.http() as http:
        items, runs = list_items(http), list_history(http)
        for secret, status in key_changes.states.items():
            if secret != key_changes.pending:
                assert http.get("/progress", headers={"X-API-KEY": secret}).status_code == status
    tracked = items.pop("tracked")
    assert (tracked["status"], tracked["completed"]) == ("succeeded", 1000)
    acknowledged = {item_id: state for thread in writes for item_id, state in thread.states.items()}
    unanswered = {thread.pending for thread in writes}
    ended = {run["id"] for run in runs}
    assert len(ended) == len(runs)
    for item_id, state in acknowledged.items():
        if item_id not in unanswered:
            assert (items[item_id]["status"] if item_id in items else "deleted") == state, item_id
            assert (item_id in ended) == (state == "deleted"), item_id
    assert {*items, *ended} <= {*acknowledged, *unanswered}, "an item was never written"
    for item_id in unanswered & acknowledged.keys():
        assert item_id in items or item_id in ended, f"{item_id} was created, and is nowhere"


def test_server_terminated_under_load_keeps_all_writes(server_process):
    with ProgressBar(server_process.url, ADMIN_KEY) as pb:
        for n in range(30):
            pb.create(f"{n}", "Title", "begun", 0.1)
        pb.update("0", "Title", "ended", 1.0)
        pb.delete("1")
        acknowledged = AcknowledgedWrites()
        loader = threading.Thread(target=load_server, args=(server_process.url, ADMIN_KEY, "load", acknowledged))
        loader.start()
        wait_until(lambda: acknowledged.count >= 20)
        # The server acknowledges progress from memory, and has to write it before it exits.
        pb.update("2", "Title", "just now", 0.9)
        code, err = server_process.stop(signal.SIGTERM)
        assert (code, err) == (0, "")
        loader.join(60)
    server_process.start()
    with server_process.http() as http:
        items = list_items(http)
        ended = {run["id"]: run["status"] for run in list_history(http)}
    assert ended["1"] == "deleted"
    assert (items["0"]["status"], items["2"]["description"], items["2"]["value"]) == ("succeeded", "just now", 0.9)
    assert {f"{n}" for n in range(30)} - items.keys() == {"1"}
    for item_id, state in acknowledged.states.items():
        if item_id != acknowledged.pending:
            assert (items[item_id]["status"] if item_id in items else ended[item_id]) == state


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_an_idle_server_changes_nothing(server_process, number):
    with ProgressBar(server_process.url, ADMIN_KEY) as pb:
        pb.create("a", "A", "", 0.5, weight=3)
        pb.create("b", "B", "", 0.5)
        pb.update("b", "B", "", 1.0)
        before = pb.get_all()
    server_process.stop(number)
    server_process.start()
    with ProgressBar(server_process.url, ADMIN_KEY) as pb:
        assert [{**item, "rate": None, "eta": None} for item in pb.get_all()] == [
            {**item, "rate": None, "eta": None} for item in before
        ]
