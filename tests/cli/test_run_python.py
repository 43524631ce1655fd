"""``run``: an unchanged Python program with its tqdm bars on the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from progressbar_tracker._programs import supervisor
from tests.support.cli import CLI_COMMAND, write_script
from tests.support.fault_server import HANG, WRITE_KEY, FaultServer
from tests.support.waiting import wait_until

# A very short bar is never sent. So each bar pauses until the test has seen it.
BARS_PROGRAM = """
import pathlib, sys, time
from tqdm import tqdm

def work(title):
    for number in tqdm(range(30), desc=title):
        while number == 20 and not pathlib.Path(__file__).with_name(title).exists():
            time.sleep(0.01)

if __name__ == "__main__":
    work(sys.argv[1])
"""
STATE_PROGRAM = """
import json, os, sys
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "name": __name__, "file": __file__, "pid": os.getpid(),
    "flags": list(sys.flags), "orig": sys.orig_argv, "custom": "sitecustomize" in sys.modules,
    "loaded": [name for name in sys.modules if name.startswith(("tqdm", "progressbar_tracker"))],
    "stdin": sys.stdin.read(),
}))
sys.exit(9)
"""


def run_plain(*arguments, **options):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, timeout=100, **options)


@pytest.fixture
def bars(tmp_path):
    """The path of a program with two bars."""
    return write_script(tmp_path, BARS_PROGRAM, "bars.py")


def items_by_title(shell):
    return {item["title"]: item for item in shell.items().values()}


def run_and_check(shell, folder, *arguments, bars):
    """Run a program with several bars, one at a time."""
    with shell.start("run", *arguments, stderr=subprocess.PIPE) as process:
        for title in bars:
            wait_until(lambda title=title: title in items_by_title(shell))
            (folder / title).touch()
        _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err


def test_run_keeps_the_programs_environment(shell, tmp_path):
    import json

    path = write_script(tmp_path, STATE_PROGRAM)
    arguments = ["-v", "--", "--job", "-m", "", "ü"]
    expected = json.loads(run_plain(path, *arguments, input=b"word").stdout)
    with shell.start("run", path, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(b"word", timeout=100)
    state = json.loads(out)
    assert process.returncode == 9
    assert state["pid"] == process.pid  # no process in between: signals, stops and exit codes are the program's
    assert state.pop("loaded") == ["progressbar_tracker.integrations._imports"]  # and not the package
    assert expected.pop("loaded") == []
    assert state == {**expected, "pid": process.pid}


def test_run_shows_the_bars_of_an_unchanged_script(shell, bars, tmp_path):
    run_and_check(shell, tmp_path, bars, "An unchanged script", bars=["An unchanged script"])
    item = items_by_title(shell)["An unchanged script"]
    assert (item["status"], item["completed"], item["parent"]) == ("succeeded", 30, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["missing.py"],
        ["-m", "no_main"],
        ["syntax.py"],
        ["-m", "raises", "--x"],
        ["interrupted.py"],
    ],
)
def test_run_keeps_pythons_own_errors(shell, tmp_path, arguments):
    for name, text in {
        "syntax.py": "def f(:\n",
        "raises.py": "def f():\n    1 / 0\nf()\n",
        "interrupted.py": "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n",
    }.items():
        write_script(tmp_path, text, name)
    (tmp_path / "no_main").mkdir(exist_ok=True)
    write_script(tmp_path, "", "no_main/__init__.py")
    expected = run_plain(*arguments, cwd=tmp_path)
    done = shell.run("run", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.decode(), done.stdout) == (
        expected.returncode, expected.stderr.decode(), expected.stdout,
    )  # fmt: skip
    assert expected.returncode != 0


def test_run_shows_the_bars_of_subprocesses(shell, tmp_path, bars):
    path = write_script(
        tmp_path,
        f"""
import multiprocessing, subprocess, sys

def work(title):
    import bars
    bars.work(title)

