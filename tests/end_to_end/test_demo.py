"""``progressbar-tracker demo``: the command as a process, and the items of its job."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import threading
import types
import zlib
from pathlib import Path

import httpx
import pytest

from progressbar_tracker import ProgressBar, demo
from tests.support.connections import TLS_CONTEXT, list_items
from tests.support.waiting import wait_until

# The whole job takes half a minute, most of it repetition. The check of the wheel runs it, see .ci/run.
# The first hash waits for a line or the end of the input, because a fast machine hashes all before a test has looked.
SHORT_DEMO_PROGRAM = """
import hashlib
import sys
from types import SimpleNamespace
from progressbar_tracker import __main__, demo

gate = iter([sys.stdin.readline])

def compute_hash(name, data, salt, rounds):
    if rounds == demo.HASH_ROUNDS:
        next(gate, str)()
    return hashlib.pbkdf2_hmac(name, data, salt, rounds)

demo.hashlib = SimpleNamespace(sha256=hashlib.sha256, pbkdf2_hmac=compute_hash)
demo.MAX_INPUT_BYTES, demo.HASHED_PACKAGES = 500_000, ("json", "http")
__main__.main()
"""


@pytest.fixture
def start_demo():
    """Start ``demo`` with a short job, as a process that is killed after 200 seconds."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", SHORT_DEMO_PROGRAM, "demo", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        timer = threading.Timer(200, process.kill)
        timer.daemon = True
        timer.start()
        started.append((process, timer))
        return process

    yield start
    for process, timer in started:
        timer.cancel()
        process.kill()
        process.communicate()


def read_addresses(process):
    """Return the server's URL and the sign-in link from the first lines."""
    url = re.fullmatch(r"Server: +(http://127\.0\.0\.1:\d+)\n", process.stdout.readline())[1]
    link = re.match(rf"Dashboard: ({url}/auth/\S+) .*once", process.stdout.readline())[1]
    return url, link


def open_browser(url):
    return httpx.Client(base_url=url, verify=TLS_CONTEXT, timeout=60)


def test_demo_once_prints_its_addresses_and_exits_with_0(start_demo):
    process = start_demo("--once")
    url, link = read_addresses(process)
    with open_browser(url) as visitor:
        assert visitor.get("/").headers["location"] == "login"
        assert visitor.get(link).status_code == 303
        assert visitor.get("/").headers["content-type"].startswith("text/html")
        wait_until(lambda: "hash" in list_items(visitor))
    with open_browser(url) as another:
        assert another.get(link).status_code >= 400, "the link signs in once"
        assert another.get("/progress").status_code == 401
    out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, "")
    assert "one failed: FileNotFoundError on " in out.splitlines()[-1]


def test_demo_exits_cleanly_on_ctrl_c(start_demo):
    process = start_demo()
    url, link = read_addresses(process)
    with open_browser(url) as visitor:
        visitor.get(link)
        wait_until(lambda: "hash" in list_items(visitor))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "Stopped."


# The items of the job, without its slow parts


@pytest.fixture
def finished_demo(server, tmp_path, monkeypatch):
    """Run the demo's job with a flush instead of each slow part; return the list and the history."""
    with ProgressBar(server.url, server.keys["write"]) as pb:

        def flush_and_return(result):
            def call(*_):
                assert pb.sender.flush(60)
                return result

            return call

        first = iter([flush_and_return(0)])
        checksum = types.SimpleNamespace(crc32=lambda data: next(first, zlib.crc32)(data))
        packer = types.SimpleNamespace(compress=flush_and_return(b""))
        slow_hash = types.SimpleNamespace(sha256=hashlib.sha256, pbkdf2_hmac=flush_and_return(b""))
        monkeypatch.setattr(demo, "HASHED_PACKAGES", ("json", "http"))
        monkeypatch.setattr(demo, "MAX_INPUT_BYTES", 300_000)
        monkeypatch.setattr(demo, "hashlib", slow_hash)
        monkeypatch.setattr(demo, "lzma", types.SimpleNamespace(LZMACompressor=lambda preset: packer))
        monkeypatch.setattr(demo, "zlib", checksum)
        demo.run_jobs(pb, tmp_path)
        assert pb.sender.flush(60)
        assert pb.sender.stats().dropped == 0
    return server.items(), server.history()


def test_demo_leaves_each_bar_in_its_final_state(finished_demo):
    listed, history = finished_demo
    ended = {run["id"]: run for run in history}
    library = Path(hashlib.__file__).parent

    packages = ended["hash"]
    assert (packages["status"], packages["completed"], packages["total"]) == ("succeeded", 2, 2)
    inner = {run["title"]: run for run in history if run["parent"] == "hash"}
    assert inner.keys() == {"Hash json", "Hash http"}
    for name in ("json", "http"):
        run, number = inner[f"Hash {name}"], len(list((library / name).rglob("*.py")))
        assert (run["status"], run["completed"], run["total"]) == ("succeeded", number, number)

    compress = ended["compress"]
    assert (compress["status"], compress["unit"], compress["parent"]) == ("succeeded", "B", None)
    assert compress["completed"] == compress["total"] >= 300_000
    assert compress["value"] == 1

    find, names = ended["find"], list(demo.iter_modules(library))
    assert (find["status"], find["total"], find["completed"]) == ("succeeded", None, len(names))

    backup = listed["backup"]
    assert (backup["status"], backup["completed"], backup["total"], backup["value"]) == ("failed", 30, 60, 0.5)
    assert backup["error"].startswith("FileNotFoundError: ")

    search = listed["search"]
    assert (search["status"], search["total"]) == ("stopped", len(names))
    assert 0 < search["completed"] < len(names)

    assert listed.keys() == {"backup", "search"}
    assert {item["group"] for item in [*listed.values(), *history]} == {demo.ITEM_GROUP}


def test_module_search_skips_links_to_absent_files(tmp_path):
    """Debian's standard library has one: sitecustomize.py."""
    (tmp_path / "module.py").touch()
    (tmp_path / "link.py").symlink_to(tmp_path / "absent.py")
    assert list(demo.iter_modules(tmp_path)) == [tmp_path / "module.py"]
