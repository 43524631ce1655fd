"""The help texts: groups with whole sentences, examples with their line breaks, and the setup of shell completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from .streams import PROGRAM_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNLIMITED_LENGTH: Final = 10_000
"""Characters of a command's first sentence: no sentence is cut."""

COMPLETION_VARIABLE: Final = "_PROGRESSBAR_TRACKER_COMPLETE"
"""Click reads it: it names the shell."""

_NO_REWRAP: Final = "\b"
"""Click keeps the line breaks of a paragraph after this mark."""


class CommandGroup(click.Group):
    """A group whose help shows the whole first sentence of each command."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands; click cuts each text at the width of the terminal."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [
            (name, command.get_short_help_str(UNLIMITED_LENGTH))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def list_examples(*lines: str) -> str:
    """Return the epilog of a command: command lines without the program's name.

    A line that starts with ``$`` is a whole shell line.
    """
    commands = [line[1:].strip() if line.startswith("$") else f"{PROGRAM_NAME} {line}".rstrip() for line in lines]
    return _join_block("Examples:", commands)


def list_exit_codes(note: str, codes: Mapping[int, str]) -> str:
    """Return the exit codes of a command and their meanings, for its epilog."""
    return _join_block(f"Exit codes, {note}:", [f"{code:<3}  {meaning}" for code, meaning in codes.items()])


def list_names(heading: str, names: Iterable[str]) -> str:
    """Return names as lines of 72 columns, for the epilog of a command."""
    import textwrap

    text = ", ".join(name.replace(" ", "\0") for name in names)
    lines = textwrap.wrap(text, 72, break_long_words=False, break_on_hyphens=False)
    return _join_block(heading, [line.replace("\0", " ") for line in lines])


def join_blocks(*blocks: str) -> str:
    """Return one epilog of several."""
    return "\n\n".join(blocks)


def describe_completion() -> str:
    """Return how each shell gets the completion of this command line."""
    lines = [
        "~/.bashrc:",
        f'  eval "$({COMPLETION_VARIABLE}=bash_source {PROGRAM_NAME})"',
        "~/.zshrc:",
        f'  eval "$({COMPLETION_VARIABLE}=zsh_source {PROGRAM_NAME})"',
        f"~/.config/fish/completions/{PROGRAM_NAME}.fish:",
        f"  {COMPLETION_VARIABLE}=fish_source {PROGRAM_NAME} | source",
    ]
    return _join_block("Shell completion, one line in a file of bash, zsh or fish:", lines)


def _join_block(heading: str, lines: list[str]) -> str:
    return "\n".join([_NO_REWRAP, heading, *(f"  {line}" for line in lines)])
