"""Several servers on one PostgreSQL database, each served over its own socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from progressbar_tracker import ProgressBar
from progressbar_tracker.server.access import keys
from progressbar_tracker.server.items import tail_quota
from progressbar_tracker.server.items.change import Owner
from progressbar_tracker.server.mutations import SaveKey
from progressbar_tracker.server.stores.base import ChangeBatch
from progressbar_tracker.server.stores.postgres import follower
from progressbar_tracker.server.stores.reading import MIN_TAIL_SIZE
from tests.support.clock import ManualClock
from tests.support.postgres import Cluster, create_database
from tests.support.server import RunningServer, ServerGroup, make_legacy_item
from tests.support.sse import Event, SseStream
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from progressbar_tracker.server.cluster import ClusterSync
    from progressbar_tracker.server.items.change import Change


@pytest.fixture(scope="module")
def module_replicas(
    postgres_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, RunningServer, RunningServer]]:
    """Three servers for all tests of the file that leave no trace; each test uses its own ids."""
    replicas = ServerGroup(tmp_path_factory.mktemp("replicas"), create_database(postgres_cluster))
    servers = (replicas.start(), replicas.start(), replicas.start())
    yield servers
    replicas.stop()


@pytest.fixture
def replica_servers(
    module_replicas: tuple[RunningServer, RunningServer, RunningServer],
) -> tuple[RunningServer, RunningServer, RunningServer]:
    """Three servers on one database."""
    return module_replicas


@pytest.fixture
def replicas(postgres_url: str, tmp_path: Path) -> Iterator[ServerGroup]:
    """Servers on one empty database."""
    created = ServerGroup(tmp_path, postgres_url)
    yield created
    created.stop()


@pytest.fixture
def open_stream() -> Iterator[Callable[..., SseStream]]:
    """Open streams; they are closed at the end."""
    created: list[SseStream] = []

    def start(served: RunningServer, query: str = "", **headers: str) -> SseStream:
        created.append(SseStream(served, "read", query, **headers))
        return created[-1]

    yield start
    for stream in created:
        stream.close()


_id_numbers = itertools.count()


@pytest.fixture
def unique_id() -> str:
    """An id that no other test uses."""
    return f"item {next(_id_numbers)}"


def item_path(item_id: str) -> str:
    return f"/api/v1/items/{item_id}"


def get_field(served: RunningServer, item_id: str, field: str = "completed") -> object:
    reply = served.client("read").get("/api/v1/items")
    return next((item[field] for item in reply.json()["items"] if item["id"] == item_id), None)


def has_progress(item_id: str, completed: int) -> Callable[[Event], bool]:
    def expected(event: Event) -> bool:
        return any(item["id"] == item_id and item["completed"] == completed for item in event.data["items"])

    return expected


# Items


def test_item_created_on_one_server_exists_on_all_at_once(replica_servers, unique_id) -> None:
    a, b, c = replica_servers
    assert a.client("write").put(item_path(unique_id), json={"run_id": "r", "completed": 1}).status_code == 201
    assert b.client("read").get(item_path(unique_id)).json()["completed"] == 1
    assert (
        c.client("write").patch(item_path(unique_id), json={"run_id": "r", "seq": 1, "completed": 2}).status_code == 200
    )


def test_state_written_to_one_server_is_soon_listed_by_all(replica_servers, unique_id) -> None:
    a, *other_servers = replica_servers
    a.client("write").put(item_path(unique_id), json={"run_id": "r", "seq": 1, "completed": 1, "total": 10})
    a.client("write").patch(item_path(unique_id), json={"run_id": "r", "seq": 2, "completed": 5, "description": "half"})
    for served in other_servers:
        wait_until(lambda served=served: get_field(served, unique_id) == 5)
        assert get_field(served, unique_id, "description") == "half"
        assert get_field(served, unique_id, "value") == 0.5


def test_stop_reaches_the_sender_through_another_server(replica_servers, unique_id) -> None:
    a, b, c = replica_servers
    writer = a.client("write")
    writer.put(item_path(unique_id), json={"run_id": "r", "seq": 1, "completed": 1, "stoppable": True})
    assert b.client("admin").post(f"{item_path(unique_id)}:stop", json={}).status_code == 200
    numbers = itertools.count(2)

    def send_progress() -> object:
        number = next(numbers)
        op = {"op": "patch", "id": unique_id, "run_id": "r", "seq": number, "completed": number}
        return writer.post("/api/v1/items:batch", json={"ops": [op]}).json()["results"][0].get("stop_request")

    wait_until(lambda: send_progress() == {"run_id": "r", "requested_by": "admin"})
    # Later progress does not overwrite the request, and every server knows it.
    send_progress()
    for served in (a, b, c):
        wait_until(lambda served=served: get_field(served, unique_id, "stop_requested_by") == "admin")


def test_stop_is_refused_by_each_server_after_the_end(replica_servers, unique_id) -> None:
    a, b, _ = replica_servers
    writer = a.client("write")
    writer.put(item_path(unique_id), json={"run_id": "r", "seq": 1, "stoppable": True})
    assert b.client("read").get(item_path(unique_id)).status_code == 200
    writer.patch(item_path(unique_id), json={"run_id": "r", "seq": 2, "status": "failed"})
    assert b.client("admin").post(f"{item_path(unique_id)}:stop", json={}).json()["type"] == "/problems/run-ended"
    writer.delete(item_path(unique_id))
    assert b.client("admin").post(f"{item_path(unique_id)}:stop", json={}).json()["type"] == "/problems/run-ended"


def test_two_creates_on_two_servers_give_one_item(replica_servers, unique_id) -> None:
    a, b, _ = replica_servers
    ids = [f"{unique_id} {n}" for n in range(30)]
    clients = [a.client("write"), b.client("other")]
    with ThreadPoolExecutor(2) as pool:
        replies = pool.map(
            lambda client: [client.post("/progress", json=make_legacy_item(item_id)).status_code for item_id in ids],
            clients,
        )
        pairs = list(zip(*replies, strict=True))
    assert [sorted(pair) for pair in pairs] == [[201, 409]] * len(ids)


def test_run_taken_over_on_one_server_cannot_write_to_any(replica_servers, unique_id) -> None:
    a, b, c = replica_servers
    b.client("write").put(item_path(unique_id), json={"run_id": "old", "seq": 1, "completed": 7})
    assert a.client("write").put(item_path(unique_id), json={"run_id": "new", "completed": 1}).status_code == 200
    # At once, not only after the change has reached this server.
    assert (
        b.client("write").patch(item_path(unique_id), json={"run_id": "new", "seq": 2, "completed": 2}).status_code
        == 200
    )
    # A server that does not know the new run yet accepts a non-durable write, and discards it later.
    late = c.client("write")
    wait_until(
        lambda: late.patch(item_path(unique_id), json={"run_id": "old", "seq": 9, "completed": 9}).status_code == 409
    )
    wait_until(lambda: [get_field(served, unique_id) for served in replica_servers] == [2, 2, 2])
    runs = a.client("read").get("/api/v1/history", params={"id": unique_id}).json()["items"]
    assert [(run["run_id"], run["status"], run["completed"]) for run in runs] == [("old", "stopped", 7)]


def test_end_written_to_one_server_is_final_on_all(replica_servers, unique_id) -> None:
    a, b, c = replica_servers
    a.client("write").put(item_path(unique_id), json={"run_id": "r", "completed": 1})
    assert b.client("write").get(item_path(unique_id)).status_code == 200
    ended = a.client("write").patch(
        item_path(unique_id), json={"run_id": "r", "seq": 5, "status": "failed", "error": "E: x"}
    )
    assert ended.status_code == 200
    b.client("write").patch(item_path(unique_id), json={"run_id": "r", "seq": 6, "completed": 9})
    c.client("write").patch(item_path(unique_id), json={"run_id": "r", "seq": 7, "completed": 9})
    wait_until(lambda: [get_field(served, unique_id, "status") for served in replica_servers] == ["failed"] * 3)
    wait_until(lambda: [get_field(served, unique_id) for served in replica_servers] == [1, 1, 1])


def test_item_deleted_on_one_server_is_gone_on_all(replica_servers, unique_id) -> None:
    a, b, c = replica_servers
    b.client("write").put(item_path(unique_id), json={"run_id": "r", "completed": 3})
    assert c.client("write").delete(item_path(unique_id)).status_code == 200
    assert a.client("write").patch(item_path(unique_id), json={"completed": 4}).status_code in (200, 404)
    wait_until(lambda: [get_field(served, unique_id, "id") for served in replica_servers] == [None] * 3)
    assert b.client("write").post("/progress", json=make_legacy_item(unique_id)).status_code == 201
    wait_until(lambda: [get_field(served, unique_id, "id") for served in replica_servers] == [unique_id] * 3)


def test_parts_written_to_several_servers_sum_exactly(replica_servers, unique_id) -> None:
    replica_servers[0].client("write").put(item_path(unique_id), json={"run_id": "r", "total": 3000})

    def work(part: int) -> None:
        client = replica_servers[part % 3].client("write")
        for n in range(1, 51):
            client.patch(item_path(unique_id), json={"run_id": "r", "part": str(part), "seq": n, "completed": n * 10})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    wait_until(lambda: [get_field(served, unique_id) for served in replica_servers] == [3000] * 3)
    assert [get_field(served, unique_id, "value") for served in replica_servers] == [1.0] * 3


def test_writes_through_two_servers_keep_the_newest(replica_servers, unique_id) -> None:
    a, b, _ = replica_servers
    a.client("write").put(item_path(unique_id), json={"run_id": "r", "seq": 0, "completed": 0})
    clients = [a.client("write"), b.client("write")]
    for n in range(1, 101):
        clients[n % 2].patch(item_path(unique_id), json={"run_id": "r", "seq": n, "completed": n})
    wait_until(lambda: [get_field(served, unique_id) for served in replica_servers] == [100] * 3)


def test_batch_is_executed_on_the_stored_states(replica_servers, unique_id) -> None:
    a, b, _ = replica_servers
    first, second = f"{unique_id} 1", f"{unique_id} 2"
    a.client("write").put(item_path(first), json={"run_id": "r", "completed": 1})
    ops = [
        {"op": "patch", "id": first, "run_id": "r", "seq": 1, "completed": 2},
        {"op": "put", "id": second, "run_id": "s", "completed": 1},
        {"op": "patch", "id": second, "run_id": "s", "seq": 1, "status": "succeeded"},
        {"op": "patch", "id": f"{unique_id} 3", "completed": 1},
        {"op": "delete", "id": first},
    ]
    results = b.client("write").post("/api/v1/items:batch", json={"ops": ops}).json()["results"]
    assert [result["status"] for result in results] == [200, 201, 200, 404, 200]
    wait_until(lambda: [get_field(served, second, "status") for served in replica_servers] == ["succeeded"] * 3)
    wait_until(lambda: [get_field(served, first, "id") for served in replica_servers] == [None] * 3)
    (run,) = a.client("read").get("/api/v1/history", params={"id": first}).json()["items"]
    assert run["completed"] == 2


def test_item_expires_once_in_a_cluster(replicas) -> None:
    a, b = replicas.start(), replicas.start()
    wait_until(lambda: [served.background.store.is_leader for served in (a, b)].count(True) == 1)
    a.client("write").put(item_path("x"), json={"run_id": "r", "status": "succeeded", "ttl": 5})
    replicas.wait_for_all(lambda served: get_field(served, "x", "status"), "succeeded")
    replicas.clock.advance(6)
    replicas.wait_for_all(lambda served: get_field(served, "x", "id"), None)
    runs = b.client("read").get("/api/v1/history").json()["items"]
    assert [(run["id"], run["status"]) for run in runs] == [("x", "succeeded")]


def test_leader_stopped_another_server_leads(replicas) -> None:
    a = replicas.start()
    wait_until(lambda: a.background.store.is_leader)
    b = replicas.start()
    assert not b.background.store.is_leader
    a.stop()
    replicas.servers.remove(a)
    wait_until(lambda: b.background.store.is_leader)


# Credentials


def test_key_works_on_every_server_until_it_is_revoked(replica_servers) -> None:
    a, b, c = replica_servers
    created = a.client("admin").post("/api/v1/keys", json={"type": "read", "name": "wall"}).json()
    assert [served.client(created["key"]).get("/progress").status_code for served in (b, c)] == [200, 200]
    stream = SseStream(b, created["key"])
    assert stream.next() is not None
    c.client("admin").delete(f"/api/v1/keys/{created['key_id']}")
    while stream.next() is not None:
        pass
    wait_until(lambda: b.client(created["key"]).get("/progress").status_code == 401)
    stream.close()


def test_session_is_valid_on_every_server_until_sign_out(replica_servers) -> None:
    a, b, _ = replica_servers
    browser = a.browser()
    cookie = dict(browser.cookies)
    other = b.client(**{"Sec-Fetch-Site": "same-origin"})
    other.cookies.update(cookie)
    assert other.get("/api/v1/keys").status_code == 200
    assert browser.post("/logout").status_code in (200, 303)
    wait_until(lambda: other.get("/api/v1/keys").status_code == 401)


def test_share_works_on_every_server(replica_servers, unique_id) -> None:
    a, b, _ = replica_servers
    a.client("write").put(item_path(unique_id), json={"run_id": "r", "title": "shared"})
    created = a.client("admin").post("/api/v1/shares", json={"item": unique_id}).json()
    assert [item["title"] for item in b.client().get(f"/{created['path']}/items").json()["items"]] == ["shared"]


def test_item_page_works_on_every_server(replica_servers, unique_id) -> None:
    a, b, _ = replica_servers
    a.client("write").put(item_path(unique_id), json={"run_id": "r", "title": "paged"})
    page = b.client("read").get(f"/items/{unique_id}")
    assert (page.status_code, "paged" in page.text) == (200, True)


# Streams


def test_viewer_sees_writes_to_another_server_at_once(replica_servers, unique_id, open_stream, monkeypatch) -> None:
    """A commit notifies the other servers: they do not wait for their next poll."""
    a, b, _ = replica_servers
    stream = open_stream(a)
    assert stream.next().name == "snapshot"
    monkeypatch.setattr(follower, "POLL_INTERVAL", 200.0)
    b.client("write").put(item_path(unique_id), json={"run_id": "r", "seq": 0, "completed": 0})
    for n in range(1, 6):
        b.client("write").patch(item_path(unique_id), json={"run_id": "r", "seq": n, "completed": n})
        stream.read_until(
            lambda event, n=n: any(item["id"] == unique_id and item["completed"] == n for item in event.data["items"])
        )


def test_stream_resumes_on_another_server_without_a_gap(replica_servers, unique_id, open_stream) -> None:
    a, b, c = replica_servers
    a.client("write").put(item_path(unique_id), json={"run_id": "r", "seq": 0, "completed": 0})
    wait_until(lambda: get_field(c, unique_id) == 0)
    keeps_the_ring = open_stream(c)
    stream = open_stream(b)
    assert stream.next().name == "snapshot"
    b.client("write").patch(item_path(unique_id), json={"run_id": "r", "seq": 1, "completed": 1})
    read = stream.read_until(
        lambda event: any(item["id"] == unique_id and item["completed"] == 1 for item in event.data["items"])
    )
    last = read[-1].id
    stream.close()
    b.client("write").patch(item_path(unique_id), json={"run_id": "r", "seq": 2, "completed": 2})
    a.client("write").put(item_path(f"{unique_id} new"), json={"run_id": "r"})
    wait_until(lambda: get_field(c, unique_id) == 2)
    resumed = open_stream(c, **{"Last-Event-ID": last})
    completed_by_id: dict[str, object] = {}
    while completed_by_id.get(unique_id) != 2 or f"{unique_id} new" not in completed_by_id:
        event = resumed.next()
        assert event is not None
        assert event.name != "snapshot", "the ring has this position"
        completed_by_id |= {item["id"]: item["completed"] for item in event.data["items"]}
    keeps_the_ring.close()


def test_stream_after_a_list_continues_on_the_same_server(replicas, open_stream) -> None:
    a, b = replicas.start(), replicas.start()
    a.client("write").put(item_path("first"), json={"run_id": "r"})
    wait_until(lambda: get_field(b, "first", "run_id") == "r")
    event_id = b.client("read").get("/api/v1/items").headers["Event-ID"]
    a.client("write").put(item_path("second"), json={"run_id": "r"})
    wait_until(lambda: get_field(b, "second", "run_id") == "r")
    b.client("write").patch(item_path("second"), json={"run_id": "r", "seq": 1, "completed": 3})
    stream = open_stream(b, **{"Last-Event-ID": event_id})
    completed = None
    while completed != 3:
        event = stream.next()
        assert event.name in {"hb", "change"}
        for item in event.data.get("items", ()):
            completed = item["completed"] if item["id"] == "second" else completed


def test_item_rolled_back_after_a_list_is_published_as_gone(isolated_server, open_stream) -> None:
    _, served = isolated_server
    services = served.background.app.services
    stream = open_stream(served)
    assert stream.next().name == "snapshot"
    change = services.board.put("never stored", {"run_id": "r"}, Owner("o", "o"), served.clock())
    asyncio.run_coroutine_threadsafe(roll_back(services.cluster, change), services.cluster._loop).result(60)
    assert stream.next().data["gone"] == ["never stored"]


async def roll_back(cluster: ClusterSync, change: Change) -> None:
    cluster.rollback([change])


def test_ended_run_is_published_once_by_every_server(replica_servers, unique_id, open_stream) -> None:
    streams = [open_stream(served) for served in replica_servers]
    for stream in streams:
        assert stream.next().name == "snapshot"
    replica_servers[0].client("write").put(item_path(unique_id), json={"run_id": "r"})
    replica_servers[1].client("write").delete(item_path(unique_id))
    replica_servers[2].client("write").put(item_path(f"{unique_id} after"), json={"run_id": "r"})
    for stream in streams:
        events = stream.read_until(
            lambda event: any(item["id"] == f"{unique_id} after" for item in event.data["items"])
        )
        events += [stream.next()] if not any(event.data["ended"] for event in events) else []
        assert [run["id"] for event in events for run in event.data["ended"] if run["id"] == unique_id] == [unique_id]


# Database outages


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A PostgreSQL server that a test can stop."""
    cluster = Cluster()
    yield cluster
    with contextlib.suppress(AssertionError):
        cluster.remove()


