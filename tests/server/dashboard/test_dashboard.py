from __future__ import annotations

import html
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from progressbar_tracker.server import dashboard
from progressbar_tracker.server.dashboard.static_files import STATIC_DIGEST, STATIC_FILES, find_imports
from tests.support.sse import SseStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server import RunningServer

DASHBOARD_FOLDER = Path(dashboard.__file__).parent


def test_board_without_session_redirects_to_login(server: RunningServer) -> None:
    response = server.client().get("/")
    assert (response.status_code, response.headers["Location"]) == (303, "login")
    assert server.browser().get("/").status_code == 200


def test_empty_board_shows_a_snippet_with_its_url(server: RunningServer) -> None:
    assert html.escape(f'configure("{server.background.url}"', quote=False) in html.unescape(
        server.browser().get("/").text
    )


def test_pages_have_no_inline_code_and_only_relative_urls(server: RunningServer) -> None:
    for page in (server.browser().get("/").text, server.client().get("/login").text):
        assert re.findall(r"<script(?![^>]* src=)", page) == []
        assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page) == []
        assert re.findall(r'(?:src|href|action)="(?:/|https?:)', page) == []


@pytest.mark.parametrize(
    ("path", "is_wall"),
    [
        ("/?tv", True),
        ("/today?tv=30", True),
        ("/?a=b&tv&c", True),
        ("/", False),
        ("/today?atv=1", False),
        ("/?q=tv", False),
        ("/docs?tv", False),
        ("/?100%", False),
    ],
)
def test_query_decides_whether_a_page_fills_a_wall(module_server: RunningServer, path: str, is_wall: bool) -> None:
    page = module_server.browser().get(path)
    assert page.status_code == 200
    assert ('<html lang="en" class="tv">' in page.text) is is_wall


def test_scripts_write_text_and_never_markup() -> None:
    script = "".join(path.read_text("utf-8") for path in (DASHBOARD_FOLDER / "static").glob("*.js"))
    for trap in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        ".cssText",
        'setAttribute("style',
    ):
        assert trap not in script, trap
    assert "textContent" in script
    assert re.findall(r"""["'`]/(?:api|static)""", script) == []


def list_referenced_files() -> set[str]:
    pages = "".join(path.read_text("utf-8") for path in (DASHBOARD_FOLDER / "templates").glob("*.html"))
    scripts = "".join(path.read_text("utf-8") for path in (DASHBOARD_FOLDER / "static").glob("*.js"))
    named = set(re.findall(r"\{\{ static \}\}([\w.-]+)", pages))
    named |= {name for names in re.findall(r"module_scripts\((.*?)\)", pages) for name in re.findall(r'"(.+?)"', names)}
    named |= set(re.findall(r"""(?:from |new URL\()"(?:\./)?([\w-]+\.js)\"""", scripts))
    named |= set(re.findall(r"static/([\w.-]+)", STATIC_FILES["manifest.webmanifest"].body.decode()))
    return named | {"favicon.ico", "manifest.webmanifest", "service_worker.js"}


def test_every_referenced_static_file_is_served(module_server: RunningServer) -> None:
    http = module_server.client()
    assert list_referenced_files() <= STATIC_FILES.keys()
    for name in STATIC_FILES:
        response = http.get(f"/static/{name}")
        assert (response.status_code, response.content) == (200, STATIC_FILES[name].body)
        assert http.get(f"/static/{name}", headers={"If-None-Match": response.headers["ETag"]}).status_code == 304
    assert http.get("/static/home.html").status_code == 404
    assert http.get("/static/..%2fboard_view.py").status_code == 404


def test_immutable_url_of_another_version_is_not_kept(module_server: RunningServer) -> None:
    http = module_server.client()
    current, other = http.get(f"/static/{STATIC_DIGEST}/app.css"), http.get("/static/0123456789ab/app.css")
    assert current.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert other.headers["Cache-Control"] == "no-cache"
    assert current.content == other.content == STATIC_FILES["app.css"].body


def test_static_file_is_compressed_if_accepted(module_server: RunningServer) -> None:
    http = module_server.client()
    compressed = http.get("/static/app.css", headers={"Accept-Encoding": "br, gzip"})
    plain = http.get("/static/app.css", headers={"Accept-Encoding": "gzip;q=0, *"})
    assert compressed.content == plain.content
    assert (compressed.headers["Content-Encoding"], "Content-Encoding" in plain.headers) == ("gzip", False)
    assert int(compressed.headers["Content-Length"]) < len(plain.content) / 2
    assert compressed.headers["Vary"] == plain.headers["Vary"] == "accept-encoding"
    assert compressed.headers["ETag"] != plain.headers["ETag"]
    again = http.get("/static/app.css", headers={"If-None-Match": f'"x", {compressed.headers["ETag"]}'})
    assert (again.status_code, again.content, "Content-Encoding" in again.headers) == (304, b"", False)
    head = http.head("/static/app.css", headers={"Accept-Encoding": "gzip"})
    assert head.headers["Content-Length"] == compressed.headers["Content-Length"]


