"""Runs ``examples/deploy``: the Dockerfile's commands, nginx with its files, and the checks of systemd and Caddy."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from progressbar_tracker import ProgressBar
from tests.support.connections import TLS_CONTEXT, find_free_port, open_client
from tests.support.deploy import DEPLOY_FOLDER, PROJECT_ROOT, NginxProxy, find_program, read_deploy_file, replace_all
from tests.support.postgres import create_database, drop_database
from tests.support.server import start_server
from tests.support.waiting import wait_until

README_TEXT = read_deploy_file("README.md")


def test_every_deploy_file_is_listed():
    assert [
        path.name
        for path in DEPLOY_FOLDER.iterdir()
        if path.name != "README.md" and f"`{path.name}`" not in README_TEXT
    ] == []


# The image


def read_dockerfile():
    """Return the Dockerfile's instructions, each with its text."""
    text = re.sub(r"^#.*\n", "", read_deploy_file("Dockerfile"), flags=re.MULTILINE)
    return [tuple(line.split(None, 1)) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line]


def get_instruction(name):
    (text,) = (text for instruction, text in read_dockerfile() if instruction == name)
    return text


def test_image_is_documented_as_on_the_published_page():
    line = (
        "docker run -d -p 8989:8080 -e ADMIN_USERNAME=admin -e ADMIN_PASSWORD=your-password progressbar-server:latest"
    )
    assert line in README_TEXT
    assert line in read_deploy_file("Dockerfile")
    assert get_instruction("EXPOSE") == "8080"
    assert get_instruction("USER") not in ("root", "0", "0:0")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Run the Dockerfile's instructions in a folder instead of a container; return its root and its environment."""
    root = tmp_path_factory.mktemp("image")
    environ = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}

    def inside(text):
        return re.sub(r"(?<![\w.])/(src|opt|data)\b", rf"{root}/\1", text)

    for name, text in read_dockerfile():
        if name == "COPY" and not text.startswith("--from"):
            *sources, target = text.split()
            target = Path(inside(target))
            target.parent.mkdir(parents=True, exist_ok=True)
            for source in sources:
                if (PROJECT_ROOT / source).is_dir():
                    shutil.copytree(PROJECT_ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    target.mkdir(exist_ok=True)
                    shutil.copy(PROJECT_ROOT / source, target)
        elif name == "RUN":
            if os.geteuid() != 0:
                text = re.sub(r" --(owner|group)=\S+", "", text)
            subprocess.run(inside(text), shell=True, check=True, timeout=900, env={**os.environ, **environ})
        elif name == "ENV":
            for pair in shlex.split(text):
                key, _, value = pair.partition("=")
                environ[key] = inside(value).replace("$PATH", environ["PATH"])
    return root, environ


@pytest.mark.long  # pip downloads and installs all locked dependencies
@pytest.mark.timeout(1000)
def test_image_serves_and_its_health_check_succeeds(image):
    root, environ = image
    port = str(find_free_port())
    environ = {**environ, "ADMIN_USERNAME": "admin", "ADMIN_PASSWORD": "your-password"}
    assert environ["PROGRESSBAR_PORT"] == "8080"
    environ["PROGRESSBAR_PORT"] = port  # port 8080 may be in use
    command = json.loads(get_instruction("CMD"))
    check = json.loads(get_instruction("HEALTHCHECK").partition("CMD ")[2])
    server = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        for line in server.stdout:
            if line.startswith("Serving"):
                break
        url = f"http://127.0.0.1:{port}"
        assert subprocess.run(check, env=environ, timeout=100).returncode == 0
        with httpx.Client(base_url=url, verify=TLS_CONTEXT, headers={"Sec-Fetch-Site": "same-origin"}) as browser:
            assert browser.post("/login", data={"username": "admin", "password": "your-password"}).status_code == 303
            assert browser.get("/").status_code == 200
            key = browser.post("/api/v1/keys", json={"type": "write", "name": "ci"}).json()["key"]
        with ProgressBar(url, key) as pb:
            pb.create("a", "A", "", 0.5)
        # The server is reachable from outside of the container, and its data is in the volume.
        assert is_bound_to_all(int(port))
        assert get_instruction("VOLUME") == "/data"
        assert "progress.db" in {path.name for path in (root / "data").iterdir()}
        assert {path.name for path in root.iterdir()} == {"src", "opt", "data"}
        server.send_signal(signal.SIGTERM)  # the signal of `docker stop`
        assert server.wait(60) == 0
        assert subprocess.run(check, env=environ, timeout=100, stderr=subprocess.DEVNULL).returncode != 0
    finally:
        server.kill()
        server.communicate()


def is_bound_to_all(port):
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1] == f"00000000:{port:04X}" and line.split()[3] == "0A" for line in lines)


# The proxies


