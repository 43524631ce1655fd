from __future__ import annotations

import pytest

from progressbar_tracker import ProgressBar
from progressbar_tracker.server.run import BackgroundServer
from progressbar_tracker.server.settings import Settings


class Served:
    """A real server over a real socket, a key of each type, and an admin's client to look at what is there."""

    def __init__(self, server):
        self.server = server
        self.url = server.url
        self.keys = {type: server.create_key(type, type) for type in ("read", "write", "admin")}
        self.keys["other"] = server.create_key("write", "other")
        self.admin = ProgressBar(server.url, self.keys["admin"])

    def items(self):
        return {item["id"]: item for item in self.admin.get_all()}

    def history(self):
        """Return every run that has left the list, newest first, page by page."""
        client, path, runs = self.admin._transport._open(), "/api/v1/history?limit=1000", []
        while path:
            answer = client.get(self.url + path).raise_for_status()
            runs += answer.json()["items"]
            path = answer.links.get("next", {}).get("url")
        return runs

    def ended(self):
        return {run["id"]: run["status"] for run in self.history()}


@pytest.fixture
def served(tmp_path):
    settings = Settings(database=tmp_path / "progress.db", port=0, local_key=False)
    with BackgroundServer(settings) as server:
        served = Served(server)
        yield served
        served.admin.close()