def test_page_loads_all_imported_modules_at_once(module_server: RunningServer) -> None:
    page = module_server.browser().get("/keys").text
    preloaded = re.findall(r'rel="modulepreload" href="static/\w{12}/([\w.]+)"', page)
    assert set(preloaded) == {*find_imports("local_time.js"), *find_imports("keys.js")}
    assert f'<script type="module" src="static/{STATIC_DIGEST}/keys.js"></script>' in page
    for name in preloaded:
        imported = re.findall(r'from "\./([\w.]+)"', STATIC_FILES[name].body.decode())
        assert set(imported) <= set(preloaded)


# Signing in and out


def test_sign_in_link_works_once_and_for_get_only(server: RunningServer) -> None:
    link = server.background.create_sign_in_url()
    http = server.client()
    assert http.head(link).status_code == 200
    response = http.get(link)
    cookie = response.headers["Set-Cookie"]
    assert (response.status_code, response.headers["Location"]) == (303, "../")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie
    assert http.get("/").status_code == 200
    again = server.client().get(link)
    assert again.status_code == 403
    assert "Set-Cookie" not in again.headers
    assert f'href="../static/{STATIC_DIGEST}/app.css"' in again.text


def test_sign_in_link_expires(server: RunningServer) -> None:
    link = server.background.create_sign_in_url()
    server.clock.advance(server.settings.sign_in_seconds)
    assert server.client().get(link).status_code == 403


def test_first_start_prints_admin_key_and_each_start_a_link(server: RunningServer) -> None:
    key, link = (sentence.rsplit(" ", 1)[1] for sentence in server.output)
    assert server.client(key).get("/api/key-info").json()["type"] == "admin"
    assert server.client().get(link).status_code == 303
    server.restart()
    (sentence,) = server.output[2:]
    assert server.client().get(sentence.rsplit(" ", 1)[1]).status_code == 303


def test_session_survives_restart_and_expires(server: RunningServer) -> None:
    browser = server.browser()
    cookies = dict(browser.cookies)
    server.restart()
    browser = server.client()
    browser.cookies.update(cookies)
    assert browser.get("/").status_code == 200
    server.clock.advance(server.settings.session_seconds)
    assert browser.get("/").status_code == 303


def test_sign_out_ends_the_session_permanently(server: RunningServer) -> None:
    browser = server.browser()
    cookies = dict(browser.cookies)
    assert browser.post("/logout").status_code == 303
    thief = server.client()
    thief.cookies.update(cookies)
    assert thief.get("/").status_code == 303
    assert thief.get("/api/v1/items").status_code == 401
    server.restart()
    thief = server.client()
    thief.cookies.update(cookies)
    assert thief.get("/").status_code == 303


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "{url}.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "{url}"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": "{url}"}, 201),
    ],
)
def test_cookie_write_from_another_site_is_refused(
    module_server: RunningServer, headers: dict[str, str], status: int
) -> None:
    browser = module_server.client()
    browser.get(module_server.background.create_sign_in_url())
    headers = {name: value.format(url=module_server.background.url) for name, value in headers.items()}
    assert browser.put(f"/api/v1/items/{uuid4()}", json={}, headers=headers).status_code == status
    assert browser.get("/progress", headers=headers).status_code == 200
    assert browser.post("/logout", headers=headers).status_code == (303 if status == 201 else 403)


def test_sign_in_link_gives_admin_permissions(server: RunningServer) -> None:
    browser = server.browser()
    server.client("write").put("/api/v1/items/a", json={})
    assert browser.delete("/api/v1/items/a").status_code == 200
    assert browser.put("/api/v1/items/b", json={}).json()["owner"] == "operator"
    assert browser.get("/api/v1/keys").status_code == 200
    assert browser.get("/api/key-info").json()["type"] == "admin"


@pytest.mark.parametrize(("name", "own", "others", "keys"), [("read", 403, 403, 403), ("write", 200, 403, 403),
                                                            ("admin", 200, 200, 200)])  # fmt: skip
