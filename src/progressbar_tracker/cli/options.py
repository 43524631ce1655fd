"""Options and output that several commands share."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, ClassVar, Final

import click

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._models import DEFAULT_TAIL_LINES, MAX_TAIL_LINES
from progressbar_tracker._text import escape_json_controls

from .streams import PROGRAM_NAME, supports_unicode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SERVER_MISSING_MESSAGE: Final = f"the server is not installed: run pip install '.[server]' in a clone of {PROGRAM_NAME}"

NOTIFY_MISSING_MESSAGE: Final = f"web push is not installed: run pip install '.[notify]' in a clone of {PROGRAM_NAME}"

url_option = click.option("--url", metavar="URL", help="Server to use instead of the configured one.")
database_option = click.option("--database", metavar="FILE", help="The database file (PROGRESSBAR_DATABASE).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, with the fields of the HTTP interface.")


class OptionalValueCommand(click.Command):
    """Lets options stand before the program without a value: click would take the program for the value.

    Attributes:
        default_values: The value of each such option without one.
    """

    default_values: ClassVar[Mapping[str, str]] = {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, after the default values are added to the options."""
        with_value = {name for option in self.params for name in option.opts if not getattr(option, "is_flag", True)}
        for index, argument in enumerate(args):
            is_value = index > 0 and args[index - 1] in with_value
            if argument == "--" or not (is_value or argument.startswith("-")):
                break
            if argument in self.default_values and not is_value:
                args[index] = f"{argument}={self.default_values[argument]}"
        return super().parse_args(ctx, args)


def _read_tail_lines(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= MAX_TAIL_LINES or len(text) > 9:
        raise click.BadParameter(f"the number of lines must be from 1 to {MAX_TAIL_LINES}, not {text}", context, option)
    return int(text)


tail_option = click.option(
    "--tail",
    "tail_lines",
    metavar="[=N]",
    callback=_read_tail_lines,
    help=f"Send the last lines of the output ({DEFAULT_TAIL_LINES}, or N), with masked secrets.",
)


@contextlib.contextmanager
def require_extra(missing_message: str) -> Iterator[None]:
    """Turn an ``ImportError`` of an extra's package into an error that says how to install it."""
    try:
        yield
    except ImportError:
        raise click.ClickException(missing_message) from None


def require_database_file(path: Path) -> None:
    """Check that a server has created a database file: a command that uses one must not create another.

    Raises:
        ClickException: The file is missing or empty.
    """
    if not path.is_file():
        raise click.ClickException(
            f"there is no database {path}: the server's first start creates it, and --database names another file"
        )
    if path.stat().st_size == 0:
        raise click.ClickException(
            f"the database {path} is empty: no server has used it, --database names another file"
        )


@contextlib.contextmanager
def refuse_value(context: click.Context, option: click.Parameter) -> Iterator[None]:
    """Turn a ``ValueError`` about the value of an option into an error that names the option; for callbacks."""
    try:
        yield
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


@contextlib.contextmanager
def name_options(options: Mapping[str, object]) -> Iterator[None]:
    """Make an error about a setting name the option that has set it, and not the variable of that setting.

    Args:
        options: Each setting by its name, such as ``max_items``; ``None`` for an option that was not given.
    """
    try:
        yield
    except ConfigError as error:
        variable, _, reason = str(error).partition(" ")
        name = variable.removeprefix("PROGRESSBAR_").lower()
        if variable == name or options.get(name) is None:
            raise
        raise click.BadParameter(reason, param_hint=f"'--{name.replace('_', '-')}'") from None


def print_json(document: object) -> None:
    """Print indented JSON that is harmless on a terminal."""
    text = json.dumps(document, ensure_ascii=not supports_unicode(), indent=2)
    click.echo(escape_json_controls(text))


def terminal_width() -> int | None:
    """Return the columns of the terminal, or ``None`` if stdout is not a terminal."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
