"""Several servers on one PostgreSQL database, each served over its own socket."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from progressbar_tracker import ProgressBar
from progressbar_tracker.server.access import keys
from progressbar_tracker.server.models import SaveKey
from progressbar_tracker.server.stores.base import Seen
from tests.support.postgres import Cluster, create_database
from tests.support.server import Clock, Served, legacy
from tests.support.sse import Event, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Replicas:
    """Servers on one database, which share their clock and their keys."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.clock = Clock(time.time())
        self._folder = folder
        self.servers: list[Served] = []

    def start(self, **settings: object) -> Served:
        keys = self.servers[0].keys if self.servers else None
        self.servers.append(Served(self._folder, self.clock, database=self.url, keys=keys, **settings))
        return self.servers[-1]

    def stop(self) -> None:
        for served in self.servers:
            served.stop()

    def every(self, seen: Callable[[Served], object], wanted: object) -> None:
        """Wait until all servers see the same."""
        until(lambda: [seen(served) for served in self.servers] == [wanted] * len(self.servers))


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        threading.Event().wait(0.01)


@pytest.fixture(scope="module")
def shared_replicas(
    postgres_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Served, Served]]:
    """Three servers for all tests of the file that leave them as they were; each uses ids of its own."""
    replicas = Replicas(tmp_path_factory.mktemp("replicas"), create_database(postgres_cluster))
    servers = (replicas.start(), replicas.start(), replicas.start())
    yield servers
    replicas.stop()


@pytest.fixture
def abc(shared_replicas: tuple[Served, Served, Served]) -> tuple[Served, Served, Served]:
    return shared_replicas


@pytest.fixture
def replicas(postgres_url: str, tmp_path: Path) -> Iterator[Replicas]:
    made = Replicas(tmp_path, postgres_url)
    yield made
    made.stop()


@pytest.fixture
def watch() -> Iterator[Callable[..., Stream]]:
    made: list[Stream] = []

    def start(served: Served, query: str = "", **headers: str) -> Stream:
        made.append(Stream(served, "read", query, **headers))
        return made[-1]

    yield start
    for stream in made:
        stream.close()


_names = itertools.count()


@pytest.fixture
def name() -> str:
    """An id that no other test uses."""
    return f"item {next(_names)}"


def path(item_id: str) -> str:
    return f"/api/v1/items/{item_id}"


def see(served: Served, item_id: str, field: str = "completed") -> object:
    reply = served.client("read").get("/api/v1/items")
    return next((item[field] for item in reply.json()["items"] if item["id"] == item_id), None)


def tells(item_id: str, completed: int) -> Callable[[Event], bool]:
    def wanted(event: Event) -> bool:
        return any(item["id"] == item_id and item["completed"] == completed for item in event.data["items"])

    return wanted


# Items


def test_an_item_made_at_one_server_is_there_at_every_other_at_once(abc, name) -> None:
    a, b, c = abc
    assert a.client("write").put(path(name), json={"run_id": "r", "completed": 1}).status_code == 201
    assert b.client("read").get(path(name)).json()["completed"] == 1
    assert c.client("write").patch(path(name), json={"run_id": "r", "seq": 1, "completed": 2}).status_code == 200


def test_a_state_told_to_one_server_is_listed_by_all_soon(abc, name) -> None:
    a, *others = abc
    a.client("write").put(path(name), json={"run_id": "r", "seq": 1, "completed": 1, "total": 10})
    a.client("write").patch(path(name), json={"run_id": "r", "seq": 2, "completed": 5, "description": "half"})
    for served in others:
        until(lambda served=served: see(served, name) == 5)
        assert see(served, name, "description") == "half"
        assert see(served, name, "value") == 0.5


def test_of_two_creates_at_two_servers_one_is_made(abc, name) -> None:
    a, b, _ = abc
    ids = [f"{name} {n}" for n in range(30)]
    clients = [a.client("write"), b.client("other")]
    with ThreadPoolExecutor(2) as pool:
        replies = pool.map(
            lambda client: [client.post("/progress", json=legacy(one)).status_code for one in ids], clients
        )
        pairs = list(zip(*replies, strict=True))
    assert [sorted(pair) for pair in pairs] == [[201, 409]] * len(ids)


