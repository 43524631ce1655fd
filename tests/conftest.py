"""Fixtures for all tests, and an isolated environment for each."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import signal
from pathlib import Path

import hypothesis
import pytest

import progressbar_tracker
from progressbar_tracker import ProgressBar, _runtime
from progressbar_tracker.testing import recording
from tests.support.fault_server import WRITE_KEY, FaultServer
from tests.support.postgres import postgres_cluster, postgres_url  # noqa: F401  # fixtures for all
from tests.support.programs import ProgramRunner
from tests.support.webhook_receiver import WebhookReceiver

from .support import isolation

isolation.isolate_process()

# With the first variable, each of the hundreds of started programs would compile the package again. The others change
# what programs print, and when.
for name in (
    "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONWARNINGS",
    "TMUX", "STY", "TERM_PROGRAM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES",
):  # fmt: skip
    os.environ.pop(name, None)
os.environ["TERM"] = "xterm"  # a CI service may have none

# A process that a shell starts in the background ignores SIGINT, and so do its children. The programs must receive it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No limits of time, because the machine may be busy. pytest-timeout ends a test that hangs.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


accesses_watched = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect no garbage meanwhile, which takes as long as the rest, and later none of the collected tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_configure(config):
    config.stash[accesses_watched] = isolation.watch_accesses(coverage=bool(config.getoption("cov_source", None)))


TESTS_FOLDER = Path(__file__).parent
MEASURED_FOLDERS = frozenset({"cli", "server"})
"""Folders whose tests measure the coverage of the programs that they start. Coverage makes a program twice as slow, and
the tests of the other folders run the same code in their own process."""


@pytest.fixture(autouse=True)
def isolated_environment(request, tmp_path, monkeypatch):
    """Hide the user's settings, point the config file into ``tmp_path``, and keep loopback away from proxies."""
    if not MEASURED_FOLDERS.intersection(request.path.relative_to(TESTS_FOLDER).parts[:1]):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    for name in list(os.environ):
        if name.startswith(("PROGRESSBAR_", "ADMIN_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PROGRESSBAR_CONFIG", str(tmp_path / "user-config" / "config.toml"))
    monkeypatch.setenv("PROGRESSBAR_ENVIRONMENT", "0")  # the tests may run in a CI service or a container
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(_runtime, "_failure_lines", None)  # a command in this process shows its failures
    yield
    progressbar_tracker.configure()
    violations, isolation.violations[:] = list(isolation.violations), []
    assert violations == [], "the test accessed the user's files or the default port"


class KeyLeakDetector(logging.Handler):
    """Records the logger of each record that contains a key."""

    KEY_PATTERN = re.compile(r"pbt_[rwa]_\w{8}_[\w-]{43}")

    def __init__(self):
        super().__init__()
        self.logger_names = []

    def emit(self, record):
        with contextlib.suppress(Exception):  # other handlers report a record that cannot be formatted
            if self.KEY_PATTERN.search(self.format(record)):
                self.logger_names.append(record.name)


@pytest.fixture(scope="session")
def key_leak_detector():
    """A handler on the root logger for the whole session."""
    handler = KeyLeakDetector()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture(autouse=True)
def forbid_logged_keys(key_leak_detector):
    """Fail a test that logs a key."""
    yield
    leaking_loggers, key_leak_detector.logger_names = key_leak_detector.logger_names, []
    assert leaking_loggers == []


@pytest.fixture
def server(tmp_path):
    """A real server with an empty board."""
    from tests.support.server import start_server

    with start_server(tmp_path / "progress.db") as server:
        yield server


@pytest.fixture
def programs(server, tmp_path):
    """Start programs that find the server and a write key in their environment."""
    programs = ProgramRunner(server, tmp_path)
    yield programs
    programs.close()


@pytest.fixture
def recorder():
    """Record the runs of this process instead of sending them."""
    with recording() as runs:
        yield runs


@pytest.fixture
def receiver():
    """A server that records webhooks and answers as a test says."""
    with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture
def disk(monkeypatch):
    """A disk for all SQLite stores, which a test can fill."""
    from progressbar_tracker.server.stores.sqlite import writer
    from tests.support.server import FullDisk

    disk = FullDisk()
    monkeypatch.setattr(writer, "execute_writes", disk.execute_writes)
    return disk


@pytest.fixture
def faults():
    """A server of the protocol with faults by script."""
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture
def old_server():
    """A server of the original protocol with faults by script."""
    server = FaultServer(legacy=True)
    yield server
    server.close()


@pytest.fixture
def pb(faults):
    """A client of the server with faults, which does not ask for its key's permissions."""
    client = ProgressBar(faults.url, WRITE_KEY, auto_detect=False)
    yield client
    client.sender.close(2.0)
    client.close()
