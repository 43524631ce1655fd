"""Failures of stderr and tqdm's variables do not change a program, compared with a run without a bar."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product

import pytest

PROGRAM_NAMES = ("loop", "block", "error", "nested", "share", "threads", "leave", "die", "atexit_hook", "logged")
ERRNO_NAMES = ("EPIPE", "ENOSPC", "EAGAIN", "EIO", "EINTR", "EBADF", "EFBIG", "EINVAL")
ODD_ERRORS = ("ValueError", "KeyboardInterrupt", "SystemExit", "MemoryError", "RecursionError", "GeneratorExit", "Odd")
DESCRIPTOR_CASES = (
    "gone", "gone, default action", "tee, gone", "/dev/full", "blocked", "non-blocking", "tee, blocked",
    "closed descriptor", "read-only", "terminal gone", "terminal stopped",
)  # fmt: skip
OBJECT_CASES = ("none", "deleted", "object", "string", "latin-1", "closed object", "closed string")
MISSING_METHODS = (["isatty"], ["write"], ["flush"], ["encoding"], ["fileno"], ["isatty", "write", "flush", "encoding"])


def failing_stderr(how, method="write", call=1, partial=False):
    return {"stderr": "stand-in", "how": how, "method": method, "call": call, "partial": partial}


def _bare_case(case):
    """Return the part of a case that affects the bare program, which writes nothing on stderr."""
    return case["scenario"], case["stderr"], tuple(case.get("missing", ()))


def find_differences(tmp_path, cases):
    """Run each case with and without tracking, and return the cases that differ."""
    bare = {_bare_case(case): case for case in cases}
    every = [{**case, "tracked": True} for case in cases] + [{**case, "tracked": False} for case in bare.values()]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(every), "utf-8")
    # Unbuffered: at exit, Python writes a failed line of the program's own log again, and changes the exit code.
    program = subprocess.run(
        [sys.executable, "-u", "-m", "tests.support.broken_stderr", path],
        capture_output=True, text=True, timeout=500, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert program.returncode == 0, program.stderr
    results = json.loads(program.stdout)
    bare_results = dict(zip(bare, results[len(cases) :], strict=True))
    differences = []
    for case, result in zip(cases, results, strict=False):
        expected = bare_results[_bare_case(case)]
        if result != expected:  # the code of a case that hangs is that of its kill
            differences.append((case, result, expected))
    return differences


@pytest.mark.parametrize("call", [1, 3])
def test_stderr_errno_does_not_affect_program(tmp_path, call):
    cases = [
        {**failing_stderr(how, method, call, partial), "scenario": program}
        for how, partial, method, program in product(ERRNO_NAMES, [False, True], ["write", "flush"], PROGRAM_NAMES)
        if not (partial and method == "flush")
    ]
    assert find_differences(tmp_path, cases) == []


def test_stderr_odd_exception_does_not_affect_program(tmp_path):
    cases = [
        {**failing_stderr(how, method), "scenario": program}
        for how, method, program in product(ODD_ERRORS, ["write", "flush"], PROGRAM_NAMES)
        if program != "logged"  # logging's handler raises these
    ]
    cases += [{**failing_stderr(how, "isatty"), "scenario": "default"} for how in ("EIO", "ValueError", "SystemExit")]
    assert find_differences(tmp_path, cases) == []


def test_blocking_stderr_does_not_affect_program(tmp_path):
    cases = [
        {**failing_stderr("block", method, call), "scenario": program}
        for method, call, program in product(["write", "flush"], [1, 3], PROGRAM_NAMES)
        if program != "logged"
    ]
    assert find_differences(tmp_path, cases) == []


@pytest.mark.parametrize("kind", DESCRIPTOR_CASES)
def test_failing_descriptor_does_not_affect_program(tmp_path, kind):
    programs = [program for program in (*PROGRAM_NAMES, "default") if "tee" not in kind or program != "logged"]
    assert find_differences(tmp_path, [{"stderr": kind, "scenario": program} for program in programs]) == []


def test_odd_stream_object_does_not_affect_program(tmp_path):
    programs = [program for program in (*PROGRAM_NAMES, "default") if program != "logged"]
    cases = [{"stderr": kind, "scenario": program} for kind, program in product(OBJECT_CASES, programs)]
    cases += [
        {"stderr": "without", "missing": missing, "scenario": program}
        for missing, program in product(MISSING_METHODS, programs)
    ]
    assert find_differences(tmp_path, cases) == []


def test_file_with_reused_descriptor_gets_no_output(tmp_path):
    path = tmp_path / "data"
    assert find_differences(tmp_path, [{"stderr": "reused descriptor", "path": str(path), "scenario": "default"}]) == []


@pytest.mark.parametrize("limit", ["descriptors", "threads", "memory"])
def test_missing_resource_does_not_affect_program(tmp_path, limit):
    scenarios = [name for name in (*PROGRAM_NAMES, "default", "labelled") if name != "threads"]
    cases = [{"limit": limit, "stderr": "null", "scenario": name} for name in scenarios]
    environ = {"PROGRESSBAR_URL": "http://127.0.0.1:1", "PROGRESSBAR_API_KEY": "key"}
    differences = find_differences(tmp_path, [*cases, *({**case, "environ": environ} for case in cases)])
    assert differences == []


LOCK_NAMES = ("counters", "numbers", "display", "display's worker", "sender's worker", "tqdm")


@pytest.mark.parametrize("lock", LOCK_NAMES)
def test_lock_held_forever_does_not_block_program(tmp_path, lock):
    cases = [{"limit": lock, "stderr": "string", "scenario": name} for name in (*PROGRAM_NAMES, "default")]
    assert find_differences(tmp_path, cases) == []


TQDM_VARIABLES = (
    "ITERABLE", "DESC", "TOTAL", "LEAVE", "FILE", "NCOLS", "MININTERVAL", "MAXINTERVAL", "MINITERS", "ASCII", "DISABLE",
    "UNIT", "UNIT_SCALE", "DYNAMIC_NCOLS", "SMOOTHING", "BAR_FORMAT", "INITIAL", "POSITION", "POSTFIX", "UNIT_DIVISOR",
    "WRITE_BYTES", "LOCK_ARGS", "NROWS", "COLOUR", "DELAY", "GUI", "KWARGS", "SELF",
)  # fmt: skip
VARIABLE_VALUES = (
    "",
    "0",
    "1",
    "-1",
    "abc",
    "nan",
    "inf",
    "1e400",
    "{bar:1000000000}",
    "{n.__class__}",
    "{",
    "\x1b[2J",
    "\udc80",
)


def test_tqdm_variable_does_not_affect_program(tmp_path):
    values = [{f"TQDM_{name}": value} for name, value in product(TQDM_VARIABLES, ["0", "abc", "{"])]
    values += [{f"TQDM_{name}": value for name in TQDM_VARIABLES} for value in VARIABLE_VALUES]
    cases = [{"environ": environ, "stderr": "string", "scenario": "loop"} for environ in values]
    assert find_differences(tmp_path, cases) == []