def test_key_session_has_the_permissions_of_its_key(
    module_server: RunningServer, name: str, own: int, others: int, keys: int
) -> None:
    for writer in ("admin" if name == "read" else name, "other"):
        module_server.client(writer).put(f"/api/v1/items/{name}-{writer}", json={"status": "succeeded"})
    http = module_server.client(**{"Sec-Fetch-Site": "same-origin"})
    assert http.post("/login", data={"key": f" {module_server.keys[name]} "}).status_code == 303
    page = http.get("/").text
    scope = {"read": "none", "write": "own", "admin": "all"}[name]
    for attribute in (f'data-dismissible="{scope}"', f'data-stop-scope="{scope}"', f'data-user-name="{name}"'):
        assert attribute in page
    assert ("Make a write key" in page) is (name == "admin")
    assert "Sign out" in page
    mine = f"/api/v1/items/{name}-{'admin' if name == 'read' else name}"
    assert (http.delete(mine).status_code, http.delete(f"/api/v1/items/{name}-other").status_code) == (own, others)
    assert http.get("/keys").status_code == keys
    assert http.get("/api/key-info").json()["name"] == name


@pytest.mark.parametrize("name", ["write", "admin"])
def test_revoked_key_ends_its_sessions_and_streams(server: RunningServer, name: str) -> None:
    key = server.background.create_key(name, "to be revoked")
    browser = server.client()
    assert browser.post("/login", data={"key": key}).status_code == 303
    stream = SseStream(server, None, Cookie=f"{server.cookie_name}={browser.cookies[server.cookie_name]}")
    try:
        assert stream.next().name == "snapshot"
        assert server.client("admin").delete(f"/api/v1/keys/{key.split('_')[2]}").status_code == 200
        assert stream.next() is None
    finally:
        stream.close()
    assert browser.get("/").status_code == 303
    assert browser.get("/api/v1/items").status_code == 401
    assert server.client("admin").get("/api/v1/sessions").json()["sessions"] == []


def test_session_ends_with_its_key_and_its_secret(server: RunningServer) -> None:
    expiring = server.background.create_key("write", "expiring", expires_at=server.clock() + 3600)
    rotating = server.background.create_key("write", "rotating")
    browsers = [server.client() for _ in range(4)]

    def get_statuses() -> list[int]:
        return [browser.get("/").status_code for browser in browsers]

    browsers[0].post("/login", data={"key": expiring})
    browsers[1].post("/login", data={"key": rotating})
    server.clock.advance(60)
    newer = server.client("admin").post(f"/api/v1/keys/{rotating.split('_')[2]}/rotate").json()["key"]
    browsers[2].post("/login", data={"key": rotating})
    browsers[3].post("/login", data={"key": newer})
    assert get_statuses() == [200, 200, 200, 200]
    server.clock.advance(3600)
    assert get_statuses() == [303, 200, 200, 200]
    server.clock.advance(23 * 3600)
    assert get_statuses() == [303, 303, 303, 200]


def test_sign_in_replaces_a_planted_session_cookie(server: RunningServer) -> None:
    planted = server.client(Cookie=f"{server.cookie_name}=known-to-the-attacker")
    response = planted.post("/login", data={"key": server.keys["admin"]})
    first = response.cookies[server.cookie_name]
    victim = server.client()
    victim.cookies.set(server.cookie_name, first, "127.0.0.1", "/")
    assert server.client(Cookie=f"{server.cookie_name}=known-to-the-attacker").get("/").status_code == 303
    victim.get(server.background.create_sign_in_url())
    second = victim.cookies[server.cookie_name]
    assert len({"known-to-the-attacker", first, second}) == 3
    assert server.client(Cookie=f"{server.cookie_name}={first}").get("/").status_code == 303
    assert server.client(Cookie=f"{server.cookie_name}={second}").get("/").status_code == 200


