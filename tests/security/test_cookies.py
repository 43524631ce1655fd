"""Session cookies: another site or server cannot remove one, and an ended session stays ended."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from progressbar_tracker.server.access.sessions import LINK_CREDENTIAL, Sessions, cookie_names
from progressbar_tracker.server.models import SessionRecord
from progressbar_tracker.server.routes import ROUTES
from tests.support.access import ACCESS_MATRIX, create_resources, fill_template, get_state
from tests.support.clock import ManualClock
from tests.support.connections import TLS_CONTEXT
from tests.support.server import FullDisk, RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from progressbar_tracker.server.http.route import Route

WRITE_ROUTES: Final = [
    row
    for row in ROUTES
    # The token in the path of a ping is its only credential: cookies and the site that sends it have no effect.
    if row.method not in {"GET", "HEAD"} and not row.path.startswith("/ping/")
]
CROSS_SITE_HEADERS: Final = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "CROSS-SITE"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "same-origin, cross-site"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "{url}.evil.example"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://localhost:{port}"},
    {"Origin": "{url}", "Sec-Fetch-Site": "cross-site"},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server behind a trusted proxy for all tests of the file."""
    served = RunningServer(tmp_path_factory.mktemp("cookies"), ManualClock(), trusted_proxies="loopback")
    served.keys["own"] = served.keys["write"]
    yield served
    served.stop()


@pytest.mark.parametrize("signed_in", [True, False], ids=["with its cookie", "without"])
@pytest.mark.parametrize("row", WRITE_ROUTES, ids=lambda row: f"{row.method} {row.path}")
def test_cross_site_request_changes_neither_state_nor_cookies(
    server: RunningServer, row: Route, signed_in: bool
) -> None:
    """Without the cookie (SameSite), a response must not clear it: that would sign the browser out."""
    http = server.client()
    services = server.background.app.services
    cookie, session = services.sessions.begin(server.clock())
    own = {"Cookie": f"{server.cookie_name}={cookie}"} if signed_in else {}
    expected = ACCESS_MATRIX[row.method, row.path]
    names = create_resources(server, http, (expected.path, expected.body))
    path, body = (
        str(fill_template(expected.path, names)),
        None if expected.body is None else fill_template(expected.body, names),
    )
    form = {"key": server.keys["admin"]} if row.path == "/login" else None
    assert not signed_in or http.get("/api/v1/items", headers=own).status_code == 200  # records the use of the session
    before = get_state(server)
    for headers in CROSS_SITE_HEADERS:
        port = str(server.background.port)
        sent = {name: text.format(url=server.background.url, port=port) for name, text in headers.items()}
        reply = http.request(row.method, path, json=None if form else body, data=form, headers=sent | own)
        assert reply.status_code in ({403} if signed_in or row.action == "public" else {401}), headers
        assert "Set-Cookie" not in reply.headers, headers
        assert not http.cookies
    assert get_state(server) == before
    assert services.sessions.get(session.session_id) is not None


# Sign-out on a failing disk


def sign_out(browser: httpx.Client, _: RunningServer) -> httpx.Response:
    return browser.post("/logout")


def revoke(browser: httpx.Client, served: RunningServer) -> httpx.Response:
    (session,) = browser.get("/api/v1/sessions").json()["sessions"]
    return served.client("admin").delete(f"/api/v1/sessions/{session['session_id']}")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of the test's own, to be restarted."""
    served = RunningServer(tmp_path, ManualClock())
    yield served
    served.stop()


@pytest.mark.parametrize("end", [sign_out, revoke])
def test_session_that_ended_on_a_failing_disk_stays_ended(
    own: RunningServer, disk: FullDisk, end: Callable[[httpx.Client, RunningServer], httpx.Response]
) -> None:
    browser = own.browser()
    cookie = {"Cookie": f"{own.cookie_name}={browser.cookies[own.cookie_name]}"}
    own.client("admin").get("/api/v1/items")
    disk.full = True
    reply = end(browser, own)
    assert reply.status_code == 503
    assert "has ended" in reply.text
    assert "restarted" in reply.text
    assert end is revoke or not browser.cookies
    assert own.client(**cookie).get("/api/v1/items").status_code == 401
    disk.full = False
    assert own.background.store.flush(60)
    own.restart()
    assert own.client(**cookie).get("/api/v1/items").status_code == 401
    assert own.background.store.load().sessions == []


