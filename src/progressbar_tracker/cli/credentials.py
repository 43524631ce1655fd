"""What the commands for keys, shares and ping tokens share: the admin key, and the output of secrets and of lists."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

import click

from progressbar_tracker import _config
from progressbar_tracker._client import DEFAULT_TIMEOUT
from progressbar_tracker._errors import FOREIGN_REPLY_CODE, ConfigError, PermissionError
from progressbar_tracker._phrases import read_instant
from progressbar_tracker._reader_clock import format_clock_time
from progressbar_tracker._text import sanitize_line

from .connection import find_server, read_clock
from .options import print_json, terminal_width
from .streams import PROGRAM_NAME, ask_secret, discard_output, is_stdout_closed, print_note
from .table import format_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from progressbar_tracker._http.transport import HttpTransport
    from progressbar_tracker._reader_clock import Clock


@contextlib.contextmanager
def connect_as_admin(url: str | None) -> Iterator[HttpTransport]:
    """Open a transport with an admin key to the server of ``--url`` or of the configuration."""
    with contextlib.closing(open_admin_transport(url or find_server(None).url)) as transport, explain_admin_key():
        yield transport


def open_admin_transport(url: str) -> HttpTransport:
    """Return a transport to a server with the key of :func:`find_admin_key`."""
    from progressbar_tracker._http.transport import HttpTransport

    return HttpTransport(url, find_admin_key(url), timeout=DEFAULT_TIMEOUT)


def find_admin_key(url: str) -> str:
    """Return the key for changes of a server: from the environment, the configuration, or else a prompt.

    Raises:
        ConfigError: The value of ``--url`` is not a URL.
    """
    from progressbar_tracker._http.messages import parse_base_url

    parse_base_url(url, "--url")
    key = os.environ.get("PROGRESSBAR_ADMIN_KEY") or _config.read_environ_key(os.environ)
    if not key:
        with contextlib.suppress(ConfigError):
            found = _config.discover(os.environ, url=url)
            key = found.api_key if found is not None else None
    return key or ask_secret("Admin key")


@contextlib.contextmanager
def explain_admin_key() -> Iterator[None]:
    """Add to the refusal of a key where an admin key comes from."""
    try:
        yield
    except PermissionError as error:
        if error.code == FOREIGN_REPLY_CODE:
            raise
        raise click.ClickException(
            f"{error}: set PROGRESSBAR_ADMIN_KEY to an admin key; the server printed one at its first start, and "
            f"'{PROGRAM_NAME} keys create --type admin --name NAME' on the server's machine makes another"
        ) from error


def require_stdout(noun: str) -> None:
    """Check that a new secret can be shown.

    Raises:
        ClickException: The output is closed.
    """
    if is_stdout_closed():
        raise click.ClickException(f"stdout is closed: the {noun} could not be shown")


def print_secret(document: Mapping[str, object], secret: object, name: str, *, as_json: bool) -> None:
    """Print a new secret, alone on stdout, or with its fields as JSON.

    Args:
        document: The fields.
        secret: The text to print.
        name: The noun and the id, to revoke it by.
        as_json: Print the fields.

    Raises:
        ClickException: The output cannot be written.
    """
    try:
        if as_json:
            print_json(document)
        else:
            click.echo(sanitize_line(secret))
    except OSError as error:
        discard_output()
        raise click.ClickException(f"{name} cannot be shown ({error.strerror}): revoke it") from None


def print_records(
    records: Sequence[Mapping[str, object]], columns: Sequence[str], *, as_json: bool, empty_note: str = ""
) -> None:
    """Print a table of records, whose first column is whole, or their fields as JSON. Instants are in local time.

    Args:
        records: The records.
        columns: The fields of the table.
        as_json: Print all fields.
        empty_note: The line on stderr instead of a table without rows.
    """
    if as_json:
        print_json(records)
    elif empty_note and not records:
        print_note(empty_note)
    else:
        now, clock = time.time(), read_clock()
        rows = [[_format_field(record, column, now, clock) for column in columns] for record in records]
        headings = [column.removesuffix("_at").upper() for column in columns]
        click.echo("\n".join(format_table(rows, terminal_width(), headings, whole={0})))


def _format_field(record: Mapping[str, object], name: str, now: float, clock: Clock) -> str:
    at = read_instant(record, name) if name.endswith("_at") else None
    return sanitize_line(record.get(name)) if at is None else format_clock_time(at, now, clock)
