"""Whatever anybody writes about an item is text on the board, and nothing else."""

from __future__ import annotations

import re
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
    return page.locator(f'#board .item [data-part="{part}"]').all_text_contents()


@pytest.mark.parametrize("when", ["at the first paint", "by the stream"])
def test_hostile_text_on_board_is_shown_verbatim(server, visit, when):
    if when == "at the first paint":
        write_items(server)
    page = wait_for_stream(visit())
    page.evaluate(WATCH_SCRIPT)
    if when == "by the stream":
        write_items(server)
    expect(page.locator("#board .item")).to_have_count(len(HOSTILE_TEXTS))
    for part in ("title", "description"):
        assert sorted(get_texts(page, part)) == sorted(HOSTILE_TEXTS), part
    assert sorted(filter(None, get_texts(page, "error"))) == sorted(HOSTILE_TEXTS)
    links = page.locator("#board .item [data-part=link]").evaluate_all("links => links.map((link) => link.href)")
    dots = {".": "?id=.", "..": "?id=.."}
    assert sorted(links) == sorted(
        f"{server.background.url}/items/{dots.get(text) or quote(text, safe=chr(39) + '!*()')}"
        for text in HOSTILE_TEXTS
    )
    groups = page.locator("#board > details").evaluate_all("nodes => nodes.map((node) => node.dataset.group)")
    assert set(groups) <= set(HOSTILE_TEXTS)
    assert page.locator("#board :is(script, img, iframe, object, b)").count() == 0
    # Folded, searched for, and dismissed by its name.
    page.locator("#board > details > summary").first.click()
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
    assert set(page.locator("#runs [data-part=title]").all_text_contents()) <= set(HOSTILE_TEXTS)
    assert page.evaluate("window.violations") == []


def test_board_link_of_any_id_leads_to_its_item(server, visit):
    ids = ["..", ".", "a/../b?c#d%2e"]
    server.batch([{"op": "put", "id": one, "title": f"Title of {one}", "status": "failed"} for one in ids])
    assert set(re.findall(r'href="(items/\?id=[^"]*)"', server.get_page("/"))) == {"items/?id=..", "items/?id=."}
    page = visit()
    for one in ids:
        wait_for_stream(page).locator("#board").get_by_role("link", name=f"Title of {one}", exact=True).click()
        expect(page.locator("h1")).to_have_text(f"Title of {one}")
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


# Runs before anything of a page does.
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
    """A server on which everything that can be named is named by hostile text; and the ways of its pages."""
    write_items(own_server)
    own_server.clear()
    write_items(own_server)  # now each is on the board and in the history
    http, admin, said = own_server.http, own_server._admin, HOSTILE_TEXTS[:7]

    def made(path, **body):
        return http.post(path, json=body, headers=admin).raise_for_status().json()

    tokens = [made("/api/v1/shares", item=said[1])["token"]]
    for text in said:
        made("/api/v1/keys", type="write", name=text[:100], group=text)
        tokens.append(made("/api/v1/shares", group=text)["token"])
        agent = text.encode()  # bytes, or httpx would look for a charset
        assert http.post("/login", data={"key": own_server.key}, headers={b"User-Agent": agent}).status_code == 303
        http.cookies.clear()
    pages = ["", "keys", "history", f"history?q={quote(said[0])}&group={quote(said[0])}", "docs", "login"]
    pages += [f"items/?id={quote(text, safe='')}" for text in (said[0], said[1], HOSTILE_TEXTS[4])]
    pages += [f"nothing/{quote(said[0], safe='')}", f"history?after={quote(said[1])}", f"?q={quote(said[1])}#{said[1]}"]
    pages += [f"keys?share_item={quote(said[1])}&item={quote(said[1])}"]
    return pages, [f"s/{tokens[0]}", f"s/{tokens[1]}", f"badge/{tokens[0]}.svg", f"badge/{tokens[1]}.svg"]


def test_hostile_text_on_every_page_is_text(chromium, own_server, hostile_server):
    complaints, told = [], 0
    context = sign_in(chromium, own_server, complaints)
    context.add_init_script(LISTEN_SCRIPT)
    page = context.new_page()
    for path in [*hostile_server[0], *hostile_server[1]]:
        page.goto(f"{own_server.background.url}/{path}")
        assert page.evaluate(VIOLATIONS_SCRIPT) == [], path
        told += HOSTILE_TEXTS[0] in page.evaluate("document.documentElement.textContent")
    # What an answer that is no page, or none of ours, is complained of for is its status alone.
    assert [text for text in complaints if "status of 4" not in text] == []
    assert told > 6
    context.close()
