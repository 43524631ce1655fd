"""Import of an integration without its package."""

from __future__ import annotations

import subprocess
import sys

PACKAGE_NAMES = (
    "catboost", "celery", "dask", "dramatiq", "fsspec", "joblib", "keras", "lightgbm", "lightning", "luigi",
    "optuna", "pandas", "prefect", "rich", "sklearn", "spacy", "transformers", "xgboost",
)  # fmt: skip
MISSING_PACKAGE_PROGRAM = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in (*names, "pytorch_lightning"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

names = sys.argv[1:]
sys.meta_path.insert(0, Missing())
for name in names:
    try:
        importlib.import_module(f"progressbar_tracker.integrations.{name}")
    except ImportError as error:
        print(error)
for name in ("asyncio", "logging"):
    importlib.import_module(f"progressbar_tracker.integrations.{name}")
"""


def test_missing_package_error_has_install_command():
    command = [sys.executable, "-c", MISSING_PACKAGE_PROGRAM, *PACKAGE_NAMES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    distributions = {"sklearn": "scikit-learn"}
    assert done.stdout.splitlines() == [
        f"{name} is not installed: pip install {distributions.get(name, name)}" for name in PACKAGE_NAMES
    ]
