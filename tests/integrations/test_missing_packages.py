"""What an integration says when its package is missing."""

from __future__ import annotations

import subprocess
import sys

MISSING_PACKAGE_PROGRAM = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

NAMES = ("dask", "fsspec", "joblib", "pandas", "rich")
sys.meta_path.insert(0, Missing())
for name in NAMES:
    try:
        importlib.import_module(f"progressbar_tracker.integrations.{name}")
    except ImportError as error:
        print(error)
for name in ("asyncio", "logging"):
    importlib.import_module(f"progressbar_tracker.integrations.{name}")
"""


def test_missing_package_error_has_install_command():
    done = subprocess.run([sys.executable, "-c", MISSING_PACKAGE_PROGRAM], capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"{name} is not installed: pip install {name}" for name in ("dask", "fsspec", "joblib", "pandas", "rich")
    ]
