"""The project's checks, each with a name: ``nox -f .ci/noxfile.py -s lint types layers tests docs bench``.

``.ci/run`` calls the same sessions. ``long`` has what takes hours and runs before an issue is closed. Sessions run in
the environment that nox is installed in, unless they need a Python or packages of their own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import nox

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
MAIN_VERSION = "3.11"
VERSIONS = (MAIN_VERSION, "3.12", "3.13")

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

nox.options.default_venv_backend = "none"
nox.options.envdir = str(ROOT / ".nox")
nox.options.sessions = ["lint", "types", "layers", "tests"]


def find_python(version: str) -> str | None:
    """Return the path of an interpreter of that version: on the PATH, or in pyenv's or the system's usual places."""
    candidates = [shutil.which(f"python{version}"), f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"]
    candidates += map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"), reverse=True))
    probe = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            answer = subprocess.run([candidate, "-c", probe], capture_output=True, text=True, check=False)
            if answer.stdout.strip() == version:
                return candidate
    return None


def require_python(session: nox.Session, version: str) -> str:
    """Return the path of an interpreter, or skip the session."""
    return find_python(version) or session.skip(f"Python {version} is not on this machine")


def run(session: nox.Session, command: str, *arguments: object) -> None:
    """Run a command of the environment that nox is in, from the project's root."""
    session.chdir(ROOT)
    session.run(str(BIN / command), *map(str, arguments))


def make_venv(session: nox.Session, python: str, *requirements: str) -> Path:
    """Make an environment and return the folder of its commands."""
    folder = Path(session.create_tmp()) / "venv"
    session.chdir(ROOT)
    session.run(python, "-m", "venv", "--clear", str(folder))
    session.run(str(folder / "bin/pip"), "install", "--quiet", "--no-compile", *requirements)
    return folder / "bin"


@nox.session
def lint(session: nox.Session) -> None:
    """Check format and style."""
    run(session, "ruff", "format", "--check", ".")
    run(session, "ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types: the source with mypy, the public API with pyright, too."""
    run(session, "mypy")
    run(session, "pyright", "--pythonpath", sys.executable)


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports point down."""
    run(session, "lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, with coverage unless arguments for pytest are given. A missing program is a failure."""
    report = Path(session.create_tmp()).resolve() / "report.xml"
    if session.posargs:
        run(session, "pytest", *session.posargs)
        return
    run(session, "coverage", "erase")
    run(session, "pytest", "--cov", "--cov-report=term", f"--junit-xml={report}")
    reasons = {skipped.get("message", "") for skipped in ET.parse(report).iter("skipped")}  # noqa: S314 - ours
    missing = sorted(reason for reason in reasons if "install" in reason or "needs" in reason)
    if missing:
        session.error(f"tests were skipped because a program or a network is missing: {'; '.join(missing)}")


@nox.session
def docs(session: nox.Session) -> None:
    """Run the documentation and the examples."""
    run(session, "pytest", "tests/documentation")


@nox.session
def bench(session: nox.Session) -> None:
    """Run each benchmark in its short form, to see that it runs; no figure of this counts."""
    for script in sorted((ROOT / "tests/benchmarks").glob("*.py")):
        run(session, "python", script, "--quick")


@nox.session
def audit(session: nox.Session) -> None:
    """Look up known vulnerabilities of the locked dependencies."""
    commands = make_venv(session, sys.executable, "pip-audit")
    run(session, "python", ".ci/pip-audit", commands / "pip-audit")


@nox.session
@nox.parametrize("version", VERSIONS[1:], ids=VERSIONS[1:])
def interpreters(session: nox.Session, version: str) -> None:
    """Run the tests that depend on the interpreter, on another one."""
    commands = make_venv(session, require_python(session, version), "-e", ".[dev]")
    session.run(str(commands / "pytest"), "-p", "no:cacheprovider", "-r", "", *INTERPRETER_TESTS)


@nox.session
@nox.parametrize("version", VERSIONS, ids=VERSIONS)
def tqdm(session: nox.Session, version: str) -> None:
    """Run tqdm's own tests on our class."""
    session.chdir(ROOT)
    session.run(".ci/tqdm-suite", require_python(session, version), *session.posargs)


@nox.session
@nox.parametrize("version", VERSIONS, ids=VERSIONS)
def wheel(session: nox.Session, version: str) -> None:
    """Install the wheel into a new environment and run the demo."""
    python = require_python(session, version)
    away = Path(session.create_tmp()).resolve()
    shutil.rmtree(away / "dist", ignore_errors=True)
    run(session, "python", "-m", "build", "--quiet", "--wheel", "--outdir", away / "dist", ".")
    (built,) = (away / "dist").glob("*.whl")
    commands = make_venv(session, python, f"{built}[server]")
    session.chdir(away)
    environment = {"PROGRESSBAR_CONFIG": str(away / "config.toml"), "HOME": str(away)}
    program = (
        "import progressbar_tracker as p; assert 'site-packages' in p.__file__, p.__file__; "
        "assert sum(p.track(range(10), display=False)) == 45"
    )
    session.run(str(commands / "python"), "-W", "error", "-c", program, env=environment)
    session.run(str(commands / "progressbar-tracker"), "demo", "--once", env=environment)


@nox.session
def long(session: nox.Session) -> None:
    """Run what takes hours: trainers, kills, abuse, changing credentials, the soak."""
    session.chdir(ROOT)
    session.run(".ci/training-integrations")
    run(session, "python", "tests/end_to_end/crash.py")
    run(session, "python", "tests/benchmarks/soak.py")
