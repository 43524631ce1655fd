from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.access.key_admin import KeyAdmin
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.run import BackgroundServer, Server
from progressbar_tracker.server.settings import Settings
from tests.support.connections import TLS_CONTEXT, find_free_port
from tests.support.server import RunningServer, make_legacy_item
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class FakeConfig:
    """A user's config file, in memory."""

    def __init__(self, url: str | None = None, key: str = "") -> None:
        self.entry = None if url is None else (url, key)
        self.writes = 0

    def read(self) -> tuple[str, str] | None:
        return self.entry

    def write(self, url: str, api_key: str) -> None:
        self.entry = (url, api_key)
        self.writes += 1


def test_port_in_use_is_reported_in_one_sentence(server: RunningServer, tmp_path: Path) -> None:
    port = server.background.port
    with pytest.raises(ConfigError, match=rf"^cannot listen on 127\.0\.0\.1 port {port}: ") as error:
        Server(Settings(database=tmp_path / "another.db", port=port))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "another.db").exists()


def test_foreign_host_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot listen on host\.invalid"):
        Server(Settings(database=tmp_path / "p.db", host="host.invalid", port=0))


def test_second_server_on_a_database_fails_and_frees_its_port(server: RunningServer) -> None:
    port = find_free_port()
    with pytest.raises(ConfigError, match="a server is running"):
        Server(Settings(database=server.database, port=port))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_close_is_idempotent_and_frees_the_database(server: RunningServer) -> None:
    server.stop()
    server.background.close()
    BackgroundServer(server.settings).close()


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "localhost")])
def test_server_url_works_on_this_machine(make_server: Callable[..., RunningServer], host: str, shown: str) -> None:
    try:
        served = make_server(host=host)
    except ConfigError:
        pytest.skip("this machine has no IPv6; give it ::1")
    assert served.background.url == f"http://{shown}:{served.background.port}"
    assert served.client().get("/healthz").status_code == 200


