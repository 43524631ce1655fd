"""The page to return to after a sign-in: any text leads to this server, and any page can be returned to."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.http.return_path import (
    MAX_RETURN_PATH_LENGTH,
    build_sign_in_url,
    parse_return_path,
)
from progressbar_tracker.server.items.serializer import item_url

HOSTILE_PATHS = [
    "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "\\evil.example", "/evil", "/",
    "http://evil.example", "https:evil.example", "HTTPS:\\\\evil.example", "javascript:alert(1)", "data:text/html,x",
    "java\tscript:alert(1)", "\t//evil.example", " //evil.example", "//evil%2eexample", "%2f%2fevil.example\n",
    "..", "../", "../other", "items/../../other", "%2e%2e/other", "..;",
    "items/..;a=b/x", "items/%2E%2e/%2e%2E/other", ".%2e/other", "./x", ".",
    "items/x\r\nSet-Cookie: a=b", "items/%0d%0aSet-Cookie:%20a=b", "items/%00", "items/%7f", "items/x\x00",
    "items/x#//evil", "items/x y", "items/\u2028", "items/\uff0f\uff0fevil", "items/%zz", "items/%", "items/%ff",
    "items/<script>", 'items/"', "items/x\\y", "login", "login?next=items/x", "logout", "auth/token", "auth",
    "@evil.example:80", "evil.example:80/x", "x" * (MAX_RETURN_PATH_LENGTH + 1), "", None,
]  # fmt: skip

GOOD_PATHS = [
    "items/job", "items/a%2Fb%20c", "items/a%3Fb%25c", "items/%2F%2Fevil.example", "items/%5C%5Cevil", "items/?id=..",
    "items/a?run=7f&x=a+b", "history?q=a%26b&group=x", "?group=night%20ly", "?tv", "today?tv", "keys", "channels",
    "items/http:%2F%2Fevil.example", "items/...", "items/a/b", "items/%F0%9F%98%80", "history?after=//x",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_PATHS)
def test_hostile_return_path_is_ignored(text: str | None) -> None:
    assert parse_return_path(text) is None


@pytest.mark.parametrize("text", GOOD_PATHS)
def test_path_of_a_page_is_returned_to(text: str) -> None:
    assert parse_return_path(text) == text


fragments = st.sampled_from(
    ["/", "//", "\\", ":", ".", "..", "%2e", "%2E", "%2f", "%5c", "%00", "%0a", "%", "?", "#", "@", "http:",
     "evil.example", "javascript:", "\t", "\n", " ", "items", "login", "auth", "x", "&", ";", ",", "\u2028",
     "\uff0f", "\x85"]
)  # fmt: skip


@given(
    st.one_of(st.lists(fragments, max_size=8).map("".join), st.text(max_size=20)), st.sampled_from(["", "/base/path"])
)
def test_return_path_never_leaves_the_server(text: str, base: str) -> None:
    accepted = parse_return_path(text)
    if accepted is None:
        return
    assert accepted == text
    assert accepted.isascii()
    assert accepted.isprintable()
    assert not {" ", "\\", '"', "<", "#"} & set(accepted)
    for page, prefix in ((f"http://server.example{base}/login", "./"), (f"http://server.example{base}/auth/x", "../")):
        target = urlsplit(urljoin(page, prefix + accepted))
        assert (target.scheme, target.netloc) == ("http", "server.example")
        assert target.path.startswith(f"{base}/")
        assert not target.path.startswith(f"{base}//")
    assert accepted.partition("?")[0] not in {"login", "logout"}


@given(st.text(min_size=1, max_size=200), st.sampled_from([b"", b"run=a%20b", b"q=|[x]\"'<&group=%F0%9F%98%80", b"tv"]))
def test_page_of_any_item_is_returned_to(item_id: str, query: bytes) -> None:
    try:
        path = "/" + item_url(item_id).partition("?")[0]
    except UnicodeEncodeError:
        return  # a lone surrogate, which no id has
    scope: Any = {"path": path, "query_string": query}
    url = build_sign_in_url(scope)
    return_path = parse_return_path(parse_qs(urlsplit(url).query).get("next", [None])[0])
    if any(ord(character) < 32 or character == "\x7f" for character in item_id):
        assert return_path is None
        return
    assert return_path is not None
    returned = urlsplit(urljoin("http://server.example/base/login", f"./{return_path}"))
    assert returned.path == f"/base{path}"
    assert unquote(returned.query) == unquote(query.decode())


@pytest.mark.parametrize(
    ("path", "query", "url"),
    [
        ("/", b"", "login"),
        ("/", b"group=a", "login?next=?group=a"),
        ("/keys", b"", "login?next=keys"),
        ("/items/a%2Fb", b"run=7&x=1", "../login?next=items/a%252Fb?run=7%26x=1"),
        ("/items/a/b", b"", "../../login?next=items/a/b"),
        ("/items/%2e%2e", b"", "../login"),
        ("/items/%zz", b"", "../login"),
        ("/items/\xff", b"", "../login"),
    ],
)
def test_sign_in_url_names_the_requested_page(path: str, query: bytes, url: str) -> None:
    scope: Any = {"path": path, "query_string": query}
    assert build_sign_in_url(scope) == url


def test_longest_id_is_returned_to() -> None:
    path = "items/" + quote("\U0001f600" * 200, safe="") + "?run=" + "r" * 64
    assert parse_return_path(path) == path
