"""Limited resources report their remaining quota, and refusals report when to retry."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server import hub
from progressbar_tracker.server.access import sessions
from progressbar_tracker.server.access.rate_limit import BURST_SECONDS, MAX_CLIENTS, RateLimiter
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.routes import ROUTES
from tests.support.server import RunningServer, make_legacy_item

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tests.support.server import FullDisk, RunningServer

_FIELD_PATTERN: Final = re.compile(r'"([a-z-]+)"((?:;[a-z]+=(?:\d+|"[a-z-]+"))*)')


def parse_quota(reply: httpx.Response) -> dict[str, dict[str, Any]]:
    """Return the fields of both headers, by policy."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("RateLimit-Policy", "RateLimit"):
        for one in filter(None, reply.headers.get(name, "").split(", ")):
            match = _FIELD_PATTERN.fullmatch(one)
            assert match is not None, one
            for part in filter(None, match[2].split(";")):
                key, _, value = part.partition("=")
                found.setdefault(match[1], {})[key] = int(value) if value.isdigit() else value.strip('"')
    return found


def test_create_response_has_item_quota(make_server: Callable[..., RunningServer]) -> None:
    http = make_server(max_items=4).client("write")
    assert parse_quota(http.put("/api/v1/items/a", json={})) == {"items": {"q": 4, "r": 3}}
    assert parse_quota(http.post("/progress", json=make_legacy_item("b"))) == {"items": {"q": 4, "r": 2}}
    ops = [{"op": "put", "id": name} for name in "cde"]
    assert parse_quota(http.post("/api/v1/items:batch", json={"ops": ops})) == {"items": {"q": 4, "r": 0}}
    for reply in (http.put("/api/v1/items/e", json={}), http.post("/progress", json=make_legacy_item("e"))):
        assert (reply.status_code, reply.headers["Retry-After"]) == (429, "60")
        assert parse_quota(reply) == {"items": {"q": 4, "r": 0, "t": 60}}
    assert parse_quota(http.patch("/api/v1/items/a", json={})) == {}  # patches are many


def test_failed_sign_in_has_attempt_quota(server: RunningServer) -> None:
    http = server.client()
    policy = {"q": sessions.MAX_SIGN_IN_ATTEMPTS, "w": 60}
    for left in range(sessions.MAX_SIGN_IN_ATTEMPTS - 1, 0, -1):
        assert parse_quota(http.post("/login", data={"key": "wrong"})) == {"sign-in": {**policy, "r": left}}
    for _ in range(2):
        reply = http.post("/login", data={"key": "wrong"})
        assert parse_quota(reply) == {"sign-in": {**policy, "r": 0, "t": 61}}
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "61")


def test_stream_response_has_stream_quota(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_STREAMS", 8)
    http = server.client("admin")
    share = http.post("/api/v1/shares", json={"group": "g"}).json()["path"]
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(http.stream("GET", path)) for path in ("/api/v1/events", f"/{share}/events")
        )
        chunks = [first.iter_raw(), second.iter_raw()]
        for chunk in chunks:
            next(chunk)
        assert parse_quota(first) == {"streams": {"q": 4, "qu": "concurrent-requests", "r": 3}}
        others = [
            stack.enter_context(http.stream("GET", path)) for path in (f"/{share}/events", *["/api/v1/events"] * 3)
        ]
        chunks += [other.iter_raw() for other in others]
        for chunk in chunks[2:]:
            next(chunk)
        assert parse_quota(others[-1])["streams"]["r"] == 0
        # Without a key, a network may have half as many streams as a key.
        for path, most in (("/api/v1/events", 4), (f"/{share}/events", 2)):
            reply = http.get(path)
            assert (reply.status_code, reply.headers["Retry-After"]) == (503, "30")
            assert parse_quota(reply)["streams"] == {"q": most, "qu": "concurrent-requests", "r": 0, "t": 30}


def test_requests_are_not_limited_by_default(module_server: RunningServer) -> None:
    assert module_server.background.app.services.rate_limiter is None
    assert parse_quota(module_server.client("read").get("/api/key-info")) == {}
    assert "requests" not in module_server.client("read").get("/api/key-info").json()["limits"]


