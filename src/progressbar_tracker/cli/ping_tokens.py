"""``ping-tokens``: secrets for URLs that report the runs of one group."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urljoin

import click

from progressbar_tracker._http.credentials import (
    request_new_ping_token,
    request_ping_token_revocation,
    request_ping_tokens,
)
from progressbar_tracker._text import sanitize_line

from .credentials import connect_as_admin, print_records, print_secret, require_stdout
from .help import CommandGroup, list_examples
from .options import json_option, url_option
from .streams import print_note

_TOKEN_COLUMNS: Final = ("token_id", "name", "group", "created_at", "expires_at")


@click.group(
    "ping-tokens",
    cls=CommandGroup,
    epilog=list_examples(
        "ping-tokens create --name cron --group nightly", "ping-tokens list", "ping-tokens revoke TOKEN_ID"
    ),
)
def ping_tokens_group() -> None:
    """List, create and revoke ping tokens: secrets for URLs that report the runs of one group, and do nothing else.

    They need an admin key: PROGRESSBAR_ADMIN_KEY, PROGRESSBAR_API_KEY, the config file, or else a prompt.
    """


@ping_tokens_group.command(
    "create",
    epilog=list_examples(
        "ping-tokens create --name cron --group nightly", "ping-tokens create --name box-7 --group ci --expires 365"
    ),
)
@click.option("--name", required=True, help="Name of its owner, shown with its items.")
@click.option("--group", metavar="GROUP", required=True, help="The group whose items it reports.")
@click.option(
    "--expires", metavar="DAYS", type=click.FloatRange(0, 36500, min_open=True), help="Days until the token expires."
)
@url_option
@json_option
def ping_tokens_create(name: str, group: str, expires: float | None, url: str | None, as_json: bool) -> None:
    """Create a ping token and print the URL that begins its pings, this once and alone, on stdout.

    The URL of a ping ends with the id of an item: URL/ID/start, URL/ID, URL/ID/fail.
    """
    require_stdout("token")
    expires_at = None if expires is None else (datetime.now(UTC) + timedelta(days=expires)).isoformat()
    with connect_as_admin(url) as transport:
        token = transport.run(request_new_ping_token(name, group, expires_at))
        # A server without a public URL does not know its own.
        ping_url = str(token.get("url") or urljoin(transport.url, str(token.get("path"))))
    token |= {"url": ping_url}
    print_secret(token, ping_url, f"ping token {token.get('token_id')}", as_json=as_json)
    if not as_json:
        print_note(f"Ping token {sanitize_line(token.get('token_id'))}, shown only once; a ping is this URL with /ID")


@ping_tokens_group.command("list", epilog=list_examples("ping-tokens list", "ping-tokens list --json"))
@url_option
@json_option
def ping_tokens_list(url: str | None, as_json: bool) -> None:
    """List the ping tokens, without their secrets."""
    with connect_as_admin(url) as transport:
        tokens = transport.run(request_ping_tokens())
    print_records(tokens, _TOKEN_COLUMNS, as_json=as_json, empty_note="There is no ping token.")


@ping_tokens_group.command("revoke", epilog=list_examples("ping-tokens revoke TOKEN_ID"))
@click.argument("token_ids", metavar="TOKEN_ID...", nargs=-1, required=True)
@url_option
def ping_tokens_revoke(token_ids: tuple[str, ...], url: str | None) -> None:
    """End ping tokens at once. Their items stay."""
    with connect_as_admin(url) as transport:
        for token_id in token_ids:
            transport.run(request_ping_token_revocation(token_id))
            print_note(f"Revoked {token_id}.")


CLI_COMMANDS: Final = (ping_tokens_group,)