def test_admin_key_of_the_settings_is_imported_and_replaced(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(admin_key="first-" * 5)
    assert not any("admin key" in sentence for sentence in served.output)
    assert served.client("first-" * 5).get("/api/v1/keys").status_code == 200
    served.settings = Settings(database=served.database, port=0, admin_key="second-" * 5)
    served.restart()
    assert served.client("second-" * 5).get("/api/v1/keys").status_code == 200
    assert served.client("first-" * 5).get("/api/v1/keys").status_code == 401


def test_keys_changed_in_the_file_are_loaded_by_the_server(server: RunningServer) -> None:
    with KeyAdmin(server.database, now=server.clock) as file:
        key = file.create("write", "from the file")
        http = server.client(key.secret)
        assert http.post("/progress", json=make_legacy_item("a")).status_code == 201
        file.revoke(key.record.key_id)
        server.background.app.services.credentials.refresh_keys()
        assert http.get("/progress").json()["detail"] == "the key was revoked"


def test_maintenance_loads_changed_keys(server: RunningServer) -> None:
    with KeyAdmin(server.database, now=server.clock) as file:
        key = file.create("write", "from the file")
    server.background.app.maintenance.run_once()
    assert server.background.app.services.keyring.get(key.record.key_id) is not None


def test_maintenance_expires_items_and_sessions_and_trims(server: RunningServer) -> None:
    http, browser = server.client("write"), server.browser()
    http.put("/api/v1/items/a", json={"ttl": 5, "status": "failed"})
    server.clock.advance(5)
    # Maintenance runs twice a second; pytest-timeout ends an endless loop.
    while not (ended := http.get("/api/v1/history").json()["items"]):
        pass
    assert ended[0]["status"] == "failed"
    assert http.get("/api/v1/items/a").status_code == 404
    server.clock.advance(server.settings.history.default + 10)
    while http.get("/api/v1/history").json()["items"]:
        pass
    while server.background.store.load().sessions:
        pass
    assert browser.get("/").status_code == 303


def test_maintenance_deletes_expired_shares_and_ping_tokens(server: RunningServer) -> None:
    admin, store = server.client("admin"), server.background.store
    for expires_at in (rfc3339(server.clock() + 60), None):
        for path, body in (("shares", {"group": "g"}), ("ping-tokens", {"group": "g", "name": "n"})):
            body = {**body, "expires_at": expires_at}
            assert admin.post(f"/api/v1/{path}", json=body).status_code == 201
    server.clock.advance(61)
    wait_until(lambda: (len(store.load().shares), len(store.load().ping_tokens)) == (1, 1))
    assert len(admin.get("/api/v1/shares").json()["shares"]) == 1
    assert len(admin.get("/api/v1/ping-tokens").json()["ping_tokens"]) == 1


# The local key


def test_first_start_writes_url_and_key_to_the_config_file(tmp_path: Path) -> None:
    config = FakeConfig()
    with BackgroundServer(Settings(database=tmp_path / "p.db", port=0), local_config=config) as server:
        assert config.entry is not None
        url, key = config.entry
        assert url == server.url
        info = httpx.get(f"{url}/api/key-info", headers={"X-API-KEY": key}).json()
        assert (info["type"], info["name"]) == ("write", "local")


def test_working_local_key_stays_and_the_url_is_updated(tmp_path: Path) -> None:
    config = FakeConfig()
    settings = Settings(database=tmp_path / "p.db", port=0)
    with BackgroundServer(settings, local_config=config) as server:
        assert config.entry is not None
        key, port = config.entry[1], server.port
    with BackgroundServer(Settings(database=tmp_path / "p.db", port=port), local_config=config):
        assert (config.entry, config.writes) == ((server.url, key), 1)
    with BackgroundServer(settings, local_config=config) as server:
        assert config.entry == (server.url, key)


def test_ended_local_key_is_replaced_with_the_same_id(tmp_path: Path) -> None:
    settings = Settings(database=tmp_path / "p.db", port=0)
    config = FakeConfig()
    with BackgroundServer(settings, local_config=config):
        pass
    assert config.entry is not None
    config.entry = (config.entry[0], "lost")
    with BackgroundServer(settings, local_config=config) as server:
        names = [key.name for key in server.app.services.keyring.all()]
        assert names.count("local") == 1
        assert httpx.get(f"{server.url}/progress", headers={"X-API-KEY": config.entry[1]}).status_code == 200


@pytest.mark.parametrize("url", ["https://progress.example.org", "http://192.0.2.7:8989", "http://[2001:db8::1]:80"])
def test_config_file_of_another_server_is_left_alone(tmp_path: Path, url: str) -> None:
    config, printed = FakeConfig(url, "theirs"), []
    with BackgroundServer(Settings(database=tmp_path / "p.db", port=0), print_line=printed.append, local_config=config):
        assert (config.entry, config.writes) == ((url, "theirs"), 0)
    assert any(url in sentence for sentence in printed)


def test_local_key_can_be_disabled(tmp_path: Path) -> None:
    config = FakeConfig()
    with BackgroundServer(Settings(database=tmp_path / "p.db", port=0, local_key=False), local_config=config):
        assert config.entry is None


# Separate processes

SERVER_PROGRAM = """
import sys
from pathlib import Path
from progressbar_tracker.server.run import Server
from progressbar_tracker.server.settings import Settings

server = Server(Settings(database=Path(sys.argv[1]), port=0, admin_key="k" * 30))
server.run(lambda: print(server.url, flush=True))  # once a signal ends it in good order
print("ended", flush=True)
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], httpx.Client]]]:
    """Start a server in a separate process, each time on the same database."""
    with contextlib.ExitStack() as stack:

        def start() -> tuple[subprocess.Popen[str], httpx.Client]:
            started = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SERVER_PROGRAM, str(tmp_path / "p.db")], stdout=subprocess.PIPE, text=True
                )
            )
            stack.callback(started.kill)
            assert started.stdout is not None
            url = started.stdout.readline().strip()
            headers = {"X-API-KEY": "k" * 30}
            http = httpx.Client(base_url=url, headers=headers, timeout=60, verify=TLS_CONTEXT)
            return started, stack.enter_context(http)

        yield start


def test_garbage_collection_does_not_visit_the_loaded_state(tmp_path: Path) -> None:
    program = SERVER_PROGRAM.replace("server.url", "gc.get_freeze_count() > 1000").replace(
        "import sys", "import gc, sys"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "p.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "True\n"
        finally:
            started.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_server_with_everything_written(process: Callable, number: signal.Signals) -> None:
    running, http = process()
    http.put("/api/v1/items/a", json={})
    http.patch("/api/v1/items/a", json={"title": "just now"})
    os.kill(running.pid, number)
    assert running.wait(100) == 0  # generous: the duration is measured elsewhere
    assert running.stdout.read() == "ended\n"
    _, http = process()
    assert http.get("/api/v1/items/a").json()["title"] == "just now"


def test_acknowledged_write_survives_a_kill(process: Callable) -> None:
    running, http = process()
    for n in range(30):
        http.put(f"/api/v1/items/{n}", json={"run_id": "r"}).raise_for_status()
        if n % 3 == 1:
            http.patch(f"/api/v1/items/{n}", json={"status": "succeeded"}).raise_for_status()
        if n % 3 == 2:
            http.delete(f"/api/v1/items/{n}").raise_for_status()
    running.kill()
    running.wait(60)
    _, http = process()
    statuses = {item["id"]: item["status"] for item in http.get("/progress").json()}
    assert statuses == {str(n): "running" if n % 3 == 0 else "succeeded" for n in range(30) if n % 3 != 2}
    assert len(http.get("/api/v1/history").json()["items"]) == 10


def test_import_of_the_package_loads_nothing_heavy() -> None:
    code = "import sys, json, progressbar_tracker.server; print(json.dumps([m for m in sys.modules]))"
    # Coverage measurement loads further modules.
    environ = {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")}
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], env=environ))
    assert not {"uvicorn", "starlette", "msgspec", "sqlite3", "jinja2"} & set(loaded)
