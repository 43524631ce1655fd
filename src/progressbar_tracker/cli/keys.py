"""``keys``: the keys of a server."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker._models import KEY_TYPES

from .credentials import explain_admin_key, open_admin_transport, print_records, print_secret, require_stdout
from .help import CommandGroup, list_examples
from .options import (
    NOTIFY_MISSING_MESSAGE,
    SERVER_MISSING_MESSAGE,
    database_option,
    json_option,
    name_options,
    require_database_file,
    require_extra,
)
from .streams import print_note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
            from progressbar_tracker.server.access.keys import serialize_key
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

    def rotate_push_key(self, rotate: Callable[[tuple[str, ...]], tuple[str, ...]]) -> int:
        return self._key_admin.rotate_push_key(rotate)

    def close(self) -> None:
        self._key_admin.close()


class _HttpKeys:
    """Keys of a server, over its HTTP interface."""

    def __init__(self, url: str) -> None:
        self._transport = open_admin_transport(url)

    def list(self) -> list[dict[str, object]]:
        from progressbar_tracker._http.credentials import request_keys

        return self._transport.run(request_keys())

    def create(
        self, kind: KeyType, name: str, expires_at: float | None, cell: str | None, *, reads_tails: bool
    ) -> dict[str, object]:
        from progressbar_tracker._http.credentials import request_new_key

        expiry = None if expires_at is None else datetime.fromtimestamp(expires_at, UTC).isoformat()
        return self._transport.run(request_new_key(kind, name, expiry, cell, reads_tails=reads_tails))

    def revoke(self, key_id: str) -> None:
        from progressbar_tracker._http.credentials import request_key_revocation

        self._transport.run(request_key_revocation(key_id))

    def rotate(self, key_id: str) -> dict[str, object]:
        from progressbar_tracker._http.credentials import request_key_rotation

        return self._transport.run(request_key_rotation(key_id))

    def close(self) -> None:
        self._transport.close()


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
    print_secret(key, key["key"], f"key {key['key_id']}", as_json=as_json)
    if not as_json:
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
    require_stdout("key")
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
    columns = ("key_id", "type", "name", "created_at", "last_used_at", "expires_at", "revoked_at")
    print_records(records, columns, as_json=as_json)


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
    require_stdout("key")
    with _open_keys(database, url) as keys:
        _print_key(keys.rotate(key_id), as_json=as_json)


@keys_group.command("rotate-push", epilog=list_examples("keys rotate-push"))
@database_option
def keys_rotate_push(database: str | None) -> None:
    """Replace the key that signs notifications of browsers.

    A browser subscribes with the new key when it gets its next notification, or when it opens a page. Until then, its
    notifications are signed with the former key.
    """
    with require_extra(NOTIFY_MISSING_MESSAGE):
        from progressbar_tracker.server.notifications.web_push import rotate_vapid_keys

        keys = _DatabaseKeys(database)
        with contextlib.closing(keys):
            count = keys.rotate_push_key(rotate_vapid_keys)
    noun = "subscription renews itself" if count == 1 else "subscriptions renew themselves"
    print_note(f"Replaced the key; {count} {noun}.")


CLI_COMMANDS: Final = (keys_group,)
