"""The storage stalls or fails during each kind of write, and the client sends it again.

A stall that is longer than a request waits leaves the outcome unknown, and the answer says so. Whatever was written in
the end, the second request leaves what one request would have left: one run in the history, one notice, one key that
works. A failure that is certain says that nothing was changed, and nothing was.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

from progressbar_tracker.server import unit_of_work
from progressbar_tracker.server.stores.sqlite import writer as sqlite_writer
from tests.support.server import FullDisk, RunningServer, make_legacy_item

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    import httpx

    from progressbar_tracker.server.mutations import TrimHistory, Write


class WriteCase(NamedTuple):
    """A write, and what is there after it: the same whether it is sent once or twice."""

    method: str
    path: str
    body: dict[str, object] | None = None
    status: int = 200  # of the request that is sent again
    failed: int | None = None  # likewise, after a failure that is certain


def make_batch(*some: dict[str, object]) -> dict[str, object]:
    return {"ops": list(some)}


WRITE_CASES = {
    "create": WriteCase("POST", "/progress", make_legacy_item("new"), 201),
    "create ended": WriteCase("POST", "/progress", make_legacy_item("new", 1), 201),
    "update": WriteCase("PUT", "/progress", make_legacy_item("old", 0.7)),
    "end by a value": WriteCase("PUT", "/progress", make_legacy_item("old", 1)),
    "delete of part 1": WriteCase("DELETE", "/progress?id=old"),
    "put": WriteCase("PUT", "/api/v1/items/new", {"run_id": "n", "seq": 1}, 200, 201),
    "put without a run": WriteCase("PUT", "/api/v1/items/new", {"title": "x"}, 200, 201),
    "put that ends": WriteCase("PUT", "/api/v1/items/new", {"run_id": "n", "status": "failed"}, 200, 201),
    "take over": WriteCase("PUT", "/api/v1/items/old", {"run_id": "n", "seq": 1}),
    "end": WriteCase("PATCH", "/api/v1/items/old", {"run_id": "r", "seq": 5, "status": "succeeded"}),
    "end without seq": WriteCase("PATCH", "/api/v1/items/old", {"status": "failed", "error": "x"}),
    "delete": WriteCase("DELETE", "/api/v1/items/old"),
    "delete of a run": WriteCase("DELETE", "/api/v1/items/old?run_id=r"),
    "batch": WriteCase(
        "POST", "/api/v1/items:batch",
        make_batch(
            {"op": "put", "id": "new", "run_id": "n", "seq": 1}, {"op": "delete", "id": "old", "run_id": "r"},
            {"op": "patch", "id": "other", "run_id": "r", "seq": 9, "status": "succeeded"},
        ),
    ),
    "key": WriteCase("POST", "/api/v1/keys", {"type": "read", "name": "made"}, 201),
    "rotation": WriteCase("POST", "/api/v1/keys/KEY/rotate"),
    "revocation": WriteCase("DELETE", "/api/v1/keys/KEY"),
    "share": WriteCase("POST", "/api/v1/shares", {"group": "g"}, 201),
    "end of a share": WriteCase("DELETE", "/api/v1/shares/SHARE"),
}  # fmt: skip


class StallingDisk(FullDisk):
    """Holds every commit up until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.released.set()

    def execute_writes(self, connection: sqlite3.Connection, writes: Sequence[Write]) -> list[TrimHistory]:
        self.released.wait(60)
        return super().execute_writes(connection, writes)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[StallingDisk]:
    """A disk that can stall the writes of all SQLite stores."""
    disk = StallingDisk()
    monkeypatch.setattr(sqlite_writer, "execute_writes", disk.execute_writes)
    monkeypatch.setattr(unit_of_work, "COMMIT_TIMEOUT", 0.5)
    yield disk
    disk.released.set()


class VisibleState(NamedTuple):
    """What is to be seen of a server, without what differs from run to run."""

    items: dict[str, object]
    history: list[object]
    keys: list[object]
    shares: int


def get_state(http: httpx.Client) -> VisibleState:
    items = {one["id"]: (one["status"], one["value"], one["run_id"]) for one in http.get("/progress").json()}
    if "new" in items and items["new"][2] != "n":
        items["new"] = (*items["new"][:2], "made up")
    runs = [(one["id"], one["run_id"], one["status"]) for one in http.get("/api/v1/history").json()["items"]]
    keys = [(one["name"], one["revoked_at"] is None) for one in http.get("/api/v1/keys").json()["keys"]]
    return VisibleState(items, runs, sorted(keys), len(http.get("/api/v1/shares").json()["shares"]))