@pytest.fixture
def isolated_server(own_cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Cluster, RunningServer]]:
    """A PostgreSQL server that a test can stop, and a server on it."""
    served = RunningServer(tmp_path, ManualClock(time.time()), database=create_database(own_cluster))
    yield own_cluster, served
    served.stop()


def test_database_away_refuses_creates_and_accepts_updates(isolated_server) -> None:
    cluster, served = isolated_server
    http = served.client("write")
    http.put(item_path("x"), json={"run_id": "r", "seq": 0, "completed": 0})
    cluster.stop()
    refused = http.put(item_path("y"), json={"run_id": "r"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    ended = http.patch(item_path("x"), json={"run_id": "r", "seq": 1, "status": "succeeded"})
    assert ended.status_code == 503
    assert http.patch(item_path("x"), json={"run_id": "r", "seq": 2, "completed": 2}).status_code == 200
    assert get_field(served, "x") == 2
    assert get_field(served, "x", "status") == "running"
    assert served.client().get("/readyz").status_code == 503
    assert served.client().get("/healthz").status_code == 200
    cluster.start()
    wait_until(lambda: http.put(item_path("y"), json={"run_id": "r"}).status_code in (200, 201))
    assert http.patch(item_path("x"), json={"run_id": "r", "seq": 3, "status": "succeeded"}).status_code == 200
    served.restart()
    assert (get_field(served, "x"), get_field(served, "x", "status"), get_field(served, "y", "status")) == (
        2,
        "succeeded",
        "running",
    )


def test_state_queued_without_database_is_written_later(isolated_server) -> None:
    cluster, served = isolated_server
    http = served.client("write")
    http.put(item_path("x"), json={"run_id": "r", "seq": 0, "completed": 0})
    cluster.stop()
    for n in range(1, 4):
        http.patch(item_path("x"), json={"run_id": "r", "seq": n, "completed": n})
    cluster.start()

    def stored() -> object:
        with psycopg.connect(str(served.database)) as connection:
            row = connection.execute("SELECT state::json->>'completed' FROM progressbar_tracker.items").fetchone()
            return None if row is None else row[0]

    wait_until(lambda: stored() == "3")


def test_hanging_database_delays_no_reader(isolated_server) -> None:
    cluster, served = isolated_server
    served.background.app.services.unit_of_work._committer._timeout = 150.0  # longer than the other requests may take
    http = served.client("write")
    http.put(item_path("x"), json={"run_id": "r", "seq": 0, "completed": 0})
    cluster.pause()
    try:
        assert http.patch(item_path("x"), json={"run_id": "r", "seq": 1, "completed": 1}).status_code == 200
        assert get_field(served, "x") == 1
        assert served.client().get("/readyz").status_code == 503
    finally:
        cluster.resume()
    wait_until(lambda: served.client().get("/readyz").status_code == 200)


def test_tracked_program_survives_a_database_outage(isolated_server) -> None:
    cluster, served = isolated_server
    pb = ProgressBar(served.background.url, served.keys["write"])
    with pb.track(total=10, id="tracked", keep=True, display=False) as bar:
        bar.advance(5)
        assert pb.sender.flush(60)
        cluster.stop()
        bar.advance(5)
    assert not pb.sender.flush(0.5)
    cluster.start()
    wait_until(lambda: pb.sender.flush(1))
    pb.close()
    assert (get_field(served, "tracked"), get_field(served, "tracked", "status")) == (10, "succeeded")


def test_key_created_during_an_older_read_is_usable_at_once(replicas: ServerGroup) -> None:
    services = replicas.start().background.app.services
    shared = services.store.shared
    assert shared is not None
    created = keys.new_key("write", "new", 1.0)
    older = shared.read_credentials()
    waiting, lock = threading.Event(), services.credentials.keyring_lock

    class SignallingLock:
        def __enter__(self) -> None:
            waiting.set()
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    with lock:
        services.credentials.keyring_lock = SignallingLock()  # type: ignore[assignment]
        taking = threading.Thread(target=services.cluster.apply, args=[ChangeBatch(credentials=older)])  # type: ignore[union-attr]
        taking.start()
        assert waiting.wait(60)
        services.credentials.keyring_lock = lock
        shared.commit([SaveKey(created.record)]).result(60)
        services.keyring.add(created.record)
    taking.join(60)
    assert services.credentials.identify(created.secret).name == "new"


def test_unusable_database_error_shows_no_password(tmp_path) -> None:
    from progressbar_tracker import ConfigError

    with pytest.raises(ConfigError) as raised:
        RunningServer(tmp_path, ManualClock(), database="postgresql://me:very-secret@127.0.0.1:1/bars")
    assert "very-secret" not in str(raised.value)
    assert "postgresql://me@127.0.0.1:1/bars" in str(raised.value)


def test_each_server_has_its_own_metrics_and_one_leads(
    replica_servers: tuple[RunningServer, ...],
) -> None:
    client = replica_servers[0].client("write")
    for n in range(3):
        client.put(f"/api/v1/items/counted-{n}", json={}).raise_for_status()

    def read_sample(served: RunningServer, sample: str) -> float:
        text = served.client("read").get("/metrics").text
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample)), 0.0)

    puts = 'progressbar_http_requests_total{method="PUT",route="/api/v1/items/{id:path}",status="2xx"}'
    before = [read_sample(served, puts) for served in replica_servers]
    client.put("/api/v1/items/counted-0", json={"title": "again"}).raise_for_status()
    assert [read_sample(served, puts) - was for served, was in zip(replica_servers, before, strict=True)] == [1, 0, 0]
    assert sum(read_sample(served, "progressbar_leader ") for served in replica_servers) == 1
    assert read_sample(replica_servers[1], "progressbar_build_info{") == 1
    assert 'store="postgresql"' in replica_servers[1].client("read").get("/metrics").text
    wait_until(
        lambda: (
            [read_sample(served, 'progressbar_items{status="running"}') >= 3 for served in replica_servers]
            == [True] * 3
        )
    )
    assert read_sample(replica_servers[0], "progressbar_store_commit_size_count ") >= 3


