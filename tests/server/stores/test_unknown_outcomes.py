"""Repeat each kind of write after the storage stalled or failed.

A stall that exceeds the commit timeout leaves the outcome unknown, and the response says so. In either case, a repeated
request leads to the same state as a single one: one run in the history, one notice, one valid key. After a definite
failure, the response says that nothing was changed, which is true.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import pytest

from progressbar_tracker.server import unit_of_work
from progressbar_tracker.server.stores.sqlite import writer as sqlite_writer
from tests.support.server import FullDisk, RunningServer, make_legacy_item
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    import httpx

    from progressbar_tracker.server.mutations import TrimHistory, Write


class WriteCase(NamedTuple):
    """A write whose repetition must not change its result."""

    method: str
    path: str
    body: dict[str, object] | None = None
    status: int = 200  # of the repeated request
    failed: int | None = None  # of the request that is repeated after a definite failure


def make_batch(*operations: dict[str, object]) -> dict[str, object]:
    return {"ops": list(operations)}


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

STALL_SECONDS = 0.1


class StallingDisk(FullDisk):
    """Blocks every commit until ``released`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.released.set()

    def execute_writes(self, connection: sqlite3.Connection, writes: Sequence[Write]) -> list[TrimHistory]:
        self.released.wait(60)
        return super().execute_writes(connection, writes)

    @contextlib.contextmanager
    def stall(self, served: RunningServer) -> Iterator[None]:
        """Stall the commits of a server, which waits for them a moment, and before and after for long."""
        committer = served.background.app.services.unit_of_work._committer
        commit = committer.commit

        async def commit_soon(writes: Sequence[Write]) -> None:
            if committer._timer is not None:  # of former commits, which had more time
                committer._timer.cancel()
                committer._timer = None
            await commit(writes)

        with (
            mock.patch.object(unit_of_work, "COMMIT_TIMEOUT", STALL_SECONDS),
            mock.patch.object(committer, "_timeout", STALL_SECONDS),
            mock.patch.object(committer, "commit", commit_soon),
        ):
            self.released.clear()
            yield
            self.released.set()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[StallingDisk]:
    """A disk that can stall the writes of all SQLite stores."""
    disk = StallingDisk()
    monkeypatch.setattr(sqlite_writer, "execute_writes", disk.execute_writes)
    yield disk
    disk.released.set()


class VisibleState(NamedTuple):
    """The visible state of a server, without random values."""

    items: dict[str, object]
    history: list[object]
    keys: list[object]
    shares: int


def get_state(http: httpx.Client) -> VisibleState:
    items = {item["id"]: (item["status"], item["value"], item["run_id"]) for item in http.get("/progress").json()}
    if "new" in items and items["new"][2] != "n":
        items["new"] = (*items["new"][:2], "made up")
    runs = [(run["id"], run["run_id"], run["status"]) for run in http.get("/api/v1/history").json()["items"]]
    keys = [(key["name"], key["revoked_at"] is None) for key in http.get("/api/v1/keys").json()["keys"]]
    return VisibleState(items, runs, sorted(keys), len(http.get("/api/v1/shares").json()["shares"]))


class SampleServer:
    """A server with items, a key and a share."""

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
    sample = SampleServer(serve)
    assert sample.send(case).status_code < 300
    return get_state(sample.http)


@pytest.mark.parametrize("case", WRITE_CASES.values(), ids=WRITE_CASES)
def test_write_of_unknown_outcome_can_be_repeated(
    make_server: Callable[..., RunningServer], disk: StallingDisk, case: WriteCase
) -> None:
    expected = expected_state(make_server, case)
    sample = SampleServer(make_server)
    with disk.stall(sample.served):
        first, second = sample.send(case), sample.send(case)
    if case == WRITE_CASES["update"]:
        assert (first.status_code, second.status_code) == (200, 200)  # not durable
        return
    for answer in (first, second):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["type"] == "/problems/outcome-unknown"
        assert "nothing was changed" not in answer.text
    third = sample.send(case)
    assert third.status_code == case.status, third.text
    if "ops" in (case.body or {}):
        assert [result["status"] for result in third.json()["results"]] == [200, 200, 200]
    assert get_state(sample.http) == expected
    if case.path.endswith("/rotate"):
        # The previous secret remains valid for a day, beside the new one.
        for secret in (sample.key["key"], third.json()["key"]):
            assert sample.served.client(secret).get("/api/key-info").status_code == 200
    sample.restart()
    assert get_state(sample.http) == expected


@pytest.mark.parametrize("case", WRITE_CASES.values(), ids=WRITE_CASES)
def test_write_that_failed_can_be_repeated(
    make_server: Callable[..., RunningServer], disk: StallingDisk, case: WriteCase
) -> None:
    expected = expected_state(make_server, case)
    sample = SampleServer(make_server)
    before = get_state(sample.http)
    disk.full = True
    answer = sample.send(case)
    assert answer.status_code in {503, 200}
    disk.full = False
    if answer.status_code == 503:
        assert answer.json()["type"] == "/problems/unavailable"
        assert "nothing was changed" in answer.text
        assert get_state(sample.http) == before
    assert sample.send(case).status_code == (case.status if case.failed is None else case.failed)
    assert get_state(sample.http) == expected
    sample.restart()
    assert get_state(sample.http) == expected


@pytest.mark.parametrize("case", WRITE_CASES.values(), ids=WRITE_CASES)
def test_write_that_fails_after_a_stall_changes_nothing(
    make_server: Callable[..., RunningServer], disk: StallingDisk, case: WriteCase
) -> None:
    expected = expected_state(make_server, case)
    sample = SampleServer(make_server)
    before = get_state(sample.http)
    with disk.stall(sample.served):
        disk.full = True
        answer = sample.send(case)
    if answer.status_code == 200:
        return  # not durable
    assert answer.json()["type"] == "/problems/outcome-unknown"
    wait_until(lambda: sample.http.get("/readyz").status_code == 503)
    assert get_state(sample.http) == before
    disk.full = False
    assert sample.send(case).status_code == (case.status if case.failed is None else case.failed)
    assert get_state(sample.http) == expected
    sample.restart()
    assert get_state(sample.http) == expected


def test_other_client_cannot_repeat_an_unknown_write(
    make_server: Callable[..., RunningServer], disk: StallingDisk
) -> None:
    """The usual 404, 409 or 403 applies to the deletions and creations of other clients."""
    sample = SampleServer(make_server)
    with disk.stall(sample.served):
        assert sample.http.delete("/api/v1/items/old").status_code == 503
        assert sample.http.post("/progress", json=make_legacy_item("new")).status_code == 503
    other = sample.served.client("other")
    assert other.delete("/api/v1/items/old").status_code == 403
    assert other.post("/progress", json=make_legacy_item("new")).status_code == 409
    assert sample.http.post("/progress", json=make_legacy_item("new", 0.7)).status_code == 409
    assert sample.http.delete("/api/v1/items/old?run_id=x").status_code == 404
