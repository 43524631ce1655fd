"""``serve`` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys

import pytest

from progressbar_tracker import ProgressBar, _config


@pytest.fixture
def start_serve(tmp_path):
    """Start ``serve`` processes with a database and a config file of the test's own; kill them at the end."""
    processes = []

    def start(*arguments, **environ):
        process = subprocess.Popen(
            [sys.executable, "-m", "progressbar_tracker", "serve", *arguments],
            env={**os.environ, "PROGRESSBAR_DATABASE": str(tmp_path / "progress.db"), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def read_url(process):
    """Return the server's URL and its output up to the line with it."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if match := re.match(r"Serving on (\S+) ", line):
            return match[1], "".join(lines)
    raise AssertionError("".join(lines) + process.stderr.read())


def read_refusal(process):
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    return err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows another process's limits")
def test_serve_raises_its_limit_of_files(start_serve):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        process = start_serve("--port", "0")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    read_url(process)
    expected = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0] == expected


def test_serve_first_start_configures_track(start_serve, tmp_path):
    url, output = read_url(start_serve("--port", "0"))
    assert "admin key" in output
    assert "/auth/" in output
    path = _config.get_user_config_path(os.environ)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    code = (
        "from progressbar_tracker import flush, track\nfor i in track(range(3), id='job', keep=True): pass\nflush(20)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
    config = _config.discover(os.environ)
    assert config.url == url
    with ProgressBar(config.url, config.api_key) as pb:
        assert pb.get("job")["status"] == "succeeded"


def test_serve_no_local_key_leaves_the_config_file_alone(start_serve):
    read_url(start_serve("--port", "0", "--no-local-key"))
    assert not _config.get_user_config_path(os.environ).exists()


def test_serve_admin_key_of_a_file_works_and_is_not_printed(start_serve, tmp_path):
    secret = "an-admin-key-of-our-own-making"
    (tmp_path / "key").write_text(secret + "\n")
    url, output = read_url(start_serve("--port", "0", PROGRESSBAR_ADMIN_KEY_FILE=str(tmp_path / "key")))
    assert secret not in output
    assert "admin key" not in output
    with ProgressBar(url, secret) as pb:
        assert pb.is_admin()


def test_serve_base_path_prefixes_all_routes(start_serve):
    url, _ = read_url(start_serve("--port", "0", "--base-path", "/p/"))
    assert url.endswith("/p")
    config = _config.discover(os.environ)
    with ProgressBar(config.url, config.api_key) as pb:
        pb.create("job", "Job", "", 0.5)
        assert pb.get("job")["value"] == 0.5


def test_serve_on_all_addresses_prints_the_one_of_the_network(start_serve):
    process = start_serve("--port", "0", "--host", "0.0.0.0", "--public-url", "https://progress.example")
    read_url(process)
    assert process.stdout.readline() == "Other machines reach it at https://progress.example.\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_exits_cleanly_on_a_signal(start_serve, number):
    process = start_serve("--port", "0")
    read_url(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, "")


def test_serve_refuses_a_second_server_on_the_file(start_serve, tmp_path):
    read_url(start_serve("--port", "0"))
    assert "progress.db" in read_refusal(start_serve("--port", "0"))


def test_serve_refuses_a_port_in_use(start_serve):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in read_refusal(start_serve("--port", port))


def test_serve_refuses_a_file_that_is_no_database(start_serve, tmp_path):
    (tmp_path / "progress.db").write_text("this is no database at all, just a long enough line of text\n" * 40)
    assert "progress.db" in read_refusal(start_serve("--port", "0"))


def test_serve_json_log_has_a_failed_start(start_serve, tmp_path):
    (tmp_path / "progress.db").write_text("this is no database at all, just a long enough line of text\n" * 40)
    _, err = (process := start_serve("--port", "0", "--log-format", "json")).communicate(timeout=100)
    assert process.returncode == 1
    (line,) = map(json.loads, err.splitlines())
    assert line["level"] == "critical"
    assert "progress.db" in line["message"]


def test_serve_names_an_invalid_variable(start_serve):
    assert "PROGRESSBAR_PORT" in read_refusal(start_serve(PROGRESSBAR_PORT="many"))


def test_keys_create_works_while_serve_runs(start_serve, tmp_path):
    url, _ = read_url(start_serve("--port", "0"))
    created = subprocess.run(
        [sys.executable, "-m", "progressbar_tracker", "keys", "create", "--type", "read", "--name", "wall"],
        env={**os.environ, "PROGRESSBAR_DATABASE": str(tmp_path / "progress.db")},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    with ProgressBar(url, created.stdout.strip()) as pb:
        assert pb.is_read_only()


KUBERNETES_VARIABLES = {
    "PROGRESSBAR_SERVICE_HOST": "10.0.0.7", "PROGRESSBAR_SERVICE_PORT": "8989",
    "PROGRESSBAR_PORT": "tcp://10.0.0.7:8989", "PROGRESSBAR_PORT_8989_TCP": "tcp://10.0.0.7:8989",
    "PROGRESSBAR_PORT_8989_TCP_PROTO": "tcp", "PROGRESSBAR_PORT_8989_TCP_PORT": "8989",
    "PROGRESSBAR_PORT_8989_TCP_ADDR": "10.0.0.7",
}  # fmt: skip


def test_serve_ignores_kubernetes_service_variables(start_serve):
    process = start_serve("--port", "0", **KUBERNETES_VARIABLES)
    read_url(process)
    process.terminate()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert err.count("PROGRESSBAR_PORT is a service's address and no port, and is ignored") == 1


def test_commands_read_only_the_variables_that_they_use(server, monkeypatch, command):
    monkeypatch.setenv("PROGRESSBAR_DATABASE", str(server.settings.database))
    for name in ("PORT", "KEEP", "HISTORY", "MAX_ITEMS", "LOG_LEVEL", "LOCAL_KEY"):
        monkeypatch.setenv(f"PROGRESSBAR_{name}", "tcp://10.0.0.7:8989")
    assert command("keys", "create", "--type", "read", "--name", "me").code == 0
    assert command("keys", "list").code == 0
