"""Options and output that several commands share."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker._text import escape_json_controls

from .streams import PROGRAM_NAME, supports_unicode

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER_MISSING_MESSAGE: Final = f"the server is not installed: pip install '{PROGRAM_NAME}[server]'"

url_option = click.option("--url", metavar="URL", help="Server to use instead of the configured one.")
database_option = click.option("--database", metavar="FILE", help="The database file (PROGRESSBAR_DATABASE).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, with the fields of the HTTP interface.")


@contextlib.contextmanager
def require_server() -> Iterator[None]:
    """Turn an ``ImportError`` of the server into an error that says how to install it."""
    try:
        yield
    except ImportError:
        raise click.ClickException(SERVER_MISSING_MESSAGE) from None


def print_json(document: object) -> None:
    """Print indented JSON that is harmless on a terminal."""
    text = json.dumps(document, ensure_ascii=not supports_unicode(), indent=2)
    click.echo(escape_json_controls(text))


def terminal_width() -> int | None:
    """Return the columns of the terminal, or ``None`` if stdout is not a terminal."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
