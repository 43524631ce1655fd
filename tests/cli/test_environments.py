"""Each command in each environment: an exit code, at most one sentence, and no traceback."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import zipapp
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import pytest

from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.connections import find_free_port, open_client

if TYPE_CHECKING:
    from collections.abc import Mapping

DRIVER_PATH = Path(__file__).parents[1] / "support/cli_fork_server.py"
HUGE_NUMBER = 1e300

COMMAND_LINES = {
    "ls": ["ls"],
    "ls --json": ["ls", "--json"],
    "get": ["get", "film"],
    "get huge": ["get", "huge"],
    "get missing": ["get", "Плёнка"],
    "watch": ["watch"],
    "set": ["set", "made", "0.5", "--title", "Ж"],
    "rm": ["rm", "made"],
    "rm missing": ["rm", "made"],
    "run": ["run", "{folder}/hello.py"],
    "run --job": ["run", "--job", "{folder}/hello.py"],
    "exec": ["exec", "--", "true"],
    "exec missing": ["exec", "--", "/nonexistent/program"],
    "pipe": ["pipe", "--quiet"],
    "keys create": ["keys", "create", "--type", "read", "--name", "ж", "--database", "{folder}/p.db"],
    "keys list": ["keys", "list", "--database", "{folder}/p.db"],
    "keys list, usual file": ["keys", "list"],
    "keys revoke": ["keys", "revoke", "missing", "--database", "{folder}/p.db"],
    "keys rotate": ["keys", "rotate", "missing", "--database", "{folder}/p.db"],
    "backup": ["backup", "{folder}/copy.db", "--force", "--database", "{folder}/p.db"],
    "restore": ["restore", "{folder}/copy.db", "--database", "{folder}/restored.db"],
    "migrate": ["migrate", "--from", "{folder}/p.db", "--to", "postgresql://127.0.0.1:1/none"],
    "doctor": ["doctor"],
    "version": ["version"],
    "--version": ["--version"],
    "--help": ["--help"],
    "wrong usage": ["ls", "--nope"],
    "serve": ["serve", "--port", "{port}", "--database", "{folder}/served.db"],
    "serve, usual file": ["serve", "--port", "{port}"],
    "login": ["login", "{url}"],  # the last one: it overwrites the configuration
}
EXIT_CODES = {
    "get missing": 1, "rm missing": 1, "exec missing": 127, "keys revoke": 1, "keys rotate": 1, "migrate": 1,
    "wrong usage": 2,
}  # fmt: skip
CLIENT_COMMANDS = ("ls", "ls --json", "get", "get huge", "watch", "set", "rm")
PRINTING_COMMANDS = (
    "ls", "ls --json", "get", "get huge", "watch", "keys create", "keys list", "keys list, usual file", "backup",
    "restore", "login", "doctor", "version", "--version", "--help",
)  # fmt: skip
SILENT_COMMANDS = ("set", "rm", "exec", "pipe", "run", "run --job")
"""Commands without output on success; the others write to stdout."""


class Environment(NamedTuple):
    """The differences of an environment from the plain one. A variable that is ``None`` is not set."""

    variables: Mapping[str, str | None] = MappingProxyType({})
    options: tuple[str, ...] = ()
    closed: str = ""
    stdout: str | None = None
    stderr: str | None = None
    job: Mapping[str, object] = MappingProxyType({})
    config: bytes | None = None
    key_file: bytes | None = None
    codes: Mapping[str, int] = MappingProxyType({})

    @property
    def is_stderr_readable(self):
        """Whether the test can read an error sentence."""
        return self.stderr is None and "2>&-" not in self.closed

    @property
    def is_stdout_readable(self):
        """Whether the test can read output."""
        return self.stdout is None and " >&-" not in self.closed


def failing_codes(*names, code=1):
    return dict.fromkeys(names, code)


NO_HOME_VARIABLES = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "PROGRESSBAR_CONFIG"))
UNWRITABLE_HOME_VARIABLES = {**NO_HOME_VARIABLES, "HOME": "/proc/self"}  # not even root can make a file there
UNSET_VARIABLES = {"PROGRESSBAR_URL": None, "PROGRESSBAR_API_KEY": None}
CONFIG_TEXT = 'url = "{url}"\napi_key = "{key}"\n'
UNREADABLE_CODES = failing_codes(*CLIENT_COMMANDS, "doctor", "serve", "serve, usual file")
UNCONFIGURED_CODES = failing_codes(*CLIENT_COMMANDS, "doctor")

TEST_ENVIRONMENTS = {
    "plain": Environment(),
    "cp1252": Environment({"PYTHONIOENCODING": "cp1252"}),
    "latin-1": Environment({"PYTHONIOENCODING": "latin-1:strict"}),
    "ascii": Environment({"PYTHONIOENCODING": "ascii"}),
    "locale C": Environment({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "locale that is not there": Environment({"LC_ALL": "nonsense", "PYTHONUTF8": "0"}),
    "no home": Environment(
        NO_HOME_VARIABLES,
        job={"homeless": True},
        codes=failing_codes("keys list, usual file", "login", "serve, usual file"),
    ),
    "no home, no configuration": Environment(
        {**NO_HOME_VARIABLES, **UNSET_VARIABLES},
        job={"homeless": True},
        codes={**UNCONFIGURED_CODES, **failing_codes("keys list, usual file", "login", "serve, usual file")},
    ),
    "home that cannot be written": Environment(
        UNWRITABLE_HOME_VARIABLES, codes=failing_codes("keys list, usual file", "login", "serve, usual file")
    ),
    "odd XDG variables": Environment({"XDG_CONFIG_HOME": "relative", "XDG_DATA_HOME": "", "XDG_RUNTIME_DIR": "/none"}),
    "config with a mark": Environment(UNSET_VARIABLES, config=b"\xef\xbb\xbf" + CONFIG_TEXT.encode()),
    "config in UTF-16": Environment(UNSET_VARIABLES, config=CONFIG_TEXT.encode("utf-16"), codes=UNREADABLE_CODES),
    "config in Latin-1": Environment(
        UNSET_VARIABLES, config=CONFIG_TEXT.encode() + b"# \xe9\n", codes=UNREADABLE_CODES
    ),
    "config that is no TOML": Environment(UNSET_VARIABLES, config=b"url = \n", codes=UNREADABLE_CODES),
    "key file with a mark": Environment({"PROGRESSBAR_API_KEY": None}, key_file=b"\xef\xbb\xbf{key}\r\n"),
    "key file that is not there": Environment(
        {"PROGRESSBAR_API_KEY": None, "PROGRESSBAR_API_KEY_FILE": "/none"}, codes=UNCONFIGURED_CODES
    ),
    "stdout closed": Environment(closed=" >&-", codes=failing_codes(*PRINTING_COMMANDS, "pipe")),
    "stderr closed": Environment(closed=" 2>&-"),
    "stdin closed": Environment(closed=" <&-", codes=failing_codes("login", "pipe")),
    "all closed": Environment(closed=" <&- >&- 2>&-", codes=failing_codes(*PRINTING_COMMANDS, "pipe")),
    "stdout full": Environment(
        stdout="/dev/full",
        # Python's own code for a program whose output cannot be written at its end.
        codes=failing_codes(*PRINTING_COMMANDS, "pipe") | {"run": 120, "run --job": 120},
    ),
    "stderr full": Environment(stderr="/dev/full"),
    "stdin ended": Environment(job={"stdin": "/dev/null"}, codes=failing_codes("login")),
    "dumb terminal": Environment({"TERM": "dumb", "COLUMNS": "-3", "LINES": "x"}),
    "narrow terminal": Environment({"NO_COLOR": "1", "COLUMNS": "1", "LINES": "0"}),
    "isolated": Environment(options=("-I",)),
    "optimized": Environment(options=("-OO",)),
    "warnings are errors": Environment(options=("-W", "error")),
    "deleted folder": Environment(job={"chdir": "{folder}/gone"}),
    "no temporary folder": Environment(dict.fromkeys(("TMPDIR", "TMP", "TEMP"), "/none")),
    "the year 1970": Environment(job={"now": 3.0}),
}


@pytest.fixture(scope="module")
def shell_with_items(shell):
    """A shell whose server has items with wide, long and missing texts."""
    admin = open_client(shell.url, shell.key)
    items = {
        "film": {"title": "Плёнка 🎬 日本", "description": "Ёж…", "completed": 1, "total": 3},
        "huge": {"title": "huge", "completed": HUGE_NUMBER, "total": HUGE_NUMBER, "unit": "B"},
        "long": {"title": "long", "completed": 10**18, "total": 10**19},
        "bad": {"title": "bad", "status": "failed", "error": "Ошибка"},
    }
    for name, fields in items.items():
        admin.put(f"/api/v1/items/{name}", json=fields).raise_for_status()
    admin.close()
    return shell


def fill_placeholders(value, **values):
    if isinstance(value, str):
        return value.format(**values) if "{" in value else value
    if isinstance(value, bytes):
        return value.replace(b"{key}", values["key"].encode()).replace(b"{url}", values["url"].encode())
    if isinstance(value, list):
        return [fill_placeholders(entry, **values) for entry in value]
    return value


def create_databases(folder):
    """Make the databases that a server has left: one by name, the others at the usual places."""
    name = "progressbar-tracker/progress.db"
    for path in (folder / "p.db", folder / "data" / name, folder / "home/.local/share" / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        SqliteStore(path).close()


def run_commands(environment, shell, folder):
    """Run each command in an environment; yield its name, output, errors and exit code."""
    values = {"url": shell.url, "key": shell.key, "folder": str(folder), "port": find_free_port()}
    (folder / "hello.py").write_text("print('hello')\n")
    (folder / "in").write_text(shell.key + "\n")
    create_databases(folder)
    closed = environment.closed + " "
    jobs = []
    for number, arguments in enumerate(COMMAND_LINES.values()):
        out, err = str(folder / f"{number}.out"), str(folder / f"{number}.err")
        job = {
            "arguments": fill_placeholders(arguments, **values), "out": out, "err": err, "stdin": str(folder / "in"),
            "stdout": environment.stdout or out, "stderr": environment.stderr or err,
            "until": "huge" if arguments == ["watch"] else None,
            "port": values["port"] if arguments[0] == "serve" else None,
            **{name: fill_placeholders(value, **values) for name, value in environment.job.items()},
        }  # fmt: skip
        for name, sign in (("stdin", " <&- "), ("stdout", " >&- "), ("stderr", " 2>&- ")):
            if sign in closed:
                job[name] = None
        jobs.append(job)
    (folder / "jobs").write_text(json.dumps(jobs))
    environ = {
        **shell.environ, "HOME": str(folder / "home"), "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_DATA_HOME": str(folder / "data"), "PROGRESSBAR_CONFIG": str(folder / "conf" / "config.toml"),
    }  # fmt: skip
    for name, data in (("PROGRESSBAR_CONFIG", environment.config), ("PROGRESSBAR_API_KEY_FILE", environment.key_file)):
        if data is not None:
            path = folder / name
            path.write_bytes(
                data.decode("utf-16").format(**values).encode("utf-16")
                if data.startswith((b"\xff\xfe", b"\xfe\xff"))
                else fill_placeholders(data, **values)
            )
            path.chmod(0o600)
            environ[name] = str(path)
    environ.pop("COVERAGE_PROCESS_CONFIG", None)  # the other tests measure the same commands
    environ |= {name: value for name, value in environment.variables.items() if value is not None}
    environ = {name: value for name, value in environ.items() if environment.variables.get(name, "") is not None}
    line = shlex.join([sys.executable, *environment.options, str(DRIVER_PATH), str(folder / "jobs")])
    line += environment.closed
    done = subprocess.run(["sh", "-c", line], env=environ, cwd=folder, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    codes = json.loads((folder / "jobs.codes").read_text())
    for name, job, code in zip(COMMAND_LINES, jobs, codes, strict=True):
        texts = [Path(job[stream]).read_bytes().decode("utf-8", "replace") for stream in ("out", "err")]
        yield name, *texts, code


def find_faults(environment, name, out, err, code):
    """Yield each fault of a command in an environment."""
    expected = {**EXIT_CODES, **environment.codes}.get(name, 0)
    if code != expected:
        yield f"exit code {code}, not {expected}"
    is_output_of_program = name.startswith("run") and environment.stdout is not None
    for sign in ("Traceback", "ignored", "Warning", "\x1b", "0" * 30):
        if sign in out + err and not is_output_of_program:
            yield f"{sign!r} is written"
    if name == "exec missing" and err.startswith("progressbar-tracker: Progress is not reported"):
        err = err.partition("\n")[2]  # one sentence about the report, and one about the program
    if code and environment.is_stderr_readable and name != "doctor" and not is_output_of_program:
        if not err.startswith("progressbar-tracker: ") or err.count("\n") != 1 or not err.strip("\n").isprintable():
            yield "not one sentence"
    elif code == 0 and environment.is_stdout_readable and name not in SILENT_COMMANDS and not out:
        yield "nothing is written"


@pytest.mark.timeout(1000)  # thirty commands take minutes on a busy machine
@pytest.mark.parametrize("environment_name", TEST_ENVIRONMENTS)
def test_command_in_each_environment_has_one_sentence_at_most(shell_with_items, tmp_path, environment_name):
    environment = TEST_ENVIRONMENTS[environment_name]
    faults = [
        f"{name}: {fault}\n{out[-300:]}{err[-900:]}"
        for name, out, err, code in run_commands(environment, shell_with_items, tmp_path)
        for fault in find_faults(environment, name, out, err, code)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("line", ["ls", "ls --json", "get film", "keys list --database {folder}/p.db", "--help"])
def test_closed_pipe_of_a_reader_is_no_failure(shell_with_items, tmp_path, line):
    create_databases(tmp_path)
    line = line.format(folder=tmp_path)
    done = shell_with_items.bash(f"set -o pipefail; pbt {line} | true; pbt {line} | head -1 >/dev/null")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("metadata", ["with", "without"])
def test_zip_file_of_the_package_has_its_version(shell_with_items, tmp_path, metadata):
    source = Path(__file__).parents[2] / "src" / "progressbar_tracker"
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text("from progressbar_tracker.__main__ import main\nmain()\n")
    shutil.copytree(source, tmp_path / "app" / "progressbar_tracker", ignore=shutil.ignore_patterns("__pycache__"))
    if metadata == "with":
        (tmp_path / "app" / "progressbar_tracker-1.dist-info").mkdir()
        (tmp_path / "app" / "progressbar_tracker-1.dist-info" / "METADATA").write_text("Name: x\nVersion: 1\n")
    zipapp.create_archive(tmp_path / "app", tmp_path / "app.pyz")
    # A path without the installed package, and without the metadata of its dependencies.
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if not entry.name.startswith(("progressbar", "__editable__", "_progressbar")) and entry.suffix not in (
            ".pth", ".dist-info",
        ):  # fmt: skip
            (packages / entry.name).symlink_to(entry)
    command = [sys.executable, "-S", str(tmp_path / "app.pyz")]
    environ = {**shell_with_items.environ, "PYTHONPATH": str(packages)}
    version = subprocess.run([*command, "version"], env=environ, capture_output=True, text=True)
    assert (version.returncode, version.stderr) == (0, "")
    doctor = subprocess.run([*command, "doctor"], env=environ, capture_output=True, text=True)
    assert (doctor.returncode, doctor.stderr) == (0, ""), doctor.stdout
    assert f"progressbar-tracker {version.stdout.strip()}, tqdm " in doctor.stdout


@pytest.mark.parametrize(
    ("variables", "colored"), [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False)]
)
@pytest.mark.parametrize("command", [["ls"], ["watch"]])
def test_terminal_gets_escape_codes_only_if_supported(shell_with_items, command, variables, colored):
    master, terminal = pty.openpty()
    process = shell_with_items.start(
        *command, environ={"TERM": "xterm", **variables}, stdout=terminal, stderr=terminal, stdin=terminal
    )
    os.close(terminal)
    output = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while chunk := os.read(master, 65536):
            output += chunk
            if b"bad" in output and command == ["watch"]:
                process.send_signal(signal.SIGINT)
    process.wait(60)
    os.close(master)
    assert b"bad" in output
    assert (b"\x1b[31m" in output) is colored
    if variables.get("TERM") == "dumb":
        assert b"\x1b" not in output
