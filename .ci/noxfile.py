"""Named checks: ``nox -f .ci/noxfile.py -s lint types scripts layers tests docs bench``.

``.ci/run`` calls these sessions. ``long`` queues the sessions that take hours; run it before an issue is closed.
Sessions use nox's own environment, unless they need another Python or other packages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import nox

PROJECT_ROOT = Path(__file__).parents[1]
BIN_FOLDER = Path(sys.executable).parent
PYTHON_VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
"""The supported versions; the first one runs the whole suite."""

TEST_ROOT_VERSIONS = ("3.14", "3.15")
"""Versions that ``.ci/python-root`` provides if the machine lacks them."""

INTERPRETER_TESTS = [
    "tests/dropin",
    "tests/test_environment_isolation.py",
    *(
        f"tests/tracking/{name}.py"
        for name in (
            "test_annotations", "test_counter", "test_environments", "test_exit_signals", "test_fork",
            "test_end_states", "test_exit", "test_interpreters", "test_parts",
        )
    ),
]  # fmt: skip
"""Tests whose result depends on the interpreter."""

UNSTABLE_TESTS_MAX = 10
"""More failed tests than these are not run again: that many are no accident."""

LONG_SESSIONS = (
    "coverage", "long_tests",
    *(f"{session}({version})" for version in PYTHON_VERSIONS[1:] for session in ("interpreters", "tqdm")),
    "trainers", "fuzz", "crash(sqlite)", "crash(postgres)", "crash(postgres-outage)", "failover",
    "abuse", "soak", "chaos", "image",
)  # fmt: skip
"""Sessions that ``long`` queues, in this order."""

CRASH_ARGUMENTS = {
    "sqlite": ("--rounds", 80),
    "postgres": ("--postgres", "--rounds", 50),
    "postgres-outage": ("--postgres", "--interrupt", "crash", "--rounds", 50),
}
"""Arguments of ``tests/end_to_end/crash.py``. The first two kill a server, the last one kills the database."""

nox.options.default_venv_backend = "none"
nox.options.envdir = str(PROJECT_ROOT / ".nox")
nox.options.sessions = ["lint", "types", "scripts", "layers", "tests"]


def find_python(version: str) -> str | None:
    """Return the interpreter of a version, from the PATH, the system's folders or pyenv."""
    candidates = [shutil.which(f"python{version}"), f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"]
    candidates += map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"), reverse=True))
    probe = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            reply = subprocess.run([candidate, "-c", probe], capture_output=True, text=True, check=False)
            if reply.stdout.strip() == version:
                return candidate
    return None


class Interpreter(NamedTuple):
    """An interpreter, and the command in front of it and of the programs of its environments."""

    path: str
    prefix: tuple[str, ...] = ()


def require_python(session: nox.Session, version: str) -> Interpreter:
    """Return the interpreter of a version, of the machine or else of a test root, or skip the session."""
    path = find_python(version)
    if path is not None:
        return Interpreter(path)
    if version not in TEST_ROOT_VERSIONS:
        session.skip(f"Python {version} is not installed")
    command = str(PROJECT_ROOT / ".ci/python-root")
    made = subprocess.run([command, "make"], stderr=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        session.skip(f"Python {version} is not installed, and {made.stderr.strip() or made.returncode}")
    return Interpreter(f"/usr/bin/python{version}", (command, "run"))


def run(session: nox.Session, command: str, *arguments: object) -> None:
    """Run a command of nox's environment in the project root."""
    session.chdir(PROJECT_ROOT)
    session.run(str(BIN_FOLDER / command), *map(str, arguments))


def make_venv(session: nox.Session, python: Interpreter, *requirements: str) -> Path:
    """Create an environment and return its ``bin`` folder."""
    folder = Path(session.create_tmp()) / "venv"
    session.chdir(PROJECT_ROOT)
    session.run(*python.prefix, python.path, "-m", "venv", "--clear", str(folder))
    session.run(*python.prefix, str(folder / "bin/pip"), "install", "--quiet", "--no-compile", *requirements)
    return folder / "bin"


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style and spelling."""
    run(session, "ruff", "format", "--check", ".")
    run(session, "ruff", "check", ".")
    run(session, "codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Check the source with mypy, and the public API with pyright as well."""
    run(session, "mypy")
    run(session, "pyright", "--pythonpath", sys.executable)


@nox.session
def scripts(session: nox.Session) -> None:
    """Check the types of the dashboard's scripts with the TypeScript compiler."""
    session.chdir(PROJECT_ROOT)
    session.run("npm", "ci", "--prefix", ".ci", "--omit=optional", "--silent", external=True)
    session.run(".ci/node_modules/.bin/tsc", "--project", ".ci", external=True)


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports point down."""
    run(session, "lint-imports")


class Report(NamedTuple):
    """The outcome of a run of pytest."""

    failed: list[str]
    missing: list[str]


def read_report(path: Path) -> Report:
    """Return the failed tests, and the reasons of skipped ones that name a missing program."""
    failed, missing = [], set()
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 - written by pytest
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        if (skipped := case.find("skipped")) is not None:
            reason = skipped.get("message", "")
            if "install" in reason or "needs" in reason:
                missing.add(reason)
    return Report(failed, sorted(missing))


def run_tests(session: nox.Session, *command: str) -> Report:
    """Run pytest. Tests that fail are run once more, alone.

    A test that passes alone depends on the load of the machine or on another test. That is a fault of the test, so the
    last lines name it, but it says nothing about the change.
    """
    folder = Path(session.create_tmp()).resolve()
    command += ("-o", f"cache_dir={folder / 'cache'}")
    shutil.rmtree(folder / "cache", ignore_errors=True)
    session.chdir(PROJECT_ROOT)
    session.run(*command, f"--junit-xml={folder / 'report.xml'}", success_codes=(0, 1))
    report = read_report(folder / "report.xml")
    if len(report.failed) > UNSTABLE_TESTS_MAX:
        session.error(f"{len(report.failed)} tests failed")
    if report.failed:
        session.run(*command, "--last-failed", "--last-failed-no-failures=none", "-n0")
        session.warn(f"unstable tests, which passed alone only: {', '.join(report.failed)}")
    return report


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; fail if a program that they need is missing. With arguments for pytest: only these, and once."""
    if session.posargs:
        run(session, "pytest", *session.posargs)
        return
    report = run_tests(session, str(BIN_FOLDER / "pytest"))
    if report.missing:
        session.error(f"a missing program or network skipped tests: {'; '.join(report.missing)}")


@nox.session
def long_tests(session: nox.Session) -> None:
    """Run the tests that take minutes, which a plain ``pytest`` leaves out."""
    run(session, "pytest", "-m", "long", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests with coverage, which makes them slower by half."""
    run(session, "coverage", "erase")
    run(session, "pytest", "--cov", "--cov-report=term")


@nox.session
def docs(session: nox.Session) -> None:
    """Run the documentation and the examples."""
    run(session, "pytest", "tests/documentation")


@nox.session
def pictures(session: nox.Session) -> None:
    """Make the pictures of the README again, from fixed items and a fixed clock."""
    run(session, "python", "-m", "tests.documentation.pictures", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the short form of each benchmark, to prove that it works. Its figures mean nothing."""
    for script in sorted((PROJECT_ROOT / "tests/benchmarks").glob("*.py")):
        run(session, "python", script, "--quick")


@nox.session
def audit(session: nox.Session) -> None:
    """Look up known vulnerabilities of the locked dependencies."""
    commands = make_venv(session, Interpreter(sys.executable), "pip-audit")
    run(session, "python", ".ci/pip-audit", commands / "pip-audit")


@nox.session
@nox.parametrize("version", PYTHON_VERSIONS[1:], ids=PYTHON_VERSIONS[1:])
def interpreters(session: nox.Session, version: str) -> None:
    """Run the interpreter's tests on another version."""
    python = require_python(session, version)
    commands = make_venv(session, python, "-e", ".[dev]")
    run_tests(session, *python.prefix, str(commands / "pytest"), "-r", "", *INTERPRETER_TESTS)


@nox.session
def python_root(session: nox.Session) -> None:
    """Unpack the Pythons that the machine lacks, for other sessions."""
    for version in TEST_ROOT_VERSIONS:
        require_python(session, version)


@nox.session
@nox.parametrize("version", PYTHON_VERSIONS, ids=PYTHON_VERSIONS)
def tqdm(session: nox.Session, version: str) -> None:
    """Run tqdm's test suite on the drop-in class."""
    python = require_python(session, version)
    session.chdir(PROJECT_ROOT)
    session.run(*python.prefix, ".ci/tqdm-suite", python.path, *session.posargs)


@nox.session
@nox.parametrize("version", PYTHON_VERSIONS, ids=PYTHON_VERSIONS)
def wheel(session: nox.Session, version: str) -> None:
    """Install the wheel in a new environment and run the demo."""
    python = require_python(session, version)
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder / "dist", ignore_errors=True)
    run(session, "python", "-m", "build", "--quiet", "--wheel", "--outdir", folder / "dist", ".")
    (wheel_path,) = (folder / "dist").glob("*.whl")
    commands = make_venv(session, python, f"{wheel_path}[server]")
    session.chdir(folder)
    environment = {"PROGRESSBAR_CONFIG": str(folder / "config.toml"), "HOME": str(folder)}
    program = (
        "import progressbar_tracker as p; assert 'site-packages' in p.__file__, p.__file__; "
        "assert sum(p.track(range(10), display=False)) == 45; "
        "from progressbar_tracker.server.dashboard.handbook import load_handbook; "
        "assert 'reference/errors' in load_handbook().pages"
    )
    session.run(*python.prefix, str(commands / "python"), "-W", "error", "-c", program, env=environment)
    session.run(*python.prefix, str(commands / "progressbar-tracker"), "demo", "--once", env=environment)


@nox.session
def trainers(session: nox.Session) -> None:
    """Test the integrations of large packages with the real packages (2 GB)."""
    session.chdir(PROJECT_ROOT)
    session.run(".ci/training-integrations")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Revoke credentials during random requests, for 30 minutes."""
    run(session, "python", "-m", "tests.security.fuzz_credentials", *(session.posargs or ("--minutes", 30)))


@nox.session
@nox.parametrize("scenario", list(CRASH_ARGUMENTS), ids=list(CRASH_ARGUMENTS))
def crash(session: nox.Session, scenario: str) -> None:
    """Kill a server or the database under load, and compare what is left with what was acknowledged."""
    run(session, "python", "tests/end_to_end/crash.py", *CRASH_ARGUMENTS[scenario], *session.posargs)


@nox.session
def failover(session: nox.Session) -> None:
    """Fail a PostgreSQL primary over under load, and compare what is left with what was acknowledged."""
    run(session, "python", "tests/end_to_end/failover.py", *(session.posargs or ("--rounds", 20)))


@nox.session
def abuse(session: nox.Session) -> None:
    """Measure the server's memory and response times under abusive loads."""
    run(session, "python", "tests/benchmarks/abuse.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Run a steady load for 30 minutes; fail if memory, files or threads grow."""
    run(session, "python", "tests/benchmarks/soak.py", *(session.posargs or ("--minutes", 30)))


@nox.session
def chaos(session: nox.Session) -> None:
    """Break servers for an hour; fail if a state differs from an acknowledged one, or memory, files or threads grow."""
    run(session, "python", "tests/benchmarks/soak.py", "--chaos", *(session.posargs or ("--minutes", 60)))


@nox.session
def image(session: nox.Session) -> None:
    """Build the image with buildah, and run it."""
    session.chdir(PROJECT_ROOT)
    session.run(".ci/image")


@nox.session
def long(session: nox.Session) -> None:
    """Queue the sessions that take hours; each one also runs alone."""
    for name in LONG_SESSIONS:
        session.notify(name)
