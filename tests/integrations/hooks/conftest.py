from __future__ import annotations

import importlib
import io

import pytest

from progressbar_tracker._tracking import nesting


@pytest.fixture(autouse=True)
def forget_open_bars():
    """Let no bar that an earlier test has left open be a parent."""
    nesting._open_bars.set(())


class Terminal(io.StringIO):
    """A stream that a library draws its bars on."""

    def isatty(self):
        return True


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def install():
    """Install an integration by its name, for one test."""
    installed = []

    def install_integration(name):
        integration = importlib.import_module(f"progressbar_tracker.integrations.{name}")
        integration.install()
        installed.append(integration)
        return integration

    yield install_integration
    for integration in installed:
        integration.uninstall()