# Problems as pages


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/keys", 403, "This needs an admin key, not a read key."),
        ("GET", "/nothing/<b>here", 404, "There is nothing at this path."),
        ("GET", "/s/guessed", 404, "There is nothing at this path."),
        ("GET", "/items/?id=", 422, "Id must be"),
        ("GET", "/items/%zz", 400, "The path has a %"),
        ("GET", "/logout", 405, "GET does not fit this path."),
    ],
)
def test_problem_for_a_browser_is_a_page(
    module_server: RunningServer, method: str, path: str, status: int, detail: str
) -> None:
    http = module_server.client("read", Accept="text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
    response = http.request(method, path)
    assert (response.status_code, response.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert detail in html.unescape(response.text)
    assert "<b>" not in response.text
    up = "../" * (path.partition("?")[0].count("/") - 1)
    assert f'href="{up}static/{STATIC_DIGEST}/app.css"' in response.text
    assert f'href="{up or "./"}">To the board' in response.text
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert module_server.client("read").request(method, path).headers["Content-Type"] == "application/problem+json"


def test_cross_site_form_is_refused_with_a_page(module_server: RunningServer) -> None:
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "cross-site"}
    response = module_server.client().post("/login", data={"key": module_server.keys["admin"]}, headers=headers)
    assert (response.status_code, response.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "does not come from the dashboard" in html.unescape(response.text)


def test_api_problem_for_a_browser_is_json(module_server: RunningServer) -> None:
    response = module_server.client(Accept="text/html").get("/api/v1/items")
    assert (response.status_code, response.headers["Content-Type"]) == (401, "application/problem+json")


def test_administrator_signs_in_with_name_and_password(make_server: Callable[..., RunningServer]) -> None:
    server = make_server(admin_username="root", admin_password="pass phräse")
    assert not any("/auth/" in sentence for sentence in server.output)
    http = server.client()
    assert 'name="password"' in http.get("/login").text
    for username, password in (("root", "wrong"), ("toor", "pass phräse"), ("", "")):
        refused = http.post("/login", data={"username": username, "password": password})
        assert refused.status_code == 403
        assert "Set-Cookie" not in refused.headers
    response = http.post("/login", data={"username": "root", "password": "pass phräse"})
    assert (response.status_code, response.headers["Location"]) == (303, "./")
    assert http.get("/").status_code == 200


def test_sixth_wrong_attempt_within_a_minute_is_limited(make_server: Callable[..., RunningServer]) -> None:
    server = make_server(admin_username="root", admin_password="right")
    http = server.client()
    for _ in range(5):
        assert http.post("/login", data={"key": "wrong"}).status_code == 403
    right = {"username": "root", "password": "right"}
    headers = {"X-Forwarded-For": "203.0.113.9"}
    refused = http.post("/login", data=right, headers=headers)
    assert refused.status_code == 429
    server.clock.advance(int(refused.headers["Retry-After"]))
    assert http.post("/login", data=right).status_code == 303


def test_repeated_valid_sign_ins_are_not_limited(server: RunningServer) -> None:
    http = server.client()
    assert [http.post("/login", data={"key": server.keys["admin"]}).status_code for _ in range(7)] == [303] * 7


def test_concurrent_wrong_attempts_are_limited(make_server: Callable[..., RunningServer]) -> None:
    server = make_server(admin_username="root", admin_password="right")
    clients = [server.client() for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        wrong = {"username": "root", "password": "wrong"}
        statuses = list(pool.map(lambda http: http.post("/login", data=wrong).status_code, clients))
    assert statuses.count(403) <= 5
    assert set(statuses) <= {403, 429, 503}  # 503 is for an attempt that was not verified


def test_cross_site_sign_in_is_refused(module_server: RunningServer) -> None:
    response = module_server.client().post(
        "/login", data={"key": module_server.keys["admin"]}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert response.status_code == 403
    assert "Set-Cookie" not in response.headers


def test_database_and_log_contain_no_secret(
    make_server: Callable[..., RunningServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    server = make_server(admin_username="root", admin_password="pass-phrase", admin_key="imported-" * 4)
    browser = server.browser()
    link = server.background.create_sign_in_url()
    secrets = [*server.keys.values(), *browser.cookies.values(), link.rsplit("/", 1)[1], "pass-phrase", "imported-" * 4]
    for name in server.keys:
        server.client(name).get("/progress")
    browser.post("/login", data={"username": "root", "password": "pass-phrase"})
    server.stop()
    stored = b"".join(path.read_bytes() for path in server.database.parent.iterdir())
    for secret in secrets:
        assert secret.encode() not in stored
        assert not any(
            secret in record.getMessage() for record in caplog.records if record.name.startswith("progressbar_tracker")
        )
    assert not any(secret in repr(server.background.app.services.settings) for secret in secrets)


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/handbook/", "../handbook"),
        ("/handbook/how-to/cron/", "../cron"),
        ("/history/?q=a%26b", "../history?q=a%26b"),
        ("/today/", "../today"),
        ("/login/", "../login"),
        ("/docs/", "../docs"),
    ],
)
def test_page_with_a_last_slash_redirects_to_the_page(module_server: RunningServer, path: str, location: str) -> None:
    reply = module_server.client().get(path)
    assert (reply.status_code, reply.headers["Location"]) == (303, location)


@pytest.mark.parametrize("path", ["/", "/nothing/", "/api/v1/items/", "/healthz/", "/nothing//"])
def test_other_path_with_a_last_slash_is_no_redirect_to_it(module_server: RunningServer, path: str) -> None:
    assert "../" not in module_server.client().get(path).headers.get("Location", "")


def test_last_slash_of_an_id_belongs_to_the_id(server: RunningServer) -> None:
    server.client("write").put("/api/v1/items/a/", json={"title": "With a slash", "total": 2}).raise_for_status()
    assert "With a slash" in server.client("read").get("/items/a%2F").text
    assert server.client("read").get("/items/a/").status_code == 200
