"""Every row of the table of routes, and every operation of a batch, asked by everybody."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from progressbar_tracker.server.access import keys
from progressbar_tracker.server.access.authorization import Principal, authorize
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.routes import TABLE
from tests.support.server import NOW, Clock, Served, legacy

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from progressbar_tracker.server.http.route import Row

ASKERS: Final = ("nobody", "unknown", "revoked", "expired", "share", "read", "own", "other", "admin")
"""``own`` and ``other`` are write keys: the owner of the item, and the owner of another.

``share`` sends the token of a link in place of a key.
"""

KEYLESS: Final = dict.fromkeys(("nobody", "unknown", "revoked", "expired", "share"), 401)


class Expected(NamedTuple):
    """The path to ask for, the body, and who gets what; who is not named is refused by ``KEYLESS``."""

    path: str
    body: dict[str, object] | None
    statuses: dict[str, int]


def everyone(status: int) -> dict[str, int]:
    return dict.fromkeys(ASKERS, status)


def with_key(status: int) -> dict[str, int]:
    return KEYLESS | dict.fromkeys(("read", "own", "other", "admin"), status)


def writers(status: int) -> dict[str, int]:
    return with_key(status) | {"read": 403}


OWNED: Final = writers(200) | {"other": 403}
ADMIN: Final = with_key(403) | {"admin": 200}
PAGE: Final = with_key(200) | dict.fromkeys(KEYLESS, 303)

# What stands for {id} is an item of the key "own"; {new} is an id that is not taken; {key_id} a key made for the test;
# {share} the token of a share of the item, and {share_id} its id.
MATRIX: Final = {
    ("GET", "/progress"): Expected("/progress", None, with_key(200)),
    ("POST", "/progress"): Expected("/progress", legacy("{new}"), writers(201)),
    ("PUT", "/progress"): Expected("/progress", legacy("{id}"), OWNED),
    ("DELETE", "/progress"): Expected("/progress?id={id}", None, OWNED),
    ("GET", "/api/key-info"): Expected("/api/key-info", None, with_key(200)),
    ("POST", "/api/v1/items:batch"): Expected("/api/v1/items:batch", {"ops": []}, with_key(200)),
    ("GET", "/api/v1/items"): Expected("/api/v1/items", None, with_key(200)),
    ("GET", "/api/v1/items/{id:path}"): Expected("/api/v1/items/{id}", None, with_key(200)),
    ("PUT", "/api/v1/items/{id:path}"): Expected("/api/v1/items/{id}", {"run_id": "taken over"}, OWNED),
    ("PATCH", "/api/v1/items/{id:path}"): Expected("/api/v1/items/{id}", {"completed": 1}, OWNED),
    ("DELETE", "/api/v1/items/{id:path}"): Expected("/api/v1/items/{id}", None, OWNED),
    ("GET", "/api/v1/events"): Expected("/api/v1/events", None, with_key(200)),
    ("GET", "/api/v1/history"): Expected("/api/v1/history", None, with_key(200)),
    ("GET", "/api/v1/history.csv"): Expected("/api/v1/history.csv", None, with_key(200)),
    ("GET", "/api/v1/history.json"): Expected("/api/v1/history.json", None, with_key(200)),
    ("GET", "/api/v1/keys"): Expected("/api/v1/keys", None, ADMIN),
    ("POST", "/api/v1/keys"): Expected("/api/v1/keys", {"type": "read", "name": "n"}, ADMIN | {"admin": 201}),
    ("DELETE", "/api/v1/keys/{key_id}"): Expected("/api/v1/keys/{key_id}", None, ADMIN),
    ("POST", "/api/v1/keys/{key_id}/rotate"): Expected("/api/v1/keys/{key_id}/rotate", None, ADMIN),
    ("GET", "/api/v1/sessions"): Expected("/api/v1/sessions", None, ADMIN),
    ("DELETE", "/api/v1/sessions/{session_id}"): Expected("/api/v1/sessions/{session_id}", None, ADMIN),
    ("GET", "/api/v1/shares"): Expected("/api/v1/shares", None, ADMIN),
    ("POST", "/api/v1/shares"): Expected("/api/v1/shares", {"item": "{id}"}, ADMIN | {"admin": 201}),
    ("DELETE", "/api/v1/shares/{share_id}"): Expected("/api/v1/shares/{share_id}", None, ADMIN),
    ("GET", "/api/v1/channels"): Expected("/api/v1/channels", None, ADMIN),
    ("POST", "/api/v1/channels/{name}/test"): Expected("/api/v1/channels/none/test", None, ADMIN | {"admin": 404}),
    ("GET", "/s/{token}"): Expected("/s/{share}", None, everyone(200)),
    ("GET", "/s/{token}/events"): Expected("/s/{share}/events", None, everyone(200)),
    ("GET", "/badge/{token}.svg"): Expected("/badge/{share}.svg", None, everyone(200)),
    ("GET", "/healthz"): Expected("/healthz", None, everyone(200)),
    ("GET", "/readyz"): Expected("/readyz", None, everyone(200)),
    ("GET", "/metrics"): Expected("/metrics", None, with_key(200)),
    ("GET", "/openapi.json"): Expected("/openapi.json", None, everyone(200)),
    ("GET", "/docs"): Expected("/docs", None, everyone(200)),
    ("GET", "/problems/{code}"): Expected("/problems/internal", None, everyone(200)),
    ("GET", "/"): Expected("/", None, PAGE),
    ("GET", "/items/{id:path}"): Expected("/items/{id}", None, PAGE),
    ("GET", "/history"): Expected("/history", None, PAGE),
    ("GET", "/keys"): Expected("/keys", None, ADMIN | dict.fromkeys(KEYLESS, 303)),
    ("GET", "/channels"): Expected("/channels", None, ADMIN | dict.fromkeys(KEYLESS, 303)),
    ("GET", "/login"): Expected("/login", None, everyone(200)),
    ("POST", "/login"): Expected("/login", None, everyone(415)),
    ("POST", "/logout"): Expected("/logout", None, everyone(303)),
    ("GET", "/auth/{token}"): Expected("/auth/guessed", None, everyone(403)),
    ("HEAD", "/auth/{token}"): Expected("/auth/guessed", None, everyone(200)),
    ("GET", "/static/{name}"): Expected("/static/app.js", None, everyone(200)),
}

OPS: Final = {
    "put a new one": ({"op": "put", "id": "{new}"}, {"read": 403, "own": 201, "other": 201, "admin": 201}),
    "put over one": (
        {"op": "put", "id": "{id}", "run_id": "over"},
        {"read": 403, "own": 200, "other": 403, "admin": 200},
    ),
    "patch": ({"op": "patch", "id": "{id}", "completed": 1}, {"read": 403, "own": 200, "other": 403, "admin": 200}),
    "delete": ({"op": "delete", "id": "{id}"}, {"read": 403, "own": 200, "other": 403, "admin": 200}),
}

_numbers = count()


@pytest.fixture(scope="module")
def asked(shared: Served) -> Iterator[Served]:
    ring = shared.server
    shared.keys["own"] = shared.keys["write"]
    shared.keys["unknown"] = keys.new_key("admin", "never kept", NOW).secret
    shared.keys["share"] = shared.client("admin").post("/api/v1/shares", json={"item": "a"}).json()["token"]
    for name in ("revoked", "expired"):
        shared.keys[name] = ring.create_key("admin", name, expires_at=NOW + 1 if name == "expired" else None)
    revoked = ring.app.services.ring.find(shared.keys["revoked"], NOW)
    assert revoked is not None
    assert shared.client("admin").delete(f"/api/v1/keys/{revoked.key_id}").status_code == 200
    shared.clock.pass_(2)
    return shared


@pytest.fixture(scope="module")
def http(asked: Served) -> httpx.Client:
    return asked.client()


def prepared(asked: Served, http: httpx.Client, template: object) -> dict[str, str]:
    """Make what the template names; return what stands for the names."""
    number = next(_numbers)
    names = {"{id}": f"item-{number}", "{new}": f"new-{number}"}
    admin = {"X-API-KEY": asked.keys["admin"]}
    if "{id}" in str(template) or "{share" in str(template):
        headers = {"X-API-KEY": asked.keys["own"]}
        assert http.put(f"/api/v1/items/{names['{id}']}", json={"run_id": "r"}, headers=headers).status_code == 201
    if "{key_id}" in str(template):
        made = http.post("/api/v1/keys", json={"type": "write", "name": "n"}, headers=admin).json()
        names["{key_id}"] = made["key_id"]
    if "{share" in str(template):
        made = http.post("/api/v1/shares", json={"item": names["{id}"]}, headers=admin).json()
        names |= {"{share}": made["token"], "{share_id}": made["share_id"]}
    if "{session_id}" in str(template):
        names["{session_id}"] = asked.server.app.services.sessions.begin(asked.clock())[1].session_id
    return names


def filled(template: object, names: dict[str, str]) -> object:
    if isinstance(template, dict):
        return {name: filled(value, names) for name, value in template.items()}
    if isinstance(template, str):
        for name, value in names.items():
            template = template.replace(name, value)
    return template


def headers_of(asked: Served, asker: str) -> dict[str, str]:
    return {} if asker == "nobody" else {"X-API-KEY": asked.keys[asker]}


def state(asked: Served) -> object:
    services = asked.server.app.services
    found = [(key.key_id, key.hash, key.revoked_at) for key in services.ring.all()]
    return services.board.listed(), found, services.shares.all(), services.sessions.all(asked.clock())


def test_every_route_has_a_row_in_the_matrix() -> None:
    assert set(MATRIX) == {(row.method, row.path) for row in TABLE}
    assert all(set(expected.statuses) == set(ASKERS) for expected in MATRIX.values())


@pytest.mark.parametrize("asker", ASKERS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.path}")
def test_everybody_gets_what_the_matrix_says(asked: Served, http: httpx.Client, row: object, asker: str) -> None:
    expected = MATRIX[row.method, row.path]
    names = prepared(asked, http, (expected.path, expected.body))
    before = state(asked)
    with http.stream(
        row.method,
        str(filled(expected.path, names)),
        json=None if expected.body is None else filled(expected.body, names),
        headers=headers_of(asked, asker),
    ) as reply:
        if not reply.headers.get("Content-Type", "").startswith("text/event-stream"):  # which has no end
            reply.read()
    assert reply.status_code == expected.statuses[asker]
    if reply.status_code >= 400:
        assert state(asked) == before
    if reply.status_code == 401:
        assert "X-API-KEY" in reply.headers["WWW-Authenticate"]
        assert reply.headers["Content-Type"] == "application/problem+json"


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that everybody may read."""
    served = Served(tmp_path_factory.mktemp("public"), Clock(), public_read=True)
    served.keys["own"] = served.keys["write"]
    yield served
    served.stop()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.path}")
