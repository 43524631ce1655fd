"""Fixtures of the terminal's tests."""

from __future__ import annotations

import pytest

from tests.support.pseudo_terminal import PseudoTerminal


@pytest.fixture
def emulator(monkeypatch):
    terminal = PseudoTerminal(monkeypatch)
    yield terminal
    terminal.display.close()
    terminal.close()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item):
    """Replace the streams again: the capture of pytest has replaced them after the fixtures."""
    terminal = item.funcargs.get("emulator") or item.funcargs.get("supported")
    with pytest.MonkeyPatch.context() as patch:
        if terminal is not None:
            terminal.replace_streams(patch)
        return (yield)
