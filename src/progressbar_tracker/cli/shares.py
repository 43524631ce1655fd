"""``shares``: read-only links to an item or a group, for people without a key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urljoin

import click

from progressbar_tracker._http.credentials import request_new_share, request_share_revocation, request_shares
from progressbar_tracker._text import sanitize_line

from .credentials import connect_as_admin, print_records, print_secret, require_stdout
from .help import CommandGroup, list_examples
from .options import json_option, url_option
from .streams import print_note

_SHARE_COLUMNS: Final = ("share_id", "item", "group", "created_at", "expires_at")


@click.group(
    "shares",
    cls=CommandGroup,
    epilog=list_examples("shares create --item nightly-import --expires 7", "shares list", "shares revoke SHARE_ID"),
)
def shares_group() -> None:
    r"""List, create and revoke shares: read-only links to an item or a group, for people without a key.

    They need an admin key: PROGRESSBAR_ADMIN_KEY, PROGRESSBAR_API_KEY, the config file, or else a prompt. The server
    prints one at its first start, and keys create --type admin --name NAME on its machine makes another.
    """


@shares_group.command(
    "create", epilog=list_examples("shares create --item nightly --expires 7", "shares create --group ci")
)
@click.option("--item", metavar="ID", help="Share one item; it need not exist yet.")
@click.option("--group", metavar="GROUP", help="Share all items of a group.")
@click.option(
    "--expires", metavar="DAYS", type=click.FloatRange(0, 36500, min_open=True), help="Days until the link expires."
)
@url_option
@json_option
def shares_create(item: str | None, group: str | None, expires: float | None, url: str | None, as_json: bool) -> None:
    """Create a share and print its link, this once and alone, on stdout."""
    if (item is None) is (group is None):
        raise click.UsageError("a share is of an item or of a group: give either --item or --group")
    require_stdout("link")
    expires_at = None if expires is None else (datetime.now(UTC) + timedelta(days=expires)).isoformat()
    with connect_as_admin(url) as transport:
        share = transport.run(request_new_share(item, group, expires_at))
        # A server without a public URL does not know its links. Those by the URL of this command work here.
        link = str(share.get("url") or urljoin(transport.url, str(share.get("path"))))
        badge = str(share.get("badge_url") or urljoin(transport.url, str(share.get("badge"))))
    share |= {"url": link, "badge_url": badge}
    print_secret(share, link, f"the link of share {share.get('share_id')}", as_json=as_json)
    if not as_json:
        print_note(f"Share {share.get('share_id')}, shown only once; as a badge: {sanitize_line(badge)}")


@shares_group.command("list", epilog=list_examples("shares list", "shares list --json"))
@url_option
@json_option
def shares_list(url: str | None, as_json: bool) -> None:
    """List the shares, without their links."""
    with connect_as_admin(url) as transport:
        shares = transport.run(request_shares())
    print_records(shares, _SHARE_COLUMNS, as_json=as_json, empty_note="There is no share.")


@shares_group.command("revoke", epilog=list_examples("shares revoke SHARE_ID"))
@click.argument("share_ids", metavar="SHARE_ID...", nargs=-1, required=True)
@url_option
def shares_revoke(share_ids: tuple[str, ...], url: str | None) -> None:
    """End the links of shares at once, also those that are open."""
    with connect_as_admin(url) as transport:
        for share_id in share_ids:
            transport.run(request_share_revocation(share_id))
            print_note(f"Revoked {share_id}.")


CLI_COMMANDS: Final = (shares_group,)
