"""Four cells behind the shipped nginx and Caddy: routes by key and by host name, and a cell that dies."""

from __future__ import annotations

import base64
import itertools
import re
import signal
import subprocess
import threading
from contextlib import ExitStack

import httpx
import pytest

from tests.support.connections import TLS_CONTEXT, find_free_port, open_client
from tests.support.deploy import NginxProxy, find_program, is_listening, read_deploy_file, replace_all
from tests.support.server_process import ADMIN_KEY, ServerProcess
from tests.support.sse import SseStream
from tests.support.waiting import wait_until

CELL_NAMES = ("c1", "c2", "c3", "c4")
SITE_NAME = "progress.example.org"
KEY_TYPES = ("read", "write")


class Cell:
    """A server on a file of its own, with keys that name the cell."""

    def __init__(self, name, folder):
        folder.mkdir()
        self.name = name
        self.host = f"{name}.{SITE_NAME}"
        self.process = ServerProcess(
            folder, limit=900, PROGRESSBAR_PUBLIC_URL=f"http://{self.host}", PROGRESSBAR_ALLOWED_HOSTS=SITE_NAME,
            PROGRESSBAR_TRUSTED_PROXIES="loopback",
        )  # fmt: skip
        with self.process.http() as http:
            self.keys = {
                kind: http.post("/api/v1/keys", json={"type": kind, "name": "ci", "cell": name}).json()["key"]
                for kind in KEY_TYPES
            }
        assert all(key.startswith(f"pbt_{kind[0]}_{name}-") for kind, key in self.keys.items())

    @property
    def address(self):
        return self.process.url.removeprefix("http://")


class Front:
    """The balancer; streams and clients take its URL."""

    def __init__(self, url):
        self.url = url
        self.keys = {}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder, cells = tmp_path_factory.mktemp("cells"), {}
    with ExitStack() as stack:
        for name in CELL_NAMES:
            cells[name] = Cell(name, folder / name)
            stack.callback(cells[name].process.close)
        yield cells


def list_addresses(cells):
    return [(f"cell-{n}:8080", cell.address) for n, cell in enumerate(cells.values(), 1)]


def start_nginx(cells, folder, stack):
    text = replace_all(read_deploy_file("nginx-cells.conf"), *list_addresses(cells))
    proxy = stack.enter_context(NginxProxy(folder, text))
    return f"http://127.0.0.1:{proxy.port}"


def start_caddy(cells, folder, stack):
    caddy, port = find_program("caddy", "caddy"), find_free_port()
    text = replace_all(read_deploy_file("Caddyfile-cells"), *list_addresses(cells))
    text = re.sub(rf"^((?:c\d\.)?{re.escape(SITE_NAME)}) {{", rf"http://\1:{port} {{", text, flags=re.MULTILINE)
    (folder / "Caddyfile").write_text(f"{{\nadmin off\n}}\n{text}")
    environ = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = [caddy, "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
    process = stack.enter_context(subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL))
    stack.callback(process.kill)  # in good order, Caddy would wait for the end of each stream

    def is_ready():
        assert process.poll() is None, "Caddy did not start"
        return is_listening(port)

    wait_until(is_ready)
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module", params=[start_nginx, start_caddy])
def front(request, cells, tmp_path_factory):
    """The balancer in front of the cells, without items."""
    for cell in cells.values():
        with cell.process.http() as http:
            for item in http.get("/api/v1/items").json()["items"]:
                assert http.delete(f"/api/v1/items/{item['id']}").is_success
    with ExitStack() as stack:
        yield Front(request.param(cells, tmp_path_factory.mktemp("front"), stack))


def read_states(stream, item_id, count):
    """Return counts and titles of an item, until a stream shows a count."""
    states = []
    while not states or states[-1][0] != count:
        event = stream.next(timeout=60)
        assert event is not None, "the stream ended"
        states += [(item["completed"], item["title"]) for item in event.data["items"] if item["id"] == item_id]
    return states


def test_writes_and_streams_stay_in_their_cell(cells, front):
    """The same id has another state in each cell."""
    host = {"Host": SITE_NAME}
    streams = {name: SseStream(front, cell.keys["read"], **host) for name, cell in cells.items()}
    count = 20
    for step, (name, cell) in itertools.product(range(1, count + 1), cells.items()):
        with open_client(front.url, cell.keys["write"], **host) as http:
            body = {"title": f"of {name}", "total": count, "completed": step}
            assert http.put("/api/v1/items/exact", json=body).is_success
    for name, stream in streams.items():
        assert stream.status == 200
        states = read_states(stream, "exact", count)
        stream.close()
        assert {title for _, title in states} == {f"of {name}"}
        assert states == sorted(states)
    for name, cell in cells.items():
        with cell.process.http() as http:
            item = http.get("/api/v1/items/exact").json()
            assert (item["title"], item["completed"]) == (f"of {name}", count)


