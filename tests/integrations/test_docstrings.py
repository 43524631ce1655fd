"""Public names of the integrations have docstrings with examples."""

from __future__ import annotations

import importlib
import inspect

import pytest

INTEGRATION_NAMES = ["asyncio", "dask", "fsspec", "joblib", "logging", "pandas", "rich"]


@pytest.mark.parametrize("name", INTEGRATION_NAMES)
def test_public_names_have_docstring_and_example(name):
    module = importlib.import_module(f"progressbar_tracker.integrations.{name}")
    assert f"from progressbar_tracker.integrations.{name} import" in module.__doc__
    for public in module.__all__:
        value = getattr(module, public)
        assert inspect.getdoc(value)
        assert ">>> " in value.__doc__ or public in ("Chunks", "Lines")  # returned by functions
