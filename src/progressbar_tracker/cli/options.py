"""What commands have in common: names, options, forms of output."""

from __future__ import annotations

import json
import re
import sys
from typing import Final, NoReturn

import click

from .streams import PROGRAM_NAME, supports_unicode

SERVER_MISSING_MESSAGE: Final = f"the server is not installed: pip install '{PROGRAM_NAME}[server]'"

_CONTROL_CHARACTERS: Final = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What moves a cursor or turns the direction of writing, and stands in JSON as it is."""

url_option = click.option("--url", metavar="URL", help="Server to ask in place of the configured one.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, which programs can rely on.")


def raise_server_missing() -> NoReturn:
    """Say how to install the server."""
    raise click.ClickException(SERVER_MISSING_MESSAGE)


def print_json(document: object) -> None:
    """Print a document for programs, which is harmless on a terminal as well."""
    text = json.dumps(document, ensure_ascii=not supports_unicode(), indent=2)
    click.echo(_CONTROL_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def terminal_width() -> int | None:
    """Return the columns of the terminal, or ``None`` where stdout is none."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