def test_request_limit_is_per_key(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(max_requests=2)
    http, other = served.client("write"), served.client("other")
    for left in range(2 * BURST_SECONDS - 1, -1, -1):
        reply = http.get("/api/key-info")
        assert (reply.status_code, parse_quota(reply)) == (200, {"requests": {"q": 20, "w": BURST_SECONDS, "r": left}})
    assert reply.json()["limits"]["requests"] == 2
    for method, path in (("GET", "/progress"), ("PUT", "/api/v1/items/a"), ("GET", "/api/v1/events"), ("GET", "/keys")):
        reply = http.request(method, path)
        assert (reply.status_code, reply.headers["Retry-After"]) == (429, "1")
        assert reply.json()["type"] == "/problems/rate-limited"
        assert parse_quota(reply) == {"requests": {"q": 20, "w": BURST_SECONDS, "r": 0, "t": 1}}
    assert http.get("/healthz").status_code == 200  # needs no key
    assert other.get("/progress").status_code == 200
    served.clock.advance(0.5)
    assert [http.get("/progress").status_code for _ in range(2)] == [200, 429]
    served.clock.advance(1)
    assert [http.put("/api/v1/items/a", json={}).status_code for _ in range(3)] == [201, 200, 429]


def test_open_stream_takes_one_request(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(max_requests=1)
    http, writer = served.client("read"), served.client("write")
    with http.stream("GET", "/api/v1/events") as stream:
        lines = stream.iter_lines()
        next(line for line in lines if line.startswith("event: snapshot"))
        writer.put("/api/v1/items/a", json={})
        next(line for line in lines if line.startswith("event: change"))
    assert parse_quota(http.get("/progress"))["requests"]["r"] == BURST_SECONDS - 2


def test_guests_are_limited_by_address(make_server: Callable[..., RunningServer]) -> None:
    http = make_server(max_requests=1, public_read=True).client()
    assert [http.get("/progress").status_code for _ in range(BURST_SECONDS + 1)] == [200] * BURST_SECONDS + [429]


@given(st.integers(1, 1000), st.lists(st.floats(0, 30), max_size=60))
def test_rate_limiter_never_exceeds_rate(per_second: int, pauses: list[float]) -> None:
    limiter, now, passed = RateLimiter(per_second), 0.0, 0
    for pause in pauses:
        now += pause
        for _ in range(3):
            try:
                left = limiter.acquire("a", now).remaining
            except ProblemError as problem:
                now += problem.retry_after or 0  # a client that waits for Retry-After may pass
                limiter.acquire("a", now)
            else:
                assert 0 <= left < per_second * BURST_SECONDS
            passed += 1
    assert passed <= per_second * (BURST_SECONDS + now) + 1


def test_rate_limiter_allows_burst_then_rate() -> None:
    limiter = RateLimiter(3)
    for _ in range(3 * BURST_SECONDS):
        limiter.acquire("a", 100.0)
    for second in range(1, 5):
        for _ in range(3):
            limiter.acquire("a", 100.0 + second)
        with pytest.raises(ProblemError):
            limiter.acquire("a", 100.0 + second)


def test_clock_set_back_does_not_delay_requests() -> None:
    limiter = RateLimiter(1)
    for _ in range(BURST_SECONDS):
        limiter.acquire("a", 1e9)
    with pytest.raises(ProblemError) as raised:
        limiter.acquire("a", 5.0)
    assert raised.value.retry_after == 1


def test_rate_limiter_has_bounded_clients() -> None:
    limiter = RateLimiter(1)
    for number in range(MAX_CLIENTS + 10):
        limiter.acquire(str(number), 0.0)
    assert len(limiter._paid_until) <= MAX_CLIENTS
    limiter.acquire("later", 100.0)
    assert set(limiter._paid_until) == {"later"}


# Retry-After


def test_every_503_has_retry_after(server: RunningServer, disk: FullDisk) -> None:
    """The disk is full, for every route that may respond so."""
    admin = server.client("admin")
    admin.put("/api/v1/items/a", json={})
    key_id = admin.post("/api/v1/keys", json={"type": "read", "name": "n"}).json()["key_id"]
    share_id = admin.post("/api/v1/shares", json={"group": "g"}).json()["share_id"]
    disk.full = True
    tried = {
        "POST /progress": admin.post("/progress", json=make_legacy_item("b")),
        "DELETE /progress": admin.delete("/progress?id=a"),
        "POST /api/v1/items:batch": admin.post("/api/v1/items:batch", json={"ops": [{"op": "put", "id": "b"}]}),
        "PUT /api/v1/items/{id:path}": admin.put("/api/v1/items/b", json={}),
        "PATCH /api/v1/items/{id:path}": admin.patch("/api/v1/items/a", json={"status": "failed"}),
        "DELETE /api/v1/items/{id:path}": admin.delete("/api/v1/items/a"),
        "POST /api/v1/keys": admin.post("/api/v1/keys", json={"type": "read", "name": "n"}),
        "DELETE /api/v1/keys/{key_id}": admin.delete(f"/api/v1/keys/{key_id}"),
        "POST /api/v1/keys/{key_id}/rotate": admin.post(f"/api/v1/keys/{key_id}/rotate"),
        "POST /api/v1/shares": admin.post("/api/v1/shares", json={"group": "g"}),
        "DELETE /api/v1/shares/{share_id}": admin.delete(f"/api/v1/shares/{share_id}"),
        "POST /login": admin.post("/login", data={"key": server.keys["read"]}),
        "GET /readyz": admin.get("/readyz"),
    }
    routes = {f"{row.method} {row.path}" for row in ROUTES}
    for route, reply in tried.items():
        assert route in routes
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "5"), route
        assert parse_quota(reply) == {}
