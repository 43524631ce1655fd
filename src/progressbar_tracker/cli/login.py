"""``login`` and ``logout``: the server and the key that this machine reports with."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from progressbar_tracker import _config
from progressbar_tracker._client import ProgressBar
from progressbar_tracker._errors import PermissionError, TransportError
from progressbar_tracker._text import sanitize_line

from .help import list_examples
from .streams import ask_secret, print_note, read_secret


@click.command(
    epilog=list_examples(
        "login https://progress.example.org",
        "$progressbar-tracker login https://progress.example.org --key-stdin < key.txt",
    )
)
@click.argument("url")
@click.option("--key-stdin", is_flag=True, help="Read the key from the first line of stdin, without a prompt.")
def login(url: str, key_stdin: bool) -> None:
    r"""Store a server and a key for track() and for this command line. The prompt for the key has no echo.

    The server checks the key before it is stored. logout removes both.
    """
    from progressbar_tracker._http.messages import parse_base_url

    parse_base_url(url, "URL")
    key = read_secret() if key_stdin else ask_secret("Key")
    try:
        with ProgressBar(url, key, auto_detect=False) as client:
            info = client.key_info
    except (TransportError, PermissionError) as error:
        raise click.ClickException(f"{error}; nothing was stored") from error
    path = _config.get_user_config_path(os.environ)
    _config.write_user_config(path, url, key)
    click.echo(f"Stored a {sanitize_line(info.type)} key for {url} in {path}.")


@click.command(epilog=list_examples("logout"))
def logout() -> None:
    """Remove the server and the key that login or serve has stored on this machine.

    The key stays valid: keys revoke ends it. It is an error if nothing is stored.
    """
    path = _config.get_user_config_path(os.environ)
    url = _config.remove_user_config(path)
    if url is None:
        raise click.ClickException(f"nothing is stored: there is no {path}")
    click.echo(f"Removed the key for {sanitize_line(url)}, with {path}.")
    sys.stdout.flush()
    names = (_config.API_KEY_VARIABLE, _config.API_KEY_FILE_VARIABLE)
    if still := [name for name in names if os.environ.get(name)]:
        print_note(f"{' and '.join(still)} still has a key in this shell.")


CLI_COMMANDS: Final = (login, logout)
