"""Requests whose client has disconnected: their work is dropped, and delays no other request."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from progressbar_tracker.server.models import EndedRun, Item
from progressbar_tracker.server.mutations import AddHistory
from progressbar_tracker.server.pools import Cancellation
from progressbar_tracker.server.stores.base import HistoryFilter, StoreError
from progressbar_tracker.server.stores.postgres import PostgresStore
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.clock import ManualClock
from tests.support.connections import RawConnection, encode_request, parse_statuses
from tests.support.server import RunningServer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNELS_FILE: Final = '[channels.hook]\nurl = "https://example.invalid/hook"\n'

READ_POOLS: Final[dict[str, str]] = {
    "/api/v1/history?q=text": "search",
    "/api/v1/history.csv?q=text": "search",
    "/api/v1/history.json?q=text": "search",
    "/api/v1/history": "history",
    "/api/v1/history.csv": "history",
    "/api/v1/history.json": "history",
    "/api/v1/history:recent?id=there": "history",
    "/api/v1/history:statistics?id=there": "history",
    "/api/v1/timeline": "history",
    "/api/v1/curves?id=there": "history",
    "/api/v1/tails/there?run_id=r": "history",
    "/items/gone": "history",
    "/items/there?run=gone": "history",
    "/channels": "history",
    "/api/v1/channels": "history",
    "/s/{share}/history": "history",
    "/s/{share}/timeline": "history",
    "/badge/{share}.svg": "history",
}
"""Every route that reads in a thread, with the pool that it reads in."""


def make_run(item_id: str) -> EndedRun:
    item = Item(id=item_id, owner_id="k", owner="ci", run_id="r", created_at=1.0, updated_at=1.0, title="Text")
    return EndedRun(item, "succeeded", 2.0)


@pytest.fixture(scope="module")
def channels_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with channels, a password, and a history of 20 runs."""
    folder = tmp_path_factory.mktemp("abandoned")
    (folder / "channels.toml").write_text(CHANNELS_FILE)
    server = RunningServer(
        folder, ManualClock(), channels=folder / "channels.toml", admin_username="root", admin_password="right"
    )
    server.background.store.commit([AddHistory(make_run(str(n))) for n in range(20)]).result(60)
    server.client("write").put("/api/v1/items/there", json={"run_id": "r"}).raise_for_status()
    wait_until(lambda: len(server.background.app.services.former_runs) == 1)  # no estimate reads the history later
    yield server
    server.stop()


@contextmanager
def hold_reads(server: RunningServer) -> Iterator[None]:
    """Block all reads of the history."""
    store = server.background.store
    assert isinstance(store, SqliteStore)
    with store._history_lock, store._search_lock, store._timeline_lock:
        yield


class PendingRequest(RawConnection):
    """A request of a client that may disconnect."""

    def __init__(self, server: RunningServer, path: str, key: str) -> None:
        super().__init__(server.url)
        self.send(encode_request("GET", path, key=server.keys[key]))

    def disconnect(self, how: str) -> None:
        if how == "half-close":
            self.socket.shutdown(socket.SHUT_WR)
        elif how == "reset":
            self.reset()
        else:
            self.close()


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("path", READ_POOLS)
def test_read_of_disconnected_client_is_dropped(channels_server: RunningServer, path: str, how: str) -> None:
    """Running and waiting reads leave the queue at once, and execute no statement."""
    scope = {"item": "left"} if path.startswith("/badge") else {"group": "g"}
    token = channels_server.client("admin").post("/api/v1/shares", json=scope).json()["token"]
    pool = getattr(channels_server.background.app.services.pools, READ_POOLS[path])
    store = channels_server.background.store
    assert isinstance(store, SqliteStore)
    statements: list[str] = []
    for connection in (store._history_connection, store._search_connection, store._timeline_connection):
        connection.set_trace_callback(statements.append)
    with hold_reads(channels_server):
        requests = [PendingRequest(channels_server, path.format(share=token), "admin") for _ in range(6)]
        wait_until(lambda: pool.waiting == 4)  # two are running
        assert channels_server.client().get("/healthz").status_code == 200
        for request in requests:
            request.disconnect(how)
        wait_until(lambda: pool.waiting == 0)
        # Another client, while the two still hold their threads.
        assert channels_server.client("admin").get("/api/v1/items").status_code == 200
    wait_until(lambda: pool._free_threads == 2)
    for connection in (store._history_connection, store._search_connection, store._timeline_connection):
        connection.set_trace_callback(None)
    assert [statement for statement in statements if "FROM history" in statement or "FROM runs" in statement] == []
    for request in requests:
        request.close()
    assert channels_server.client("admin").get(path.format(share=token)).status_code in {200, 404}


