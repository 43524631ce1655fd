"""Every route and every batch operation, requested by each kind of principal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from progressbar_tracker.server.access import keys
from progressbar_tracker.server.access.authorization import Principal, authorize
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.routes import ROUTES
from tests.support.access import (
    ACCESS_MATRIX,
    PRINCIPAL_NAMES,
    create_resources,
    fill_template,
    get_state,
)
from tests.support.clock import START_TIME, ManualClock
from tests.support.server import RunningServer, make_legacy_item

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from progressbar_tracker.server.http.route import Route

BATCH_OPS: Final = {
    "put a new one": ({"op": "put", "id": "{new}"}, {"read": 403, "own": 201, "other": 201, "admin": 201}),
    "put over one": (
        {"op": "put", "id": "{id}", "run_id": "over"},
        {"read": 403, "own": 200, "other": 403, "admin": 200},
    ),
    "patch": ({"op": "patch", "id": "{id}", "completed": 1}, {"read": 403, "own": 200, "other": 403, "admin": 200}),
    "delete": ({"op": "delete", "id": "{id}"}, {"read": 403, "own": 200, "other": 403, "admin": 200}),
}


@pytest.fixture(scope="module")
def matrix_server(module_server: RunningServer) -> Iterator[RunningServer]:
    """A server with one key or token for each principal of the matrix."""
    ring = module_server.background
    module_server.keys["own"] = module_server.keys["write"]
    module_server.keys["unknown"] = keys.new_key("admin", "never kept", START_TIME).secret
    module_server.keys["share"] = (
        module_server.client("admin").post("/api/v1/shares", json={"item": "a"}).json()["token"]
    )
    for name in ("revoked", "expired"):
        module_server.keys[name] = ring.create_key(
            "admin", name, expires_at=START_TIME + 1 if name == "expired" else None
        )
    revoked = ring.app.services.keyring.find(module_server.keys["revoked"], START_TIME)
    assert revoked is not None
    assert module_server.client("admin").delete(f"/api/v1/keys/{revoked.key_id}").status_code == 200
    module_server.clock.advance(2)
    return module_server


@pytest.fixture(scope="module")
def client(matrix_server: RunningServer) -> httpx.Client:
    """A client without a key."""
    return matrix_server.client()


def make_headers(server: RunningServer, principal: str) -> dict[str, str]:
    return {} if principal == "guest" else {"X-API-KEY": server.keys[principal]}


def test_every_route_is_in_the_access_matrix() -> None:
    assert set(ACCESS_MATRIX) == {(row.method, row.path) for row in ROUTES}
    assert all(set(expected.statuses) == set(PRINCIPAL_NAMES) for expected in ACCESS_MATRIX.values())


@pytest.mark.parametrize("principal", PRINCIPAL_NAMES)
@pytest.mark.parametrize("row", ROUTES, ids=lambda row: f"{row.method} {row.path}")
def test_each_principal_gets_the_status_of_the_matrix(
    matrix_server: RunningServer, client: httpx.Client, row: object, principal: str
) -> None:
    expected = ACCESS_MATRIX[row.method, row.path]
    names = create_resources(matrix_server, client, (expected.path, expected.body))
    before = get_state(matrix_server)
    with client.stream(
        row.method,
        str(fill_template(expected.path, names)),
        json=None if expected.body is None else fill_template(expected.body, names),
        headers=make_headers(matrix_server, principal),
    ) as reply:
        if not reply.headers.get("Content-Type", "").startswith("text/event-stream"):  # an event stream does not end
            reply.read()
    assert reply.status_code == expected.statuses[principal]
    if reply.status_code >= 400:
        assert get_state(matrix_server) == before
    if reply.status_code == 401:
        assert "X-API-KEY" in reply.headers["WWW-Authenticate"]
        assert reply.headers["Content-Type"] == "application/problem+json"


@pytest.fixture(scope="module")
def public_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with public reading."""
    served = RunningServer(tmp_path_factory.mktemp("public"), ManualClock(), public_read=True)
    served.keys["own"] = served.keys["write"]
    yield served
    served.stop()


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: f"{row.method} {row.path}")
def test_guest_can_only_read_if_reading_is_public(public_server: RunningServer, row: Route) -> None:
    expected = ACCESS_MATRIX[row.method, row.path]
    anonymous = public_server.clients[0] if public_server.clients else public_server.client()
    names = create_resources(public_server, anonymous, (expected.path, expected.body))
    before = get_state(public_server)
    body = None if expected.body is None else fill_template(expected.body, names)
    with anonymous.stream(row.method, str(fill_template(expected.path, names)), json=body) as reply:
        pass
    assert reply.status_code == expected.statuses["read" if row.action == "read" else "guest"]
    if "{ping}" not in expected.path:  # the token in its path permits a ping
        assert get_state(public_server) == before


def test_invalid_key_is_not_treated_as_guest(public_server: RunningServer) -> None:
    http = public_server.client("pbt_r_unknown")
    assert http.get("/api/v1/items").status_code == 401
    assert http.get("/").status_code == 303


@pytest.mark.parametrize("principal", ["read", "own", "other", "admin"])
@pytest.mark.parametrize("name", BATCH_OPS)
def test_each_operation_of_a_batch_is_authorized(
    matrix_server: RunningServer, client: httpx.Client, name: str, principal: str
) -> None:
    op, statuses = BATCH_OPS[name]
    op = fill_template(op, create_resources(matrix_server, client, op))
    before = get_state(matrix_server)
    reply = client.post("/api/v1/items:batch", json={"ops": [op]}, headers=make_headers(matrix_server, principal))
    assert reply.status_code == 200
    (result,) = reply.json()["results"]
    assert result["status"] == statuses[principal]
    assert ("problem" in result) is (result["status"] >= 400)
    if result["status"] >= 400:
        assert get_state(matrix_server) == before


def test_key_is_read_from_a_bearer_header_not_from_the_query(
    matrix_server: RunningServer, client: httpx.Client
) -> None:
    key = matrix_server.keys["read"]
    assert client.get("/progress", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    for name in ("key", "api_key", "X-API-KEY", "token"):
        assert client.get("/progress", params={name: key}).status_code == 401


def test_two_keys_with_one_name_are_two_owners(matrix_server: RunningServer, client: httpx.Client) -> None:
    first, second = (matrix_server.background.create_key("write", "twin") for _ in range(2))
    assert client.post("/progress", json=make_legacy_item("twins"), headers={"X-API-KEY": first}).status_code == 201
    assert client.put("/progress", json=make_legacy_item("twins"), headers={"X-API-KEY": second}).status_code == 403


def test_write_key_reads_items_of_all_owners(matrix_server: RunningServer, client: httpx.Client) -> None:
    client.post("/progress", json=make_legacy_item("seen"), headers=make_headers(matrix_server, "own"))
    listed = client.get("/progress", headers=make_headers(matrix_server, "other")).json()
    assert "seen" in [item["id"] for item in listed]


def test_unknown_action_is_forbidden() -> None:
    with pytest.raises(ProblemError):
        authorize(Principal("k", "n", "write"), "something else", None)  # type: ignore[arg-type]
