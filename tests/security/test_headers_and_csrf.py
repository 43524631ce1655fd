"""Security headers of every route, cross-site requests, and request text in responses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import pytest

from progressbar_tracker.server.access.sessions import is_same_site
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.routes import ROUTES
from tests.support.access import ACCESS_MATRIX, create_resources, fill_template, get_state
from tests.support.clock import ManualClock
from tests.support.connections import RawConnection, parse_statuses
from tests.support.server import RunningServer, make_legacy_item

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from progressbar_tracker.server.http.route import Route

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CACHE_POLICIES: Final = {
    "/static/{digest}/{name}": "public, max-age=31536000, immutable",
    "/static/{name}": "no-cache",
    "/favicon.ico": "public, max-age=86400",
    "/manifest.webmanifest": "no-cache",
    "/sw.js": "no-cache",
    "/badge/{token}.svg": "no-cache",
    "/openapi.json": "max-age=300",
    "/handbook": "no-cache",
    "/handbook/search.json": "no-cache",
    "/handbook/{part}/{page}": "no-cache",
    "/api/v1/items": "private, no-cache",
    "/api/v1/events": "no-store, no-transform",
    "/s/{token}/items": "private, no-cache",
    "/s/{token}/events": "no-store, no-transform",
}
"""Routes whose successful responses may be cached; all others are ``no-store``."""

WRITE_ROUTES: Final = [row for row in ROUTES if row.method not in {"GET", "HEAD"} and row.action != "public"]
WRITE_ROUTES += [row for row in ROUTES if row.path == "/logout"]


def route_name(row: Route) -> str:
    return f"{row.method} {row.path}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of the file."""
    served = RunningServer(tmp_path_factory.mktemp("surface"), ManualClock())
    served.keys["own"] = served.keys["write"]
    yield served
    served.stop()


@pytest.fixture(scope="module")
def client(server: RunningServer) -> httpx.Client:
    """A client without a key."""
    return server.client()


def request_route(served: RunningServer, http: httpx.Client, row: Route, headers: dict[str, str]) -> httpx.Response:
    """Send the request of a route from the access matrix, and return the response; do not read a stream."""
    expected = ACCESS_MATRIX[row.method, row.path]
    names = create_resources(served, http, (expected.path, expected.body))
    body = None if expected.body is None else fill_template(expected.body, names)
    with http.stream(row.method, str(fill_template(expected.path, names)), json=body, headers=headers) as reply:
        if not reply.headers.get("Content-Type", "").startswith("text/event-stream"):
            reply.read()
    return reply


@pytest.mark.parametrize("key_name", [None, "admin"])
@pytest.mark.parametrize("row", ROUTES, ids=route_name)
def test_every_response_has_the_security_headers(
    server: RunningServer, client: httpx.Client, row: Route, key_name: str | None
) -> None:
    reply = request_route(server, client, row, {} if key_name is None else {"X-API-KEY": server.keys[key_name]})
    expected = SECURITY_HEADERS | ({"Cross-Origin-Resource-Policy": "cross-origin"} if "/badge/" in row.path else {})
    assert {name: reply.headers.get(name) for name in expected} == expected
    policy = CACHE_POLICIES.get(row.path, "no-store") if reply.status_code == 200 else "no-store"
    assert reply.headers.get_list("Cache-Control") == [policy]
    assert {"Server", "X-Powered-By", "Access-Control-Allow-Origin"} & set(reply.headers) == set()
    if reply.is_redirect:
        location = urlsplit(reply.headers["Location"])
        assert (location.scheme, location.netloc) == ("", "")
        assert not location.path.startswith("/")


COMPRESSIBLE_PATHS: Final = frozenset({
    "/progress", "/api/v1/items", "/api/v1/items/{id:path}", "/api/v1/history", "/api/v1/history.csv",
    "/api/v1/history.json", "/openapi.json", "/docs", "/problems/{code}", "/", "/items/{id:path}", "/history", "/today",
    "/api/v1/history:recent", "/api/v1/history:statistics", "/api/v1/timeline", "/api/v1/curves",
    "/api/v1/schedules", "/schedules",
    "/s/{token}", "/s/{token}/items", "/s/{token}/history", "/s/{token}/timeline",
})  # fmt: skip
"""Routes whose responses were reviewed: they contain no secret, whatever the request is."""

STATIC_PATHS: Final = (
    "/static/{digest}/{name}", "/static/{name}", "/favicon.ico", "/manifest.webmanifest", "/sw.js",
    "/handbook", "/handbook/search.json", "/handbook/images/{name}", "/handbook/{part}/{page}",
)  # fmt: skip

SECRET_PATTERN: Final = re.compile(r"pbt_[rwa]_\w{8}_[\w-]{43}|auth/[\w-]{43}")


def test_compressible_routes_are_the_reviewed_ones() -> None:
    assert {row.path for row in ROUTES if row.is_compressible} == COMPRESSIBLE_PATHS
    assert {row.method for row in ROUTES if row.is_compressible} == {"GET"}


