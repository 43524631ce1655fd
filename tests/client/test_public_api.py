"""The public names, the cost of ``import progressbar_tracker``, and the docstring examples."""

from __future__ import annotations

import builtins
import doctest
import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import progressbar_tracker
from progressbar_tracker._version import VERSION

SOURCE_FOLDER = Path(progressbar_tracker.__file__).parent
PUBLIC_NAMES = [
    "AsyncProgressBar",
    "Change",
    "ConfigError",
    "ConflictError",
    "Item",
    "ItemExistsError",
    "ItemNotFoundError",
    "KeyInfo",
    "PermissionError",
    "ProgressBar",
    "ProgressBarError",
    "RateLimitedError",
    "ResponseError",
    "ServerError",
    "Share",
    "StopRequested",
    "Tracker",
    "TrackingWarning",
    "TransportError",
    "ValidationError",
    "configure",
    "flush",
    "stats",
    "track",
]
# Each is imported on first use. logging alone is half the cost of importing the package.
LAZY_MODULES = {
    "httpx", "httpcore", "tqdm", "ssl", "asyncio", "logging", "click", "platformdirs", "tomllib", "html",
}  # fmt: skip
OPTIONAL_PACKAGES = (
    "celery",
    "dramatiq",
    "lightgbm",
    "luigi",
    "optuna",
    "sklearn",
    "xgboost",
)  # of the extra test-integrations
SERVER_MODULES = {"progressbar_tracker.server", "msgspec", "starlette", "uvicorn", "argon2", "jinja2", "sqlite3"}


def module_names():
    """Return the names of the modules outside the server, except those that run only in other processes."""
    elsewhere = {
        ("integrations", name) for name in ("catboost", "keras", "lightning", "prefect", "spacy", "transformers")
    }
    elsewhere |= {("integrations", name) for name in OPTIONAL_PACKAGES if importlib.util.find_spec(name) is None}
    if importlib.util.find_spec("mcp") is None:
        elsewhere |= {("cli", "mcp", name) for name in ("results", "server", "tools", "waiting")}
    for path in sorted(SOURCE_FOLDER.rglob("*.py")):
        parts = path.relative_to(SOURCE_FOLDER).with_suffix("").parts
        if parts[0] != "server" and "bootstrap" not in parts and parts not in elsewhere:
            yield ".".join((SOURCE_FOLDER.name, *parts)).removesuffix(".__init__")


def run_isolated(code):
    """Run code in a new interpreter and return its JSON output."""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def imported_modules():
    """The modules that ``import progressbar_tracker`` loads."""
    code = "import sys; old = set(sys.modules); import json, {}; print(json.dumps(sorted(set(sys.modules) - old)))"
    return set(run_isolated(code.format("progressbar_tracker"))) - set(run_isolated(code.format("builtins")))


# ---------------------------------------------------------------- names


def test_exported_names_are_public():
    public = [
        name
        for name, value in vars(progressbar_tracker).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    ]
    assert progressbar_tracker.__all__ == PUBLIC_NAMES
    assert sorted(public) == sorted(PUBLIC_NAMES)


def test_version_is_that_of_the_command():
    assert progressbar_tracker.__version__ == VERSION


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_exported_name_has_docstring_with_a_sentence(name):
    first_line, _, _ = getattr(progressbar_tracker, name).__doc__.partition("\n")
    assert first_line.endswith(".")
    assert not first_line.startswith(f"{name}(")


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_exported_name_is_importable_from_its_module(name):
    exported = getattr(progressbar_tracker, name)
    assert getattr(importlib.import_module(exported.__module__), exported.__name__) is exported
    assert exported.__name__ == name


@pytest.mark.parametrize("kind", [progressbar_tracker.ProgressBar, progressbar_tracker.Tracker])
def test_every_public_method_is_documented(kind):
    bare = [name for name, value in vars(kind).items() if not name.startswith("_") and not inspect.getdoc(value)]
    assert bare == []


def test_star_import_hides_only_permission_error():
    assert [name for name in PUBLIC_NAMES if hasattr(builtins, name)] == ["PermissionError"]


# ---------------------------------------------------------------- what the import costs


def test_import_loads_no_slow_library(imported_modules):
    assert imported_modules & LAZY_MODULES == set()


def test_import_loads_no_server_module(imported_modules):
    assert imported_modules & SERVER_MODULES == set()


def test_import_loads_only_standard_library(imported_modules):
    roots = {name.partition(".")[0] for name in imported_modules}
    assert {root for root in roots if root not in sys.stdlib_module_names} == {"progressbar_tracker"}


def test_import_starts_no_thread_and_registers_no_hook():
    code = (
        "import json, atexit, threading; before = atexit._ncallbacks(); import progressbar_tracker; "
        "print(json.dumps([threading.active_count(), atexit._ncallbacks() - before]))"
    )
    assert run_isolated(code) == [1, 0]


def test_unused_client_loads_no_http_library():
    code = (
        "import sys, json, progressbar_tracker as p; p.ProgressBar('http://h', 'k', auto_detect=False).close(); "
        "print(json.dumps(sorted(set(sys.modules) & {'httpx', 'ssl', 'asyncio'})))"
    )
    assert run_isolated(code) == []


def test_package_has_py_typed():
    assert (SOURCE_FOLDER / "py.typed").is_file()


# ---------------------------------------------------------------- examples


@pytest.mark.filterwarnings("ignore:\\s*Autoloading range tasks:DeprecationWarning")  # of the import of luigi
@pytest.mark.parametrize("name", list(module_names()))
def test_docstring_examples_pass(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.failed == 0


def test_docstring_examples_exist():
    modules = [
        importlib.import_module(f"progressbar_tracker.{name}")
        for name in ("_client", "_tracking.tracker", "_http.messages")
    ]
    finder = doctest.DocTestFinder()
    assert all(any(test.examples for test in finder.find(module)) for module in modules)
