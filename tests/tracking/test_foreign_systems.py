"""The package on systems that cannot be run here, as far as their names and gaps can be simulated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import PATIENT_EXIT_PRELUDE, run_program

PROJECT_ROOT = Path(__file__).parents[2]
SERVER_MODULES = ("progressbar_tracker.server.", "progressbar_tracker.demo")
SIMULATION_PRELUDE = (
    f"import sys; sys.path.insert(0, {str(PROJECT_ROOT)!r})\nfrom tests.support import foreign_system\n"
)


def test_each_module_can_be_imported_on_every_system():
    command = [sys.executable, "-m", "tests.support.foreign_system"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    errors = {
        (system, name): error
        for system, errors_by_name in json.loads(done.stdout.splitlines()[-1]).items()
        for name, error in errors_by_name.items()
        if not (system == "pyodide" and name.startswith(SERVER_MODULES))  # the server needs sockets
    }
    assert errors == {}


TRACKING_CODE = """
with track(total=3, id="bar", keep=True) as bar:
    for _ in track(range(5), id="loop", keep=True): pass
    bar.advance(3)
"""


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_tracked_program_reports_its_bars(faults, tmp_path, system):
    code = SIMULATION_PRELUDE + (
        f"foreign_system.simulate({system!r})\n"
        "from progressbar_tracker import track, flush\n" + PATIENT_EXIT_PRELUDE + TRACKING_CODE + "assert flush(60)\n"
    )
    assert run_program(faults.url, code, tmp_path) == (0, "", "")
    completed = {item_id: (item["status"], item["completed"]) for item_id, item in faults.items.items()}
    assert completed == {"bar": ("succeeded", 3), "loop": ("succeeded", 5)}


def test_program_without_threads_and_sockets_says_why(faults, tmp_path):
    code = SIMULATION_PRELUDE + (
        "foreign_system.simulate('pyodide')\n"
        "from progressbar_tracker import track, flush\n"
        "import logging; logging.basicConfig(stream=sys.stdout, format='%(message)s')\n" + TRACKING_CODE
    )
    exit_code, out, err = run_program(faults.url, code, tmp_path)
    assert (exit_code, err) == (0, "")
    warning, *exit_warnings = out.splitlines()
    assert warning == "Progress is not reported, because no thread can be started: can't start new thread"
    assert len(exit_warnings) == 1  # the last try to send
    assert faults.requests == []
