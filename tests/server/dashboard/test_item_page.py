"""The page of an item and of a run: a shell, and pages for unknown ones."""

from __future__ import annotations

import html
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from progressbar_tracker.server.dashboard.static_files import STATIC_DIGEST
from progressbar_tracker.server.mutations import AddHistory, Write
from progressbar_tracker.server.stores.sqlite import rows
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import sqlite3

    import httpx

    from tests.support.server import RunningServer


class ElementParser(HTMLParser):
    """Collects the names of the elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)


HOSTILE_IDS = ["a/b c", "ü/😀", "100%", "a?b#c", "//x//", "%2F", "a\\b", "a;b=c&d", "..", "."]


@pytest.fixture(scope="module")
def browser(module_server: RunningServer) -> httpx.Client:
    """A signed-in client."""
    return module_server.browser()


def item_page_url(item_id: str) -> str:
    return f"/items/?id={item_id}" if item_id in {".", ".."} else f"/items/{quote(item_id, safe='')}"


@pytest.mark.parametrize("item_id", HOSTILE_IDS)
def test_item_of_any_id_has_a_page(module_server: RunningServer, browser: httpx.Client, item_id: str) -> None:
    ops = [{"op": "put", "id": item_id, "title": f"Title of {item_id}", "run_id": "r"}]
    assert (
        module_server.client("write").post("/api/v1/items:batch", json={"ops": ops}).json()["results"][0]["status"]
        == 201
    )
    response = browser.get(item_page_url(item_id))
    assert response.status_code == 200
    assert f'data-id="{html.escape(item_id)}"' in response.text
    relative_roots = set(re.findall(r'(?:src|href|action)="((?:\.\./)*)(?!#)', response.text))
    assert relative_roots <= {"../" * (item_page_url(item_id).partition("?")[0].count("/") - 1), ""}


def test_slash_in_item_path_may_be_encoded(module_server: RunningServer, browser: httpx.Client) -> None:
    module_server.client("write").put("/api/v1/items/deep/er", json={"title": "Deep"})
    for path, up in (("/items/deep/er", "../../"), ("/items/deep%2Fer", "../")):
        page = browser.get(path).text
        assert "Deep" in page
        assert f'href="{up}static/{STATIC_DIGEST}/pages.css"' in page
    assert module_server.client().get("/items/deep/er").headers["Location"] == "../../login?next=items/deep/er"


@pytest.mark.parametrize(("item_id", "run_id"), [*zip(HOSTILE_IDS, reversed(HOSTILE_IDS), strict=True)])
def test_run_of_any_id_has_a_page(
    module_server: RunningServer, browser: httpx.Client, item_id: str, run_id: str
) -> None:
    http, url = module_server.client("write"), item_page_url(item_id)
    fields = {"id": item_id, "title": f"Title of {item_id}", "status": "failed"}
    ops = [{"op": "put", **fields, "run_id": run_id}, {"op": "put", **fields, "run_id": "next", "title": "Next"}]
    for op in ops:  # the second run sends the first one to the history
        http.post("/api/v1/items:batch", json={"ops": [op]}).raise_for_status()
    response = browser.get(f"{url}{'&' if '?' in url else '?'}run={quote(run_id, safe='')}")
    assert response.status_code == 200
    assert f"Title of {item_id}" in html.unescape(response.text)
    assert f'data-run="{html.escape(run_id)}"' in response.text
    assert f'data-id="{html.escape(item_id)}"' in response.text


def test_unknown_run_gets_a_page_that_leads_to_the_item(module_server: RunningServer, browser: httpx.Client) -> None:
    module_server.client("write").put("/api/v1/items/known", json={"run_id": "r"})
    response = browser.get("/items/known?run=<gone>")
    assert response.status_code == 404
    assert "has no run <bdi><code>&lt;gone&gt;<" in response.text
    assert 'href="../items/known"' in response.text
    assert "item.js" not in response.text
    assert browser.get("/items/unknown?run=r").status_code == 404
    assert browser.get("/items/known?run=%00").status_code == 422


def test_item_page_waits_for_a_pending_history_write(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    release, execute = threading.Event(), rows.execute_write

    def execute_slowly(connection: sqlite3.Connection, write: Write) -> None:
        if isinstance(write, AddHistory):
            assert release.wait(60)
        execute(connection, write)

    monkeypatch.setattr(rows, "execute_write", execute_slowly)
    writer, browser = server.client("write"), server.browser()
    writer.put("/api/v1/items/a", json={"title": "Just gone", "run_id": "r"})
    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(writer.delete, "/api/v1/items/a")
        wait_until(lambda: server.background.app.services.board.get("a") is None)
        threading.Timer(0.2, release.set).start()
        response = browser.get("/items/a")
        assert deleting.result().status_code == 200
    assert (response.status_code, "Just gone" in response.text) == (200, True)


def test_unknown_item_id_gets_a_page(browser: httpx.Client) -> None:
    response = browser.get("/items/nobody%20has%20%3Cthis%3E")
    assert response.status_code == 404
    assert "nobody has &lt;this&gt;" in response.text
    assert browser.get("/items/").status_code == 422


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title><svg onload=x>"]
)
def test_item_texts_on_its_page_are_escaped(module_server: RunningServer, browser: httpx.Client, text: str) -> None:
    fields = dict.fromkeys(("title", "description", "error", "group", "parent"), text) | {"unit": text[:20]}
    ops = [{"op": "put", "id": text, **fields, "completed": 1, "meta": {text: text}, "run_id": text}]
    http = module_server.client("write")
    http.post("/api/v1/items:batch", json={"ops": ops})
    http.delete(f"/api/v1/items/{quote(text, safe='')}")
    http.post("/api/v1/items:batch", json={"ops": ops})
    for page in (
        browser.get(item_page_url(text)).text,
        browser.get(f"/items/{quote(text, safe='')}?run=x{quote(text)}").text,
    ):
        parser = ElementParser()
        parser.feed(page)
        assert parser.elements.isdisjoint({"img", "style", "iframe", "object"})
        assert [name for name in parser.attributes if name.startswith("on") or name == "style"] == []
        assert re.findall(r"<script(?![^>]* src=)", page) == []
        assert html.unescape(page).count(text) >= 1
