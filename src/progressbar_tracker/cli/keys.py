"""``keys`` and ``login``: keys of a server, and the key that this machine reports with."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker import _config
from progressbar_tracker._client import ProgressBar
from progressbar_tracker._errors import ConfigError
from progressbar_tracker._models import KEY_TYPES
from progressbar_tracker._text import sanitize_line
from progressbar_tracker.cli.table import format_table

from .options import database_option, json_option, print_json, require_server, terminal_width
from .streams import ask_secret, discard_output, is_stdout_closed, print_note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker._models import KeyType


@click.group("keys")
def keys_group() -> None:
    """Make, list, revoke and rotate keys: in the server's database, or with --url over HTTP.

    HTTP needs an admin key: PROGRESSBAR_ADMIN_KEY, PROGRESSBAR_API_KEY, the config file, or else a prompt. A running
    server applies a change of its database at once.
    """


keys_url_option = click.option("--url", metavar="URL", help="Change the keys of this server over HTTP.")


class _DatabaseKeys:
    """Keys in a database, in the form of the HTTP interface."""

    def __init__(self, database: str | None) -> None:
        with require_server():
            from progressbar_tracker.server.access.key_admin import KeyAdmin
            from progressbar_tracker.server.models import serialize_key
            from progressbar_tracker.server.settings import resolve_database
        self._key_admin = KeyAdmin(resolve_database(os.environ, database))
        self._serialize = serialize_key

    def list(self) -> list[dict[str, object]]:
        return [self._serialize(record) for record in self._key_admin.list()]

    def create(self, kind: KeyType, name: str, expires_at: float | None) -> dict[str, object]:
        new = self._key_admin.create(kind, name, expires_at=expires_at)
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
        from progressbar_tracker._http.messages import parse_base_url
        from progressbar_tracker._http.transport import HttpTransport

        parse_base_url(url, "--url")
        key = os.environ.get("PROGRESSBAR_ADMIN_KEY") or _config.read_environ_key(os.environ)
        if not key:
            with contextlib.suppress(ConfigError):
                found = _config.discover(os.environ, url=url)
                key = found.api_key if found is not None else None
        if not key:
            key = ask_secret("Admin key")
        self._transport = HttpTransport(url, key, timeout=10.0)

    def list(self) -> list[dict[str, object]]:
        from progressbar_tracker._http.exchanges import request_keys

        return self._transport.run(request_keys())

    def create(self, kind: KeyType, name: str, expires_at: float | None) -> dict[str, object]:
        from progressbar_tracker._http.exchanges import request_new_key

        expiry = None if expires_at is None else datetime.fromtimestamp(expires_at, UTC).isoformat()
        return self._transport.run(request_new_key(kind, name, expiry))

    def revoke(self, key_id: str) -> None:
        from progressbar_tracker._http.exchanges import request_revocation

        self._transport.run(request_revocation(key_id))

    def rotate(self, key_id: str) -> dict[str, object]:
        from progressbar_tracker._http.exchanges import request_rotation

        return self._transport.run(request_rotation(key_id))

    def close(self) -> None:
        self._transport.close()


@contextlib.contextmanager
def _open_keys(database: str | None, url: str | None) -> Iterator[_DatabaseKeys | _HttpKeys]:
    if database and url:
        raise click.UsageError("--database and --url exclude each other")
    keys = _HttpKeys(url) if url else _DatabaseKeys(database)
    try:
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


@keys_group.command("create")
@click.option("--type", "kind", type=click.Choice(KEY_TYPES), required=True, help="Permissions of the key.")
@click.option("--name", required=True, help="Name of its owner, shown with its items.")
@click.option(
    "--expires", metavar="DAYS", type=click.FloatRange(0, 36500, min_open=True), help="Days until the key expires."
)
@database_option
@keys_url_option
@json_option
def keys_create(
    kind: KeyType,
    name: str,
    expires: float | None,
    database: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Make a key and print it, this once and alone, on stdout."""
    if is_stdout_closed():
        raise click.ClickException("stdout is closed: the key could not be shown")
    expires_at = None if expires is None else time.time() + expires * 86400
    with _open_keys(database, url) as keys:
        _print_key(keys.create(kind, name, expires_at), as_json=as_json)


@keys_group.command("list")
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


@keys_group.command("revoke")
@click.argument("key_id")
@database_option
@keys_url_option
def keys_revoke(key_id: str, database: str | None, url: str | None) -> None:
    """Make a key invalid at once, without a way back."""
    with _open_keys(database, url) as keys:
        keys.revoke(key_id)
    print_note(f"Revoked {key_id}.")


@keys_group.command("rotate")
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


@click.command()
@click.argument("url")
def login(url: str) -> None:
    """Store a server and a key for track() and for this command line. The prompt for the key has no echo."""
    from progressbar_tracker._http.messages import parse_base_url

    parse_base_url(url, "URL")
    key = ask_secret("Key")
    with ProgressBar(url, key, auto_detect=False) as client:
        info = client.key_info
    path = _config.get_user_config_path(os.environ)
    _config.write_user_config(path, url, key)
    click.echo(f"Stored a {info.type} key for {url} in {path}.")


CLI_COMMANDS: Final = (keys_group, login)
