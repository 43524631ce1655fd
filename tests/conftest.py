"""What every test gets: an environment of its own, so that none meets the real configuration."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal

import hypothesis
import pytest

import progressbar_tracker
from progressbar_tracker import ProgressBar
from tests.support.fault_server import KEY, FaultServer
from tests.support.postgres import postgres_cluster, postgres_url  # noqa: F401  # fixtures for all
from tests.support.programs import Programs

from .support import isolation

isolation.begin()

# Where this is set, each of the hundreds of programs that are started would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell that starts us in the background has us, and all that we start, ignore Ctrl-C. Programs are to hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no reason to fail: what hangs is caught by pytest-timeout.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


MEASURED = frozenset({"cli", "server"})
"""Where the programs that tests start are measured, too: elsewhere they run what is measured in this process, and would
take twice as long for it."""


@pytest.fixture(autouse=True)
def isolated(request, tmp_path, monkeypatch):
    """Hide the user's settings, point the config file into ``tmp_path``, and keep loopback away from proxies."""
    if request.path.parent.name not in MEASURED:
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    for name in list(os.environ):
        if name.startswith(("PROGRESSBAR_", "ADMIN_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PROGRESSBAR_CONFIG", str(tmp_path / "user-config" / "config.toml"))
    monkeypatch.setenv("NO_PROXY", "*")
    yield
    progressbar_tracker.configure()
    seen, isolation.seen[:] = list(isolation.seen), []
    assert seen == [], "the test touched what is the user's own"


class LoggedKeys(logging.Handler):
    """Notes each record in which there is a key."""

    KEY = re.compile(r"pbt_[rwa]_\w{8}_[\w-]{43}")

    def __init__(self):
        super().__init__()
        self.found = []

    def emit(self, record):
        with contextlib.suppress(Exception):  # what cannot be formatted is told by others
            if self.KEY.search(self.format(record)):
                self.found.append(record.name)


@pytest.fixture(scope="session")
def logged_keys():
    handler = LoggedKeys()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture(autouse=True)
def no_key_is_logged(logged_keys):
    """Hold every test to this: whatever it tries, no key gets into a log."""
    yield
    found, logged_keys.found = logged_keys.found, []
    assert found == []


@pytest.fixture
def server(tmp_path):
    """A real server with an empty board."""
    from progressbar_tracker.server.run import BackgroundServer
    from progressbar_tracker.server.settings import Settings

    with BackgroundServer(Settings(database=tmp_path / "progress.db", port=0, local_key=False)) as server:
        yield server


@pytest.fixture
def programs(server, tmp_path):
    """Start programs that find the server and a write key in their environment."""
    programs = Programs(server, tmp_path)
    yield programs
    programs.close()


@pytest.fixture
def faults():
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture
def old_server():
    server = FaultServer(legacy=True)
    yield server
    server.close()


@pytest.fixture
def pb(faults):
    client = ProgressBar(faults.url, KEY, auto_detect=False)
    yield client
    client.sender.close(2.0)
    client.close()
