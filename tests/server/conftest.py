from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.clock import ManualClock
from tests.support.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the servers of this test."""
    return ManualClock()


@pytest.fixture
def make_server(tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., RunningServer]]:
    """Start servers, each in its own folder."""
    servers: list[RunningServer] = []

    def start(**settings: object) -> RunningServer:
        folder = tmp_path / str(len(servers))
        servers.append(RunningServer(folder, clock, **settings))
        return servers[-1]

    yield start
    for served in servers:
        served.stop()


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of a file; each test uses its own ids."""
    served = RunningServer(tmp_path_factory.mktemp("shared"), ManualClock())
    yield served
    served.stop()


@pytest.fixture
def server(make_server: Callable[..., RunningServer]) -> RunningServer:
    """A server with default settings."""
    return make_server()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An empty SQLite store."""
    store = SqliteStore(tmp_path / "progress.db")
    yield store
    store.close()
