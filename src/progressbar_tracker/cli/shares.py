"""``shares``: read-only links to an item or a group, for people without a key."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

import click

from progressbar_tracker._http.exchanges import request_new_share, request_share_revocation, request_shares
from progressbar_tracker._text import sanitize_line
from progressbar_tracker.cli.table import format_table

from .connection import find_server
from .help import CommandGroup, list_examples
from .keys import explain_admin_key, open_admin_transport
from .options import json_option, print_json, terminal_width, url_option
from .streams import discard_output, is_stdout_closed, print_note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker._http.transport import HttpTransport

_SHARE_COLUMNS: Final = ("share_id", "item", "group", "created_at", "expires_at")
_SHARE_ID_COLUMN: Final = 0


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


@contextlib.contextmanager
def _connect(url: str | None) -> Iterator[HttpTransport]:
    with contextlib.closing(open_admin_transport(url or find_server(None).url)) as transport, explain_admin_key():
        yield transport


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
    if is_stdout_closed():
        raise click.ClickException("stdout is closed: the link could not be shown")
    expires_at = None if expires is None else (datetime.now(UTC) + timedelta(days=expires)).isoformat()
    with _connect(url) as transport:
        share = transport.run(request_new_share(item, group, expires_at))
        # A server without a public URL does not know its links. Those by the URL of this command work here.
        link = str(share.get("url") or urljoin(transport.url, str(share.get("path"))))
        badge = str(share.get("badge_url") or urljoin(transport.url, str(share.get("badge"))))
    try:
        if as_json:
            print_json({**share, "url": link, "badge_url": badge})
            return
        click.echo(sanitize_line(link))
    except OSError as error:
        discard_output()
        raise click.ClickException(
            f"the link of share {share.get('share_id')} cannot be shown ({error.strerror}): revoke it"
        ) from None
    print_note(f"Share {share.get('share_id')}, shown only once; as a badge: {sanitize_line(badge)}")


@shares_group.command("list", epilog=list_examples("shares list", "shares list --json"))
@url_option
@json_option
def shares_list(url: str | None, as_json: bool) -> None:
    """List the shares, without their links."""
    with _connect(url) as transport:
        shares = transport.run(request_shares())
    if as_json:
        print_json(shares)
        return
    if not shares:
        print_note("There is no share.")
        return
    rows = [[sanitize_line(share.get(column)) for column in _SHARE_COLUMNS] for share in shares]
    headings = [column.removesuffix("_at").upper() for column in _SHARE_COLUMNS]
    click.echo("\n".join(format_table(rows, terminal_width(), headings, whole={_SHARE_ID_COLUMN})))


@shares_group.command("revoke", epilog=list_examples("shares revoke SHARE_ID"))
@click.argument("share_ids", metavar="SHARE_ID...", nargs=-1, required=True)
@url_option
def shares_revoke(share_ids: tuple[str, ...], url: str | None) -> None:
    """End the links of shares at once, also those that are open."""
    with _connect(url) as transport:
        for share_id in share_ids:
            transport.run(request_share_revocation(share_id))
            print_note(f"Revoked {share_id}.")


CLI_COMMANDS: Final = (shares_group,)
