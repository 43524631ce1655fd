"""The page on which an administrator looks after keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.support.server import NOW

if TYPE_CHECKING:
    from tests.support.server import Served


def test_the_page_lists_the_keys_and_never_a_secret_or_a_hash(served: Served) -> None:
    browser = served.browser()
    served.client("read").get("/progress")
    served.server.create_key("write", "<b>ci</b>", expires_at=NOW + 60, group="nightly")
    old = served.server.create_key("read", "long ago", expires_at=NOW + 5)
    revoked = browser.post("/api/v1/keys", json={"type": "write", "name": "was taken back"}).json()["key_id"]
    browser.delete(f"/api/v1/keys/{revoked}")
    rotated = served.keys["write"].split("_")[2]
    browser.post(f"/api/v1/keys/{rotated}/rotate")
    served.clock.pass_(10)
    page = browser.get("/keys").text
    working, _, former = page.partition("Keys that work no more")
    for text in ("&lt;b&gt;ci&lt;/b&gt;", "nightly", "2027-01-15 08:01 UTC", "The secret before works until", "never"):
        assert text in working, text
    for text in ("long ago", "was taken back", "expired <time", "revoked <time"):
        assert text in former, text
    assert "long ago" not in working
    for secret in (*served.keys.values(), old):
        assert secret not in page
        assert secret[-43:] not in page
    assert not any(record.hash in page for record in served.server.app.services.ring.all())
    assert len(re.findall(r'data-do="revoke"', page)) == working.count("data-key=")


def test_the_page_is_for_admins(served: Served) -> None:
    assert served.client().get("/keys").headers["Location"] == "login"
    assert served.client("write").get("/keys").status_code == 403
    assert served.client("admin").get("/keys").status_code == 200
