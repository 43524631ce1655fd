"""Every resource that clients can use up has a limit, with a documented response beyond it."""

from __future__ import annotations

import html
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from progressbar_tracker._models import MAX_BATCH_BYTES, MAX_BODY_BYTES
from progressbar_tracker.server import hub, services
from progressbar_tracker.server.access import keys, ping_tokens, sessions, shares, subscriptions
from progressbar_tracker.server.api.limits import list_limits, serialize_limits
from progressbar_tracker.server.http import connection, endpoint
from progressbar_tracker.server.items import transition
from progressbar_tracker.server.problems import PROBLEM_CODES, PROBLEM_REMEDIES, ProblemError
from progressbar_tracker.server.schedules import table as schedule_table
from progressbar_tracker.server.settings import Settings
from tests.support.access import PUSH_FIELDS
from tests.support.clock import ManualClock
from tests.support.connections import TLS_CONTEXT
from tests.support.server import make_legacy_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.server import RunningServer

DEFAULT_SETTINGS: Final = Settings(database="postgresql://nowhere")
TEST_SOURCES: Final = "".join(path.read_text("utf-8") for path in Path(__file__).parents[2].rglob("test_*.py"))


def batch(*ops: dict[str, object]) -> dict[str, object]:
    return {"ops": [{"op": "put", "id": "a", **op} for op in ops]}


def get_problem(http: httpx.Client, op: dict[str, object]) -> dict[str, object]:
    (result,) = http.post("/api/v1/items:batch", json=batch(op)).json()["results"]
    return result["problem"]


def too_many_parts(http: httpx.Client) -> dict[str, object]:
    http.put("/api/v1/items/a", json={"run_id": "r"})
    for part in "12":
        assert http.patch("/api/v1/items/a", json={"part": part}).status_code == 200
    return http.patch("/api/v1/items/a", json={"part": "3"}).json()


def too_many_items(http: httpx.Client) -> dict[str, object]:
    for name in "abc":
        http.put(f"/api/v1/items/{name}", json={})
    legacy_problem = http.post("/progress", json=make_legacy_item("d")).json()
    assert get_problem(http, {"id": "d"})["type"] == legacy_problem["type"] == "/problems/too-many-items"
    return http.put("/api/v1/items/d", json={}).json()


def too_many_keys(http: httpx.Client) -> dict[str, object]:
    for _ in range(8):
        answer = http.post("/api/v1/keys", json={"type": "read", "name": "n"})
    assert answer.json()["type"] == "/problems/too-many-keys"
    return answer.json()


def too_many_shares(http: httpx.Client) -> dict[str, object]:
    for _ in range(3):
        answer = http.post("/api/v1/shares", json={"group": "g"})
    assert answer.json()["type"] == "/problems/too-many-shares"
    return answer.json()


def too_many_ping_tokens(http: httpx.Client) -> dict[str, object]:
    for _ in range(3):
        answer = http.post("/api/v1/ping-tokens", json={"name": "n", "group": "g"})
    assert answer.json()["type"] == "/problems/too-many-ping-tokens"
    return answer.json()


def send_pings(http: httpx.Client, count: int = 1, body: bytes = b"") -> dict[str, object]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ping_tokens, "MAX_PING_TOKENS", 9)
        token = http.post("/api/v1/ping-tokens", json={"name": "n", "group": "g"}).json()["token"]
    for _ in range(count):
        answer = http.post(f"/ping/{token}/none", content=body)
    return answer.json()


def too_many_schedules(http: httpx.Client) -> dict[str, object]:
    for name in "abc":
        answer = http.put(f"/api/v1/schedules/{name}", json={"every": 60})
    assert answer.json()["type"] == "/problems/too-many-schedules"
    return answer.json()


def too_many_subscriptions(http: httpx.Client) -> dict[str, object]:
    for number in range(3):
        body = {**PUSH_FIELDS, "endpoint": "https://push.example.org/1", "events": ["end"], "item": str(number)}
        answer = http.post("/api/v1/push/subscriptions", json=body)
    assert answer.json()["type"] == "/problems/too-many-subscriptions"
    return answer.json()


