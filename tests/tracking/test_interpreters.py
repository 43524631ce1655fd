"""Matters of the interpreter: the default start method of pools, lazy imports and subinterpreters."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from progressbar_tracker._http.eager_imports import import_eagerly
from tests.support.fault_server import WRITE_KEY
from tests.support.programs import PROGRAM_TIMEOUT, run_program

POOL_PROGRAM = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def work(number):
    with track(total=2, id=f"worker-{number}", keep=True) as bar:
        bar.advance(2)
    return flush(60)

if __name__ == "__main__":
    print(multiprocessing.get_start_method())
    with track(total=3, id="job", keep=True) as bar, ProcessPoolExecutor(2) as pool:
        for is_flushed in pool.map(work, range(3)):
            bar.advance(is_flushed)
    assert flush(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other start methods")
def test_pool_with_the_default_start_method_reports_each_bar(faults, tmp_path):
    exit_code, out, err = run_program(faults.url, POOL_PROGRAM, tmp_path)
    assert (exit_code, err) == (0, "")
    assert out == ("forkserver\n" if sys.version_info >= (3, 14) else "fork\n")
    states = {item_id: (item["status"], item["completed"]) for item_id, item in faults.items.items()}
    assert states == {"job": ("succeeded", 3)} | {f"worker-{number}": ("succeeded", 2) for number in range(3)}


# --- lazy imports -----------------------------------------------------------------------------------------------------

has_lazy_imports = pytest.mark.skipif(sys.version_info < (3, 15), reason="Python 3.15 introduced lazy imports")
LAZY_ENVIRON = {"PYTHON_LAZY_IMPORTS": "all"}


@has_lazy_imports
def test_tracked_program_with_lazy_imports_reports_its_loop(faults, tmp_path):
    code = "for _ in track(range(5), id='job', keep=True): pass\nassert flush(60)"
    assert run_program(faults.url, code, tmp_path, **LAZY_ENVIRON) == (0, "", "")
    assert (faults.items["job"]["status"], faults.items["job"]["completed"]) == ("succeeded", 5)


@has_lazy_imports
def test_fork_of_a_program_with_lazy_imports_reports_both(faults, tmp_path):
    code = (
        "for _ in track(range(5), id='parent', keep=True): pass\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    signal.alarm(60)\n"
        "    for _ in track(range(3), id='child', keep=True): pass\n"
        "    os._exit(not flush(20))\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 and flush(20)\n"
    )
    assert run_program(faults.url, code, tmp_path, **LAZY_ENVIRON) == (0, "", "")
    assert {item_id: item["completed"] for item_id, item in faults.items.items()} == {"parent": 5, "child": 3}


@has_lazy_imports
def test_run_shows_the_bars_of_a_program_with_lazy_imports(faults, tmp_path):
    program = tmp_path / "bars.py"
    program.write_text(
        "import sys\n"
        "from tqdm import tqdm\n"
        "assert 'tqdm' not in sys.modules, 'the import is not lazy'\n"
        "for number in tqdm(range(5), desc='rows', file=sys.stdout):\n"
        "    if number == 4: __import__('progressbar_tracker').flush(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "progressbar_tracker", "run", program],
        env={**os.environ, "PROGRESSBAR_URL": faults.url, "PROGRESSBAR_API_KEY": WRITE_KEY, **LAZY_ENVIRON},
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {op["title"] for op in faults.ops if "title" in op} == {"rows"}


class LazyPython:
    """The functions of ``sys`` in Python 3.15."""

    def __init__(self, mode):
        self.mode, self.filter, self.filters = mode, None, []

    def get_lazy_imports(self):
        return self.mode

    def get_lazy_imports_filter(self):
        return self.filter

    def set_lazy_imports_filter(self, lazy_filter):
        self.filter = lazy_filter
        self.filters.append(lazy_filter)


def test_lazy_imports_are_filtered_for_the_packages_alone():
    python = LazyPython("all")
    python.filter = program_filter = lambda importer, name, names: name != "heavy"
    import_eagerly("json", "email", python=python)
    (used_filter, last_filter) = python.filters
    assert last_filter is program_filter
    results = {name: used_filter(name, "other", None) for name in ("json", "json.decoder", "email", "jsonschema", "a")}
    assert results == {"json": False, "json.decoder": False, "email": False, "jsonschema": True, "a": True}
    assert not used_filter("a", "heavy", None)


def test_eager_import_that_fails_restores_the_filter():
    python = LazyPython("all")
    with pytest.raises(ModuleNotFoundError):
        import_eagerly("no_such_package", python=python)
    assert python.filter is None


@pytest.mark.parametrize("python", [LazyPython("normal"), object()], ids=["normal mode", "older Python"])
def test_eager_import_without_lazy_imports_does_nothing(python):
    import_eagerly("no_such_package", python=python)


# --- subinterpreters --------------------------------------------------------------------------------------------------

SUBINTERPRETER_CODE = """
import logging, sys
from progressbar_tracker import flush, track
logging.basicConfig(stream=sys.stdout, format="%(message)s")
assert sum(track(range(5), id="inner", keep=True)) == 10
with track(total=2, id="bar", keep=True) as bar:
    bar.advance(2)
assert flush(60)  # sends in this thread
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Python 3.14 introduced concurrent.interpreters")
def test_subinterpreter_has_no_threads_and_reports_at_a_flush(faults, tmp_path):
    code = (
        "from concurrent import interpreters\n"
        "interpreter = interpreters.create()\n"
        f"interpreter.exec({SUBINTERPRETER_CODE!r})\n"
        "interpreter.close()\n"
        "for _ in track(range(3), id='outer', keep=True): pass\n"
        "assert flush(60)\n"
    )
    exit_code, out, err = run_program(faults.url, code, tmp_path)
    assert (exit_code, err) == (0, "")
    assert re.fullmatch("Progress is not reported, because no thread can be started: daemon threads are .*\n", out)
    completed = {item_id: item["completed"] for item_id, item in faults.items.items()}
    assert completed == {"inner": 5, "bar": 2, "outer": 3}
