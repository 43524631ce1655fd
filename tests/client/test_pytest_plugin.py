"""``pytest -p progressbar_tracker.pytest``, in a session within this one, and as a program."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from progressbar_tracker.testing import recording
from tests.support.connections import open_client

pytest_plugins = ["pytester"]

PLUGIN_OPTIONS = ("-p", "progressbar_tracker.pytest", "-p", "no:cacheprovider")
THREE_TESTS_MODULE = """
import pytest

@pytest.fixture
def broken():
    raise OSError("no disk")

def test_a(): pass
def test_b(): assert False
def test_c(broken): pass
"""


@pytest.fixture(autouse=True)
def own_settings(pytester, tmp_path):
    """Hide the settings of this project, which an inner session finds if its folder is below that of the project."""
    for folder in (pytester.path, tmp_path):
        (folder / "tox.ini").write_text("[pytest]\n")


@pytest.fixture
def run_session(pytester):
    """Run a session with the plugin in this process and return its recorded runs."""

    def run(text, *arguments):
        pytester.makepyfile(text)
        with recording() as recorded:
            pytester.runpytest_inprocess(*PLUGIN_OPTIONS, *arguments)
        return recorded

    return run


def test_session_counts_tests_and_succeeds(run_session, pytester):
    (run,) = run_session("def test_a(): pass\ndef test_b(): pass")
    assert (run.status, run.completed, run.total, run.unit) == ("succeeded", 2, 2, "tests")
    assert (run.title, run.description) == (f"Tests of {pytester.path.name}", "")


def test_failures_are_described_and_fail_session(run_session):
    (run,) = run_session(THREE_TESTS_MODULE)
    assert (run.status, run.completed, run.total, run.error) == ("failed", 3, 3, "1 failed, 1 error")
    assert run.description.startswith("1 failed, 1 error, last: test_failures")
    assert run.description.endswith(".py::test_c")


def test_count_moves_with_each_test(pytester):
    counts = []

    class Observer:
        def pytest_runtest_logstart(self):
            counts.append((recorded.runs[0].completed, recorded.runs[0].total))

    pytester.makepyfile("def test_a(): pass\ndef test_b(): pass")
    with recording() as recorded:
        pytester.inline_run(*PLUGIN_OPTIONS, plugins=[Observer()])
    assert counts == [(0, 2), (1, 2)]


def test_session_stopped_by_maxfail_keeps_its_count(run_session):
    (run,) = run_session("def test_a(): assert False\ndef test_b(): pass", "-x")
    assert (run.status, run.completed, run.total, run.error) == ("failed", 1, 2, "1 failed")


def test_interrupted_session_fails_with_the_exception(pytester):
    pytester.makepyfile("def test_a(): raise KeyboardInterrupt")
    with recording() as recorded:
        pytester.inline_run(*PLUGIN_OPTIONS, no_reraise_ctrlc=True)
    (run,) = recorded
    assert (run.status, run.error) == ("failed", "KeyboardInterrupt")


def test_error_in_collection_fails_session(run_session):
    (run,) = run_session("raise ValueError")
    assert (run.status, run.error) == ("failed", "1 error during collection")
    assert run.description.startswith("1 error, last: ")


def test_session_without_tests_fails(run_session):
    (run,) = run_session("")
    assert (run.status, run.error) == ("failed", "no tests were collected")


def test_skipped_and_expected_failures_succeed(run_session):
    (run,) = run_session("""
        import pytest
        def test_a(): pytest.skip()
        @pytest.mark.xfail
        def test_b(): assert False
    """)
    assert (run.status, run.completed, run.description) == ("succeeded", 2, "")


def test_listing_tests_makes_no_item(run_session):
    assert len(run_session("def test_a(): pass", "--collect-only")) == 0


def test_items_of_tests_are_not_nested_in_session(run_session):
    recorded = run_session("""
        from progressbar_tracker import track
        def test_a():
            for _ in track([1], id="inner", display=False):
                pass
    """)
    assert len(recorded) == 2
    assert (recorded["inner"].status, recorded["inner"].parent) == ("succeeded", None)


def test_settings_describe_the_item(run_session, pytester):
    pytester.makeini("""
        [pytest]
        progressbar_id = nightly
        progressbar_title = Night
        progressbar_group = Tests
        progressbar_notify = phone mail
    """)
    (run,) = run_session("def test_a(): pass")
    assert (run.id, run.title, run.group, run.notify) == ("nightly", "Night", "Tests", ("phone", "mail"))


def test_invalid_setting_is_a_usage_error(pytester):
    with recording():
        result = pytester.runpytest_inprocess(*PLUGIN_OPTIONS, "-o", "progressbar_notify=a b c d e f g h i")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*a setting of progressbar_tracker is invalid: notify*"])


def test_only_the_controller_of_xdist_reports(run_session):
    (run,) = run_session(THREE_TESTS_MODULE, "-n", "2")
    assert (run.status, run.completed, run.total, run.error) == ("failed", 3, 3, "1 failed, 1 error")


def test_output_is_unchanged(tmp_path):
    (tmp_path / "test_three.py").write_text(THREE_TESTS_MODULE)

    def run(*options):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "test_three.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        return done.returncode, re.sub(r"in [\d.]+s", "", done.stdout), done.stderr

    assert run("-p", "progressbar_tracker.pytest") == run()


def test_failed_session_is_listed_on_the_server(programs, tmp_path):
    (tmp_path / "test_two.py").write_text("def test_a(): pass\ndef test_b(): assert False")
    arguments = [*PLUGIN_OPTIONS, "-o", "progressbar_id=nightly", str(tmp_path / "test_two.py")]
    done = programs.run_python(f"import pytest, sys\nsys.exit(pytest.main({arguments!r}))")
    assert done.returncode == 1, done.stdout
    with open_client(programs.environ["PROGRESSBAR_URL"], programs.key) as http:
        (item,) = http.get("/progress").json()
    assert (item["id"], item["status"], item["completed"], item["error"]) == ("nightly", "failed", 2, "1 failed")
