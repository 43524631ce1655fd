"""The Host header: allowed names, refusals, and the settings."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.hosts import MAX_KNOWN_HOSTS, AllowedHosts
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.routes import ROUTES
from tests.support.connections import RawConnection, parse_statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server import RunningServer

LOOPBACK_HOSTS = (
    "localhost", "localhost:8989", "LOCALHOST", "localhost.", "tracker.localhost", "127.0.0.1", "127.0.0.1:9000",
    "127.8.9.10", "[::1]", "[::1]:8989", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
)  # fmt: skip
OTHER_HOSTS = (
    "evil.example", "evil.example:8989", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost",
    "192.0.2.1", "[2001:db8::1]", "[::1", "::1]", "localhost:port", "localhost/", "user@localhost", " ", "127.1",
    "0.0.0.0", "a b", "\xe4.example", "localhost:123456",
)  # fmt: skip


def is_allowed(hosts: AllowedHosts, host: str) -> bool:
    try:
        hosts.check(host.encode("latin-1"))
    except ProblemError as problem:
        return (problem.code, "--allowed-hosts" in problem.detail) != ("misdirected", True)
    return True


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_server_answers_under_loopback_names_only(listens_on: str) -> None:
    hosts = AllowedHosts("", listens_on=listens_on)
    assert [host for host in LOOPBACK_HOSTS if not is_allowed(hosts, host)] == []
    assert [host for host in OTHER_HOSTS if is_allowed(hosts, host)] == []


@pytest.mark.parametrize("listens_on", ["127.1", "2130706433", "the-machine"])
def test_listening_address_is_normalized(listens_on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo
    known = {"the-machine": "127.0.1.1"}  # as in /etc/hosts of Debian
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *args, **named: resolve(known.get(host, host), *args, **named)
    )
    hosts = AllowedHosts("", listens_on=listens_on)
    assert is_allowed(hosts, listens_on)
    assert is_allowed(hosts, "localhost:8989")
    assert not is_allowed(hosts, "evil.example")


@pytest.mark.parametrize("listens_on", ["0.0.0.0", "::", "192.0.2.1"])
def test_public_server_answers_under_any_name_by_default(listens_on: str) -> None:
    assert is_allowed(AllowedHosts("", listens_on=listens_on), "evil.example")
    named = AllowedHosts("progress.example", listens_on=listens_on)
    assert is_allowed(named, "progress.example:443")
    assert is_allowed(named, "localhost")
    assert not is_allowed(named, "evil.example")


@pytest.mark.parametrize(
    ("text", "allowed", "refused"),
    [
        (
            "progress.example",
            ["progress.example", "Progress.Example.:80"],
            ["a.progress.example", "progress.example.b"],
        ),
        ("*.example.org", ["example.org", "a.example.org", "a.b.example.org"], ["badexample.org", "example.org.evil"]),
        (".example.org , b.example", ["example.org", "a.example.org", "b.example"], ["c.example"]),
        ("192.0.2.1,[2001:db8::1]", ["192.0.2.1:80", "[2001:db8:0::1]:80"], ["192.0.2.2", "[2001:db8::2]"]),
        ("2001:db8::1", ["[2001:db8::1]"], ["[2001:db8::2]"]),
        ("*", ["anything.example"], []),
        ("my_host", ["my_host"], ["myhost"]),
    ],
)
def test_named_hosts_are_allowed_and_no_others(text: str, allowed: list[str], refused: list[str]) -> None:
    hosts = AllowedHosts(text, listens_on="127.0.0.1")
    assert [host for host in allowed if not is_allowed(hosts, host)] == []
    assert [host for host in refused if is_allowed(hosts, host)] == []


@pytest.mark.parametrize(
    "url", ["https://progress.example/p", "http://progress.example:8989", "https://PROGRESS.example"]
)
def test_host_of_the_public_url_is_allowed(url: str) -> None:
    hosts = AllowedHosts("", listens_on="127.0.0.1", public_url=url)
    assert is_allowed(hosts, "progress.example")
    assert not is_allowed(hosts, "evil.example")


@pytest.mark.parametrize("text", ["http://a.example", "a.example:80", "a b", "a.*.example", "a/b", "**", "[::1"])
def test_invalid_host_setting_names_the_variable(text: str) -> None:
    with pytest.raises(ConfigError, match="PROGRESSBAR_ALLOWED_HOSTS"):
        AllowedHosts(text, listens_on="127.0.0.1")


def test_refused_host_is_logged_once_and_bounded(caplog: pytest.LogCaptureFixture) -> None:
    hosts = AllowedHosts("", listens_on="127.0.0.1")
    for n in range(3 * MAX_KNOWN_HOSTS):
        assert not is_allowed(hosts, f"host-{n % (2 * MAX_KNOWN_HOSTS)}.example")
    assert len(caplog.records) == MAX_KNOWN_HOSTS
    assert caplog.text.count("'host-0.example'") == 1
    assert is_allowed(hosts, "localhost")


# Over the wire


def get_status(server: RunningServer, *lines: str) -> int | None:
    with RawConnection(server.url) as opened:
        opened.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        statuses = parse_statuses(opened.read_all())
    return statuses[0] if statuses else None


ROUTE_PATHS = sorted({row.path.partition("{")[0] for row in ROUTES})


@pytest.mark.parametrize("path", ROUTE_PATHS)
def test_every_path_but_health_is_refused_under_another_name(module_server: RunningServer, path: str) -> None:
    health = path in {"/healthz", "/readyz"}
    assert get_status(module_server, f"GET {path} HTTP/1.1", "Host: evil.example", "Connection: close") == (
        200 if health else 421
    )


@pytest.mark.parametrize("path", ROUTE_PATHS)
def test_request_without_a_host_is_400(module_server: RunningServer, path: str) -> None:
    health = path in {"/healthz", "/readyz"}
    assert get_status(module_server, f"GET {path} HTTP/1.1", "Connection: close") == 400
    assert get_status(module_server, f"GET {path} HTTP/1.1", "Host:", "Connection: close") == 400
    # Balancers check health with HTTP/1.0.
    assert get_status(module_server, f"GET {path} HTTP/1.0") == (200 if health else 400)


@pytest.mark.parametrize("line", ["GET /", "GET /healthz", "GET / HTTP/0.9", "GET /healthz HTTP/0.9", "POST /login"])
def test_request_line_of_http_0_9_is_400(module_server: RunningServer, line: str) -> None:
    assert get_status(module_server, line) == 400
    assert get_status(module_server, line, "Host: localhost") == 400


def test_write_under_another_name_changes_nothing(module_server: RunningServer) -> None:
    before = module_server.background.app.services.board.rev
    lines = ["PUT /api/v1/items/rebound HTTP/1.1", "Host: evil.example", f"X-API-KEY: {module_server.keys['write']}"]
    assert get_status(module_server, *lines, "Content-Length: 0", "Connection: close") == 421
    assert module_server.background.app.services.board.rev == before


@pytest.mark.parametrize(
    ("settings", "host", "expected"),
    [
        ({"public_url": "https://progress.example"}, "progress.example", 200),  # nginx and Caddy pass Host on
        ({"allowed_hosts": "notebook.example"}, "notebook.example", 200),  # so does jupyter-server-proxy
        ({}, "localhost:9000", 200),  # ssh -L 9000:localhost:8989
        ({}, "progress.example", 421),
    ],
)
def test_server_behind_a_proxy_answers_under_its_names(
    make_server: Callable[..., RunningServer], settings: dict[str, str], host: str, expected: int
) -> None:
    server = make_server(**settings)
    key = f"X-API-KEY: {server.keys['read']}"
    assert get_status(server, "GET /progress HTTP/1.1", f"Host: {host}", key, "Connection: close") == expected
