"""What commands have in common: names, options, forms of output."""

from __future__ import annotations

import json
import re
import sys
from typing import Final, NoReturn

import click

from .streams import NAME, tells_unicode

EXTRA: Final = f"the server is not installed: pip install '{NAME}[server]'"

_MOVES: Final = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What moves a cursor or turns the direction of writing, and stands in JSON as it is."""

url_option = click.option("--url", metavar="URL", help="Server to ask in place of the configured one.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, which programs can rely on.")


def server_missing() -> NoReturn:
    """Say how to install the server."""
    raise click.ClickException(EXTRA)


def print_json(document: object) -> None:
    """Print a document for programs, which is harmless on a terminal as well."""
    text = json.dumps(document, ensure_ascii=not tells_unicode(), indent=2)
    click.echo(_MOVES.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def width() -> int | None:
    """Return the columns of the terminal, or ``None`` where stdout is none."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
