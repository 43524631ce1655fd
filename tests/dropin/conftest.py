from __future__ import annotations

import io

import pytest

from progressbar_tracker import tqdm as dropin
from progressbar_tracker.testing import recording


@pytest.fixture
def recorder():
    """What would be told to a server."""
    with recording() as made:
        yield made


@pytest.fixture
def terminal():
    """A terminal to draw on, as far as tqdm can tell."""

    class Screen(io.StringIO):
        def isatty(self):
            return True

    return Screen()


@pytest.fixture
def installed_dropin():
    dropin.install()
    yield
    dropin.uninstall()