def test_a_guest_may_read_and_nothing_else_where_everybody_may_read(public: Served, row: Row) -> None:
    expected = MATRIX[row.method, row.path]
    nobody = public.clients[0] if public.clients else public.client()
    names = prepared(public, nobody, (expected.path, expected.body))
    before = state(public)
    body = None if expected.body is None else filled(expected.body, names)
    with nobody.stream(row.method, str(filled(expected.path, names)), json=body) as reply:
        pass
    assert reply.status_code == expected.statuses["read" if row.action == "read" else "nobody"]
    assert state(public) == before


def test_a_key_that_does_not_work_makes_no_guest_of_its_holder(public: Served) -> None:
    http = public.client("pbt_r_unknown")
    assert http.get("/api/v1/items").status_code == 401
    assert http.get("/").status_code == 303


@pytest.mark.parametrize("asker", ["read", "own", "other", "admin"])
@pytest.mark.parametrize("name", OPS)
def test_every_operation_of_a_batch_is_judged_by_itself(
    asked: Served, http: httpx.Client, name: str, asker: str
) -> None:
    op, statuses = OPS[name]
    op = filled(op, prepared(asked, http, op))
    before = state(asked)
    reply = http.post("/api/v1/items:batch", json={"ops": [op]}, headers=headers_of(asked, asker))
    assert reply.status_code == 200
    (result,) = reply.json()["results"]
    assert result["status"] == statuses[asker]
    assert ("problem" in result) is (result["status"] >= 400)
    if result["status"] >= 400:
        assert state(asked) == before


def test_a_key_is_also_read_from_a_bearer_header_and_never_from_the_query(asked: Served, http: httpx.Client) -> None:
    key = asked.keys["read"]
    assert http.get("/progress", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    for name in ("key", "api_key", "X-API-KEY", "token"):
        assert http.get("/progress", params={name: key}).status_code == 401


def test_two_keys_of_one_name_are_two_owners(asked: Served, http: httpx.Client) -> None:
    first, second = (asked.server.create_key("write", "twin") for _ in range(2))
    assert http.post("/progress", json=legacy("twins"), headers={"X-API-KEY": first}).status_code == 201
    assert http.put("/progress", json=legacy("twins"), headers={"X-API-KEY": second}).status_code == 403


def test_a_write_key_sees_everyones_items(asked: Served, http: httpx.Client) -> None:
    http.post("/progress", json=legacy("seen"), headers=headers_of(asked, "own"))
    listed = http.get("/progress", headers=headers_of(asked, "other")).json()
    assert "seen" in [item["id"] for item in listed]


def test_an_action_that_is_not_known_is_not_allowed() -> None:
    with pytest.raises(ProblemError):
        authorize(Principal("k", "n", "write"), "something else", None)  # type: ignore[arg-type]
