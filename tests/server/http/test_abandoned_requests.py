"""Requests of which the client has gone: what they asked for is not done, and holds up nobody."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import psycopg
import pytest

from progressbar_tracker.server.models import AddHistory, Ended, Item
from progressbar_tracker.server.pools import Cancellation
from progressbar_tracker.server.stores.base import StoreError
from progressbar_tracker.server.stores.postgres import PostgresStore
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.server import Clock, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANNELS: Final = '[channels.hook]\nurl = "https://example.invalid/hook"\n'

READS: Final[dict[str, str]] = {
    "/history?q=text": "search", "/api/v1/history?q=text": "search", "/api/v1/history.csv?q=text": "search",
    "/api/v1/history.json?q=text": "search", "/history": "past", "/api/v1/history": "past",
    "/api/v1/history.csv": "past", "/api/v1/history.json": "past", "/items/gone": "past", "/items/there": "past",
    "/": "past", "/channels": "past", "/api/v1/channels": "past", "/s/{share}": "past", "/badge/{share}.svg": "past",
}  # fmt: skip
"""Every route that reads in a thread, with the pool that it reads in."""


def run(item_id: str) -> Ended:
    item = Item(id=item_id, owner_id="k", owner="ci", run_id="r", created_at=1.0, updated_at=1.0, title="Text")
    return Ended(item, "succeeded", 2.0)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("abandoned")
    (folder / "channels.toml").write_text(CHANNELS)
    served = Served(folder, Clock(), channels=folder / "channels.toml", admin_username="root", admin_password="right")
    served.server.store.commit([AddHistory(run(str(n))) for n in range(20)]).result(10)
    served.client("write").put("/api/v1/items/there", json={"run_id": "r"}).raise_for_status()
    yield served
    served.stop()


@contextmanager
def held(served: Served) -> Iterator[None]:
    """Let all looks at the past begin, and wait."""
    store = served.server.store
    assert isinstance(store, SqliteStore)
    with store._looking_back, store._searching:
        yield


class Asking:
    """A request of a client that may go."""

    def __init__(self, served: Served, path: str, key: str) -> None:
        address = urlsplit(served.server.url)
        self.socket = socket.create_connection((address.hostname, address.port), 20)
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {served.keys[key]}\r\n\r\n"
        self.socket.sendall(head.encode())

    def go(self, how: str) -> None:
        if how == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        if how == "half-close":
            self.socket.shutdown(socket.SHUT_WR)
        else:
            self.socket.close()


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("path", READS)
def test_what_a_client_that_has_gone_asked_for_is_dropped(site: Served, path: str, how: str) -> None:
    """Those that run and those that wait: they leave the queue at once, and no statement of theirs is run."""
    token = site.client("admin").post("/api/v1/shares", json={"group": "g"}).json()["token"]
    pool = getattr(site.server.app.services.pools, READS[path])
    store = site.server.store
    assert isinstance(store, SqliteStore)
    statements: list[str] = []
    for connection in (store._past, store._searched):
        connection.set_trace_callback(statements.append)
    with held(site):
        asking = [Asking(site, path.format(share=token), "admin") for _ in range(6)]
        eventually(lambda: pool.waiting == 4)  # and two run
        assert site.client().get("/healthz").status_code == 200
        for one in asking:
            one.go(how)
        eventually(lambda: pool.waiting == 0)
        # Of another client, while the two still hold their threads.
        assert site.client("admin").get("/api/v1/items").status_code == 200
    eventually(lambda: pool._free == 2)
    for connection in (store._past, store._searched):
        connection.set_trace_callback(None)
    assert [statement for statement in statements if "history" in statement] == []
    for one in asking:
        one.socket.close()
    assert site.client("admin").get(path.format(share=token)).status_code in {200, 404}


def test_every_route_that_reads_in_a_thread_is_known_here(site: Served) -> None:
    """Each that looks at the past waits while that is held; a new one has to be added above."""
    from progressbar_tracker.server.routes import TABLE

    known = {path.partition("?")[0].replace("{share}", "{token}") for path in READS}
    known = {"/items/{id:path}" if path.startswith("/items/") else path for path in known}
    streams = {"/api/v1/events", "/s/{token}/events", "/auth/{token}"}
    pools = site.server.app.services.pools
    for row in TABLE:
        if row.method != "GET" or row.path in known | streams:
            continue
        path = row.path.replace("{id:path}", "there").replace("{token}", "none")
        path = path.replace("{name}", "none").replace("{code}", "none")
        with held(site):
            site.client("admin").get(path)
            assert (pools.past.waiting, pools.past._free) == (0, 2), row.path


def test_one_keys_searches_do_not_starve_anothers(site: Served) -> None:
    pool = site.server.app.services.pools.search
    with held(site):
        greedy = [Asking(site, "/api/v1/history?q=text", "read") for _ in range(30)]
        eventually(lambda: pool.waiting == 8)
        refused = [one for one in greedy if _answered(one)]
        assert len(refused) == 20
        assert b"HTTP/1.1 503" in refused[0].socket.recv(20_000)
        modest = Asking(site, "/api/v1/history?q=text", "write")
        eventually(lambda: pool.waiting == 9)
        assert list(pool._queues) == [site.keys["read"].split("_")[2], site.keys["write"].split("_")[2]]
    assert b"HTTP/1.1 200" in modest.socket.recv(20_000)
    for one in (*greedy, modest):
        one.socket.close()


def _answered(asking: Asking) -> bool:
    asking.socket.settimeout(0.3)
    try:
        return bool(asking.socket.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False


# The store


def test_a_search_of_a_file_is_interrupted(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "progress.db")
    store.commit([AddHistory(run(str(n))) for n in range(50)]).result(10)
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def casefold(text: str) -> str:
        seen.append(text)
        begun.set()
        assert go_on.wait(20)
        return text.casefold()

    store._searched.create_function("casefold", 1, casefold)
    cancellation, failures = Cancellation(), list[BaseException]()

    def search() -> None:
        try:
            store.history(text="ü", cancellation=cancellation)
        except StoreError as error:
            failures.append(error)
        finally:
            cancellation.finish()

    thread = threading.Thread(target=search)
    thread.start()
    assert begun.wait(20)
    interrupted = threading.Event()
    interrupt, cancellation._interrupt = cancellation._interrupt, None
    assert interrupt is not None
    cancellation._interrupt = lambda: (interrupt(), interrupted.set())
    cancellation.cancel()
    assert interrupted.wait(20)
    go_on.set()
    thread.join(20)
    assert [str(error) for error in failures] == ["interrupted"]
    assert len(seen) == 1
    assert len(store.history(text="text")) == 50  # and of the next, nothing is interrupted
    store.close()


def test_a_search_of_postgresql_is_cancelled(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    store.commit([AddHistory(run("a"))]).result(10)
    cancellation, failures = Cancellation(), list[BaseException]()

    def search() -> None:
        try:
            store.history(text="text", cancellation=cancellation)
        except StoreError as error:
            failures.append(error)
        finally:
            cancellation.finish()

    with psycopg.connect(postgres_url) as holder, psycopg.connect(postgres_url, autocommit=True) as looker:
        holder.execute("LOCK TABLE progressbar_tracker.history IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=search)
        thread.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%history%%'"
        eventually(lambda: looker.execute(waits).fetchone() == (1,))
        cancellation.cancel()
        thread.join(20)
        assert not thread.is_alive()
        holder.rollback()
    assert "cancel" in str(failures[0])
    assert len(store.history(text="text")) == 1
    store.close()


# Passwords


def sign_in(served: Served, source: str, password: str = "wrong", cookie: str = "") -> socket.socket:
    """Send an attempt from an address of this machine."""
    address = urlsplit(served.server.url)
    asking = socket.create_connection((address.hostname, address.port), 20, (source, 0))
    body = f"username=root&password={password}"
    head = f"POST /login HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nContent-Length: {len(body)}\r\n"
    asking.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}".encode())
    return asking


def status_of(asking: socket.socket) -> int:
    with asking:
        answer = asking.recv(20_000)
    status = int(answer.split()[1])
    assert status != 503 or b"\r\nretry-after: " in answer
    return status


@pytest.mark.skipif(not Path("/proc/sys/net").exists(), reason="needs the addresses 127.0.0.0/8 of Linux")
def test_a_flood_of_guesses_keeps_nobody_waiting(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a guess is looked at, others are refused soon, and those who need no password or are known are let in."""
    services = site.server.app.services
    browser = site.client()
    assert browser.post("/login", data={"username": "root", "password": "right"}).status_code == 303
    device = "; ".join(f"{name}={value}" for name, value in browser.cookies.items() if "device" in name)
    password = services.password
    assert password is not None
    looking, verify = threading.Event(), password._verify

    def slow(text: str) -> bool:
        assert text != "wrong" or looking.wait(20)
        return verify(text)

    monkeypatch.setattr(password, "_verify", slow)
    first = sign_in(site, "127.0.9.1")
    eventually(lambda: services.pools.password._free == 0)
    flood = [sign_in(site, f"127.0.{n // 250}.{n % 250 + 1}") for n in range(2, 120)]
    assert site.client().post("/login", data={"key": site.keys["admin"]}).status_code == 303
    assert site.client().get(site.server.sign_in_url()).status_code == 303
    assert {status_of(one) for one in flood} == {503}
    # One that has gone while it waited, and the others, were not looked at and do not count.
    assert not any(services.attempts.quota(f"127.0.0.{n}", site.clock()).left < 5 for n in range(3, 120))
    known = sign_in(site, "127.0.8.1", "right", device)
    eventually(lambda: services.pools.password.waiting == 1)
    looking.set()
    assert status_of(first) == 403
    assert status_of(known) == 303
    assert status_of(sign_in(site, "127.0.8.2", "right")) == 303


@pytest.mark.skipif(not Path("/proc/sys/net").exists(), reason="needs the addresses 127.0.0.0/8 of Linux")
def test_a_guess_that_is_abandoned_counts_if_it_was_looked_at(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an address could have as many looked at as it likes."""
    services, password = site.server.app.services, site.server.app.services.password
    assert password is not None
    looking = threading.Event()
    monkeypatch.setattr(password, "_verify", lambda _: not looking.wait(20))
    running = sign_in(site, "127.0.11.1")
    eventually(lambda: services.pools.password._free == 0)
    waiting = sign_in(site, "127.0.11.2")
    eventually(lambda: services.pools.password.waiting == 1)
    for one in (waiting, running):
        one.close()
    eventually(lambda: services.pools.password.waiting == 0)
    eventually(lambda: services.attempts.quota("127.0.11.2", site.clock()).left == 5)
    looking.set()
    eventually(lambda: services.pools.password._free == 1)
    assert services.attempts.quota("127.0.11.1", site.clock()).left == 4