def test_failed_sign_in_leaves_no_session(own: RunningServer, disk: FullDisk) -> None:
    disk.full = True
    assert own.client().post("/login", data={"key": own.keys["admin"]}).status_code == 503
    disk.full = False
    assert own.background.store.flush(60)
    assert own.client("admin").get("/api/v1/sessions").json()["sessions"] == []
    assert own.background.store.load().sessions == []


def test_stale_store_does_not_restore_an_ended_session() -> None:
    """Each of several servers reloads all sessions after a change, perhaps before the end of this one is stored."""
    sessions = Sessions(100.0)
    cookie, record = sessions.begin(0.0)
    other = SessionRecord("other", 0.0, 100.0, credential=LINK_CREDENTIAL)
    sessions.drop(record)
    sessions.replace_all([record, other])
    assert sessions.find(cookie, 1.0) is None
    assert sessions.all(1.0) == [other]
    sessions.replace_all([other])  # the store has dropped it
    assert sessions._ended == {}


# Two servers on one host


BASE_PATHS: Final = ["", "/p", "/p/q", "/other"]


@pytest.mark.parametrize(("first", "second"), list(product(BASE_PATHS, BASE_PATHS)))
def test_two_servers_on_one_host_keep_separate_sessions(tmp_path: Path, first: str, second: str) -> None:
    """Cookies ignore ports: a browser sends them to both servers."""
    servers = [
        RunningServer(tmp_path / str(n), ManualClock(), keys={}, base_path=base)
        for n, base in enumerate((first, second))
    ]
    try:
        with httpx.Client(headers={"Sec-Fetch-Site": "same-origin"}, verify=TLS_CONTEXT) as browser:
            for served in servers:
                assert browser.get(served.background.create_sign_in_url()).status_code == 303
            for served in servers:
                assert browser.get(f"{served.background.url}/api/v1/items").status_code == 200
            assert browser.post(f"{servers[1].background.url}/logout").status_code == 303
            assert browser.get(f"{servers[1].background.url}/api/v1/items").status_code == 401
            assert browser.get(f"{servers[0].background.url}/api/v1/items").status_code == 200
    finally:
        for served in servers:
            served.stop()


def test_each_database_and_base_path_has_its_own_cookie_name() -> None:
    names = {cookie_names(identity, base) for identity in ("a", "b") for base in BASE_PATHS}
    assert len(names) == 8


# Over TLS


TLS_HEADERS: Final = {"X-Forwarded-Proto": "https", "Sec-Fetch-Site": "same-origin"}


def parse_cookies(reply: httpx.Response) -> dict[str, str]:
    return dict(header.split(";")[0].split("=", 1) for header in reply.headers.get_list("Set-Cookie"))


def test_cookie_over_tls_is_host_only(server: RunningServer) -> None:
    host_only, plain = server.background.app.services.cookie_names
    reply = server.client(**TLS_HEADERS).post("/login", data={"key": server.keys["admin"]})
    assert host_only.startswith("__Host-")
    assert list(parse_cookies(reply)) == [host_only]
    cookie = f"{host_only}={parse_cookies(reply)[host_only]}"
    assert server.client(**TLS_HEADERS, Cookie=cookie).get("/api/v1/items").status_code == 200
    # A cookie that another host planted under the plain name does not replace it.
    planted = f"{plain}=planted; {cookie}"
    assert server.client(**TLS_HEADERS, Cookie=planted).get("/api/v1/items").status_code == 200
    signed_out = server.client(**TLS_HEADERS, Cookie=planted).post("/logout")
    assert parse_cookies(signed_out) == {host_only: "", plain: ""}
    assert all("Max-Age=0" in header for header in signed_out.headers.get_list("Set-Cookie"))
    assert server.client(**TLS_HEADERS, Cookie=cookie).get("/api/v1/items").status_code == 401


def test_cookie_under_a_base_path_is_limited_to_it(tmp_path: Path) -> None:
    served = RunningServer(tmp_path, ManualClock(), base_path="/p", trusted_proxies="loopback")
    try:
        reply = served.client(**TLS_HEADERS).post("/login", data={"key": served.keys["admin"]})
        assert list(parse_cookies(reply)) == [served.cookie_name]
        assert "Path=/p;" in reply.headers["Set-Cookie"]
    finally:
        served.stop()


def test_sign_in_clears_the_cookie_of_the_other_name(server: RunningServer) -> None:
    host_only, plain = server.background.app.services.cookie_names
    reply = server.client(Cookie=f"{host_only}=old; {plain}=older").post("/login", data={"key": server.keys["read"]})
    cookies = parse_cookies(reply)
    assert cookies[host_only] == ""
    assert cookies[plain] not in {"", "older"}
