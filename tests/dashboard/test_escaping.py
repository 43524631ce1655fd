"""Hostile text of items, keys and URLs is text on every page, and never markup."""

from __future__ import annotations

from urllib.parse import quote

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .conftest import sign_in
from .test_board import wait_for_stream

HOSTILE_TEXTS = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'-alert(1)-'", "{{7*7}}${7*7}",
    "</title></template><svg onload=alert(1)>", "javascript:alert(1)", "&lt;b&gt;&#60;b&#62;", "\u202e<b>gnp.exe",
    "__proto__", "constructor", "../../logout", "#main", "?q=x&status=failed", "%2e%2e%2f",
    "..", ".", "a\u0300" * 60, "w" * 200,
]  # fmt: skip

WATCH_SCRIPT = """() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
}"""


def write_items(site):
    ops = []
    for n, text in enumerate(HOSTILE_TEXTS):
        fields = dict.fromkeys(("title", "description", "error", "group"), text) | {"unit": text[:20]}
        fields |= {"meta": {text[:50]: text}, "completed": n + 1, "parent": HOSTILE_TEXTS[n - 1], "run_id": f"{n}"}
        ops.append({"op": "put", "id": text, "status": ("running", "failed")[n % 2], **fields})
    site.batch(ops)


def get_texts(page, part):
    return page.locator(f"#board .item .{part}").all_text_contents()


@pytest.mark.parametrize("source", ["snapshot", "change"])
def test_hostile_text_on_board_is_shown_verbatim(server, visit, source):
    if source == "snapshot":
        write_items(server)
    page = visit()
    page.set_viewport_size({"width": 1200, "height": 2400})
    wait_for_stream(page)
    page.evaluate(WATCH_SCRIPT)
    if source == "change":
        write_items(server)
    expect(page.locator("#board .item")).to_have_count(len(HOSTILE_TEXTS))
    for part in ("title", "description"):
        assert sorted(get_texts(page, part)) == sorted(HOSTILE_TEXTS), part
    links = page.locator("#board .item a.title").evaluate_all("links => links.map((link) => link.href)")
    dot_urls = {".": "?id=.", "..": "?id=.."}
    assert sorted(links) == sorted(
        f"{server.background.url}/items/{dot_urls.get(text) or quote(text, safe=chr(39) + '!*()')}"
        for text in HOSTILE_TEXTS
    )
    groups = page.locator("#board > .group").evaluate_all("nodes => nodes.map((node) => node.dataset.group)")
    assert set(groups) <= set(HOSTILE_TEXTS)
    page.locator("#board .item .reason:visible").first.click()
    assert page.locator("#board .error-entry pre").inner_text() in HOSTILE_TEXTS
    assert page.locator("#board :is(script, img, iframe, object, b)").count() == 0
    # Fold, search and dismiss by hostile names.
    page.locator("#board .fold").first.click()
    page.locator("#board .fold").first.click()
    page.get_by_label("Search").fill(HOSTILE_TEXTS[1])
    expect(page.get_by_role("button", name=f"Dismiss {HOSTILE_TEXTS[1]}", exact=True)).to_be_visible()
    page.get_by_role("button", name=f"Dismiss {HOSTILE_TEXTS[1]}", exact=True).click()
    expect(page.locator("#undo")).to_contain_text(HOSTILE_TEXTS[1])
    page.get_by_role("button", name="Undo").click()
    assert page.evaluate("window.violations") == []


def test_hostile_text_of_ended_runs_is_shown_verbatim(server, visit):
    page = wait_for_stream(visit())
    page.evaluate(WATCH_SCRIPT)
    write_items(server)
    server.clear()
    expect(page.locator("#runs .run")).to_have_count(8)
    assert set(page.locator("#runs .title").all_text_contents()) <= set(HOSTILE_TEXTS)
    assert page.evaluate("window.violations") == []