def too_many_streams(http: httpx.Client) -> dict[str, object]:
    with http.stream("GET", "/api/v1/events") as first:
        chunks = first.iter_raw()
        next(chunks)
        return http.get("/api/v1/events").json()


def too_many_attempts(http: httpx.Client) -> dict[str, object]:
    for _ in range(sessions.MAX_SIGN_IN_ATTEMPTS + 1):
        answer = http.post("/login", data={"key": "wrong"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "61")
    return {"type": "/problems/rate-limited"}  # the response is a page


def too_many_bytes(http: httpx.Client) -> dict[str, object]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(endpoint, "PAGE_CHARGE_BYTES", 2**30)
        problem: dict[str, object] = http.get("/docs").json()
        return problem


LIMIT_VIOLATIONS: Final[dict[str, Callable[[httpx.Client], dict[str, object]]]] = {
    "bytes of a body": lambda http: http.put("/api/v1/items/a", content=b" " * (MAX_BODY_BYTES + 1)).json(),
    "bytes of a batch": lambda http: http.post("/api/v1/items:batch", content=b" " * (MAX_BATCH_BYTES + 1)).json(),
    "operations of a batch": lambda http: http.post("/api/v1/items:batch", json=batch(*[{}] * 501)).json(),
    "items of a key": too_many_items,
    "parts of a run": too_many_parts,
    "entries of meta": lambda http: get_problem(http, {"meta": {str(number): "" for number in range(17)}}),
    "channels that an item names": lambda http: get_problem(http, {"notify": [str(number) for number in range(9)]}),
    "characters of an id, a title, a group, a text of meta or of a search": lambda http: get_problem(
        http, {"title": "x" * 201}
    ),
    "characters of a description or an error": lambda http: get_problem(http, {"error": "x" * 2001}),
    "bytes of the output of a run": lambda http: http.post(
        "/api/v1/items:batch", json=batch({"op": "put", "id": "output", "run_id": "r", "tail": "x" * 65_537})
    ).json()["results"][0]["problem"],
    "characters of the name of a part": lambda http: get_problem(http, {"part": "x" * 65}),
    "items of a page": lambda http: http.get("/api/v1/items?limit=10001").json(),
    "runs of a page of the history": lambda http: http.get("/api/v1/history?limit=1001").json(),
    "ids whose recent runs are listed": lambda http: http.get(
        "/api/v1/history:recent", params={"id": [str(number) for number in range(51)]}
    ).json(),
    "recent runs of an id": lambda http: http.get("/api/v1/history:recent?id=a&limit=101").json(),
    "keys": too_many_keys,
    "push subscriptions of a session or key": too_many_subscriptions,
    "push subscriptions": too_many_subscriptions,
    "characters of the endpoint of a push subscription": lambda http: http.post(
        "/api/v1/push/subscriptions", json={"endpoint": f"https://push.example.org/{'x' * 1000}"}
    ).json(),
    "shares": too_many_shares,
    "ping tokens": too_many_ping_tokens,
    "pings a second of a token": lambda http: send_pings(http, 51),
    "bytes of the body of a ping": lambda http: send_pings(http, body=b" " * (2**20 + 1)),
    "schedules": too_many_schedules,
    "schedules of a page": lambda http: http.get("/api/v1/schedules?limit=1001").json(),
    "characters of a cron expression": lambda http: http.put("/api/v1/schedules/a", json={"cron": "*" * 101}).json(),
    "wrong attempts to sign in from an address in 60 s": too_many_attempts,
    "streams": too_many_streams,
    "streams with one key or link": too_many_streams,
    "streams without a key from one network": too_many_streams,
    "exports of the history": lambda http: http.get("/api/v1/history.csv").json(),
    "exports for one key or network": lambda http: http.get("/api/v1/history.json").json(),
    "MiB of responses that clients leave unread": too_many_bytes,
    "MiB of them for one key or network": too_many_bytes,
}


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with low limits."""
    from tests.support.server import RunningServer

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(transition, "MAX_PARTS", 2)
        patched.setattr(keys, "MAX_KEYS", 8)
        patched.setattr(shares, "MAX_SHARES", 2)
        patched.setattr(ping_tokens, "MAX_PING_TOKENS", 2)
        patched.setattr(schedule_table, "MAX_SCHEDULES", 2)
        patched.setattr(subscriptions, "MAX_SUBSCRIPTIONS", 2)
        patched.setattr(sessions, "MAX_SESSIONS", 3)
        patched.setattr(hub, "MAX_STREAMS", 1)
        patched.setattr(services, "MAX_EXPORTS", 0)
        served = RunningServer(tmp_path_factory.mktemp("small"), ManualClock(), max_items=3)
        yield served
        served.stop()


def test_every_limit_with_problem_is_tested() -> None:
    assert {limit.name for limit in list_limits(DEFAULT_SETTINGS) if limit.consequence in PROBLEM_CODES} == set(
        LIMIT_VIOLATIONS
    )


@pytest.mark.parametrize("name", LIMIT_VIOLATIONS)
def test_exceeded_limit_has_documented_problem(small_server: RunningServer, name: str) -> None:
    (limit,) = (limit for limit in list_limits(small_server.settings) if limit.name == name)
    problem = LIMIT_VIOLATIONS[name](small_server.client("admin"))
    assert problem["type"] == f"/problems/{limit.consequence}", problem


def test_oldest_of_too_many_sessions_is_signed_out(small_server: RunningServer) -> None:
    browsers = []
    for _ in range(4):
        small_server.clock.advance(1)
        browser = small_server.client(**{"Sec-Fetch-Site": "same-origin"})
        assert browser.post("/login", data={"key": small_server.keys["read"]}).status_code == 303
        browsers.append(browser)
    assert [browser.get("/").status_code for browser in browsers] == [303, 200, 200, 200]
    small_server.restart()
    assert len(small_server.client("admin").get("/api/v1/sessions").json()["sessions"]) == 3


def test_docs_and_key_info_list_limits(small_server: RunningServer) -> None:
    page = html.unescape(small_server.client().get("/docs").text)
    for limit in list_limits(small_server.settings):
        assert f"<td>{limit.maximum:,}</td>" in page
        assert limit.name in page
    known = small_server.client("read").get("/api/key-info").json()["limits"]
    assert known == serialize_limits(small_server.settings)
    assert known["items"] == 3
    assert {"body_bytes", "batch_bytes", "batch_ops", "items"} <= set(known)


def test_documented_head_limit_is_enforced() -> None:
    (limit,) = (limit for limit in list_limits(DEFAULT_SETTINGS) if limit.name == "bytes of the headers of a request")
    assert limit.maximum == connection.MAX_HEAD_BYTES


# Problems


@pytest.mark.parametrize("code", PROBLEM_CODES)
def test_problem_page_has_cause_and_remedy(small_server: RunningServer, code: str) -> None:
    reply = small_server.client().get(ProblemError(code, "why").document()["type"])
    assert reply.status_code == 200
    assert PROBLEM_CODES[code][1] in reply.text
    assert PROBLEM_REMEDIES[code].split(";")[0].split("'")[0] in reply.text
    routes = re.findall(r"<li><code>(.*?)</code>", reply.text)
    assert (not routes) is (code == "method-not-allowed")


def test_missing_key_is_unauthorized(small_server: RunningServer) -> None:
    reply = small_server.client().get("/progress")
    assert (reply.status_code, reply.json()["type"]) == (401, "/problems/unauthorized")


def test_unknown_problem_has_no_page(small_server: RunningServer) -> None:
    assert small_server.client().get("/problems/boredom").status_code == 404


def test_every_problem_is_tested() -> None:
    assert [
        code for code in PROBLEM_CODES if TEST_SOURCES.count(f'"{code}"') + TEST_SOURCES.count(f"problems/{code}") == 0
    ] == []


def test_retryable_problem_has_retry_after() -> None:
    for code, (status, _) in PROBLEM_CODES.items():
        assert (ProblemError(code, "why").retry_after is not None) is (status in {429, 503})


# Memory


class ServerProcess:
    """A server in its own process."""

    def __init__(self, folder: Path) -> None:
        self.key = secrets.token_urlsafe(32)
        environ = {**os.environ, "PROGRESSBAR_ADMIN_KEY": self.key, "PROGRESSBAR_MAX_ITEMS": "300"}
        command = [sys.executable, "-m", "progressbar_tracker", "serve", "--port", "0", "--no-local-key",
                   "--database", str(folder / "progress.db")]  # fmt: skip
        self.process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.match(r"Serving on (\S+)", line):
                break
        self.http = httpx.Client(base_url=found[1], headers={"X-API-KEY": self.key}, timeout=30, verify=TLS_CONTEXT)

    def resident_megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    def stop(self) -> None:
        self.http.close()
        self.process.terminate()
        self.process.communicate(timeout=60)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server process with small limits."""
    started = ServerProcess(tmp_path)
    yield started
    started.stop()


def send_large_bodies(http: httpx.Client, _: str) -> None:
    for path in ("/api/v1/items/a", "/progress", "/api/v1/items:batch"):
        method = "POST" if path.endswith("batch") else "PUT"
        assert http.request(method, path, content=(b" " * 65_536 for _ in range(40))).status_code == 413
    assert http.post("/api/v1/items:batch", content=b'{"ops":' + b"[" * 500_000).status_code == 400


def send_many_ids(http: httpx.Client, turn: str) -> None:
    """Create and delete items with new ids, groups and texts, and with timers of a thousand years."""
    for batch_number in range(4):
        ops: list[dict[str, object]] = []
        for number in range(200):
            name = f"{turn} {batch_number} {number}" + "x" * 100
            ops += [
                {"op": "put", "id": name, "group": name, "meta": {name: name}, "heartbeat_timeout": 1e9,
                 "unit": name[:20], "deadline": "2999-01-01T00:00:00Z", "ttl": 1e9,
                 "status": "failed" if number % 2 else "running"},
                {"op": "delete", "id": name},
            ]  # fmt: skip
        results = http.post("/api/v1/items:batch", json={"ops": ops}).json()["results"]
        assert {result["status"] for result in results} == {200, 201}


def exceed_limits(http: httpx.Client, turn: str) -> None:
    ops = [{"op": "put", "id": f"{turn} {number}", "description": "x" * 1500} for number in range(500)]
    results = http.post("/api/v1/items:batch", json={"ops": ops}).json()["results"]
    assert {result["status"] for result in results} <= {200, 201, 429}
    http.post("/api/v1/items:batch", json={"ops": [{"op": "delete", "id": op["id"]} for op in ops]})


def send_unknown_keys(http: httpx.Client, turn: str) -> None:
    for number in range(50):
        wrong = {"X-API-KEY": f"pbt_w_{turn}{number}"}
        assert http.get(f"/api/v1/items/{turn}{number}", headers=wrong).status_code == 401
        assert http.get(f"/{turn}/{number}").status_code == 404
        assert http.get(f"/s/{turn}{number}").status_code == 404


def open_streams(http: httpx.Client, turn: str) -> None:
    for number in range(20):
        with http.stream("GET", "/api/v1/events", params={"group": f"{turn} {number}"}) as reply:
            next(reply.iter_raw())


def sign_in_browsers(http: httpx.Client, _: str) -> None:
    for _ in range(110):
        reply = http.post("/login", data={"key": http.headers["X-API-KEY"]}, headers={"User-Agent": "x" * 5000})
        assert reply.status_code == 303
        http.cookies.clear()


ABUSE_LOADS: Final = (
    send_large_bodies,
    send_many_ids,
    exceed_limits,
    send_unknown_keys,
    open_streams,
    sign_in_browsers,
)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
def test_abuse_does_not_grow_memory(process: ServerProcess) -> None:
    def run_all_loads(turn: str) -> float:
        for abuse in ABUSE_LOADS:
            abuse(process.http, turn)
        return process.resident_megabytes()

    run_all_loads("first")
    before = run_all_loads("second")  # pools, caches and buffers are full by now
    after = run_all_loads("third")
    # A turn has 800 ids with 1 KB of text each, 500 items of 2 KB, 8 MB of bodies and some hundred requests.
    assert after - before < 10
    assert len(process.http.get("/api/v1/sessions").json()["sessions"]) == 100