class SampleServer:
    """A server with something of each kind."""

    def __init__(self, serve: Callable[..., RunningServer]) -> None:
        self.served = serve(local_key=False)
        self.http = self.served.client("admin")
        for item in ("old", "other"):
            self.http.put(f"/api/v1/items/{item}", json={"run_id": "r", "seq": 1}).raise_for_status()
        self.key = self.http.post("/api/v1/keys", json={"type": "write", "name": "victim"}).json()
        self.share = self.http.post("/api/v1/shares", json={"group": "g"}).json()

    def send(self, case: WriteCase) -> httpx.Response:
        path = case.path.replace("KEY", self.key["key_id"]).replace("SHARE", self.share["share_id"])
        return self.http.request(case.method, path, json=case.body)

    def restart(self) -> None:
        self.served.restart()
        self.http = self.served.client("admin")


def expected_state(serve: Callable[..., RunningServer], case: WriteCase) -> VisibleState:
    bench = SampleServer(serve)
    assert bench.send(case).status_code < 300
    return get_state(bench.http)


@pytest.mark.parametrize("case", WRITE_CASES.values(), ids=WRITE_CASES)
def test_a_write_of_unknown_outcome_may_be_sent_again(
    make_server: Callable[..., RunningServer], disk: StallingDisk, case: WriteCase
) -> None:
    wanted = expected_state(make_server, case)
    bench = SampleServer(make_server)
    disk.released.clear()
    first, second = bench.send(case), bench.send(case)
    disk.released.set()
    if case == WRITE_CASES["update"]:
        assert (first.status_code, second.status_code) == (200, 200)  # it may wait
        return
    for answer in (first, second):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["type"] == "/problems/outcome-unknown"
        assert "nothing was changed" not in answer.text
    third = bench.send(case)
    assert third.status_code == case.status, third.text
    if "ops" in (case.body or {}):
        assert [one["status"] for one in third.json()["results"]] == [200, 200, 200]
    assert get_state(bench.http) == wanted
    if case.path.endswith("/rotate"):
        # The secret that the client has goes on for a day, and so does the one of the answer.
        for secret in (bench.key["key"], third.json()["key"]):
            assert bench.served.client(secret).get("/api/key-info").status_code == 200
    bench.restart()
    assert get_state(bench.http) == wanted


@pytest.mark.parametrize("case", WRITE_CASES.values(), ids=WRITE_CASES)
def test_a_write_that_failed_for_certain_may_be_sent_again(
    make_server: Callable[..., RunningServer], disk: StallingDisk, case: WriteCase
) -> None:
    wanted = expected_state(make_server, case)
    bench = SampleServer(make_server)
    before = get_state(bench.http)
    disk.full = True
    answer = bench.send(case)
    assert answer.status_code in {503, 200}
    disk.full = False
    if answer.status_code == 503:
        assert answer.json()["type"] == "/problems/unavailable"
        assert "nothing was changed" in answer.text
        assert get_state(bench.http) == before
    assert bench.send(case).status_code == (case.status if case.failed is None else case.failed)
    assert get_state(bench.http) == wanted
    bench.restart()
    assert get_state(bench.http) == wanted


@pytest.mark.parametrize("case", WRITE_CASES.values(), ids=WRITE_CASES)
def test_a_write_that_fails_after_a_stall_leaves_nothing(
    make_server: Callable[..., RunningServer], disk: StallingDisk, case: WriteCase
) -> None:
    wanted = expected_state(make_server, case)
    bench = SampleServer(make_server)
    before = get_state(bench.http)
    disk.released.clear()
    disk.full = True
    answer = bench.send(case)
    disk.released.set()
    if answer.status_code == 200:
        return  # it could wait
    assert answer.json()["type"] == "/problems/outcome-unknown"
    while bench.http.get("/readyz").status_code != 503:
        pass
    assert get_state(bench.http) == before
    disk.full = False
    assert bench.send(case).status_code == (case.status if case.failed is None else case.failed)
    assert get_state(bench.http) == wanted
    bench.restart()
    assert get_state(bench.http) == wanted


def test_another_client_may_not_repeat_what_it_did_not_do(
    make_server: Callable[..., RunningServer], disk: StallingDisk
) -> None:
    """A deletion or a creation that is not theirs is a 404, a 409 or a 403, as ever."""
    bench = SampleServer(make_server)
    disk.released.clear()
    assert bench.http.delete("/api/v1/items/old").status_code == 503
    assert bench.http.post("/progress", json=make_legacy_item("new")).status_code == 503
    disk.released.set()
    other = bench.served.client("other")
    assert other.delete("/api/v1/items/old").status_code == 403
    assert other.post("/progress", json=make_legacy_item("new")).status_code == 409
    assert bench.http.post("/progress", json=make_legacy_item("new", 0.7)).status_code == 409
    assert bench.http.delete("/api/v1/items/old?run_id=x").status_code == 404
