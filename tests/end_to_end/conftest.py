from __future__ import annotations

import pytest

from progressbar_tracker.server.run import BackgroundServer
from progressbar_tracker.server.settings import Settings
from tests.support.connections import open_client
from tests.support.server_process import ServerProcess, list_history, list_items


class ServerWithKeys:
    """A real server over a real socket, a key of each type, and a look at what is there."""

    def __init__(self, server):
        self.background = server
        self.url = server.url
        self.keys = {type: server.create_key(type, type) for type in ("read", "write", "admin")}
        self.keys["other"] = server.create_key("write", "other")
        self.http = open_client(server.url, self.keys["admin"])

    def items(self):
        return list_items(self.http)

    def history(self):
        return list_history(self.http)

    def final_statuses(self):
        return {run["id"]: run["status"] for run in self.history()}


@pytest.fixture
def server(tmp_path):
    settings = Settings(database=tmp_path / "progress.db", port=0, local_key=False)
    with BackgroundServer(settings) as server:
        served = ServerWithKeys(server)
        yield served
        served.http.close()


@pytest.fixture
def server_process(tmp_path):
    serving = ServerProcess(tmp_path)
    yield serving
    serving.close()
