from __future__ import annotations

import io

import pytest

from progressbar_tracker import tqdm as dropin


@pytest.fixture
def terminal():
    """A stream that tqdm treats as a terminal."""

    class Screen(io.StringIO):
        def isatty(self):
            return True

    return Screen()


@pytest.fixture
def installed_dropin():
    """Replace ``tqdm`` by the drop-in for one test."""
    dropin.install()
    yield
    dropin.uninstall()