if __name__ == "__main__":
    subprocess.run([sys.executable, {str(bars)!r}, "of a subprocess"], check=True)
    for method in ("spawn", "fork"):
        process = multiprocessing.get_context(method).Process(target=work, args=("of " + method,))
        process.start()
        process.join()
        assert process.exitcode == 0
""",
    )
    run_and_check(shell, tmp_path, path, bars=["of a subprocess", "of spawn", "of fork"])


def test_run_job_is_the_parent_of_its_bars(shell, bars, tmp_path):
    run_and_check(shell, tmp_path, "--job", "--id", "the-run", bars, "A bar of the run", bars=["A bar of the run"])
    job, bar = shell.item("the-run"), items_by_title(shell)["A bar of the run"]
    assert (job["status"], job["title"]) == ("succeeded", f"python {bars} 'A bar of the run'")
    assert job["description"].startswith("exit code 0 after ")
    assert bar["parent"] == "the-run"
    assert {"host", "pid", "command"} <= set(job["meta"])


@pytest.mark.parametrize(("time", "seconds"), [("1h30m", 5400.0), ("off", None)])
def test_run_option_stuck_after_implies_job(shell, tmp_path, time, seconds):
    path = write_script(tmp_path, f"print('stuck after {time}')")
    assert shell.run("run", "--stuck-after", time, "--title", f"A run of {time}", path).returncode == 0
    assert items_by_title(shell)[f"A run of {time}"]["stuck_after"] == seconds


def test_run_job_that_is_killed_ends_by_the_same_signal(shell, tmp_path):
    path = write_script(
        tmp_path, "import os, sys\nprint('gone', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 15)"
    )
    done = shell.run("run", "--title", "A run", path)  # --title implies --job
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, b"gone\n")
    job = items_by_title(shell)["A run"]
    assert (job["status"], job["error"]) == ("failed", "killed by SIGTERM")


def test_run_with_a_hanging_server_keeps_the_output(tmp_path):
    # The program waits for a line of input, which it gets after the server's first request.
    path = write_script(tmp_path, "import tqdm\nfor n in tqdm.tqdm(range(3)): print(n)\ninput()\n1 / 0")
    expected = run_plain(path, input=b"\n")
    hung = FaultServer()
    hung.default_fault = HANG
    environ = {**os.environ, "PROGRESSBAR_URL": hung.url, "PROGRESSBAR_API_KEY": WRITE_KEY}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([*CLI_COMMAND, "run", "--job", path], env=environ, **pipes) as process:
        hung.wait_for(lambda: hung.requests)
        out, err = process.communicate(b"\n", timeout=100)
    hung.close()
    assert (process.returncode, out) == (1, expected.stdout)
    *lines, failure = err.splitlines()
    assert lines[-4:] == expected.stderr.splitlines()[-4:]
    assert failure.startswith(b"progressbar-tracker: ")


def test_key_is_not_passed_to_another_server():
    environ = {"PROGRESSBAR_URL": "http://one:1", "PROGRESSBAR_API_KEY": "secret", "PATH": "/bin"}
    assert supervisor.with_server_env(environ, "http://two:1") == {"PATH": "/bin", "PROGRESSBAR_URL": "http://two:1"}
    assert supervisor.with_server_env(environ, "http://one:1/")["PROGRESSBAR_API_KEY"] == "secret"
    assert supervisor.with_server_env({"PROGRESSBAR_API_KEY": "k"}, "http://two:1")["PROGRESSBAR_API_KEY"] == "k"
    assert supervisor.with_server_env(environ, None) == environ


def test_python_path_gets_the_bootstrap_folder_once():
    (folder,) = supervisor.with_bars_env({})["PYTHONPATH"].split(os.pathsep)
    assert sorted(path.name for path in Path(folder).glob("*.py")) == [
        "_progressbar_tracker_hook.py",
        "sitecustomize.py",
    ]
    assert supervisor.with_bars_env({"PYTHONPATH": ""})["PYTHONPATH"] == folder
    twice = supervisor.with_bars_env(supervisor.with_bars_env({"PYTHONPATH": f"a{os.pathsep}{os.pathsep}b"}))
    assert twice["PYTHONPATH"].split(os.pathsep) == [folder, "a", "", "b"]


# --- the bootstrap at the start of Python -----------------------------------------------------------------------------


def run_bootstrapped(code, *folders, **options):
    """Run code in a Python whose path has the bootstrap folder and other folders."""
    path = supervisor.with_bars_env({"PYTHONPATH": os.pathsep.join(map(str, folders))})["PYTHONPATH"]
    return run_plain("-c", code, env={**os.environ, "PYTHONPATH": path}, **options)


def test_bootstrap_runs_the_environments_sitecustomize(tmp_path):
    write_script(tmp_path, "import builtins; builtins.mark = __file__", "sitecustomize.py")
    done = run_bootstrapped("import sitecustomize; print(mark, sitecustomize.__file__)", tmp_path)
    assert done.stdout.decode().split() == [str(tmp_path / "sitecustomize.py")] * 2


def test_bootstrap_keeps_the_error_of_sitecustomize(tmp_path):
    write_script(tmp_path, "1 / 0", "sitecustomize.py")
    expected = run_plain("-c", "print(1)", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert b"ZeroDivisionError" in expected.stderr
    assert run_bootstrapped("print(1)", tmp_path).stderr == expected.stderr


def test_bootstrap_ignores_a_python_without_the_package():
    code = (
        "import sys; sys.modules['progressbar_tracker'] = None\n"  # the import fails
        "import tqdm; print(tqdm.__name__, len(list(tqdm.tqdm([1], disable=True))))"
    )
    done = run_bootstrapped(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"tqdm 1\n", b"")


def test_bootstrap_ignores_a_failing_mirror(tmp_path):
    package = tmp_path / "progressbar_tracker"
    package.mkdir()
    write_script(package, "raise RuntimeError('broken')", "__init__.py")
    done = run_bootstrapped("import tqdm; print(1)", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1\n", b"")


def test_bootstrap_mirrors_at_the_import():
    code = (
        "import sys\n"
        "print('progressbar_tracker' in sys.modules, 'progressbar_tracker.tqdm' in sys.modules)\n"
        "import importlib.util; importlib.util.find_spec('tqdm')\n"  # find_spec is no import
        "print('progressbar_tracker.tqdm' in sys.modules)\n"
        "from tqdm.auto import trange\n"
        "import tqdm\n"
        "print('progressbar_tracker.tqdm' in sys.modules)\n"
        "print(type(tqdm.__loader__).__name__, tqdm.__spec__.loader is tqdm.__loader__, sorted(vars(tqdm.__loader__)))"
    )
    lines = run_bootstrapped(code).stdout.decode().splitlines()
    assert lines == ["False False", "False", "True", "SourceFileLoader True ['name', 'path']"]


def test_bootstrap_is_removed_by_uninstall():
    code = (
        "import sys\n"
        "find_hooks = lambda: [type(f).__name__ for f in sys.meta_path if 'progressbar' in type(f).__module__]\n"
        "print(find_hooks())\n"
        "from progressbar_tracker import integrations\n"
        "integrations.uninstall()\n"
        "import tqdm\n"
        "print(find_hooks(), 'progressbar_tracker.tqdm' in sys.modules)"
    )
    assert run_bootstrapped(code).stdout.decode().splitlines() == ["['Finder']", "[] False"]


def test_bootstrap_import_from_many_threads_is_safe():
    code = (
        "import threading\n"
        "def work():\n"
        "    import tqdm, progressbar_tracker.tqdm\n"
        "    done.append(tqdm.tqdm)\n"
        "done = []\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(len(done), len(set(done)))"
    )
    done = run_bootstrapped(code)
    assert (done.stdout, done.stderr) == (b"8 1\n", b"")
