"""What commands have in common: names, options, forms of output."""

from __future__ import annotations

import json
import sys
from typing import Final, NoReturn

import click

NAME: Final = "progressbar-tracker"
EXTRA: Final = f"the server is not installed: pip install '{NAME}[server]'"


url_option = click.option("--url", metavar="URL", help="Server to ask in place of the configured one.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, which programs can rely on.")


def server_missing() -> NoReturn:
    """Say how to install the server."""
    raise click.ClickException(EXTRA)


def print_json(document: object) -> None:
    """Print a document for programs."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def width() -> int | None:
    """Return the columns of the terminal, or ``None`` where stdout is none."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