def test_a_run_that_is_taken_over_at_one_server_may_write_at_no_other(abc, name) -> None:
    a, b, c = abc
    b.client("write").put(path(name), json={"run_id": "old", "seq": 1, "completed": 7})
    assert a.client("write").put(path(name), json={"run_id": "new", "completed": 1}).status_code == 200
    # At once, and not only when the news have come round.
    assert b.client("write").patch(path(name), json={"run_id": "new", "seq": 2, "completed": 2}).status_code == 200
    # A server that has not heard of it yet takes what may wait, and it comes to nothing.
    late = c.client("write")
    until(lambda: late.patch(path(name), json={"run_id": "old", "seq": 9, "completed": 9}).status_code == 409)
    until(lambda: [see(served, name) for served in abc] == [2, 2, 2])
    runs = a.client("read").get("/api/v1/history", params={"id": name}).json()["items"]
    assert [(run["run_id"], run["status"], run["completed"]) for run in runs] == [("old", "stopped", 7)]


def test_an_end_told_to_one_server_is_final_at_all(abc, name) -> None:
    a, b, c = abc
    a.client("write").put(path(name), json={"run_id": "r", "completed": 1})
    assert b.client("write").get(path(name)).status_code == 200
    ended = a.client("write").patch(path(name), json={"run_id": "r", "seq": 5, "status": "failed", "error": "E: x"})
    assert ended.status_code == 200
    b.client("write").patch(path(name), json={"run_id": "r", "seq": 6, "completed": 9})
    c.client("write").patch(path(name), json={"run_id": "r", "seq": 7, "completed": 9})
    until(lambda: [see(served, name, "status") for served in abc] == ["failed"] * 3)
    until(lambda: [see(served, name) for served in abc] == [1, 1, 1])


def test_what_is_deleted_at_one_server_is_gone_at_all(abc, name) -> None:
    a, b, c = abc
    b.client("write").put(path(name), json={"run_id": "r", "completed": 3})
    assert c.client("write").delete(path(name)).status_code == 200
    assert a.client("write").patch(path(name), json={"completed": 4}).status_code in (200, 404)
    until(lambda: [see(served, name, "id") for served in abc] == [None] * 3)
    assert b.client("write").post("/progress", json=legacy(name)).status_code == 201
    until(lambda: [see(served, name, "id") for served in abc] == [name] * 3)


def test_the_parts_that_several_servers_are_told_sum_up_exactly(abc, name) -> None:
    abc[0].client("write").put(path(name), json={"run_id": "r", "total": 3000})

    def work(part: int) -> None:
        client = abc[part % 3].client("write")
        for n in range(1, 51):
            client.patch(path(name), json={"run_id": "r", "part": str(part), "seq": n, "completed": n * 10})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    until(lambda: [see(served, name) for served in abc] == [3000] * 3)
    assert [see(served, name, "value") for served in abc] == [1.0] * 3


def test_of_writes_that_come_by_two_ways_the_newest_stays(abc, name) -> None:
    a, b, _ = abc
    a.client("write").put(path(name), json={"run_id": "r", "seq": 0, "completed": 0})
    clients = [a.client("write"), b.client("write")]
    for n in range(1, 101):
        clients[n % 2].patch(path(name), json={"run_id": "r", "seq": n, "completed": n})
    until(lambda: [see(served, name) for served in abc] == [100] * 3)


def test_a_batch_is_judged_whole_by_what_is_stored(abc, name) -> None:
    a, b, _ = abc
    first, second = f"{name} 1", f"{name} 2"
    a.client("write").put(path(first), json={"run_id": "r", "completed": 1})
    ops = [
        {"op": "patch", "id": first, "run_id": "r", "seq": 1, "completed": 2},
        {"op": "put", "id": second, "run_id": "s", "completed": 1},
        {"op": "patch", "id": second, "run_id": "s", "seq": 1, "status": "succeeded"},
        {"op": "patch", "id": f"{name} 3", "completed": 1},
        {"op": "delete", "id": first},
    ]
    results = b.client("write").post("/api/v1/items:batch", json={"ops": ops}).json()["results"]
    assert [result["status"] for result in results] == [200, 201, 200, 404, 200]
    until(lambda: [see(served, second, "status") for served in abc] == ["succeeded"] * 3)
    until(lambda: [see(served, first, "id") for served in abc] == [None] * 3)
    (run,) = a.client("read").get("/api/v1/history", params={"id": first}).json()["items"]
    assert run["completed"] == 2


