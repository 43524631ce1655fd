"""``keys``: the keys of a server."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker import _config
from progressbar_tracker._client import DEFAULT_TIMEOUT
from progressbar_tracker._errors import FOREIGN_REPLY_CODE, ConfigError, PermissionError
from progressbar_tracker._models import KEY_TYPES
from progressbar_tracker._text import sanitize_line
from progressbar_tracker.cli.table import format_table

from .help import CommandGroup, list_examples
from .options import (
    SERVER_MISSING_MESSAGE,
    database_option,
    json_option,
    name_options,
    print_json,
    require_database_file,
    require_extra,
    terminal_width,
)
from .streams import PROGRAM_NAME, ask_secret, discard_output, is_stdout_closed, print_note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker._http.transport import HttpTransport
    from progressbar_tracker._models import KeyType


@click.group("keys", cls=CommandGroup, epilog=list_examples("keys create --type write --name ci", "keys list"))
def keys_group() -> None:
    """Make, list, revoke and rotate keys: in the server's database, or with --url over HTTP.

    HTTP needs an admin key: PROGRESSBAR_ADMIN_KEY, PROGRESSBAR_API_KEY, the config file, or else a prompt. A running
    server applies a change of its database at once.
    """


keys_url_option = click.option("--url", metavar="URL", help="Change the keys of this server over HTTP.")


class _DatabaseKeys:
    """Keys in a database, in the form of the HTTP interface."""

    def __init__(self, database: str | None) -> None:
        with require_extra(SERVER_MISSING_MESSAGE):
            from progressbar_tracker.server.access.key_admin import KeyAdmin
            from progressbar_tracker.server.models import serialize_key
            from progressbar_tracker.server.settings import resolve_database
        with name_options({"database": database}):
            location = resolve_database(os.environ, database)
        if not isinstance(location, str):
            require_database_file(location)
        self._key_admin = KeyAdmin(location)
        self._serialize = serialize_key

    def list(self) -> list[dict[str, object]]:
        return [self._serialize(record) for record in self._key_admin.list()]

    def create(
        self, kind: KeyType, name: str, expires_at: float | None, cell: str | None, *, reads_tails: bool
    ) -> dict[str, object]:
        new = self._key_admin.create(kind, name, expires_at=expires_at, cell=cell, reads_tails=reads_tails)
        return {**self._serialize(new.record), "key": new.secret}

    def revoke(self, key_id: str) -> None:
        self._key_admin.revoke(key_id)

    def rotate(self, key_id: str) -> dict[str, object]:
        new = self._key_admin.rotate(key_id)
        return {**self._serialize(new.record), "key": new.secret}

    def close(self) -> None:
        self._key_admin.close()


class _HttpKeys:
    """Keys of a server, over its HTTP interface."""

    def __init__(self, url: str) -> None:
        self._transport = open_admin_transport(url)

    def list(self) -> list[dict[str, object]]:
        from progressbar_tracker._http.exchanges import request_keys

        return self._transport.run(request_keys())

    def create(
        self, kind: KeyType, name: str, expires_at: float | None, cell: str | None, *, reads_tails: bool
    ) -> dict[str, object]:
        from progressbar_tracker._http.exchanges import request_new_key

        expiry = None if expires_at is None else datetime.fromtimestamp(expires_at, UTC).isoformat()
        return self._transport.run(request_new_key(kind, name, expiry, cell, reads_tails=reads_tails))

    def revoke(self, key_id: str) -> None:
        from progressbar_tracker._http.exchanges import request_revocation

        self._transport.run(request_revocation(key_id))

    def rotate(self, key_id: str) -> dict[str, object]:
        from progressbar_tracker._http.exchanges import request_rotation

        return self._transport.run(request_rotation(key_id))

    def close(self) -> None:
        self._transport.close()


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


@contextlib.contextmanager
def _open_keys(database: str | None, url: str | None) -> Iterator[_DatabaseKeys | _HttpKeys]:
    if database and url:
        raise click.UsageError("--database and --url exclude each other")
    keys = _HttpKeys(url) if url else _DatabaseKeys(database)
    try:
        with explain_admin_key():
            yield keys
    finally:
        keys.close()


def _print_key(key: dict[str, object], *, as_json: bool) -> None:
    try:
        if as_json:
            print_json(key)
            return
        click.echo(sanitize_line(key["key"]))
    except OSError as error:
        discard_output()
        raise click.ClickException(f"key {key['key_id']} cannot be shown ({error.strerror}): revoke it") from None
    print_note(f"{key['type']} key {key['key_id']} ({key['name']}), shown only once")


@keys_group.command(
    "create",
    epilog=list_examples(
        "keys create --type write --name ci",
        "keys create --type read --name wall --expires 30",
        "keys create --type write --name ci --cell c1",
    ),
)
@click.option("--type", "kind", type=click.Choice(KEY_TYPES), required=True, help="Permissions of the key.")
@click.option("--name", required=True, help="Name of its owner, shown with its items.")
@click.option(
    "--expires", metavar="DAYS", type=click.FloatRange(0, 36500, min_open=True), help="Days until the key expires."
)
@click.option("--read-tail", "reads_tails", is_flag=True, help="Let the key read the output of runs.")
@click.option("--cell", metavar="NAME", help="Cell that a balancer finds in the key, such as c1.")
@database_option
@keys_url_option
@json_option
def keys_create(
    kind: KeyType,
    name: str,
    expires: float | None,
    reads_tails: bool,
    cell: str | None,
    database: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Make a key and print it, this once and alone, on stdout."""
    if is_stdout_closed():
        raise click.ClickException("stdout is closed: the key could not be shown")
    expires_at = None if expires is None else time.time() + expires * 86400
    with _open_keys(database, url) as keys:
        _print_key(keys.create(kind, name, expires_at, cell, reads_tails=reads_tails), as_json=as_json)


@keys_group.command("list", epilog=list_examples("keys list", "keys list --json"))
@database_option
@keys_url_option
@json_option
def keys_list(database: str | None, url: str | None, as_json: bool) -> None:
    """List the keys, without their secrets."""
    with _open_keys(database, url) as keys:
        records = keys.list()
    if as_json:
        print_json(records)
        return
    columns = ("key_id", "type", "name", "created_at", "last_used_at", "expires_at", "revoked_at")
    rows = [[sanitize_line(record.get(column)) for column in columns] for record in records]
    click.echo(
        "\n".join(format_table(rows, terminal_width(), [column.removesuffix("_at").upper() for column in columns]))
    )


@keys_group.command("revoke", epilog=list_examples("keys revoke k7m2p9xq"))
@click.argument("key_id")
@database_option
@keys_url_option
def keys_revoke(key_id: str, database: str | None, url: str | None) -> None:
    """Make a key invalid at once, without a way back."""
    with _open_keys(database, url) as keys:
        keys.revoke(key_id)
    print_note(f"Revoked {key_id}.")


@keys_group.command("rotate", epilog=list_examples("keys rotate k7m2p9xq"))
@click.argument("key_id")
@database_option
@keys_url_option
@json_option
def keys_rotate(key_id: str, database: str | None, url: str | None, as_json: bool) -> None:
    """Give a key a new secret. The key keeps its items, and its old secret works for another day."""
    if is_stdout_closed():
        raise click.ClickException("stdout is closed: the key could not be shown")
    with _open_keys(database, url) as keys:
        _print_key(keys.rotate(key_id), as_json=as_json)


CLI_COMMANDS: Final = (keys_group,)
