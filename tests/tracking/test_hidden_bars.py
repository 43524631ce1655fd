"""Bars of modules whose work an integration reports."""

from __future__ import annotations

import pytest
import rich.progress
from tqdm.auto import tqdm

from progressbar_tracker._tracking.hidden_bars import hide_bars, show_bars
from progressbar_tracker.integrations import install, uninstall


@pytest.fixture
def hidden(recorder):
    """Hide the bars of this module, with all integrations installed."""
    install()
    hide_bars(__name__)
    yield recorder
    show_bars(__name__)
    uninstall()


def show_tqdm_bar():
    tqdm(total=2, disable=None).close()


def show_rich_task():
    rich.progress.Progress().add_task("rows")


each_library = pytest.mark.parametrize("show", [show_tqdm_bar, show_rich_task])


@each_library
def test_bar_of_hidden_module_is_not_shown(hidden, show, capsys):
    show()
    assert len(hidden) == 0


@each_library
def test_bar_of_module_that_is_shown_again_is_shown(hidden, show, capsys):
    show_bars(__name__)
    show()
    assert len(hidden) == 1


def test_bar_of_other_module_is_shown(hidden, capsys):
    list(rich.progress.track([1, 2]))  # made by rich's own function for this module: hidden
    assert len(hidden) == 0
    code = compile("tqdm(total=2, disable=None)", "other.py", "exec")
    exec(code, {"__name__": "other", "tqdm": tqdm})
    assert len(hidden) == 1