def test_an_item_expires_once(replicas) -> None:
    a, b = replicas.start(), replicas.start()
    until(lambda: [served.server.store.leading for served in (a, b)].count(True) == 1)
    a.client("write").put(path("x"), json={"run_id": "r", "status": "succeeded", "ttl": 5})
    replicas.every(lambda served: see(served, "x", "status"), "succeeded")
    replicas.clock.pass_(6)
    replicas.every(lambda served: see(served, "x", "id"), None)
    runs = b.client("read").get("/api/v1/history").json()["items"]
    assert [(run["id"], run["status"]) for run in runs] == [("x", "succeeded")]


def test_when_the_leader_goes_another_leads(replicas) -> None:
    a = replicas.start()
    until(lambda: a.server.store.leading)
    b = replicas.start()
    assert not b.server.store.leading
    a.stop()
    replicas.servers.remove(a)
    until(lambda: b.server.store.leading)


# Credentials


def test_a_key_made_at_one_server_works_at_every_other_at_once_until_it_is_revoked(abc) -> None:
    a, b, c = abc
    made = a.client("admin").post("/api/v1/keys", json={"type": "read", "name": "wall"}).json()
    assert [served.client(made["key"]).get("/progress").status_code for served in (b, c)] == [200, 200]
    stream = Stream(b, made["key"])
    assert stream.next() is not None
    c.client("admin").delete(f"/api/v1/keys/{made['key_id']}")
    begun = time.monotonic()
    while stream.next() is not None:
        pass
    assert time.monotonic() - begun < 5
    until(lambda: b.client(made["key"]).get("/progress").status_code == 401)
    stream.close()


def test_who_signs_in_at_one_server_is_signed_in_at_every_other_and_out_again(abc) -> None:
    a, b, _ = abc
    browser = a.browser()
    cookie = dict(browser.cookies)
    other = b.client(**{"Sec-Fetch-Site": "same-origin"})
    other.cookies.update(cookie)
    assert other.get("/api/v1/keys").status_code == 200
    assert browser.post("/logout").status_code in (200, 303)
    until(lambda: other.get("/api/v1/keys").status_code == 401)


def test_a_link_made_at_one_server_shows_its_item_at_every_other(abc, name) -> None:
    a, b, _ = abc
    a.client("write").put(path(name), json={"run_id": "r", "title": "shared"})
    made = a.client("admin").post("/api/v1/shares", json={"item": name}).json()
    assert "shared" in b.client().get(f"/{made['path']}").text


def test_an_items_page_is_there_at_every_server_and_says_where_its_stream_goes_on(abc, name) -> None:
    a, b, _ = abc
    a.client("write").put(path(name), json={"run_id": "r", "title": "paged"})
    page = b.client("read").get(f"/items/{name}")
    assert (page.status_code, "paged" in page.text) == (200, True)
    stream = Stream(b, "read")
    first = stream.next()
    stream.close()
    assert first is not None
    epoch, _, rev = first.id.rpartition("-")
    painted, painted_rev = re.search(r'data-painted="(.+?)-(\d+)"', page.text).groups()
    assert painted == epoch
    assert int(painted_rev) <= int(rev)


# Streams


def test_a_viewer_of_one_server_sees_within_a_second_what_another_is_told(abc, name, watch) -> None:
    a, b, _ = abc
    stream = watch(a)
    assert stream.next().name == "snapshot"
    took = []
    b.client("write").put(path(name), json={"run_id": "r", "seq": 0, "completed": 0})
    for n in range(1, 6):
        b.client("write").patch(path(name), json={"run_id": "r", "seq": n, "completed": n})
        begun = time.monotonic()
        stream.until(
            lambda event, n=n: any(item["id"] == name and item["completed"] == n for item in event.data["items"])
        )
        took.append(time.monotonic() - begun)
    assert sorted(took)[2] < 1.0, took


