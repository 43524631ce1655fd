"""Pings as of healthchecks, over real sockets: with curl, and with a client of healthchecks."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.access.ping_tokens import PINGS_PER_SECOND
from progressbar_tracker.server.access.rate_limit import BURST_SECONDS
from tests.server.test_logs import capture_logs
from tests.support.server import ServerGroup
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from tests.support.server import RunningServer

GROUP_NAME = "nightly"


def create_token(served: RunningServer, group: str = GROUP_NAME, **fields: object) -> dict[str, str]:
    reply = served.client("admin").post("/api/v1/ping-tokens", json={"name": "cron", "group": group, **fields})
    assert reply.status_code == 201, reply.text
    document: dict[str, str] = reply.json()
    return document


def set_schedule(served: RunningServer, slug: str, group: str = GROUP_NAME) -> None:
    body = {"every": 3600, "group": group}
    assert served.client("write").put(f"/api/v1/schedules/{slug}", json=body).is_success


def get_item(served: RunningServer, slug: str) -> dict[str, object]:
    document: dict[str, object] = served.client("read").get(f"/api/v1/items/{slug}").json()
    return document


@pytest.fixture
def token(module_server: RunningServer) -> str:
    """The token of a group, in a URL."""
    return create_token(module_server)["token"]


@pytest.fixture
def http(module_server: RunningServer) -> httpx.Client:
    """A client without a key."""
    return module_server.client()


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_success_without_a_start_is_a_run(
    module_server: RunningServer, http: httpx.Client, token: str, method: str
) -> None:
    slug = f"success-{method}"
    set_schedule(module_server, slug)
    reply = http.request(method, f"/ping/{token}/{slug}")
    assert (reply.status_code, reply.text) == (200, "" if method == "HEAD" else "OK")
    item = get_item(module_server, slug)
    assert (item["status"], item["group"], item["owner"]) == ("succeeded", GROUP_NAME, "cron")


@pytest.mark.parametrize("signals", [("",), ("/start", ""), ("/start",), ("/fail",)], ids=" ".join)
def test_run_of_a_ping_counts_nothing(
    module_server: RunningServer, http: httpx.Client, token: str, signals: tuple[str, ...]
) -> None:
    """It has no percentage: 0 % beside an end would be wrong."""
    slug = f"uncounted-{'-'.join(signals).replace('/', '')}"
    set_schedule(module_server, slug)
    for signal in signals:
        http.get(f"/ping/{token}/{slug}{signal}")
    item = get_item(module_server, slug)
    assert (item["completed"], item["total"]) == (0, None)


def test_start_and_end_are_one_run(module_server: RunningServer, http: httpx.Client, token: str) -> None:
    set_schedule(module_server, "backup")
    http.get(f"/ping/{token}/backup/start")
    run_id = get_item(module_server, "backup")["run_id"]
    assert get_item(module_server, "backup")["status"] == "running"
    http.get(f"/ping/{token}/backup")
    item = get_item(module_server, "backup")
    assert (item["status"], item["run_id"]) == ("succeeded", run_id)
    http.get(f"/ping/{token}/backup/start")
    assert get_item(module_server, "backup")["run_id"] != run_id


@pytest.mark.parametrize(("signal", "status", "error"), [
    ("fail", "failed", "reported as failed"), ("3", "failed", "exit code 3"), ("0", "succeeded", None),
    ("255", "failed", "exit code 255"),
])  # fmt: skip
def test_signal_ends_the_run(
    module_server: RunningServer, http: httpx.Client, token: str, signal: str, status: str, error: str | None
) -> None:
    slug = f"signal-{signal}"
    set_schedule(module_server, slug)
    http.get(f"/ping/{token}/{slug}/start")
    assert http.get(f"/ping/{token}/{slug}/{signal}").status_code == 200
    item = get_item(module_server, slug)
    assert (item["status"], item["error"]) == (status, error)


def test_rid_names_the_run_and_a_repeated_ping_changes_nothing(
    module_server: RunningServer, http: httpx.Client, token: str
) -> None:
    set_schedule(module_server, "overlap")
    first, second = str(uuid.uuid4()), str(uuid.uuid4()).upper()
    for rid in (first, second, second):
        assert http.get(f"/ping/{token}/overlap/start?rid={rid}").status_code == 200
    assert http.get(f"/ping/{token}/overlap/fail?rid={first}").status_code == 200  # a former run
    assert get_item(module_server, "overlap")["status"] == "running"
    http.get(f"/ping/{token}/overlap?rid={second}")
    http.get(f"/ping/{token}/overlap/fail?rid={second}")
    item = get_item(module_server, "overlap")
    assert (item["run_id"], item["status"]) == (second.lower(), "succeeded")


@pytest.mark.parametrize("rid", ["", "x", "../etc", "0" * 36, "00000000-0000-0000-0000-0000000000000"])
def test_rid_that_is_no_uuid_is_400(module_server: RunningServer, http: httpx.Client, token: str, rid: str) -> None:
    set_schedule(module_server, "rid")
    assert http.get(f"/ping/{token}/rid", params={"rid": rid}).status_code == 400


def test_body_is_the_output_with_secrets_masked(module_server: RunningServer, http: httpx.Client, token: str) -> None:
    set_schedule(module_server, "output")
    http.get(f"/ping/{token}/output/start")
    http.post(f"/ping/{token}/output/log", content=b"line one\npassword=hunter2\n\xff\x00\x1b[31m")
    tail = module_server.client("admin").get("/api/v1/tails/output").json()["tail"]
    assert "line one" in tail
    assert "hunter2" not in tail
    http.post(f"/ping/{token}/output/1", content=b"x" * 200_000 + b"\nthe end")
    assert module_server.client("admin").get("/api/v1/tails/output").json()["tail"].endswith("the end")
    assert get_item(module_server, "output")["status"] == "failed"


def test_ping_keeps_title_and_channels_of_the_item(
    module_server: RunningServer, http: httpx.Client, token: str
) -> None:
    body = {"title": "The import", "group": GROUP_NAME, "notify": ["phone"], "status": "succeeded", "run_id": "r"}
    module_server.client("write").put("/api/v1/items/titled", json=body)
    assert http.get(f"/ping/{token}/titled/start").status_code == 200
    item = get_item(module_server, "titled")
    assert (item["title"], item["notify"], item["status"]) == ("The import", ["phone"], "running")


def test_token_pings_its_own_group_only(module_server: RunningServer, http: httpx.Client, token: str) -> None:
    set_schedule(module_server, "elsewhere", "other")
    module_server.client("write").put("/api/v1/items/foreign", json={"group": "other"})
    module_server.client("write").put("/api/v1/items/ungrouped", json={})
    for slug in ("elsewhere", "foreign", "ungrouped"):
        assert http.get(f"/ping/{token}/{slug}/fail").status_code == 404
    assert get_item(module_server, "foreign")["status"] == "running"


def test_unknown_token_slug_and_signal_get_the_same_404(
    module_server: RunningServer, http: httpx.Client, token: str
) -> None:
    set_schedule(module_server, "known")
    paths = [
        f"/ping/{token}/unknown", f"/ping/{token}x/known", f"/ping/{token}/known/256", f"/ping/{token}/known/stop",
        f"/ping/{token}/known/-1", f"/ping/{token}/%00", f"/ping/{token}/unknown/log", "/ping/guessed/known",
    ]  # fmt: skip
    replies = [http.get(path, headers={"X-Request-ID": "same"}) for path in paths]
    assert {(reply.status_code, reply.content) for reply in replies} == {(404, replies[0].content)}


def test_token_does_nothing_but_ping(module_server: RunningServer, token: str) -> None:
    set_schedule(module_server, "only")
    for path in ("/api/v1/items", "/api/v1/schedules", f"/s/{token}", f"/badge/{token}.svg"):
        assert module_server.client(token).get(path).status_code in {401, 404}
    assert module_server.client().get(f"/ping/{token}/only").headers["Referrer-Policy"] == "no-referrer"


def test_pings_of_a_token_are_limited(module_server: RunningServer, http: httpx.Client, token: str) -> None:
    statuses = [http.get(f"/ping/{token}/none").status_code for _ in range(PINGS_PER_SECOND * BURST_SECONDS + 1)]
    assert set(statuses[: PINGS_PER_SECOND * BURST_SECONDS - 1]) == {404}
    assert statuses[-1] == 429
    other = create_token(module_server)["token"]
    assert http.get(f"/ping/{other}/none").status_code == 404


def test_too_large_body_of_a_ping_is_413(module_server: RunningServer, http: httpx.Client, token: str) -> None:
    set_schedule(module_server, "large")
    assert http.post(f"/ping/{token}/large", content=b" " * (2**20 + 1)).status_code == 413


def test_revoked_and_expired_tokens_are_refused(server: RunningServer) -> None:
    set_schedule(server, "job")
    revoked = create_token(server)
    expired = create_token(server, expires_at="2027-01-15T08:01:00Z")
    http, admin = server.client(), server.client("admin")
    assert http.get(f"/ping/{expired['token']}/job").status_code == 200
    server.clock.advance(61)
    assert http.get(f"/ping/{expired['token']}/job").status_code == 404
    assert http.get(f"/ping/{revoked['token']}/job").status_code == 200
    assert admin.delete(f"/api/v1/ping-tokens/{revoked['token_id']}").status_code == 200
    assert http.get(f"/ping/{revoked['token']}/job").status_code == 404
    assert admin.delete(f"/api/v1/ping-tokens/{revoked['token_id']}").status_code == 404


def test_token_is_in_no_log_metric_or_database(make_server: Callable[..., RunningServer]) -> None:
    with capture_logs("json", "debug") as stream:
        served = make_server(access_log=True)
        created = create_token(served)
        token = created["token"]
        set_schedule(served, "job")
        http = served.client()
        for path in ("job", "job/fail", "none", "job/start?rid=x"):
            http.post(f"/ping/{token}/{path}", content=b"text")
        listed = served.client("admin").get("/api/v1/ping-tokens").text
        metrics = served.client("read").get("/metrics").text
        served.stop()
    assert token not in stream.getvalue() + listed + metrics
    assert "/ping/{token}/{slug}/{signal}" in metrics
    for path in served.database.parent.glob("progress.db*"):
        assert token.encode() not in path.read_bytes()
    served.start()


def test_ping_is_a_start_of_the_schedule(server: RunningServer) -> None:
    set_schedule(server, "job")
    server.client().get(f"/ping/{create_token(server)['token']}/job")
    schedule = server.client("read")
    wait_until(lambda: schedule.get("/api/v1/schedules/job").json()["started_at"] == "2027-01-15T08:00:00.000Z")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_lines_of_curl_of_healthchecks_work(module_server: RunningServer, token: str) -> None:
    set_schedule(module_server, "curl")
    url = f"{module_server.url}/ping/{token}/curl"
    line = (
        f"curl -fsS -m 10 --retry 5 -o /dev/null {url}/start && false; curl -fsS -m 10 --data-raw 'no space' {url}/$?"
    )
    subprocess.run(["/bin/sh", "-c", line], check=True, capture_output=True, timeout=60)
    item = get_item(module_server, "curl")
    assert (item["status"], item["error"]) == ("failed", "exit code 1")


def test_client_of_healthchecks_reports_its_runs(module_server: RunningServer, token: str) -> None:
    healthchecks = pytest.importorskip("healthchecks_decorator", reason="install healthchecks-decorator")
    set_schedule(module_server, "client")

    @healthchecks.healthcheck(url=f"{module_server.url}/ping/{token}/client", send_start=True, send_diagnostics=True)
    def work(*, is_broken: bool) -> dict[str, int]:
        assert get_item(module_server, "client")["status"] == "running"
        if is_broken:
            raise ZeroDivisionError
        return {"lines": 42}

    work(is_broken=False)
    assert get_item(module_server, "client")["status"] == "succeeded"
    assert module_server.client("admin").get("/api/v1/tails/client").json()["tail"] == "lines=42"
    with pytest.raises(ZeroDivisionError):
        work(is_broken=True)
    assert get_item(module_server, "client")["status"] == "failed"


@pytest.fixture
def replicas(postgres_url: str, tmp_path: Path) -> Iterator[ServerGroup]:
    group = ServerGroup(tmp_path, postgres_url)
    yield group
    group.stop()


def test_token_is_valid_on_every_server_until_revoked(replicas: ServerGroup) -> None:
    first, second = replicas.start(), replicas.start()
    set_schedule(first, "job")
    created = create_token(first)
    assert second.client().get(f"/ping/{created['token']}/job/start").status_code == 200
    assert first.client().get(f"/ping/{created['token']}/job").status_code == 200
    wait_until(lambda: get_item(second, "job")["status"] == "succeeded")
    first.client("admin").delete(f"/api/v1/ping-tokens/{created['token_id']}")
    wait_until(lambda: second.client().get(f"/ping/{created['token']}/job").status_code == 404)
