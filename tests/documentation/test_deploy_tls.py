"""Runs nginx and Caddy with the shipped sites and a certificate, in front of a real server."""

from __future__ import annotations

import ssl
import subprocess
from typing import NamedTuple

import httpx
import pytest

from tests.support.connections import find_free_port
from tests.support.deploy import NginxProxy, find_program, is_listening, read_deploy_file, replace_all
from tests.support.server import start_server
from tests.support.waiting import wait_until

SITE_NAME = "progress.example.org"


class Site(NamedTuple):
    """A site with TLS.

    Attributes:
        url: Its URL on this machine.
        http_url: Its URL without TLS; empty if there is none.
        key: A write key.
        context: Trusts its certificate.
    """

    url: str
    http_url: str
    key: str
    context: ssl.SSLContext

    def open_client(self, **headers):
        """Return a client that connects to this machine and asks for the site."""
        client = httpx.Client(
            base_url=self.url, verify=self.context, headers={"Host": SITE_NAME, **headers}, timeout=60
        )
        client.event_hooks["request"].append(lambda request: request.extensions.update(sni_hostname=SITE_NAME))
        return client


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The paths of a certificate of the site and of its key."""
    openssl = find_program("openssl", "openssl")
    folder = tmp_path_factory.mktemp("certificate")
    paths = folder / "fullchain.pem", folder / "privkey.pem"
    command = [
        openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={SITE_NAME}", "-addext", f"subjectAltName=DNS:{SITE_NAME},DNS:example.org", "-out", paths[0],
        "-keyout", paths[1],
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return paths


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with start_server(folder / "progress.db", public_url=f"https://{SITE_NAME}", trusted_proxies="loopback") as server:
        yield server


@pytest.fixture(scope="module")
def nginx_site(server, certificate, tmp_path_factory):
    port = find_free_port()
    text = replace_all(
        read_deploy_file("nginx-tls.conf"),
        ("listen 443 ", f"listen 127.0.0.1:{port} "), ("127.0.0.1:8989", f"127.0.0.1:{server.port}"),
        (f"/etc/letsencrypt/live/{SITE_NAME}/fullchain.pem", str(certificate[0])),
        (f"/etc/letsencrypt/live/{SITE_NAME}/privkey.pem", str(certificate[1])),
    )  # fmt: skip
    with NginxProxy(tmp_path_factory.mktemp("nginx"), f"events {{}}\nhttp {{ access_log off; {text} }}") as proxy:
        yield f"https://127.0.0.1:{port}", f"http://127.0.0.1:{proxy.port}"


@pytest.fixture(scope="module")
def caddy_site(server, certificate, tmp_path_factory):
    caddy, folder, ports = find_program("caddy", "caddy"), tmp_path_factory.mktemp("caddy"), (find_free_port(),) * 2
    own_certificate = f"tls {certificate[0]} {certificate[1]}"
    text = replace_all(
        read_deploy_file("Caddyfile"),
        (f"\n{SITE_NAME} {{", f"\n{SITE_NAME}:{ports[0]} {{\n{own_certificate}"),
        ("\nexample.org {", f"\nexample.org:{ports[1]} {{\n{own_certificate}"),
        ("127.0.0.1:8989", f"127.0.0.1:{server.port}"),
    )
    (folder / "Caddyfile").write_text(f"{{\nadmin off\nauto_https disable_redirects\n}}\n{text}")
    command = [caddy, "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
    environ = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)

    def is_ready():
        assert process.poll() is None, "Caddy did not start"
        return is_listening(ports[0])

    try:
        wait_until(is_ready)
        yield f"https://127.0.0.1:{ports[0]}", ""
    finally:
        process.kill()  # in good order, Caddy would wait for the end of each stream
        process.wait(60)


@pytest.fixture(params=["nginx_site", "caddy_site"])
def site(request, server, certificate):
    """The site behind a proxy with TLS."""
    context = ssl.create_default_context(cafile=certificate[0])
    return Site(*request.getfixturevalue(request.param), server.create_key("write", "ci"), context)


def test_cookie_of_a_site_with_tls_is_secure(site):
    with site.open_client(**{"Sec-Fetch-Site": "same-origin"}) as browser:
        reply = browser.post("/login", data={"key": site.key})
        assert reply.status_code == 303, reply.text
        cookies = reply.headers.get_list("Set-Cookie")
        assert cookies
        assert all("; Secure" in cookie for cookie in cookies)
        cookie = "; ".join(cookie.partition(";")[0] for cookie in cookies)
        page = browser.get("/", headers={"Cookie": cookie})
        assert page.status_code == 200
        assert f"https://{SITE_NAME}" in page.text


def test_stream_of_a_site_with_tls_is_not_buffered(site):
    with site.open_client(**{"X-API-KEY": site.key}) as http, http.stream("GET", "/api/v1/events") as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("event: ")) == "event: snapshot"
        # A buffer would keep the event: no heartbeat fills it.
        assert http.put("/api/v1/items/streamed", json={"total": 5}).is_success
        assert next(line for line in lines if line.startswith("data: ") and '"streamed"' in line)
        assert http.delete("/api/v1/items/streamed").is_success


def test_plain_http_of_a_site_leads_to_tls(nginx_site):
    reply = httpx.get(f"{nginx_site[1]}/keys?a=1", headers={"Host": SITE_NAME})
    assert (reply.status_code, reply.headers["Location"]) == (301, f"https://{SITE_NAME}/keys?a=1")
