from __future__ import annotations

import pytest

from progressbar_tracker import ProgressBar
from tests.faults import KEY, FaultServer


@pytest.fixture
def faults():
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture
def old_server():
    server = FaultServer(legacy=True)
    yield server
    server.close()


@pytest.fixture
def pb(faults):
    client = ProgressBar(faults.url, KEY, auto_detect=False)
    yield client
    client.sender.close(2.0)
    client.close()
