# ruff: noqa: INP001 - a folder for sys.path, and no package
"""Python imports this when it starts, for ``progressbar-tracker run`` has put this folder at the head of PYTHONPATH.

It may be a Python of any age, with or without this package, that runs anything: so nothing here is newer than it need
be, and whatever goes wrong is passed over in silence. The folder leaves sys.path before the program could see it.
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

# The environment's own. Where there is none this raises what Python expects in that case, and nothing is left of this
# module; and what the environment's own raises is reported as it would be without us.
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401