def test_every_route_that_reads_in_a_thread_is_listed(channels_server: RunningServer) -> None:
    """Every listed route waits while the history is blocked; add a new one above."""
    from progressbar_tracker.server.routes import ROUTES

    known = {path.partition("?")[0].replace("{share}", "{token}") for path in READ_POOLS}
    known = {re.sub("/(there|gone)$", "/{id:path}", path) for path in known}
    streams = {"/api/v1/events", "/s/{token}/events", "/auth/{token}"}
    pools = channels_server.background.app.services.pools
    for route in ROUTES:
        if route.method != "GET" or route.path in known | streams:
            continue
        path = route.path.replace("{id:path}", "there").replace("{token}", "none")
        path = path.replace("{name}", "none").replace("{code}", "none")
        with hold_reads(channels_server):
            channels_server.client("admin").get(path)
            assert (pools.history.waiting, pools.history._free_threads) == (0, 2), route.path


def test_searches_of_one_key_do_not_starve_another(channels_server: RunningServer) -> None:
    pool = channels_server.background.app.services.pools.search
    with hold_reads(channels_server):
        greedy = [PendingRequest(channels_server, "/api/v1/history?q=text", "read") for _ in range(30)]
        wait_until(lambda: pool.waiting == 8)
        refused = [request for request in greedy if _has_response(request)]
        assert len(refused) == 20
        assert b"HTTP/1.1 503" in refused[0].socket.recv(20_000)
        modest = PendingRequest(channels_server, "/api/v1/history?q=text", "write")
        wait_until(lambda: pool.waiting == 9)
        assert list(pool._queues) == [
            channels_server.keys["read"].split("_")[2],
            channels_server.keys["write"].split("_")[2],
        ]
    assert b"HTTP/1.1 200" in modest.socket.recv(20_000)
    for request in (*greedy, modest):
        request.close()


