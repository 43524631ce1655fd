"""A local push service, and servers that may send to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server import maintenance
from progressbar_tracker.server.notifications import dispatcher
from tests.support.push_service import PushService
from tests.support.server import RunningServer, ServerGroup
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.clock import ManualClock
    from tests.support.postgres import Cluster
    from tests.support.push_service import Browser


@pytest.fixture
def fast_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals that most tests wait for."""
    monkeypatch.setattr(dispatcher, "POLL_INTERVAL", 0.05)
    monkeypatch.setattr(maintenance, "MAINTENANCE_INTERVAL", 0.05)


@pytest.fixture
def service() -> Iterator[PushService]:
    """A push service."""
    with PushService() as service:
        yield service


@pytest.fixture
def browser(service: PushService) -> Browser:
    """A browser that is subscribed at the push service."""
    return service.subscribe()


@pytest.fixture(params=["sqlite", "postgres"])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock, service: PushService
) -> Iterator[RunningServer]:
    """A server on each kind of store that may send to the push service."""
    database = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    served = RunningServer(tmp_path, clock, database=database, push_origins=service.origin)
    wait_until(served.background.app.services.is_leader)
    yield served
    served.stop()


@pytest.fixture
def push_server(make_server: Callable[..., RunningServer], service: PushService) -> RunningServer:
    """A server on SQLite that may send to the push service."""
    return make_server(push_origins=service.origin)


@pytest.fixture
def replicas(
    postgres_cluster: Cluster, postgres_url: str, tmp_path: Path, service: PushService
) -> Iterator[tuple[ServerGroup, RunningServer, RunningServer]]:
    """Two servers on one PostgreSQL database: the follower and the leader."""
    group = ServerGroup(tmp_path, postgres_url)
    servers = [group.start(push_origins=service.origin) for _ in range(2)]
    wait_until(lambda: any(served.background.app.services.is_leader() for served in servers))
    follower, leader = sorted(servers, key=lambda served: served.background.app.services.is_leader())
    yield group, follower, leader
    group.stop()
