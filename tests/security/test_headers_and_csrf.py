"""What holds for every row of the table of routes: the headers of answers, and that another site can write nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import pytest

from progressbar_tracker.server.access.sessions import same_site
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.routes import TABLE
from tests.server.access.test_authorization import MATRIX, filled, prepared, state
from tests.support.server import Clock, Served, legacy

from .test_connections import Raw, answers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from progressbar_tracker.server.http.route import Row

SAFETY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CACHED: Final = {
    "/static/{name}": "no-cache",
    "/badge/{token}.svg": "no-cache",
    "/openapi.json": "max-age=300",
    "/api/v1/items": "private, no-cache",
    "/api/v1/events": "no-store, no-transform",
    "/s/{token}/events": "no-store, no-transform",
}
"""What may be kept, to be asked for again; all else may not be stored."""

PLACES: Final = [row for row in TABLE if row.method not in {"GET", "HEAD"} and row.action != "public"]
PLACES += [row for row in TABLE if row.path == "/logout"]


def named(row: Row) -> str:
    return f"{row.method} {row.path}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("surface"), Clock())
    served.keys["own"] = served.keys["write"]
    yield served
    served.stop()


@pytest.fixture(scope="module")
def http(served: Served) -> httpx.Client:
    return served.client()


def ask(served: Served, http: httpx.Client, row: Row, headers: dict[str, str]) -> httpx.Response:
    """Ask for what a row is for, and return the answer without waiting for the end of a stream."""
    expected = MATRIX[row.method, row.path]
    names = prepared(served, http, (expected.path, expected.body))
    body = None if expected.body is None else filled(expected.body, names)
    with http.stream(row.method, str(filled(expected.path, names)), json=body, headers=headers) as reply:
        if not reply.headers.get("Content-Type", "").startswith("text/event-stream"):
            reply.read()
    return reply


@pytest.mark.parametrize("asker", ["nobody", "admin"])
@pytest.mark.parametrize("row", TABLE, ids=named)
def test_every_answer_has_the_headers_of_safety(served: Served, http: httpx.Client, row: Row, asker: str) -> None:
    reply = ask(served, http, row, {} if asker == "nobody" else {"X-API-KEY": served.keys["admin"]})
    safety = SAFETY | ({"Cross-Origin-Resource-Policy": "cross-origin"} if "/badge/" in row.path else {})
    assert {name: reply.headers.get(name) for name in safety} == safety
    kept = CACHED.get(row.path, "no-store") if reply.status_code == 200 else "no-store"
    assert reply.headers.get_list("Cache-Control") == [kept]
    assert {"Server", "X-Powered-By", "Access-Control-Allow-Origin"} & set(reply.headers) == set()
    if reply.is_redirect:
        there = urlsplit(reply.headers["Location"])
        assert (there.scheme, there.netloc) == ("", "")
        assert not there.path.startswith("/")


@pytest.mark.parametrize(
    "path", ["/nothing", "/static/none", "/%ff", "/items/%0d%0aX-Injected:%201", "//evil.example/"]
)
def test_so_have_refusals(http: httpx.Client, path: str) -> None:
    reply = http.get(path)
    assert {name: reply.headers.get(name) for name in SAFETY} == SAFETY
    assert reply.headers["Cache-Control"] == "no-store"


FOREIGN: Final = (
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "null"},
    {"Origin": "null"},
    {"Origin": "http://evil.example"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "{url}"},
    {"Referer": "{url}/"},
)


@pytest.mark.parametrize("row", PLACES, ids=named)
def test_no_write_of_another_site_with_a_browsers_cookie_is_carried_out(
    served: Served, http: httpx.Client, row: Row
) -> None:
    cookie = {"Cookie": f"{served.cookie_name}={served.server.app.services.sessions.begin(served.clock())[0]}"}
    assert http.get("/api/key-info", headers=cookie).status_code == 200
    expected = MATRIX[row.method, row.path]
    names = prepared(served, http, (expected.path, expected.body))
    path, body = str(filled(expected.path, names)), None if expected.body is None else filled(expected.body, names)
    before = state(served)
    for headers in FOREIGN:
        told = {name: text.format(url=served.server.url) for name, text in headers.items()}
        assert http.request(row.method, path, json=body, headers=told | cookie).status_code == 403, headers
    assert state(served) == before


@pytest.mark.parametrize("row", PLACES, ids=named)
def test_the_same_write_of_our_own_page_is_carried_out(served: Served, http: httpx.Client, row: Row) -> None:
    cookie, _ = served.server.app.services.sessions.begin(served.clock())
    headers = {"Cookie": f"{served.cookie_name}={cookie}", "Origin": served.server.url}
    assert ask(served, http, row, headers).status_code == MATRIX[row.method, row.path].statuses["admin"]


def test_a_page_without_a_name_is_not_ours() -> None:
    assert same_site({b"origin": b"null"}) is False
    assert same_site({b"origin": b"null", b"host": b""}) is False


# What two readers of one request might take differently


@pytest.mark.parametrize("name", ["Host", "Origin", "Sec-Fetch-Site", "X-API-KEY", "Authorization", "Content-Type"])
def test_a_header_by_which_something_is_decided_comes_once(served: Served, name: str) -> None:
    raw = Raw(served)
    first, second = (value.encode() for value in (served.keys["admin"], "other"))
    told = name.encode()
    raw.send(b"GET /healthz HTTP/1.0\r\n%b: %b\r\n%b: %b\r\n\r\n" % (told, first, told, second))
    assert answers(raw.rest()) == [400]
    raw.socket.close()


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity"])
@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/progress", "application/json"),
        ("POST", "/api/v1/items:batch", "application/json"),
        ("POST", "/login", "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_that_is_compressed_is_refused_and_not_unpacked(
    http: httpx.Client, served: Served, method: str, path: str, kind: str, coding: str
) -> None:
    headers = {"Content-Encoding": coding, "Content-Type": kind, "X-API-KEY": served.keys["write"]}
    assert http.request(method, path, content=b"{}", headers=headers).status_code == 415


def test_a_body_in_another_transfer_coding_is_refused(served: Served) -> None:
    raw = Raw(served)
    raw.send(
        b"POST /progress HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-API-KEY: "
        + served.keys["write"].encode() + b"\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )  # fmt: skip
    assert answers(raw.rest()) == [400]
    raw.socket.close()


@pytest.mark.parametrize("path", ["/progress", "/api/v1/items:batch", "/api/v1/keys", "/api/v1/shares"])
@pytest.mark.parametrize(
    "text", ['{"a":', "[", '{"ops":[{"op":"put","id":"x","meta":['], ids=["objects", "lists", "ops"]
)
def test_a_body_that_is_nested_without_end_is_no_json(http: httpx.Client, served: Served, path: str, text: str) -> None:
    start, again = text[: len(text) // 2], text[len(text) // 2 :]
    content = (text + "[" * 60_000 if text.startswith('{"ops') else (start + again) * (60_000 // len(text))).encode()
    reply = http.post(path, content=content, headers={"X-API-KEY": served.keys["admin"]})
    assert (reply.status_code, reply.json()["type"]) == (400, "/problems/malformed-json")


# What comes back


HOSTILE: Final = "a\r\nX-Injected: 1\r\n\r\n<script>"


@pytest.mark.parametrize("row", [row for row in TABLE if row.method == "GET"], ids=named)
def test_nothing_that_is_asked_for_becomes_a_header(served: Served, http: httpx.Client, row: Row) -> None:
    headers = {"X-API-KEY": served.keys["admin"], "Accept": "text/html"}
    path = MATRIX[row.method, row.path].path
    for name in ("{id}", "{share}", "guessed", "app.js"):
        path = path.replace(name, quote(HOSTILE, safe=""))
    for query in ("", "?" + "&".join(f"{name}={quote(HOSTILE)}" for name in ("group", "id", "q", "n", "key"))):
        with http.stream(row.method, path + query, headers=headers) as reply:
            assert "X-Injected" not in reply.headers


def test_a_link_to_the_next_page_holds_no_more_than_was_asked_for(served: Served, http: httpx.Client) -> None:
    for name in ("a", "b"):
        http.post("/progress", json=legacy(f"linked-{name}"), headers={"X-API-KEY": served.keys["own"]})
    query = f"?limit=1&other={quote(HOSTILE)}"
    reply = http.get("/api/v1/items" + query, headers={"X-API-KEY": served.keys["read"]})
    assert reply.links["next"]["url"].startswith("items?limit=1&")
    assert "X-Injected" not in reply.headers


@pytest.mark.parametrize(
    "path", [b"/static/../keys.py", b"/static/%2e%2e/keys.py", b"/static/..%2fkeys.py", b"/static/%2fetc%2fpasswd",
             b"/static//etc/passwd", b"/static/app.js%00.html", b"/static/..\\keys.py", b"/../../etc/passwd",
             b"/static/home.html", b"/static/"],
)  # fmt: skip
def test_only_the_files_of_the_pages_are_served(served: Served, path: bytes) -> None:
    raw = Raw(served)
    raw.send(b"GET " + path + b" HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert answers(raw.rest()) == [404]
    raw.socket.close()


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "OPTIONS", "PROPFIND", "LOCK", "SEARCH"])
def test_other_methods_say_nothing_of_the_request(served: Served, http: httpx.Client, method: str) -> None:
    for path in ("/", "/progress", "/login", "/nothing"):
        reply = http.request(method, path, headers={"X-API-KEY": served.keys["admin"], "X-Mine": "told-back"})
        assert reply.status_code == (404 if path == "/nothing" else 405)
        assert "told-back" not in reply.text
        assert served.keys["admin"] not in reply.text


def test_a_host_that_nobody_has_is_text_on_the_page_and_in_no_link(served: Served) -> None:
    browser = served.client("admin", Host='evil.example"><script>alert(1)</script>')
    for path in ("/", "/login", "/keys", "/history", "/docs", "/nothing"):
        text = browser.get(path, headers={"Accept": "text/html"}).text
        assert "<script>alert" not in text
        assert 'href="http' not in text
        assert 'src="http' not in text
        assert 'action="http' not in text


def test_behind_tls_the_url_to_copy_is_one_of_tls(tmp_path: Path) -> None:
    served = Served(tmp_path, Clock(), trusted_proxies="loopback", allowed_hosts="progress.example")
    reply = served.client("admin", **{"X-Forwarded-Proto": "https", "Host": "progress.example"}).get("/")
    assert "https://progress.example" in reply.text
    assert "http://progress.example" not in reply.text
    served.stop()


@pytest.mark.parametrize("path", ["/s/{}", "/s/{}/events", "/badge/{}.svg"])
def test_a_guessed_a_revoked_and_an_expired_link_are_the_same_to_the_byte(
    served: Served, http: httpx.Client, path: str
) -> None:
    admin = {"X-API-KEY": served.keys["admin"]}

    def made(**more: str) -> dict[str, str]:
        share: dict[str, str] = http.post("/api/v1/shares", json={"group": "g", **more}, headers=admin).json()
        return share

    revoked, expired = made(), made(expires_at=rfc3339(served.clock() + 1))
    assert http.delete(f"/api/v1/shares/{revoked['share_id']}", headers=admin).status_code == 200
    served.clock.pass_(1)
    seen = set()
    for token in (revoked["token"], expired["token"], "guessed", "", "a" * 500):
        reply = http.get(path.format(token))
        headers = [(name, text) for name, text in reply.headers.raw if name.lower() not in {b"date", b"x-request-id"}]
        seen.add((reply.status_code, reply.content, tuple(headers)))
    assert len(seen) == 1
    assert seen.pop()[0] == 404