def _has_response(request: PendingRequest) -> bool:
    request.socket.settimeout(0.3)
    try:
        return bool(request.socket.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False


# The store


def test_cancelled_sqlite_search_is_interrupted(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "progress.db")
    store.commit([AddHistory(make_run(str(n))) for n in range(50)]).result(60)
    started, release, texts = threading.Event(), threading.Event(), []

    def casefold(text: str) -> str:
        texts.append(text)
        started.set()
        assert release.wait(60)
        return text.casefold()

    store._search_connection.create_function("casefold", 1, casefold)
    cancellation, failures = Cancellation(), list[BaseException]()

    def search() -> None:
        try:
            store.read_history(HistoryFilter(text="ü"), cancellation=cancellation)
        except StoreError as error:
            failures.append(error)
        finally:
            cancellation.finish()

    thread = threading.Thread(target=search)
    thread.start()
    assert started.wait(60)
    interrupted = threading.Event()
    interrupt, cancellation._interrupt = cancellation._interrupt, None
    assert interrupt is not None
    cancellation._interrupt = lambda: (interrupt(), interrupted.set())
    cancellation.cancel()
    assert interrupted.wait(60)
    release.set()
    thread.join(60)
    assert [str(error) for error in failures] == ["interrupted"]
    assert len(texts) == 1
    assert len(store.read_history(HistoryFilter(text="text"))) == 50  # the next search is not interrupted
    store.close()


def test_cancelled_postgres_search_is_interrupted(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    store.commit([AddHistory(make_run("a"))]).result(60)
    cancellation, failures = Cancellation(), list[BaseException]()

    def search() -> None:
        try:
            store.read_history(HistoryFilter(text="text"), cancellation=cancellation)
        except StoreError as error:
            failures.append(error)
        finally:
            cancellation.finish()

    with psycopg.connect(postgres_url) as holder, psycopg.connect(postgres_url, autocommit=True) as looker:
        holder.execute("LOCK TABLE progressbar_tracker.history IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=search)
        thread.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%history%%'"
        wait_until(lambda: looker.execute(waits).fetchone() == (1,))
        cancellation.cancel()
        thread.join(60)
        assert not thread.is_alive()
        holder.rollback()
    assert "cancel" in str(failures[0])
    assert len(store.read_history(HistoryFilter(text="text"))) == 1
    store.close()


# Passwords


def sign_in(server: RunningServer, source: str, password: str = "wrong", cookie: str = "") -> RawConnection:
    """Send a sign-in attempt from an address of this machine."""
    attempt = RawConnection(server.url, source=source)
    form = "Content-Type: application/x-www-form-urlencoded"
    body = f"username=root&password={password}"
    attempt.send(encode_request("POST", "/login", f"Cookie: {cookie}", form, body=body))
    return attempt


def read_status(attempt: RawConnection) -> int:
    with attempt:
        response = attempt.socket.recv(20_000)
    (status,) = parse_statuses(response)
    assert status != 503 or b"\r\nretry-after: " in response
    return status


@pytest.mark.skipif(not Path("/proc/sys/net").exists(), reason="needs the addresses 127.0.0.0/8 of Linux")
def test_password_flood_does_not_delay_other_sign_ins(
    channels_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During a verification, other passwords are refused soon; keys, links and known browsers sign in."""
    services = channels_server.background.app.services
    browser = channels_server.client()
    assert browser.post("/login", data={"username": "root", "password": "right"}).status_code == 303
    device = "; ".join(f"{name}={value}" for name, value in browser.cookies.items() if "device" in name)
    password = services.password
    assert password is not None
    release, verify = threading.Event(), password._verify

    def verify_slowly(text: str) -> bool:
        assert text != "wrong" or release.wait(100)
        return verify(text)

    monkeypatch.setattr(password, "_verify", verify_slowly)
    monkeypatch.setattr("progressbar_tracker.server.pools.PRIORITY_WAIT_FACTOR", 80)  # for busy machines
    first = sign_in(channels_server, "127.0.9.1")
    wait_until(lambda: services.pools.password._free_threads == 0)
    flood = [sign_in(channels_server, f"127.0.{n // 250}.{n % 250 + 1}") for n in range(2, 120)]
    assert channels_server.client().post("/login", data={"key": channels_server.keys["admin"]}).status_code == 303
    assert channels_server.client().get(channels_server.background.create_sign_in_url()).status_code == 303
    assert {read_status(attempt) for attempt in flood} == {503}
    # Attempts that were not verified do not count.
    assert not any(
        services.sign_in_attempts.quota(f"127.0.0.{n}", channels_server.clock()).remaining < 5 for n in range(3, 120)
    )
    known = sign_in(channels_server, "127.0.8.1", "right", device)
    wait_until(lambda: services.pools.password.waiting == 1)
    release.set()
    assert read_status(first) == 403
    assert read_status(known) == 303
    assert read_status(sign_in(channels_server, "127.0.8.2", "right")) == 303


@pytest.mark.skipif(not Path("/proc/sys/net").exists(), reason="needs the addresses 127.0.0.0/8 of Linux")
def test_abandoned_attempt_counts_if_verification_began(
    channels_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an address could have any number of passwords verified."""
    services, password = channels_server.background.app.services, channels_server.background.app.services.password
    assert password is not None
    release = threading.Event()
    monkeypatch.setattr(password, "_verify", lambda _: not release.wait(100))
    running = sign_in(channels_server, "127.0.11.1")
    wait_until(lambda: services.pools.password._free_threads == 0)
    waiting = sign_in(channels_server, "127.0.11.2")
    wait_until(lambda: services.pools.password.waiting == 1)
    for attempt in (waiting, running):
        attempt.close()
    wait_until(lambda: services.pools.password.waiting == 0)
    wait_until(lambda: services.sign_in_attempts.quota("127.0.11.2", channels_server.clock()).remaining == 5)
    release.set()
    wait_until(lambda: services.pools.password._free_threads == 1)
    assert services.sign_in_attempts.quota("127.0.11.1", channels_server.clock()).remaining == 4
