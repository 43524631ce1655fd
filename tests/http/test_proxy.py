"""The proxy of a URL for each environment, as a table. Only ConfigError is raised."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker import AsyncProgressBar, ConfigError, ProgressBar, TransportError
from progressbar_tracker._http.proxy import find_proxy
from tests.support.fault_server import WRITE_KEY

PROXY_URL = "http://proxy:3128"
LOOPBACK_URLS = [
    "http://127.0.0.1:8989/", "http://127.0.0.1/", "http://127.1.2.3:8989/", "http://127.1/", "http://0x7f000001/",
    "http://2130706433/", "http://localhost:8989/", "http://LOCALHOST/", "http://localhost./", "http://a.localhost/",
    "http://a.b.localhost.:80/", "http://[::1]:8989/", "http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]:8989/", "https://localhost/", "http://0.0.0.0:8989/", "http://[::]:8989/", "http://[::1%25lo]/",
]  # fmt: skip
# host of the URL, NO_PROXY, whether it is listed
NO_PROXY_CASES = [
    ("server", "server", True), ("server", "SERVER", True), ("SERVER", "server", True), ("server", "serve", False),
    ("server", "erver", False), ("a.example.com", "example.com", True), ("a.example.com", ".example.com", True),
    ("example.com", ".example.com", True), ("example.com", "example.com.", True), ("example.com.", "example.com", True),
    ("a.example.com", "*.example.com", True), ("notexample.com", "example.com", False), ("server", "*", True),
    ("server", "a, *", True), ("server", "a,server", True), ("server", "a server", True),
    ("server", "a\tserver\n", True),
    ("server", " , ,server,,", True), ("server", "", False), ("server", "a;server", False),
    ("server:8989", "server:8989", True), ("server:8989", "server:80", False), ("server", "server:80", True),
    ("server:8989", "server", True), ("server:8989", ".server:8989", True), ("server", "server:", False),
    ("server", "server:x", False), ("server", "server:99999999999", False), ("server", "http://server", False),
    ("10.1.2.3", "10.0.0.0/8", True), ("11.1.2.3", "10.0.0.0/8", False), ("10.1.2.3", "10.1.2.3", True),
    ("10.1.2.3", "10.1.2.3/32", True), ("10.1.2.3", "10.1.2.9/24", True), ("10.1.2.3", "10.1.2.3:80", True),
    ("10.1.2.3", "0.0.0.0/0", True), ("10.1.2.3", "2.3", False), ("10.1.2.3", "10.0.0.0/33", False),
    ("10.1.2.3:8989", "10.1.2.3:8989", True), ("10.1.2.3", "10.0.0.0/", False), ("10.1.2.3", "/8", False),
    ("[fd07::5]", "fd07::/64", True), ("[fd08::5]", "fd07::/64", False), ("[fd07::5]", "fd07::5", True),
    ("[fd07::5]", "[fd07::5]", True), ("[fd07::5]:8989", "[fd07::5]:8989", True),
    ("[fd07::5]", "[fd07::5]:8989", False),
    ("[fd07::5]", "[fd07::]/64", True), ("[fd07::5]", "FD07:0::5", True), ("[fd07::5]", "::/0", True),
    ("[::ffff:10.1.2.3]", "10.0.0.0/8", True), ("10.1.2.3", "::ffff:10.0.0.0/104", True),
    ("server", "[::1]", False), ("server", "[", False), ("server", "[::1", False), ("server", "::1]", False),
    ("server", "[],:,/,[]:,//,[x]/y,%,@,\x00,\udcff,😀,999.1.1.1/99", False), ("server", "fd07::/64,server", True),
    ("server", "[::1],server", True), ("server", "[,server", True), ("bücher.example", "xn--bcher-kva.example", True),
    ("xn--bcher-kva.example", "bücher.example", True),
]  # fmt: skip


@pytest.mark.parametrize("url", LOOPBACK_URLS)
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", [PROXY_URL, "socks5://proxy", "nonsense://", "::"])
def test_loopback_is_never_reached_through_proxy(url, name, value):
    assert find_proxy(url, {name: value, "no_proxy": "[::1"}) is None


@pytest.mark.parametrize(("host", "listed", "direct"), NO_PROXY_CASES)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_has_curls_semantics(host, listed, direct, name):
    proxy = find_proxy(f"http://{host}/", {"http_proxy": PROXY_URL, name: listed})
    assert (proxy is None) is direct


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({}, "http://server/", None),
        ({"http_proxy": PROXY_URL}, "http://server/", "http_proxy"),
        ({"HTTP_PROXY": PROXY_URL}, "http://server/", "HTTP_PROXY"),
        ({"http_proxy": PROXY_URL, "HTTP_PROXY": "http://other"}, "http://server/", "http_proxy"),
        ({"http_proxy": "", "HTTP_PROXY": PROXY_URL}, "http://server/", None),
        ({"https_proxy": PROXY_URL}, "http://server/", None),
        ({"http_proxy": PROXY_URL}, "https://server/", None),
        ({"HTTPS_PROXY": PROXY_URL}, "https://server/", "HTTPS_PROXY"),
        ({"ALL_PROXY": PROXY_URL}, "https://server/", "ALL_PROXY"),
        ({"ALL_PROXY": "socks5://p", "http_proxy": PROXY_URL}, "http://server/", "http_proxy"),
        ({"http_proxy": "proxy:3128"}, "http://server/", "http_proxy"),
        ({"http_proxy": "  http://proxy:3128 "}, "http://server/", "http_proxy"),
        ({"REQUEST_METHOD": "GET", "HTTP_PROXY": PROXY_URL}, "http://server/", None),
        ({"REQUEST_METHOD": "GET", "http_proxy": PROXY_URL}, "http://server/", "http_proxy"),
        ({"REQUEST_METHOD": "GET", "HTTPS_PROXY": PROXY_URL}, "https://server/", "HTTPS_PROXY"),
        ({"no_proxy": "", "NO_PROXY": "server", "http_proxy": PROXY_URL}, "http://server/", "http_proxy"),
        ({"no_proxy": "x", "NO_PROXY": "server", "http_proxy": PROXY_URL}, "http://server/", "http_proxy"),
        ({"ftp_proxy": PROXY_URL, "_PROXY": PROXY_URL, "proxy": PROXY_URL}, "http://server/", None),
    ],
)
def test_variable_is_selected_by_scheme(environ, url, expected):
    proxy = find_proxy(url, environ)
    assert (proxy and proxy.variable) == expected


INVALID_PROXIES = [
    "ftp://p",
    "socks4://p",
    "://",
    "http://",
    "http://:80",
    "http://p:x",
    "http://p:99999",
    "http://[",
    "a b",
    "\x00",
    "http:///x",
]


@pytest.mark.parametrize(
    "value", [*INVALID_PROXIES, "gopher://secretuser:secretword@p", "http://secretuser:secretword@p:port"]
)
def test_invalid_proxy_error_names_the_variable(value):
    with pytest.raises(ConfigError, match="ALL_PROXY") as caught:
        find_proxy("http://server/", {"ALL_PROXY": value})
    assert "secret" not in str(caught.value)


texts = st.text(max_size=40) | st.text("[]:/,. *0123456789abcdefx%@", max_size=30)


@given(st.dictionaries(st.sampled_from(["http_proxy", "HTTP_PROXY", "all_proxy", "no_proxy", "NO_PROXY"]), texts))
def test_any_environment_raises_only_config_error(environ):
    for url in ("http://server:8989/", "http://10.1.2.3/", "http://[fd07::5]/", "https://a.example.com/"):
        with contextlib.suppress(ConfigError):
            find_proxy(url, environ)


class RecordingServer:
    """Records requests and replies like a server without items."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.received = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self.received.append(connection.recv(65536))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]")

    def close(self):
        self._listener.close()