def test_key_revoked_before_a_retried_decision_is_refused(
    replicas: ServerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board fetches an unknown item, and then executes the request again."""
    served = replicas.start()
    services = served.background.app.services
    assert services.cluster is not None
    fetch = services.cluster.fetch

    async def fetch_slowly(ids: object) -> None:
        record = services.keyring.find(served.keys["write"], served.clock())
        assert record is not None
        await services.unit_of_work.commit([SaveKey(keys.revoke_key(record, served.clock()))])
        await fetch(ids)

    served.client("write").put(item_path("there"), json={})
    monkeypatch.setattr(services.cluster, "fetch", fetch_slowly)
    assert served.client("write").patch(item_path("not there"), json={"value": 0.5}).status_code == 401


def test_session_ended_without_database_stays_ended(
    isolated_server: tuple[Cluster, RunningServer],
) -> None:
    cluster, served = isolated_server
    browser = served.browser()
    cookie = {"Cookie": f"{served.cookie_name}={browser.cookies[served.cookie_name]}"}
    cluster.stop()
    reply = browser.post("/logout")
    assert reply.status_code == 503
    assert "has ended" in reply.text
    assert not browser.cookies
    cluster.start()
    # Another change makes this server reload all sessions, possibly before it has written the end of this one.
    wait_until(lambda: served.client("admin").post("/api/v1/shares", json={"group": "g"}).status_code == 201)
    assert served.client(**cookie).get("/api/v1/items").status_code == 401
    assert served.background.store.flush(60)
    wait_until(lambda: served.background.store.load().sessions == [])
    served.restart()
    assert served.client(**cookie).get("/api/v1/items").status_code == 401


def test_tail_is_read_through_every_server(replica_servers, unique_id) -> None:
    a, b, c = replica_servers
    a.client("write").put(item_path(unique_id), json={"run_id": "r", "seq": 1, "tail": "one"})
    b.client("write").patch(item_path(unique_id), json={"run_id": "r", "seq": 2, "tail": "one\ntwo"})
    path = item_path(unique_id).replace("/items/", "/tails/")
    assert {served.client("admin").get(path).json()["tail"] for served in (a, b, c)} == {"one\ntwo"}


def test_outdated_tail_of_another_server_is_ignored(replica_servers, unique_id) -> None:
    a, b, _ = replica_servers
    a.client("write").put(item_path(unique_id), json={"run_id": "r", "seq": 5, "tail": "new"})
    b.client("write").patch(item_path(unique_id), json={"run_id": "r", "seq": 4, "tail": "old"})
    path = item_path(unique_id).replace("/items/", "/tails/")
    assert b.client("admin").get(path).json()["tail"] == "new"


def test_quota_of_tails_holds_over_two_servers(replica_servers, unique_id, monkeypatch) -> None:
    monkeypatch.setattr(tail_quota, "MAX_KEY_TAIL_BYTES", 10 * MIN_TAIL_SIZE)
    monkeypatch.setattr(tail_quota, "CHECK_BYTES", 1)
    clients = [served.client("other") for served in replica_servers[:2]]

    def write(n: int) -> int:
        body = {"run_id": "r", "tail": "text"}
        return clients[n % 2].put(item_path(f"{unique_id} {n}"), json=body).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(write, range(40))) == {201}
    write(40)
    paths = [item_path(f"{unique_id} {n}").replace("/items/", "/tails/") for n in range(41)]
    reader = replica_servers[2].client("admin")
    assert sum(reader.get(path).json()["tail"] == "text" for path in paths) <= 10
