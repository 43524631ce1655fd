"""Public names of the integrations have docstrings with examples."""

from __future__ import annotations

import importlib
import inspect

import pytest

INTEGRATION_NAMES = [
    "alive_progress",
    "asyncio",
    "atpbar",
    "celery",
    "click",
    "dask",
    "dramatiq",
    "enlighten",
    "fastprogress",
    "fsspec",
    "joblib",
    "lightgbm",
    "logging",
    "luigi",
    "optuna",
    "pandas",
    "progressbar2",
    "rich",
    "sklearn",
    "xgboost",
]


@pytest.mark.parametrize("name", INTEGRATION_NAMES)
def test_public_names_have_docstring_and_example(name):
    pytest.importorskip(name.replace("progressbar2", "progressbar"), reason=f"{name} is not installed")
    module = importlib.import_module(f"progressbar_tracker.integrations.{name}")
    assert f"from progressbar_tracker.integrations.{name} import" in module.__doc__
    for public in module.__all__:
        value = getattr(module, public)
        assert inspect.getdoc(value)
        assert ">>> " in value.__doc__ or public in (
            "Chunks",
            "Lines",
            "uninstall",
            "untrack_tasks",
        )  # in the example of another name
