from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.stores.sqlite import store as sqlite_store
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.server import Clock, FullDisk, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serve(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Served]]:
    """Start servers, each in a folder of its own."""
    made: list[Served] = []

    def start(**settings: object) -> Served:
        folder = tmp_path / str(len(made))
        made.append(Served(folder, clock, **settings))
        return made[-1]

    yield start
    for served in made:
        served.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests of a file; each uses ids of its own."""
    served = Served(tmp_path_factory.mktemp("shared"), Clock())
    yield served
    served.stop()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    disk = FullDisk()
    monkeypatch.setattr(sqlite_store, "perform_all", disk.perform_all)
    return disk


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "progress.db")
    yield store
    store.close()