def test_board_link_of_any_id_leads_to_its_item(server, visit):
    ids = ["..", ".", "a/../b?c#d%2e"]
    server.batch([{"op": "put", "id": item_id, "title": f"Title of {item_id}", "status": "failed"} for item_id in ids])
    page = visit()
    for item_id in ids:
        wait_for_stream(page).locator("#board .item").get_by_role(
            "link", name=f"Title of {item_id}", exact=True
        ).click()
        expect(page.locator("h1")).to_have_text(f"Title of {item_id}")
        page.get_by_role("link", name="Board").click()


def test_hostile_query_is_only_a_search_text(server, visit):
    server.put("a")
    text = '"><script>alert(1)</script>'
    page = wait_for_stream(visit(f"?q={quote(text)}&status={quote(text)}&sort=__proto__"))
    page.evaluate(WATCH_SCRIPT)
    expect(page.get_by_label("Search")).to_have_value(text)
    expect(page.get_by_label("Status")).to_have_value("")
    expect(page.get_by_label("Order")).to_have_value("")
    expect(page.locator("#no-match")).to_be_visible()


# Runs before the scripts of a page.
LISTEN_SCRIPT = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => {
        window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
    });
"""

VIOLATIONS_SCRIPT = """() => [
    ...window.violations,
    ...[...document.querySelectorAll("*")].flatMap((one) =>
        one.getAttributeNames().filter((name) => name.startsWith("on")).map((name) => `${one.localName} ${name}`)),
    ...[...document.querySelectorAll("script:not([src]), iframe, object, embed, base, img, main b, main svg[onload]")]
        .map((one) => one.outerHTML),
    ...[...document.links].filter((link) => link.origin !== location.origin).map((link) => link.href),
]"""


@pytest.fixture
def hostile_server(own_server):
    """The paths of all pages, on a server whose items, groups, keys, shares and sessions have hostile names."""
    write_items(own_server)
    own_server.clear()
    write_items(own_server)  # each item is now on the board and in the history
    http, admin, texts = own_server.http, own_server.admin, HOSTILE_TEXTS[:7]

    def create(path, **body):
        return http.post(path, json=body, headers=admin).raise_for_status().json()

    tokens = [create("/api/v1/shares", item=texts[1])["token"]]
    for text in texts:
        create("/api/v1/keys", type="write", name=text[:100], group=text)
        tokens.append(create("/api/v1/shares", group=text)["token"])
        agent = text.encode()  # bytes, so that httpx does not choose a charset
        assert http.post("/login", data={"key": own_server.key}, headers={b"User-Agent": agent}).status_code == 303
        http.cookies.clear()
    pages = ["", "keys", "history", f"history?q={quote(texts[0])}&group={quote(texts[0])}", "docs", "login"]
    pages += [f"items/?id={quote(text, safe='')}" for text in (texts[0], texts[1], HOSTILE_TEXTS[4])]
    pages += [
        f"nothing/{quote(texts[0], safe='')}",
        f"history?after={quote(texts[1])}",
        f"?q={quote(texts[1])}#{texts[1]}",
    ]
    pages += [f"keys?share_item={quote(texts[1])}&item={quote(texts[1])}"]
    return pages, [f"s/{tokens[0]}", f"s/{tokens[1]}", f"badge/{tokens[0]}.svg", f"badge/{tokens[1]}.svg"]


def test_hostile_text_on_every_page_is_text(chromium, own_server, hostile_server):
    errors, shown_count = [], 0
    context = sign_in(chromium, own_server, errors)
    context.add_init_script(LISTEN_SCRIPT)
    page = context.new_page()
    for path in [*hostile_server[0], *hostile_server[1]]:
        page.goto(f"{own_server.background.url}/{path}")
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        assert page.evaluate(VIOLATIONS_SCRIPT) == [], path
        shown_count += HOSTILE_TEXTS[0] in page.evaluate("document.documentElement.textContent")
    # Only statuses of problems are reported as errors.
    assert [text for text in errors if "status of 4" not in text] == []
    assert shown_count > 6
    context.close()
