"""``exec --parse`` with real programs: the bar follows, and their output is the same as without it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from progressbar_tracker import cli
from progressbar_tracker.testing import recording
from tests.support.fault_server import WRITE_KEY


def needs(program):
    """Skip a test without the program; ``.ci/run`` installs it."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


@pytest.fixture
def execute(monkeypatch, tmp_path, capfdbinary):
    """Run a shell line under ``exec --parse`` in a new folder; return its recorded run and its output."""
    monkeypatch.setenv("PROGRESSBAR_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PROGRESSBAR_API_KEY", WRITE_KEY)
    monkeypatch.chdir(tmp_path)

    def execute(line):
        capfdbinary.readouterr()
        with recording() as recorded:
            assert cli.run_command_line(["exec", "--parse", "--", "sh", "-c", line]) == 0
        (run,) = recorded
        return run, capfdbinary.readouterr()

    return execute


def make_file(path, size):
    with path.open("wb") as file:
        file.truncate(size)


def test_exec_parse_of_dd_counts_bytes(execute):
    run, output = execute("dd if=/dev/zero of=/dev/null bs=1000 count=1234 status=progress")
    assert (run.completed, run.total, run.unit) == (1_234_000, None, "B")
    assert b"1234000 bytes" in output.err


@needs("git")
def test_exec_parse_of_git_counts_objects(execute, tmp_path):
    git = ["git", "-C", str(tmp_path / "source"), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "source")], check=True)
    for number in range(9):
        (tmp_path / "source" / f"{number}.txt").write_text(f"{number}\n" * 99)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "all"], check=True)
    run, output = execute('git clone --progress "file://$PWD/source" copy')
    assert (run.completed, run.total, run.unit) == (11, 11, "objects")
    assert b"Receiving objects: 100% (11/11)" in output.err


@needs("7z")
def test_exec_parse_of_7z_counts_percent(execute, tmp_path):
    make_file(tmp_path / "data", 150_000_000)
    run, output = execute("7z a -bsp1 -mx=1 data.7z data")
    assert (run.completed, run.total, run.unit) == (100, 100, "%")
    assert b"Everything is Ok" in output.out


@needs("pv")
def test_exec_parse_of_pv_counts_percent(execute, tmp_path):
    make_file(tmp_path / "data", 20_000_000)
    run, output = execute("pv -n -i 0.1 -L 10M data >/dev/null")
    assert (run.completed, run.total, run.unit) == (100, 100, "%")
    assert output.err.split()[-1] == b"100"


@needs("pv")
def test_exec_parse_of_pv_without_a_size_counts_bytes(execute, tmp_path):
    make_file(tmp_path / "data", 10_240_000)
    run, _ = execute("cat data | pv -f >/dev/null")
    assert (run.total, run.unit) == (None, "B")