@pytest.mark.parametrize("row", ROUTES, ids=route_name)
def test_response_with_a_secret_is_never_compressed(server: RunningServer, client: httpx.Client, row: Route) -> None:
    headers = {"X-API-KEY": server.keys["admin"], "Accept-Encoding": "gzip"}
    reply = request_route(server, client, row, headers)
    if reply.headers.get("Content-Type", "").startswith("text/event-stream"):
        assert not row.is_compressible
        assert "Content-Encoding" not in reply.headers
        return
    secrets = {*server.keys.values(), *SECRET_PATTERN.findall(reply.text)}
    if "{token}" in row.path:
        secrets.add(reply.request.url.path.split("/")[2].removesuffix(".svg"))
    if row.is_compressible:
        assert not [secret for secret in secrets if secret in reply.text]
    elif row.path not in STATIC_PATHS:
        assert "Content-Encoding" not in reply.headers


@pytest.mark.parametrize(
    "path", ["/nothing", "/static/none", "/%ff", "/items/%0d%0aX-Injected:%201", "//evil.example/"]
)
def test_refusals_have_the_security_headers(client: httpx.Client, path: str) -> None:
    reply = client.get(path)
    assert {name: reply.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert reply.headers["Cache-Control"] == "no-store"


CROSS_SITE_HEADERS: Final = (
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "null"},
    {"Origin": "null"},
    {"Origin": "http://evil.example"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "{url}"},
    {"Referer": "{url}/"},
)


@pytest.mark.parametrize("row", WRITE_ROUTES, ids=route_name)
def test_cross_site_write_with_a_cookie_is_refused(server: RunningServer, client: httpx.Client, row: Route) -> None:
    cookie = {"Cookie": f"{server.cookie_name}={server.background.app.services.sessions.begin(server.clock())[0]}"}
    assert client.get("/api/key-info", headers=cookie).status_code == 200
    expected = ACCESS_MATRIX[row.method, row.path]
    names = create_resources(server, client, (expected.path, expected.body))
    path, body = (
        str(fill_template(expected.path, names)),
        None if expected.body is None else fill_template(expected.body, names),
    )
    before = get_state(server)
    for headers in CROSS_SITE_HEADERS:
        sent = {name: text.format(url=server.background.url) for name, text in headers.items()}
        assert client.request(row.method, path, json=body, headers=sent | cookie).status_code == 403, headers
    assert get_state(server) == before


@pytest.mark.parametrize("row", WRITE_ROUTES, ids=route_name)
def test_same_origin_write_with_a_cookie_is_accepted(server: RunningServer, client: httpx.Client, row: Route) -> None:
    cookie, _ = server.background.app.services.sessions.begin(server.clock())
    headers = {"Cookie": f"{server.cookie_name}={cookie}", "Origin": server.background.url}
    is_of_key = "{subscription_id}" in row.path  # that of the admin key, which a session does not find
    expected = 404 if is_of_key else ACCESS_MATRIX[row.method, row.path].statuses["admin"]
    assert request_route(server, client, row, headers).status_code == expected


def test_opaque_origin_is_another_site() -> None:
    assert is_same_site({b"origin": b"null"}) is False
    assert is_same_site({b"origin": b"null", b"host": b""}) is False


# Requests that a proxy and the server might parse differently


@pytest.mark.parametrize("name", ["Host", "Origin", "Sec-Fetch-Site", "X-API-KEY", "Authorization", "Content-Type"])
def test_repeated_security_header_is_refused(server: RunningServer, name: str) -> None:
    raw = RawConnection(server.url)
    first, second = (value.encode() for value in (server.keys["admin"], "other"))
    header = name.encode()
    raw.send(b"GET /healthz HTTP/1.0\r\n%b: %b\r\n%b: %b\r\n\r\n" % (header, first, header, second))
    assert parse_statuses(raw.read_all()) == [400]
    raw.close()


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity"])
@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/progress", "application/json"),
        ("POST", "/api/v1/items:batch", "application/json"),
        ("POST", "/login", "application/x-www-form-urlencoded"),
    ],
)
def test_compressed_body_is_refused(
    client: httpx.Client, server: RunningServer, method: str, path: str, kind: str, coding: str
) -> None:
    headers = {"Content-Encoding": coding, "Content-Type": kind, "X-API-KEY": server.keys["write"]}
    assert client.request(method, path, content=b"{}", headers=headers).status_code == 415


