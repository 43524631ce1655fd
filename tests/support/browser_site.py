"""A server for browser tests."""

from __future__ import annotations

from urllib.parse import quote

from tests.support.connections import open_client
from tests.support.server import start_server


class BrowserServer:
    """A server in a thread, and a client with a write key. Every restart uses the first port."""

    def __init__(self, folder, **settings):
        self._settings = {"database": folder / "progress.db", **settings}
        self._port = 0
        self.start()
        self.key = self.background.create_key("write", "ci")
        self.admin = {"X-API-KEY": self.background.create_key("admin", "reader")}
        self.http = open_client(self.background.url, self.key)

    def start(self):
        self.background = start_server(port=self._port, **self._settings)
        self._port = self.background.port

    def stop(self):
        self.background.close()

    def close(self):
        self.http.close()
        self.stop()

    def put(self, item_id, **fields):
        self.http.put(f"/api/v1/items/{item_id}", json=fields).raise_for_status()

    def patch(self, item_id, **fields):
        self.http.patch(f"/api/v1/items/{item_id}", json=fields).raise_for_status()

    def delete(self, item_id):
        self.http.delete(f"/api/v1/items/{item_id}").raise_for_status()

    def set_schedule(self, item_id, **fields):
        self.http.put(f"/api/v1/schedules/{item_id}", json=fields).raise_for_status()

    def share(self, **body):
        """Return a new share of a group or an item."""
        return self.http.post("/api/v1/shares", json=body, headers=self.admin).raise_for_status().json()

    def list_items(self):
        return [item["id"] for item in self.http.get("/api/v1/items").raise_for_status().json()["items"]]

    def list_updates(self):
        """Return the id and the time of the last update of each item."""
        items = self.http.get("/api/v1/items?limit=10000").raise_for_status().json()["items"]
        return sorted([item["id"], item["updated_at"]] for item in items)

    def count_streams(self):
        """Return the number of open event streams."""
        return self.background.app.services.hub.stream_count

    def batch(self, ops):
        results = self.http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status().json()["results"]
        assert all(result["status"] < 300 for result in results), results

    def get_page(self, path):
        """Return the HTML of a page."""
        return self.http.get(path, headers=self.admin).raise_for_status().text

    def create_share(self, **scope):
        """Return the relative URL of a new share of an item or a group."""
        return self.share(**scope)["path"]

    def clear(self):
        """Delete all items, shares and schedules."""
        for schedule in self.http.get("/api/v1/schedules").raise_for_status().json()["schedules"]:
            path = f"/api/v1/schedules/{quote(schedule['id'], safe='')}"
            self.http.delete(path, headers=self.admin).raise_for_status()
        for share in self.http.get("/api/v1/shares", headers=self.admin).raise_for_status().json()["shares"]:
            self.http.delete(f"/api/v1/shares/{share['share_id']}", headers=self.admin).raise_for_status()
        while ids := self.list_items():
            ops = [{"op": "delete", "id": item_id} for item_id in ids[:500]]
            self.http.post("/api/v1/items:batch", json={"ops": ops}, headers=self.admin).raise_for_status()