@pytest.fixture(scope="module")
def servers(tmp_path_factory, postgres_cluster):
    """Two servers on one PostgreSQL."""
    url = create_database(postgres_cluster)
    servers = [start_server(url, admin_key="the-admin-key-of-these-tests") for _ in range(2)]
    yield servers
    for server in servers:
        server.close()
    drop_database(postgres_cluster, url)


@pytest.fixture(scope="module")
def root_site(servers, tmp_path_factory):
    """The URL of nginx in front of two servers, and a write key."""
    names = [(f"server-{n}:8080", f"127.0.0.1:{server.port}") for n, server in enumerate(servers, 1)]
    proxy = NginxProxy(tmp_path_factory.mktemp("nginx"), replace_all(read_deploy_file("nginx.conf"), *names))
    yield f"http://127.0.0.1:{proxy.port}", servers[0].create_key("write", "ci")
    proxy.close()


@pytest.fixture(scope="module")
def subpath_site(tmp_path_factory):
    """The URL of a server under a sub-path of nginx, and a write key."""
    folder = tmp_path_factory.mktemp("nginx-folder")
    with start_server(folder / "progress.db", base_path="/progress") as server:
        snippet = replace_all(read_deploy_file("nginx-sub-path.conf"), ("127.0.0.1:8989", f"127.0.0.1:{server.port}"))
        proxy = NginxProxy(folder, f"events {{}}\nhttp {{ access_log off; server {{ listen 80; {snippet} }} }}")
        yield f"http://127.0.0.1:{proxy.port}/progress", server.create_key("write", "ci")
        proxy.close()


@pytest.fixture(params=["root_site", "subpath_site"])
def proxied_site(request):
    """The URL of a server behind a proxy, and a write key."""
    return request.getfixturevalue(request.param)


def test_published_client_works_through_nginx(proxied_site):
    url, key = proxied_site
    with ProgressBar(api_url=url, api_key=key) as pb:
        for _ in range(4):  # requests reach both servers
            pb.create("video-001", "Encoding", "starting", 0.0, weight=100)
            pb.update("video-001", "Encoding", "half way", 0.5, weight=100)
            wait_until(lambda: [(item["id"], item["value"]) for item in pb.get_all()] == [("video-001", 0.5)])
            assert pb.delete("video-001")


def test_stream_through_nginx_is_not_buffered(proxied_site):
    url, key = proxied_site
    http = httpx.Client(headers={"X-API-KEY": key}, verify=TLS_CONTEXT, timeout=60)
    with http, http.stream("GET", f"{url}/api/v1/events") as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("event: ")) == "event: snapshot"
        # A buffer would keep the event: no heartbeat fills it.
        assert http.put(f"{url}/api/v1/items/streamed", json={"total": 5}).status_code in (200, 201)
        assert '"streamed"' in next(line for line in lines if line.startswith("data: ") and '"streamed"' in line)
        http.delete(f"{url}/api/v1/items/streamed")


def test_pages_and_forms_work_through_nginx(proxied_site):
    url, key = proxied_site
    # An old browser sends only Origin with a form. The server compares it with the request's Host.
    origin = str(httpx.URL(url).join("/")).rstrip("/")
    with httpx.Client(verify=TLS_CONTEXT, headers={"Origin": origin}) as browser:
        reply = browser.post(f"{url}/login", data={"key": key})
        assert reply.status_code == 303, reply.text
        home = browser.get(httpx.URL(f"{url}/login").join(reply.headers["Location"]))
        assert (home.status_code, home.url) == (200, f"{url}/")
        assets = re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', home.text)
        assert assets
        for asset in assets:
            assert browser.get(home.url.join(asset)).status_code == 200


def test_too_large_body_is_refused_by_the_server_not_by_nginx(proxied_site):
    url, key = proxied_site
    with httpx.Client(headers={"X-API-KEY": key, "Content-Type": "application/json"}, verify=TLS_CONTEXT) as http:
        reply = http.post(f"{url}/api/v1/items:batch", content=b" " * (3 << 19))
        assert (reply.status_code, reply.headers["Content-Type"]) == (413, "application/problem+json")


@pytest.mark.skipif(sys.platform != "linux", reason="needs the whole loopback network")
def test_clients_behind_nginx_keep_their_addresses(tmp_path):
    """A client that guesses passwords is limited, whatever addresses it forges. Another client signs in."""
    with start_server(
        tmp_path / "progress.db", base_path="/progress", admin_username="admin",
        admin_password="right", trusted_proxies="127.0.0.1", public_url="https://progress.example/progress",
    ) as server:  # fmt: skip
        snippet = replace_all(read_deploy_file("nginx-sub-path.conf"), ("127.0.0.1:8989", f"127.0.0.1:{server.port}"))
        proxy = NginxProxy(tmp_path, f"events {{}}\nhttp {{ access_log off; server {{ listen 80; {snippet} }} }}")
        url = f"http://127.0.0.1:{proxy.port}/progress"

        def sign_in(local_address, password, n):
            headers = {"Host": "progress.example", "Sec-Fetch-Site": "same-origin", "X-Forwarded-For": f"192.0.2.{n}"}
            transport = httpx.HTTPTransport(verify=TLS_CONTEXT, local_address=local_address)
            with httpx.Client(transport=transport, headers=headers, timeout=30) as browser:
                return browser.post(f"{url}/login", data={"username": "admin", "password": password}).status_code

        try:
            assert [sign_in("127.0.0.5", "wrong", n) for n in range(6)] == [403] * 5 + [429]
            assert sign_in("127.0.0.6", "right", 1) == 303
            assert httpx.get(f"{url}/login", headers={"Host": "evil.example"}).status_code == 421
            assert httpx.get(f"{url}/healthz", headers={"Host": "evil.example"}).status_code == 200
        finally:
            proxy.close()


