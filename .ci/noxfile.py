"""Named checks: ``nox -f .ci/noxfile.py -s lint types layers tests docs bench``.

``.ci/run`` calls these sessions. ``long`` queues the sessions that take hours; run it before an issue is closed.
Sessions use nox's own environment, unless they need another Python or other packages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import nox

PROJECT_ROOT = Path(__file__).parents[1]
BIN_FOLDER = Path(sys.executable).parent
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
"""The supported versions; the first one runs the whole suite."""

INTERPRETER_TESTS = [
    "tests/dropin",
    *(
        f"tests/tracking/{name}.py"
        for name in (
            "test_counter", "test_environments", "test_exit_signals", "test_fork",
            "test_end_states", "test_exit", "test_parts",
        )
    ),
]  # fmt: skip
"""Tests whose result depends on the interpreter."""

LONG_SESSIONS = (
    "trainers", "fuzz", "crash(sqlite)", "crash(postgres)", "crash(postgres-outage)", "abuse", "soak"
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
nox.options.sessions = ["lint", "types", "layers", "tests"]


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


def require_python(session: nox.Session, version: str) -> str:
    """Return the interpreter of a version, or skip the session."""
    return find_python(version) or session.skip(f"Python {version} is not installed")


def run(session: nox.Session, command: str, *arguments: object) -> None:
    """Run a command of nox's environment in the project root."""
    session.chdir(PROJECT_ROOT)
    session.run(str(BIN_FOLDER / command), *map(str, arguments))


def make_venv(session: nox.Session, python: str, *requirements: str) -> Path:
    """Create an environment and return its ``bin`` folder."""
    folder = Path(session.create_tmp()) / "venv"
    session.chdir(PROJECT_ROOT)
    session.run(python, "-m", "venv", "--clear", str(folder))
    session.run(str(folder / "bin/pip"), "install", "--quiet", "--no-compile", *requirements)
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
def layers(session: nox.Session) -> None:
    """Check that imports point down."""
    run(session, "lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; fail if a program that they need is missing. With arguments for pytest: without coverage."""
    report = Path(session.create_tmp()).resolve() / "report.xml"
    if session.posargs:
        run(session, "pytest", *session.posargs)
        return
    run(session, "coverage", "erase")
    run(session, "pytest", "--cov", "--cov-report=term", f"--junit-xml={report}")
    reasons = {skipped.get("message", "") for skipped in ET.parse(report).iter("skipped")}  # noqa: S314 - written by pytest
    missing = sorted(reason for reason in reasons if "install" in reason or "needs" in reason)
    if missing:
        session.error(f"a missing program or network skipped tests: {'; '.join(missing)}")


@nox.session
def docs(session: nox.Session) -> None:
    """Run the documentation and the examples."""
    run(session, "pytest", "tests/documentation")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the short form of each benchmark, to prove that it works. Its figures mean nothing."""
    for script in sorted((PROJECT_ROOT / "tests/benchmarks").glob("*.py")):
        run(session, "python", script, "--quick")


@nox.session
def audit(session: nox.Session) -> None:
    """Look up known vulnerabilities of the locked dependencies."""
    commands = make_venv(session, sys.executable, "pip-audit")
    run(session, "python", ".ci/pip-audit", commands / "pip-audit")


@nox.session
@nox.parametrize("version", PYTHON_VERSIONS[1:], ids=PYTHON_VERSIONS[1:])
def interpreters(session: nox.Session, version: str) -> None:
    """Run the interpreter's tests on another version."""
    commands = make_venv(session, require_python(session, version), "-e", ".[dev]")
    session.run(str(commands / "pytest"), "-p", "no:cacheprovider", "-r", "", *INTERPRETER_TESTS)


@nox.session
@nox.parametrize("version", PYTHON_VERSIONS, ids=PYTHON_VERSIONS)
def tqdm(session: nox.Session, version: str) -> None:
    """Run tqdm's test suite on the drop-in class."""
    session.chdir(PROJECT_ROOT)
    session.run(".ci/tqdm-suite", require_python(session, version), *session.posargs)


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
        "assert sum(p.track(range(10), display=False)) == 45"
    )
    session.run(str(commands / "python"), "-W", "error", "-c", program, env=environment)
    session.run(str(commands / "progressbar-tracker"), "demo", "--once", env=environment)


@nox.session
def trainers(session: nox.Session) -> None:
    """Test the training callbacks with the real packages (1.1 GB)."""
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
def abuse(session: nox.Session) -> None:
    """Measure the server's memory and response times under abusive loads."""
    run(session, "python", "tests/benchmarks/abuse.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Run a steady load for 30 minutes; fail if memory, files or threads grow."""
    run(session, "python", "tests/benchmarks/soak.py", *(session.posargs or ("--minutes", 30)))


@nox.session
def long(session: nox.Session) -> None:
    """Queue the sessions that take hours; each one also runs alone."""
    for name in LONG_SESSIONS:
        session.notify(name)
