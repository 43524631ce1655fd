# ruff: noqa: INP001 - a folder for sys.path, and no package
"""Python imports this at startup, because ``progressbar-tracker run`` puts this folder first in PYTHONPATH.

The Python may be of any version and may lack this package. So this module uses only old syntax and ignores all errors.
It removes the folder from sys.path before the program starts.
"""

import os
import sys

try:
    import _progressbar_tracker_hook  # type: ignore[import-not-found]

    _progressbar_tracker_hook.watch()
except Exception:  # noqa: BLE001, S110 - tracking never hurts the tracked program
    pass

_here = os.path.normcase(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
sys.path[:] = [path for path in sys.path if os.path.normcase(path) != _here]
sys.modules.pop("sitecustomize", None)

# Import the environment's own sitecustomize. If there is none, Python gets the error that it expects, and this
# module leaves no trace. Python reports an error of the environment's module as usual.
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401
