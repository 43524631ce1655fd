"""The page of the command line, from click's commands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker import cli
from progressbar_tracker.cli.streams import PROGRAM_NAME

from .markdown import end_sentence, render_table

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_HEAD: Final = """\
# Commands

This page lists every command of `progressbar-tracker` with its options, from the same texts as `--help`. An error is
one line on stderr and the exit code 1; a wrong usage has the exit code 2. `python -m progressbar_tracker` is the same
program. `--json` prints what programs read.

"""


def render_page() -> str:
    commands = list(iterate_commands(cli.commands))
    overview = [(f"[`{name}`](#{name.replace(' ', '-')})", _read_summary(command)) for name, command in commands]
    parts = [PAGE_HEAD + render_table(("Command", "Effect"), overview) + "\n"]
    for name, command in commands:
        parts += _render_command(name, command)
    return "\n".join(parts)


def iterate_commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield the commands of a group with their full names."""
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from iterate_commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _read_summary(command: click.Command) -> str:
    paragraph = (command.help or "").partition("\n\n")[0]
    return end_sentence(mark_names(" ".join(paragraph.split())))


def _render_command(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=f"{PROGRAM_NAME} {name}")
    yield f"## {name}\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{PROGRAM_NAME} {name} {usage}\n```\n"
    for text in (command.help, command.epilog):
        yield from _render_help(text or "")
    rows = [_describe_option(option, context) for option in command.params if isinstance(option, click.Option)]
    shown = [row for row in rows if row is not None]
    if shown:
        yield render_table(("Option", "Meaning"), shown) + "\n"


def _render_help(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if paragraph.startswith("\b"):  # click keeps the lines of such a paragraph
            lines = paragraph.removeprefix("\b").strip("\n")
            indent = min((len(line) - len(line.lstrip()) for line in lines.splitlines() if line.strip()), default=0)
            code = "\n".join(line[indent:] for line in lines.splitlines())
            heading, separator, rest = code.partition("\n")
            if heading.endswith(":") and separator:
                yield f"{heading}\n"
                code = "\n".join(line.removeprefix("  ") for line in rest.splitlines())
            info = "sh not run: an example of the help" if heading.startswith("Example") else "text"
            yield f"```{info}\n{code}\n```\n"
        elif paragraph.strip():
            yield f"{mark_names(' '.join(paragraph.split()))}\n"


def _describe_option(option: click.Option, context: click.Context) -> tuple[str, str] | None:
    record = option.get_help_record(context)
    if record is None:
        return None
    names, help_text = record
    help_text = re.sub(r"(\d+)<=?x<=?(\d+)", r"more than \1, to \2" if "<x" in help_text else r"\1 to \2", help_text)
    return f"`{names.replace(' INTEGER RANGE', ' INTEGER').replace(' FLOAT RANGE', ' NUMBER')}`", _describe(help_text)


def _describe(help_text: str) -> str:
    """Return the help of an option as sentences; click writes bounds and defaults in brackets at its end."""
    text, bracket, extra = " ".join(help_text.split()).partition(" [")
    return end_sentence(mark_names(text)) + (f" {end_sentence(extra.removesuffix(']'))}" if bracket else "")


def mark_names(text: str) -> str:
    """Mark the names of variables, options and calls as code; texts of a terminal have no markup.

    >>> mark_names("Port; 0 takes a free one (PROGRESSBAR_PORT; 8989). See --host and track().")
    'Port; 0 takes a free one (`PROGRESSBAR_PORT`; 8989). See `--host` and `track()`.'
    """
    return re.sub(r"(?<![\w`=])(--[a-z][\w-]*|[a-z_]+\(\)|(?:PROGRESSBAR|ADMIN)_[A-Z_]+(?:=\w+)?)", r"`\1`", text)
