"""Servers in threads, with keys and clients, and a disk that fails."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from progressbar_tracker.server.run import BackgroundServer
from progressbar_tracker.server.settings import Settings
from progressbar_tracker.server.stores.sqlite import writer as sqlite_writer
from tests.support.clock import ManualClock
from tests.support.connections import find_free_port, list_history, list_items, open_client
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import httpx

    from progressbar_tracker.server.mutations import TrimHistory, Write


def start_server(
    database: Path | str, *, clock: Callable[[], float] | None = None, port: int = 0, **settings: object
) -> BackgroundServer:
    """Serve ``database`` from a thread, by default on a free port. Usable as a context manager."""
    port = port or find_free_port()  # which a restart finds free again
    return BackgroundServer(Settings(database=database, port=port, local_key=False, **settings), clock=clock)


def pass_time(background: BackgroundServer, clock: ManualClock, seconds: float) -> None:
    """Let time pass in which the server is awake; one large step of its clock would be a suspended server."""
    end = clock() + seconds
    while clock() < end:
        clock.advance(min(5.0, end - clock()))
        background.app.maintenance.check_clock()


class RunningServer:
    """A server, a key of each type, and clients that :meth:`stop` closes.

    Args:
        folder: Holds the database, unless ``database`` names one.
        clock: The server's wall clock; by default the machine's.
        keys: Secrets by name, of another server on the same database; by default new ones.
        settings: See :class:`~progressbar_tracker.server.settings.Settings`.
    """

    def __init__(
        self, folder: Path, clock: ManualClock | None = None, *, database: str | None = None,
        keys: dict[str, str] | None = None, **settings: object,
    ) -> None:  # fmt: skip
        self.database = folder / "progress.db" if database is None else database
        self.clock = clock
        self.output: list[str] = []
        self.settings = Settings(database=self.database, port=0, **settings)
        self.clients: list[httpx.Client] = []
        self.keys: dict[str, str] = {}
        self.start()
        if keys is not None:
            self.keys = keys
            return
        self.keys = {type: self.background.create_key(type, type) for type in ("read", "write", "admin")}
        self.keys["other"] = self.background.create_key("write", "other")

    @property
    def url(self) -> str:
        return self.background.url

    @property
    def cookie_name(self) -> str:
        """The name of the session cookie without TLS."""
        return self.background.app.services.cookie_names[1]

    def start(self) -> None:
        """Serve on a new free port."""
        self.background = BackgroundServer(self.settings, print_line=self.output.append, clock=self.clock)

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.clients = []
        self.background.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def client(self, key: str | None = None, **headers: str) -> httpx.Client:
        """Return a client with the key of this name, with this secret, or without one."""
        secret = None if key is None else self.keys.get(key, key)
        client = open_client(self.url, secret, **headers)
        self.clients.append(client)
        return client

    def browser(self) -> httpx.Client:
        """Return a client that is signed in."""
        browser = self.client(**{"Sec-Fetch-Site": "same-origin"})
        assert browser.get(self.background.create_sign_in_url()).status_code == 303
        return browser

    def create_as_other(self, item_id: str) -> None:
        """Create an item that belongs to another write key."""
        item = make_legacy_item(item_id, 0.1, title="Task", description="")
        with open_client(self.url, self.keys["other"]) as http:
            http.post("/progress", json=item).raise_for_status()

    def pass_time(self, seconds: float) -> None:
        """Let time pass in which the server is awake."""
        assert self.clock is not None
        pass_time(self.background, self.clock, seconds)

    def items(self) -> dict[str, dict[str, object]]:
        """Return the items of the board by id."""
        with open_client(self.url, self.keys["admin"]) as http:
            return list_items(http)

    def history(self) -> list[dict[str, object]]:
        """Return the runs of the history, newest first."""
        with open_client(self.url, self.keys["admin"]) as http:
            return list_history(http)

    def final_statuses(self) -> dict[str, str]:
        return {run["id"]: run["status"] for run in self.history()}


class ServerGroup:
    """Servers on one database, with one clock and the same keys."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.clock = ManualClock(time.time())
        self._folder = folder
        self.servers: list[RunningServer] = []

    def start(self, **settings: object) -> RunningServer:
        keys = self.servers[0].keys if self.servers else None
        self.servers.append(RunningServer(self._folder, self.clock, database=self.url, keys=keys, **settings))
        return self.servers[-1]

    def stop(self) -> None:
        for served in self.servers:
            served.stop()

    def wait_for_all(self, read: Callable[[RunningServer], object], expected: object) -> None:
        """Wait until ``read`` returns the expected value for all servers."""
        wait_until(lambda: [read(served) for served in self.servers] == [expected] * len(self.servers))


class FullDisk:
    """Makes every write of every SQLite store fail while ``full``."""

    def __init__(self) -> None:
        self.full = False
        self.before_failing: Callable[[], object] = lambda: None

    def execute_writes(self, connection: sqlite3.Connection, writes: Sequence[Write]) -> list[TrimHistory]:
        if self.full:
            self.before_failing()
            raise sqlite3.OperationalError("database or disk is full")
        return _execute_writes(connection, writes)


_execute_writes = sqlite_writer.execute_writes


def make_legacy_item(item_id: str, value: float = 0.5, **fields: object) -> dict[str, object]:
    return {"id": item_id, "title": "Title", "description": "about", "value": value, "weight": 0, **fields}
