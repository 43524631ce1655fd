"""The administrator's page of keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.support.clock import START_TIME

if TYPE_CHECKING:
    from tests.support.server import RunningServer


def test_keys_page_shows_no_secret_or_hash(server: RunningServer) -> None:
    browser = server.browser()
    server.client("read").get("/progress")
    server.background.create_key("write", "<b>ci</b>", expires_at=START_TIME + 60, group="nightly")
    old = server.background.create_key("read", "long ago", expires_at=START_TIME + 5)
    revoked = browser.post("/api/v1/keys", json={"type": "write", "name": "was taken back"}).json()["key_id"]
    browser.delete(f"/api/v1/keys/{revoked}")
    rotated = server.keys["write"].split("_")[2]
    browser.post(f"/api/v1/keys/{rotated}/rotate")
    server.clock.advance(10)
    page = browser.get("/keys").text
    working, _, former = page.partition("Keys that no longer work")
    for text in (
        "&lt;b&gt;ci&lt;/b&gt;",
        "nightly",
        "2027-01-15 08:01 UTC",
        "The previous secret works until",
        "never",
    ):
        assert text in working, text
    for text in ("long ago", "was taken back", "expired <time", "revoked <time"):
        assert text in former, text
    assert "long ago" not in working
    for secret in (*server.keys.values(), old):
        assert secret not in page
        assert secret[-43:] not in page
    assert not any(record.hash in page for record in server.background.app.services.keyring.all())
    assert len(re.findall(r'data-action="revoke"', page)) == working.count("data-id=")


def test_keys_page_requires_an_admin(server: RunningServer) -> None:
    assert server.client().get("/keys").headers["Location"] == "login?next=keys"
    assert server.client("write").get("/keys").status_code == 403
    assert server.client("admin").get("/keys").status_code == 200