def test_body_in_another_transfer_coding_is_refused(server: RunningServer) -> None:
    raw = RawConnection(server.url)
    raw.send(
        b"POST /progress HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-API-KEY: "
        + server.keys["write"].encode() + b"\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )  # fmt: skip
    assert parse_statuses(raw.read_all()) == [400]
    raw.close()


@pytest.mark.parametrize("path", ["/progress", "/api/v1/items:batch", "/api/v1/keys", "/api/v1/shares"])
@pytest.mark.parametrize(
    "text", ['{"a":', "[", '{"ops":[{"op":"put","id":"x","meta":['], ids=["objects", "lists", "ops"]
)
def test_deeply_nested_body_is_malformed_json(
    client: httpx.Client, server: RunningServer, path: str, text: str
) -> None:
    start, again = text[: len(text) // 2], text[len(text) // 2 :]
    content = (text + "[" * 60_000 if text.startswith('{"ops') else (start + again) * (60_000 // len(text))).encode()
    reply = client.post(path, content=content, headers={"X-API-KEY": server.keys["admin"]})
    assert (reply.status_code, reply.json()["type"]) == (400, "/problems/malformed-json")


# Request text in responses


HEADER_INJECTION: Final = "a\r\nX-Injected: 1\r\n\r\n<script>"


@pytest.mark.parametrize("row", [row for row in ROUTES if row.method == "GET"], ids=route_name)
def test_request_text_never_becomes_a_response_header(server: RunningServer, client: httpx.Client, row: Route) -> None:
    headers = {"X-API-KEY": server.keys["admin"], "Accept": "text/html"}
    path = ACCESS_MATRIX[row.method, row.path].path
    for name in ("{id}", "{ended}", "{share}", "guessed", "board.js"):
        path = path.replace(name, quote(HEADER_INJECTION, safe=""))
    for query in ("", "?" + "&".join(f"{name}={quote(HEADER_INJECTION)}" for name in ("group", "id", "q", "n", "key"))):
        with client.stream(row.method, path + query, headers=headers) as reply:
            assert "X-Injected" not in reply.headers


def test_link_to_the_next_page_has_known_parameters_only(server: RunningServer, client: httpx.Client) -> None:
    for name in ("a", "b"):
        client.post("/progress", json=make_legacy_item(f"linked-{name}"), headers={"X-API-KEY": server.keys["own"]})
    query = f"?limit=1&other={quote(HEADER_INJECTION)}"
    reply = client.get("/api/v1/items" + query, headers={"X-API-KEY": server.keys["read"]})
    assert reply.links["next"]["url"].startswith("items?limit=1&")
    assert "X-Injected" not in reply.headers


@pytest.mark.parametrize(
    "path", [b"/static/../keys.py", b"/static/%2e%2e/keys.py", b"/static/..%2fkeys.py", b"/static/%2fetc%2fpasswd",
             b"/static//etc/passwd", b"/static/board.js%00.html", b"/static/..\\keys.py", b"/../../etc/passwd",
             b"/static/home.html", b"/static/"],
)  # fmt: skip
def test_static_route_serves_its_own_files_only(server: RunningServer, path: bytes) -> None:
    raw = RawConnection(server.url)
    raw.send(b"GET " + path + b" HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert parse_statuses(raw.read_all()) == [404]
    raw.close()


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "OPTIONS", "PROPFIND", "LOCK", "SEARCH"])
def test_refused_method_echoes_nothing_of_the_request(server: RunningServer, client: httpx.Client, method: str) -> None:
    for path in ("/", "/progress", "/login", "/nothing"):
        reply = client.request(method, path, headers={"X-API-KEY": server.keys["admin"], "X-Mine": "echoed"})
        assert reply.status_code == (404 if path == "/nothing" else 405)
        assert "echoed" not in reply.text
        assert server.keys["admin"] not in reply.text


def test_hostile_host_is_escaped_and_in_no_link(server: RunningServer) -> None:
    browser = server.client("admin", Host='evil.example"><script>alert(1)</script>')
    for path in ("/", "/login", "/keys", "/today", "/history", "/docs", "/nothing"):
        text = browser.get(path, headers={"Accept": "text/html"}).text
        assert "<script>alert" not in text
        assert 'href="http' not in text
        assert 'src="http' not in text
        assert 'action="http' not in text


def test_page_behind_tls_shows_an_https_url(tmp_path: Path) -> None:
    served = RunningServer(tmp_path, ManualClock(), trusted_proxies="loopback", allowed_hosts="progress.example")
    reply = served.client("admin", **{"X-Forwarded-Proto": "https", "Host": "progress.example"}).get("/")
    assert "https://progress.example" in reply.text
    assert "http://progress.example" not in reply.text
    served.stop()


@pytest.mark.parametrize("path", ["/s/{}", "/s/{}/items", "/s/{}/history", "/s/{}/events", "/badge/{}.svg"])
def test_guessed_revoked_and_expired_shares_get_the_same_bytes(
    server: RunningServer, client: httpx.Client, path: str
) -> None:
    admin = {"X-API-KEY": server.keys["admin"]}

    def create_share(**more: str) -> dict[str, str]:
        share: dict[str, str] = client.post("/api/v1/shares", json={"group": "g", **more}, headers=admin).json()
        return share

    revoked, expired = create_share(), create_share(expires_at=rfc3339(server.clock() + 1))
    assert client.delete(f"/api/v1/shares/{revoked['share_id']}", headers=admin).status_code == 200
    server.clock.advance(1)
    responses = set()
    for token in (revoked["token"], expired["token"], "guessed", "", "a" * 500):
        reply = client.get(path.format(token))
        headers = [(name, text) for name, text in reply.headers.raw if name.lower() not in {b"date", b"x-request-id"}]
        responses.add((reply.status_code, reply.content, tuple(headers)))
    assert len(responses) == 1
    assert responses.pop()[0] == 404