def test_a_stream_goes_on_at_another_server_with_nothing_missed(abc, name, watch) -> None:
    a, b, c = abc
    a.client("write").put(path(name), json={"run_id": "r", "seq": 0, "completed": 0})
    until(lambda: see(c, name) == 0)
    keeps_the_ring = watch(c)
    stream = watch(b)
    assert stream.next().name == "snapshot"
    b.client("write").patch(path(name), json={"run_id": "r", "seq": 1, "completed": 1})
    seen = stream.until(
        lambda event: any(item["id"] == name and item["completed"] == 1 for item in event.data["items"])
    )
    last = seen[-1].id
    stream.close()
    b.client("write").patch(path(name), json={"run_id": "r", "seq": 2, "completed": 2})
    a.client("write").put(path(f"{name} new"), json={"run_id": "r"})
    until(lambda: see(c, name) == 2)
    resumed = watch(c, **{"Last-Event-ID": last})
    found: dict[str, object] = {}
    while found.get(name) != 2 or f"{name} new" not in found:
        event = resumed.next()
        assert event is not None
        assert event.name != "snapshot", "the ring knew where to go on"
        found |= {item["id"]: item["completed"] for item in event.data["items"]}
    keeps_the_ring.close()


def test_a_run_that_ends_is_told_once_to_the_viewers_of_every_server(abc, name, watch) -> None:
    streams = [watch(served) for served in abc]
    for stream in streams:
        assert stream.next().name == "snapshot"
    abc[0].client("write").put(path(name), json={"run_id": "r"})
    abc[1].client("write").delete(path(name))
    abc[2].client("write").put(path(f"{name} after"), json={"run_id": "r"})
    for stream in streams:
        events = stream.until(lambda event: any(item["id"] == f"{name} after" for item in event.data["items"]))
        events += [stream.next()] if not any(event.data["ended"] for event in events) else []
        assert [run["id"] for event in events for run in event.data["ended"] if run["id"] == name] == [name]


# The database away


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    with contextlib.suppress(AssertionError):
        cluster.remove()


@pytest.fixture
def away(own_cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Cluster, Served]]:
    served = Served(tmp_path, Clock(time.time()), database=create_database(own_cluster))
    yield own_cluster, served
    served.stop()


