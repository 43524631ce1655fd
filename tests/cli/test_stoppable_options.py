"""The option ``--stoppable`` of ``exec`` and ``run``."""

from __future__ import annotations

import pytest

from progressbar_tracker.testing import recording


@pytest.mark.parametrize(("arguments", "code", "is_stoppable"), [
    (["true"], 0, False), (["--stoppable", "true"], 0, True), (["--stoppable", "--", "true"], 0, True),
    (["--id", "x", "--stoppable", "true"], 0, True), (["--stoppable=INT", "--id", "x", "true"], 0, True),
    (["--stoppable=sighup", "true"], 0, True), (["--id=x", "--parse", "--stoppable", "true"], 0, True),
    (["true", "--stoppable"], 0, False), (["--id", "--stoppable", "true"], 0, False),
    (["--", "true", "--stoppable"], 0, False),
])  # fmt: skip
def test_exec_takes_the_option_with_and_without_a_signal(command, monkeypatch, arguments, code, is_stoppable):
    monkeypatch.setenv("PROGRESSBAR_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "key")
    with recording() as recorded:
        assert command("exec", *arguments).code == code
    assert [run.stoppable for run in recorded] == [is_stoppable]


@pytest.mark.parametrize("name", ["KILL", "STOP", "9", "", "TERMINATE"])
def test_exec_refuses_other_signals(command, name):
    done = command("exec", f"--stoppable={name}", "true")
    assert (done.code, "must be one of TERM, INT, HUP, QUIT, USR1, USR2" in done.err) == (2, True)


def test_run_passes_the_option_to_the_program_alone(shell, tmp_path):
    script = tmp_path / "show.py"
    script.write_text("import os, sys; print(os.environ.get('PROGRESSBAR_STOPPABLE'), sys.argv[1:])")
    assert shell.run("run", "--stoppable", script, "--stoppable", text=True).stdout == "1 ['--stoppable']\n"
    assert shell.run("run", script, text=True).stdout == "None []\n"
