"""Help texts: examples whose options exist, whole sentences, completion; and errors that name the option."""

from __future__ import annotations

import shlex
import subprocess

import click
import pytest

from progressbar_tracker.cli import commands, run_command_line
from progressbar_tracker.cli.help import describe_completion
from progressbar_tracker.cli.streams import PROGRAM_NAME
from tests.support.cli import CLI_COMMAND


def _walk(command, path=()):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _walk(child, (*path, name))


COMMANDS_BY_PATH = dict(_walk(commands))


def _read_examples(command):
    epilog = command.epilog or ""
    block = epilog.partition("Examples:\n")[2].partition("\n\n")[0]
    return [line.strip() for line in block.splitlines()]


def _split_pipeline(line):
    """Return the arguments of this program in a shell line."""
    words = shlex.split(line)
    start = words.index(PROGRAM_NAME) + 1
    arguments = words[start:]
    ends = [number for number, word in enumerate(arguments) if word in ("|", "<", ">", "&&")]
    return arguments[: ends[0]] if ends else arguments


@pytest.mark.parametrize("path", COMMANDS_BY_PATH, ids=" ".join)
def test_help_has_examples_that_parse(path):
    """Click parses each example of the command: its options and arguments exist."""
    examples = _read_examples(COMMANDS_BY_PATH[path])
    assert examples
    for line in examples:
        arguments = [word for word in _split_pipeline(line) if word not in ("COMMAND", "--help")]
        assert tuple(arguments[: len(path)]) == path
        context, command = click.Context(commands, info_name=PROGRAM_NAME), commands
        while isinstance(command, click.Group) and arguments:
            name, command, arguments = command.resolve_command(context, arguments)
            assert command is not None, name
        if not isinstance(command, click.Group):
            command.make_context(PROGRAM_NAME, list(arguments))


@pytest.mark.parametrize("path", COMMANDS_BY_PATH, ids=" ".join)
def test_help_fits_80_columns_uncut(path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command_line([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    _, _, rest = text.partition("\n\n")
    assert "..." not in rest
    for line in _read_examples(COMMANDS_BY_PATH[path]):
        assert f"    {line}\n" in text


@pytest.mark.parametrize("arguments", [[], ["keys"]])
def test_group_without_command_prints_its_help(arguments, capsys):
    """Click's convention: the help is on stderr, and the exit code is that of wrong usage."""
    code = run_command_line(arguments)
    output = capsys.readouterr()
    assert (code, output.out) == (2, "")
    assert output.err.startswith("Usage: ")
    run_command_line([*arguments, "--help"])
    assert output.err.strip() == capsys.readouterr().out.strip()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_generated_as_documented(shell):
    assignment = f"_PROGRESSBAR_TRACKER_COMPLETE={shell}_source"
    assert f"{assignment} {PROGRAM_NAME}" in describe_completion()
    assert f"{assignment} {PROGRAM_NAME}" in commands.epilog
    name, _, value = assignment.partition("=")
    script = subprocess.run(
        CLI_COMMAND, env={name: value, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60
    )
    assert script.returncode == 0
    assert PROGRAM_NAME in script.stdout
    assert "_PROGRESSBAR_TRACKER_COMPLETE" in script.stdout


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--port", "x"),
        ("--max-items", "-5"),
        ("--keep", "foo"),
        ("--give-up", "1s"),
        ("--database", "mysql://host"),
        ("--base-path", "x"),
        ("--public-url", "x"),
        ("--trusted-proxies", "x"),
        ("--allowed-hosts", "http://x"),
    ],
)
def test_serve_error_names_the_option_not_the_variable(option, text, capsys):
    assert run_command_line(["serve", f"{option}={text}"]) == 2
    error = capsys.readouterr().err
    assert f"Invalid value for '{option}'" in error
    assert "PROGRESSBAR_" not in error


def test_keys_error_names_the_option(capsys):
    assert run_command_line(["keys", "list", "--database", "mysql://host"]) == 2
    assert "Invalid value for '--database'" in capsys.readouterr().err


def test_serve_error_names_the_variable_that_is_wrong(monkeypatch, capsys):
    monkeypatch.setenv("PROGRESSBAR_MAX_ITEMS", "0")
    assert run_command_line(["serve", "--port", "0"]) == 1
    assert "PROGRESSBAR_MAX_ITEMS must be 1 or more" in capsys.readouterr().err
