"""Tests for the environment that ``.ci/training-integrations`` builds.

In other environments the packages are missing, and their files are not collected. The script fails if a file runs no
test or skips a test.
"""

from __future__ import annotations

import importlib.util
import os
import signal

import pytest

from tests.support.fault_server import FaultServer
from tests.support.server import start_server

os.environ.setdefault("KERAS_BACKEND", "torch")
REQUIRED_PACKAGES = {
    "keras": "keras", "lightning": "torch", "transformers": "transformers", "libraries": "datasets", "marimo": "marimo",
    "catboost": "catboost", "spacy": "spacy", "prefect": "prefect",
}  # fmt: skip
collect_ignore = [
    f"test_{name}.py" for name, package in REQUIRED_PACKAGES.items() if importlib.util.find_spec(package) is None
]


def pytest_collection_modifyitems(items):
    for item in items:
        if "trainers" in item.path.parts:
            # Warnings of these packages are ignored; warnings of this project are errors.
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.filterwarnings("error:::progressbar_tracker"))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for all trainers."""
    database = tmp_path_factory.mktemp("server") / "progress.db"
    with start_server(database) as running:
        yield running


@pytest.fixture
def faults():
    """A server with scripted faults."""
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def restore_sigint():
    """Restore the handler: Lightning ignores SIGINT after an interrupt."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)
