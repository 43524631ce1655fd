from __future__ import annotations

import pytest

from tests.support.server import RunningServer
from tests.support.server_process import ServerProcess


@pytest.fixture
def server(tmp_path):
    """A server with an empty board and a key of each type."""
    server = RunningServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def server_process(tmp_path):
    """A server in a process of its own, which a test can kill and restart."""
    process = ServerProcess(tmp_path)
    yield process
    process.close()