@pytest.fixture(autouse=True)
def clear_proxy_variables(monkeypatch):
    """Remove all proxy variables from the environment."""
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


@pytest.fixture
def listening_servers():
    """A server and a proxy that record their requests."""
    with contextlib.closing(RecordingServer()) as server, contextlib.closing(RecordingServer()) as proxy:
        yield server, proxy


async def get_all_async(url):
    async with AsyncProgressBar(url, WRITE_KEY, auto_detect=False) as pb:
        return await pb.get_all()


def get_all_sync(url):
    with ProgressBar(url, WRITE_KEY, auto_detect=False) as pb:
        return pb.get_all()


def get_all(url, awaited):
    import asyncio

    return asyncio.run(get_all_async(url)) if awaited else get_all_sync(url)


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("no_proxy", ["", "127.0.0.0/8", "fd07::/64", "[::1]", "["])
def test_key_for_loopback_server_never_reaches_proxy(listening_servers, monkeypatch, awaited, no_proxy):
    server, proxy = listening_servers
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{proxy.address}")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert get_all(f"http://{server.address}", awaited) == []
    assert (len(server.received), proxy.received) == (1, [])


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_remote_server_is_reached_through_proxy(listening_servers, monkeypatch, awaited):
    _, proxy = listening_servers
    monkeypatch.setenv("http_proxy", f"user:word@{proxy.address}")
    assert get_all("http://server.invalid:8989", awaited) == []
    (received,) = proxy.received
    assert received.startswith(b"GET http://server.invalid:8989/progress HTTP/1.1")
    assert b"Proxy-Authorization: Basic dXNlcjp3b3Jk" in received


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_socks_proxy_without_its_package_names_variable(monkeypatch, awaited):
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secretword@proxy")
    with pytest.raises(ConfigError, match="ALL_PROXY names a SOCKS proxy") as caught:
        get_all("http://server.invalid:8989", awaited)
    assert "secretword" not in str(caught.value)


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_invalid_certificates_error_names_the_variable(monkeypatch, tmp_path, awaited):
    (tmp_path / "nonsense.pem").write_text("nonsense")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nonsense.pem"))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        get_all("https://127.0.0.1:1", awaited)


def test_password_of_unreachable_proxy_is_hidden(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:secretword@127.0.0.1:1")
    with pytest.raises(TransportError) as caught:
        get_all_sync("http://server.invalid:8989")
    assert "secretword" not in repr(caught.value)