def test_while_the_database_is_away_creates_are_refused_and_all_else_goes_on(away) -> None:
    cluster, served = away
    http = served.client("write")
    http.put(path("x"), json={"run_id": "r", "seq": 0, "completed": 0})
    cluster.stop()
    refused = http.put(path("y"), json={"run_id": "r"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    ended = http.patch(path("x"), json={"run_id": "r", "seq": 1, "status": "succeeded"})
    assert ended.status_code == 503
    assert http.patch(path("x"), json={"run_id": "r", "seq": 2, "completed": 2}).status_code == 200
    assert see(served, "x") == 2
    assert see(served, "x", "status") == "running"
    assert served.client().get("/readyz").status_code == 503
    assert served.client().get("/healthz").status_code == 200
    cluster.start()
    until(lambda: http.put(path("y"), json={"run_id": "r"}).status_code in (200, 201))
    assert http.patch(path("x"), json={"run_id": "r", "seq": 3, "status": "succeeded"}).status_code == 200
    served.restart()
    assert (see(served, "x"), see(served, "x", "status"), see(served, "y", "status")) == (2, "succeeded", "running")


def test_a_state_that_waits_for_the_database_is_written_when_it_is_back(away) -> None:
    cluster, served = away
    http = served.client("write")
    http.put(path("x"), json={"run_id": "r", "seq": 0, "completed": 0})
    cluster.stop()
    for n in range(1, 4):
        http.patch(path("x"), json={"run_id": "r", "seq": n, "completed": n})
    cluster.start()

    def stored() -> object:
        with psycopg.connect(str(served.database)) as connection:
            row = connection.execute("SELECT state::json->>'completed' FROM progressbar_tracker.items").fetchone()
            return None if row is None else row[0]

    until(lambda: stored() == "3")


def test_a_database_that_hangs_holds_up_nobody_who_reads(away) -> None:
    cluster, served = away
    http = served.client("write")
    http.put(path("x"), json={"run_id": "r", "seq": 0, "completed": 0})
    cluster.pause()
    try:
        begun = time.monotonic()
        assert http.patch(path("x"), json={"run_id": "r", "seq": 1, "completed": 1}).status_code == 200
        assert see(served, "x") == 1
        assert served.client().get("/readyz").status_code == 503
        assert time.monotonic() - begun < 5
    finally:
        cluster.resume()
    until(lambda: served.client().get("/readyz").status_code == 200)


def test_a_tracked_program_notices_nothing_and_its_end_arrives(away) -> None:
    cluster, served = away
    pb = ProgressBar(served.server.url, served.keys["write"])
    with pb.track(total=10, id="tracked", keep=True, display=False) as bar:
        bar.advance(5)
        assert pb.sender.flush(10)
        cluster.stop()
        bar.advance(5)
    assert not pb.sender.flush(0.5)
    cluster.start()
    until(lambda: pb.sender.flush(1))
    pb.close()
    assert (see(served, "tracked"), see(served, "tracked", "status")) == (10, "succeeded")


def test_a_key_that_is_made_while_older_news_of_the_keys_are_taken_over_is_known_at_once(replicas: Replicas) -> None:
    services = replicas.start().server.app.services
    shared = services.store.shared
    assert shared is not None
    made = keys.new_key("write", "new", 1.0)
    older = shared.credentials()
    waiting, lock = threading.Event(), services.ring_lock

    class Told:
        def __enter__(self) -> None:
            waiting.set()
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    with lock:
        services.ring_lock = Told()  # type: ignore[assignment]
        taking = threading.Thread(target=services.replica.take, args=[Seen(credentials=older)])  # type: ignore[union-attr]
        taking.start()
        assert waiting.wait(10)
        services.ring_lock = lock
        shared.commit([SaveKey(made.record)]).result(10)
        services.ring.add(made.record)
    taking.join(10)
    assert services.identify(made.secret).name == "new"


def test_no_password_is_told_of_a_database_that_cannot_be_used(tmp_path) -> None:
    from progressbar_tracker import ConfigError

    with pytest.raises(ConfigError) as raised:
        Served(tmp_path, Clock(), database="postgresql://me:very-secret@127.0.0.1:1/bars")
    assert "very-secret" not in str(raised.value)
    assert "postgresql://me@127.0.0.1:1/bars" in str(raised.value)


def test_each_server_counts_what_it_has_done_itself_and_one_of_them_leads(abc: tuple[Served, ...]) -> None:
    one = abc[0].client("write")
    for n in range(3):
        one.put(f"/api/v1/items/counted-{n}", json={}).raise_for_status()

    def told(served: Served, sample: str) -> float:
        text = served.client("read").get("/metrics").text
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample)), 0.0)

    puts = 'progressbar_requests_total{method="PUT",route="/api/v1/items/{id:path}",status="2xx"}'
    before = [told(served, puts) for served in abc]
    one.put("/api/v1/items/counted-0", json={"title": "again"}).raise_for_status()
    assert [told(served, puts) - was for served, was in zip(abc, before, strict=True)] == [1, 0, 0]
    assert sum(told(served, "progressbar_leading ") for served in abc) == 1
    assert told(abc[1], "progressbar_build_info{") == 1
    assert 'store="postgresql"' in abc[1].client("read").get("/metrics").text
    until(lambda: [told(served, 'progressbar_items{status="running"}') >= 3 for served in abc] == [True] * 3)
    assert told(abc[0], "progressbar_commit_writes_count ") >= 3


def test_key_revoked_before_a_request_is_judged_again_is_refused(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board that does not know an item looks it up, and the request is judged once more after that."""
    served = replicas.start()
    services = served.server.app.services
    assert services.replica is not None
    fetch = services.replica.fetch

    async def fetch_slowly(ids: object) -> None:
        record = services.ring.find(served.keys["write"], served.clock())
        assert record is not None
        await services.commit([SaveKey(keys.revoked(record, served.clock()))])
        await fetch(ids)

    served.client("write").put(path("there"), json={})
    monkeypatch.setattr(services.replica, "fetch", fetch_slowly)
    assert served.client("write").patch(path("not there"), json={"value": 0.5}).status_code == 401


def test_a_session_that_ended_while_the_database_was_away_stays_ended(away: tuple[Cluster, Served]) -> None:
    cluster, served = away
    browser = served.browser()
    cookie = {"Cookie": f"{served.cookie_name}={browser.cookies[served.cookie_name]}"}
    cluster.stop()
    reply = browser.post("/logout")
    assert reply.status_code == 503
    assert "has ended" in reply.text
    assert not browser.cookies
    cluster.start()
    # Another change makes this server read all sessions, perhaps before it could write the end of this one.
    until(lambda: served.client("admin").post("/api/v1/shares", json={"group": "g"}).status_code == 201)
    assert served.client(**cookie).get("/api/v1/items").status_code == 401
    assert served.server.store.flush(20)
    until(lambda: served.server.store.load().sessions == [])
    served.restart()
    assert served.client(**cookie).get("/api/v1/items").status_code == 401
