"""A bar that starts while another thread imports a module."""

from __future__ import annotations

import sys
import types

import pytest

from progressbar_tracker import track


def make_empty_module():
    return types.ModuleType("multiprocessing.process")


def make_partial_module():
    module = make_empty_module()
    exec("def parent_process():\n    return _parent_process", module.__dict__)
    return module


@pytest.mark.parametrize("module", [make_empty_module, make_partial_module])
def test_bar_starts_during_a_multiprocessing_import(monkeypatch, pb, module):
    """On a terminal, the display's thread imports it with tqdm."""
    monkeypatch.setitem(sys.modules, "multiprocessing.process", module())
    assert list(track([1, 2], client=pb)) == [1, 2]