def test_rolling_restart_behind_nginx_fails_no_request(tmp_path, postgres_cluster):
    url = create_database(postgres_cluster)
    servers = [start_server(url) for _ in range(2)]
    names = [(f"server-{n}:8080", f"127.0.0.1:{server.port}") for n, server in enumerate(servers, 1)]
    proxy = NginxProxy(tmp_path, replace_all(read_deploy_file("nginx.conf"), *names))
    statuses = Counter()
    is_over = threading.Event()
    with (
        ThreadPoolExecutor(2) as pool,
        open_client(f"http://127.0.0.1:{proxy.port}", servers[0].create_key("write", "ci")) as http,
    ):

        def write(number):
            while not is_over.is_set():
                ops = [{"op": "put", "id": f"bar-{number}", "value": 0.5}]
                statuses[http.post("/api/v1/items:batch", json={"ops": ops}).status_code] += 1

        writers = [pool.submit(write, number) for number in range(2)]
        try:
            for n, server in enumerate(servers):
                before = statuses.total()
                server.close()
                servers[n] = start_server(url, port=server.port)
                wait_until(lambda before=before: statuses.total() > before + 50)
        finally:
            is_over.set()
            for writer in writers:
                writer.result(60)
    proxy.close()
    for server in servers:
        server.close()
    drop_database(postgres_cluster, url)
    assert set(statuses) == {200}


def test_nginx_retries_at_another_server_when_one_stops(root_site, servers):
    url, key = root_site
    with ProgressBar(url, key) as pb:
        pb.create("stays", "Stays", "", 0.1)
        servers[1].close()
        for _ in range(4):
            assert [item["id"] for item in pb.get_all()] == ["stays"]
        pb.delete("stays")


def test_systemd_unit_is_valid_and_confined(tmp_path):
    analyze = find_program("systemd-analyze", "systemd")
    text = replace_all(
        read_deploy_file("progressbar-tracker.service"),
        ("/opt/progressbar/bin/progressbar-tracker", shutil.which("true")),
    )
    (tmp_path / "progressbar-tracker.service").write_text(text)
    unit = str(tmp_path / "progressbar-tracker.service")
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    # The exposure is from 0 (safe) to 10; the threshold is in tenths.
    command = [analyze, "security", "--offline=true", "--threshold=20", unit]
    assert subprocess.run(command, capture_output=True, timeout=100).returncode == 0


def test_systemd_unit_sets_documented_variables():
    text = read_deploy_file("progressbar-tracker.service")
    pairs = dict(
        pair.split("=", 1) for line in re.findall(r"^Environment=(.*)", text, re.MULTILINE) for pair in line.split()
    )
    settings_page = PROJECT_ROOT / "src/progressbar_tracker/handbook/reference/settings.md"
    documented = settings_page.read_text("utf-8")
    assert [name for name in pairs if name != "HOME" and f"`{name}`" not in documented] == []
    assert pairs["PROGRESSBAR_DATABASE"].startswith("%S/" + re.search(r"StateDirectory=(.*)", text)[1])


def test_caddyfile_is_valid(tmp_path):
    text = read_deploy_file("Caddyfile")
    assert text.count("reverse_proxy 127.0.0.1:8989") == text.count("flush_interval -1") == 2
    caddy = find_program("caddy", "caddy")
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    command = [caddy, "validate", "--config", DEPLOY_FOLDER / "Caddyfile", "--adapter", "caddyfile"]
    done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_compose_file_agrees_with_the_other_files():
    text = read_deploy_file("compose.yaml")
    conf = read_deploy_file("nginx.conf")
    assert re.findall(r"server (server-\d):8080 ", conf) == re.findall(r"^  (server-\d): \*server", text, re.MULTILINE)
    assert (DEPLOY_FOLDER / re.search(r"- \./(\S+):/etc/nginx/nginx.conf:ro", text)[1]).exists()
    assert (DEPLOY_FOLDER / "../.." / re.search(r"dockerfile: (\S+)", text)[1]).exists()
    assert (DEPLOY_FOLDER / re.search(r"context: (\S+)", text)[1]).resolve() == PROJECT_ROOT
