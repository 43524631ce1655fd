"""A credential ends during a request: every route, at every point where the server waits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.support.access import (
    DECIDED_BY_HEAD,
    ENDING_KINDS,
    READ_ROUTES,
    READER_WRITES,
    REQUEST_BODIES,
    STORE_READ_ROUTES,
    WRITE_ROUTES,
    EndingCredential,
    HeldStore,
    SplitRequest,
    create_resources,
    get_state,
    refusal_status,
)
from tests.support.clock import ManualClock
from tests.support.connections import RawConnection, encode_request, parse_statuses
from tests.support.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker.server.http.route import Route


def route_name(row: Route) -> str:
    return f"{row.method} {row.path}"


@pytest.fixture(scope="module")
def ending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of the file."""
    served = RunningServer(tmp_path_factory.mktemp("ending"), ManualClock())
    served.keys["own"] = served.keys["write"]
    yield served
    served.stop()


def test_every_writing_route_is_covered() -> None:
    """The test below covers new routes automatically, except those that act before the body arrives."""
    assert {(row.method, row.path) for row in WRITE_ROUTES} >= DECIDED_BY_HEAD | REQUEST_BODIES.keys()


@pytest.mark.parametrize(
    ("row", "how"), list(product(WRITE_ROUTES, ENDING_KINDS)), ids=lambda value: getattr(value, "path", value)
)
def test_credential_ending_during_the_body_refuses_the_write(ending: RunningServer, row: Route, how: str) -> None:
    credential = EndingCredential(ending, how)
    with SplitRequest(ending, row, credential.headers) as request:
        request.send(request.head)
        first = request.read_status()
        assert (first != 100) is ((row.method, row.path) in DECIDED_BY_HEAD)
        credential.end()
        before = get_state(ending)
        if first == 100:
            for byte in request.body:
                request.send(bytes([byte]))
            assert request.read_status() == refusal_status(row, how)
        if how != "demoted" or (row.method, row.path) not in READER_WRITES:
            assert get_state(ending) == before


@pytest.mark.parametrize(
    ("row", "how"), list(product(STORE_READ_ROUTES, ENDING_KINDS)), ids=lambda value: getattr(value, "path", value)
)
def test_credential_ending_during_a_search_hides_the_result(ending: RunningServer, row: Route, how: str) -> None:
    credential, held = EndingCredential(ending, how), HeldStore(ending)
    with held.hold_reads(), SplitRequest(ending, row, credential.headers) as request:
        request.send(request.head)
        assert held.reached.wait(60)
        credential.end()
        held.released.set()
        assert request.read_status() == refusal_status(row, how)


@pytest.mark.parametrize("row", READ_ROUTES, ids=route_name)
def test_every_waiting_read_is_covered(ending: RunningServer, row: Route) -> None:
    credential, held = EndingCredential(ending, "revoked"), HeldStore(ending)
    with held.hold_reads(), SplitRequest(ending, row, credential.headers) as request:
        request.send(request.head)
        if row in STORE_READ_ROUTES:
            assert held.reached.wait(60)
            held.released.set()
        request.read_status()
        assert held.reached.is_set() is (row in STORE_READ_ROUTES)


@pytest.mark.parametrize(
    ("path", "scope"),
    [("/s/{token}/history", "group"), ("/s/{token}/timeline", "group"), ("/badge/{token}.svg", "item")],
)
def test_share_revoked_during_a_search_hides_the_result(ending: RunningServer, path: str, scope: str) -> None:
    admin = ending.client("admin")
    share = admin.post("/api/v1/shares", json={scope: "left"}).json()
    held = HeldStore(ending)
    with held.hold_reads(), RawConnection(ending.url) as visitor:
        visitor.send(encode_request("GET", path.replace("{token}", share["token"]), "Connection: close"))
        assert held.reached.wait(60)
        assert admin.delete(f"/api/v1/shares/{share['share_id']}").status_code == 200
        held.released.set()
        assert parse_statuses(visitor.read_all()) == [404]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_queued_key_change_is_authorized_after_the_first(ending: RunningServer, method: str) -> None:
    """Changes of keys run one at a time, and each may wait for the disk."""
    services, held = ending.background.app.services, HeldStore(ending)
    names = create_resources(ending, ending.client(), "{key_id}")
    credential = EndingCredential(ending, "expired")
    row = next(row for row in WRITE_ROUTES if row.method == method and row.path.startswith("/api/v1/keys"))
    with (
        held.hold_key_commit("slow"),
        ThreadPoolExecutor(1) as pool,
        SplitRequest(ending, row, credential.headers, names) as queued,
    ):
        slow = pool.submit(ending.client("admin").post, "/api/v1/keys", json={"type": "read", "name": "slow"})
        assert held.reached.wait(60)
        queued.send(queued.head)
        assert queued.read_status() == 100
        queued.send(queued.body)
        assert ending.client().get("/healthz").status_code == 200  # the server reads it after the body
        credential.end()
        count = len(services.keyring)
        held.released.set()
        assert queued.read_status() == 401
        assert slow.result(60).status_code == 201
    assert len(services.keyring) == count + 1
