"""The tests are kept away from what is the user's own; here it is tried whether that is noticed."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from progressbar_tracker._config import get_user_config_path
from progressbar_tracker.server.settings import default_database

from .conftest import accesses_watched
from .support import isolation


@pytest.fixture
def watched(request):
    """Skips a test of the audit hook in a run without it."""
    if not request.config.stash[accesses_watched]:
        pytest.skip("coverage and an audit hook exclude each other before Python 3.12")


@pytest.fixture
def guarded_folder(watched):
    """The user's configuration folder."""
    return Path(os.environ.get(isolation.GUARDED_VARIABLE) or isolation._guarded_folders[0].split(os.pathsep)[0])


def pop_violations():
    seen, isolation.violations[:] = list(isolation.violations), []
    return seen


def test_the_users_folders_are_those_of_the_tests_home():
    home = Path(os.environ["HOME"])
    assert home.name.startswith("progressbar-tests-")
    assert default_database().is_relative_to(home)
    assert get_user_config_path({}).is_relative_to(home)


def test_a_program_that_is_started_has_the_tests_home_too():
    code = "from progressbar_tracker.server.settings import default_database; print(default_database())"
    message = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert message.strip() == str(default_database())


def test_a_file_of_the_users_is_noted(guarded_folder):
    with pytest.raises(OSError, match="No such file"):
        (guarded_folder / "no such folder" / "file").open()
    with pytest.raises(sqlite3.OperationalError):
        sqlite3.connect(guarded_folder / "no such folder" / "progress.db")
    assert len(pop_violations()) == 2


def test_the_usual_port_is_noted(watched):
    with socket.socket() as probe:
        probe.settimeout(0)
        assert probe.connect_ex(("192.0.2.1", isolation.DEFAULT_PORT)) != 0
    assert len(pop_violations()) == 1
