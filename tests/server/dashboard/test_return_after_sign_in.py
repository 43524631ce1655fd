"""A page that needs a sign-in, the sign-in, and the same page again."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

import pytest

from tests.support.clock import ManualClock
from tests.support.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

RIGHT_PASSWORD = {"username": "root", "password": "right"}


@pytest.fixture(scope="module", params=["", "/some/base"], ids=["root", "base path"])
def site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server with a password, at the root of its host or under a base path."""
    served = RunningServer(
        tmp_path_factory.mktemp("site"), ManualClock(), base_path=request.param, admin_username="root",
        admin_password="right",
    )  # fmt: skip
    yield served
    served.stop()


def create_link(site: RunningServer) -> str:
    """Return a one-time link, relative to the base path, which the clients add."""
    return urlsplit(site.background.create_sign_in_url()).path.removeprefix(site.settings.base_path)


def follow(http: httpx.Client, url: str) -> httpx.Response:
    """Return the response of the URL that a redirect leads to."""
    reply = http.get(url)
    assert reply.status_code == 303, reply.text
    return http.get(urljoin(url, reply.headers["Location"]))


def read_hidden_next(page: str) -> set[str]:
    return {html.unescape(value) for value in re.findall(r'name="next" value="([^"]*)"', page)}


ITEM_IDS = ["job", "a/b", "a b?c", "100%", "x%2Fy", "ünï", "a&b=c;d,e", "//evil.example"]


@pytest.mark.parametrize("way", ["password", "key", "link"])
@pytest.mark.parametrize("item_id", ITEM_IDS)
def test_sign_in_returns_to_the_requested_page(site: RunningServer, item_id: str, way: str) -> None:
    path = f"/items/{quote(item_id, safe='')}?run=7"
    http = site.client(**{"Sec-Fetch-Site": "same-origin"})
    login = follow(http, path)
    assert login.request.url.path == f"{site.settings.base_path}/login"
    (return_path,) = read_hidden_next(login.text)
    if way == "link":
        url = create_link(site)
        reply = http.get(url)
    else:
        url = "/login"
        fields = RIGHT_PASSWORD if way == "password" else {"key": site.keys["admin"]}
        reply = http.post(url, data={**fields, "next": return_path})
    assert reply.status_code == 303
    assert urljoin(url, reply.headers["Location"]) == path
    # The page is remembered for one sign-in only.
    again = http.get(create_link(site))
    assert again.headers["Location"] == "../"


def test_link_with_a_next_leads_there(site: RunningServer) -> None:
    for text, location in (("items/a%2Fb", "../items/a%2Fb"), ("//evil.example", "../"), ("%zz", "../")):
        link = create_link(site)
        query = text if text == "%zz" else quote(text, safe="")
        assert site.client().get(f"{link}?next={query}").headers["Location"] == location


def test_refused_sign_in_keeps_the_name_and_the_page(site: RunningServer) -> None:
    http = site.client(**{"Sec-Fetch-Site": "same-origin"})
    name = '"><b>root'
    fields = {"username": name, "password": "wrong", "next": "items/a%2Fb"}
    reply = http.post("/login", data=fields)
    assert reply.status_code == 403
    assert read_hidden_next(reply.text) == {"items/a%2Fb"}
    assert f'value="{html.escape(name)}"'.replace("&quot;", "&#34;") in reply.text
    assert "wrong" not in reply.text.replace("is wrong", "")


@pytest.mark.parametrize(
    "text", ["//evil.example", "/\\evil", "../x", "javascript:alert(1)", "items/\r\nX: y", "login"]
)
def test_hostile_next_leads_to_the_board(site: RunningServer, text: str) -> None:
    http = site.client(**{"Sec-Fetch-Site": "same-origin"})
    url = "/login"
    page = http.get(url, params={"next": text})
    assert (page.status_code, read_hidden_next(page.text), page.headers.get("Set-Cookie")) == (200, set(), None)
    assert http.post(url, data={"key": site.keys["read"], "next": text}).headers["Location"] == "./"
    assert http.get(url, params={"next": text}).headers["Location"] == "./"


def test_planted_return_cookie_is_validated(site: RunningServer) -> None:
    link = create_link(site)
    name = site.background.app.services.return_cookie_names[1]
    assert site.client().get(link, headers={"Cookie": f"{name}=//evil.example"}).headers["Location"] == "../"


def test_signed_in_browser_skips_the_sign_in_page(site: RunningServer) -> None:
    browser = site.client(**{"Sec-Fetch-Site": "same-origin"})
    url = "/login"
    assert browser.get(url).status_code == 200
    assert browser.get(url, headers={"X-API-KEY": site.keys["admin"]}).status_code == 200
    browser.post(url, data={"key": site.keys["read"]})
    assert browser.get(url).headers["Location"] == "./"
    assert browser.get(f"{url}?next=history%3Fq%3Dx").headers["Location"] == "./history?q=x"
    browser.post("/logout")
    assert browser.get(url).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/problems/forbidden", "/nothing", "/items/x", "/keys"])
def test_every_page_shows_the_signed_in_state(site: RunningServer, path: str) -> None:
    browser = site.client(**{"Sec-Fetch-Site": "same-origin", "Accept": "text/html"})
    guest = site.client(Accept="text/html")
    assert "Sign out" not in guest.get(path).text
    browser.post("/login", data={"key": site.keys["read"]})
    page = browser.get(path).text
    assert "Sign out" in page
    assert "read" in page
    assert '"channels"' not in page
    assert "Sign out" not in guest.get(path).text


def test_docs_of_an_administrator_have_the_admin_pages(site: RunningServer) -> None:
    reader, admin = (site.client(**{"Sec-Fetch-Site": "same-origin"}) for _ in range(2))
    for browser, key in ((reader, "read"), (admin, "admin")):
        browser.post("/login", data={"key": site.keys[key]})
    url = "/docs"
    assert ['href="channels"' in browser.get(url).text for browser in (admin, reader, admin)] == [True, False, True]


def test_guest_of_a_public_board_can_sign_in(make_server: Callable[..., RunningServer]) -> None:
    public = make_server(public_read=True)
    assert public.client().get("/login?next=history").status_code == 200
    assert public.client().get("/keys").headers["Location"] == "login?next=keys"
