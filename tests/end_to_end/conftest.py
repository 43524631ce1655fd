from __future__ import annotations

import pytest

from progressbar_tracker.server.run import BackgroundServer
from progressbar_tracker.server.settings import Settings
from tests.support.server_process import Serving, client, history, listed


class Served:
    """A real server over a real socket, a key of each type, and a look at what is there."""

    def __init__(self, server):
        self.server = server
        self.url = server.url
        self.keys = {type: server.create_key(type, type) for type in ("read", "write", "admin")}
        self.keys["other"] = server.create_key("write", "other")
        self.http = client(server.url, self.keys["admin"])

    def items(self):
        return listed(self.http)

    def history(self):
        return history(self.http)

    def ended(self):
        return {run["id"]: run["status"] for run in self.history()}


@pytest.fixture
def served(tmp_path):
    settings = Settings(database=tmp_path / "progress.db", port=0, local_key=False)
    with BackgroundServer(settings) as server:
        served = Served(server)
        yield served
        served.http.close()


@pytest.fixture
def serving(tmp_path):
    serving = Serving(tmp_path)
    yield serving
    serving.close()