def test_request_without_a_cell_is_answered_by_no_cell(cells, front):
    key = cells["c1"].keys["write"]
    for wrong in ("", ADMIN_KEY, key.replace("_c1-", "_c9-"), f"x{key}", key.replace("_c1-", "_")):
        with open_client(front.url, wrong, Host=SITE_NAME) as http:
            assert http.get("/api/v1/items").status_code == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-API-KEY": "{key}"}, 200),
        ({"x-api-key": "{key}", "Authorization": "Bearer {other}"}, 200),
        ({"Authorization": "Bearer {key}"}, 200),
        ({"Authorization": "bearer   {key}"}, 200),
        ({"Authorization": "BEARER {key}", "Cookie": "a=b"}, 200),
        ({"X-API-KEY": "unknown", "Authorization": "Bearer {key}"}, 421),  # the server would refuse it, too
        ({"Authorization": "Basic {basic}"}, 421),
        ({"Authorization": "{key}"}, 421),
        ({"Cookie": "key={key}"}, 421),
    ],
    ids=str,
)
def test_key_is_routed_as_the_server_reads_it(cells, front, headers, status):
    """Each cell knows only its own keys, so 200 is the answer of the right one."""
    for cell, other in itertools.pairwise([*cells.values(), cells["c1"]]):
        key = cell.keys["read"]
        texts = {"key": key, "other": other.keys["read"], "basic": base64.b64encode(f"{key}:".encode()).decode()}
        sent = {name: text.format(**texts) for name, text in headers.items()}
        with cell.process.http() as http:
            http.headers.pop("X-API-KEY")
            assert (http.get("/api/v1/items", headers=sent).status_code == 200) is (status == 200)
        with httpx.Client(verify=TLS_CONTEXT) as client:
            reply = client.get(f"{front.url}/api/v1/items", headers={"Host": SITE_NAME, **sent})
        assert reply.status_code == status


def test_browser_and_share_belong_to_the_host_of_a_cell(cells, front):
    cell = cells["c2"]
    with open_client(front.url, cell.keys["write"], Host=SITE_NAME) as http:
        assert http.put("/api/v1/items/shared", json={}).is_success
    with httpx.Client(base_url=front.url, verify=TLS_CONTEXT, headers={"Sec-Fetch-Site": "same-origin"}) as browser:
        reply = browser.post("/login", data={"key": ADMIN_KEY}, headers={"Host": cell.host})
        cookies = reply.headers.get_list("Set-Cookie")
        assert cookies
        assert not [cookie for cookie in cookies if "domain=" in cookie.lower()]
        cookie = "; ".join(text.partition(";")[0] for text in cookies)
        shared = browser.post("/api/v1/shares", json={"item": "shared"}, headers={"Host": cell.host, "Cookie": cookie})
        assert shared.status_code == 201, shared.text
        url = httpx.URL(shared.json()["url"])
        assert url.host == cell.host
        statuses = {
            name: browser.get(url.path, headers={"Host": cells[name].host}).status_code for name in ("c2", "c3")
        }
        assert statuses == {"c2": 200, "c3": 404}


def test_other_cells_continue_when_one_is_killed(cells, front):
    host = {"Host": SITE_NAME}
    acknowledged, failures, is_over = dict.fromkeys(cells, 0), [], threading.Event()

    def write(name):
        with open_client(front.url, cells[name].keys["write"], **host) as http:
            for step in itertools.count(1):
                if is_over.is_set():
                    return
                reply = http.put("/api/v1/items/continued", json={"completed": step, "total": 10**9})
                if reply.is_success:
                    acknowledged[name] = step
                else:
                    failures.append((name, reply.status_code))

    others = [name for name in cells if name != "c2"]
    streams = {name: SseStream(front, cells[name].keys["read"], **host) for name in others}
    writers = [threading.Thread(target=write, args=(name,)) for name in cells]
    for writer in writers:
        writer.start()
    try:
        wait_until(lambda: min(acknowledged.values()) > 20)
        cells["c2"].process.stop(signal.SIGKILL)
        wait_until(lambda: failures)
        before = dict(acknowledged)
        wait_until(lambda: all(acknowledged[name] > before[name] + 20 for name in others))
        cells["c2"].process.start()
        wait_until(lambda: acknowledged["c2"] > before["c2"])
    finally:
        is_over.set()
        for writer in writers:
            writer.join(60)
    assert {name for name, _ in failures} == {"c2"}
    assert {status for _, status in failures} <= {502, 503, 504}
    for name, stream in streams.items():
        read_states(stream, "continued", acknowledged[name])
        stream.close()
    for name, cell in cells.items():
        with cell.process.http() as http:
            assert http.get("/api/v1/items/continued").json()["completed"] == acknowledged[name]
