"""The command line: thin shells over the client and the server.

A key is never an argument, where every user of the machine could read it in the process list: it comes from the
environment, from the config file, or from a prompt without echo. The server is imported by the commands that need it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NoReturn, cast

import click

from . import _config
from ._client import ProgressBar
from ._errors import ConfigError, ItemNotFoundError, ProgressBarError
from ._models import KEY_TYPES
from ._table import plain, row, state, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ._models import Item, KeyType

NAME: Final = "progressbar-tracker"
EXTRA: Final = f"the server is not installed: pip install '{NAME}[server]'"
COLOURS: Final = {"succeeded": "green", "failed": "red", "stopped": "yellow", "stalled": "magenta"}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 1 with one line on stderr, or 2 for wrong usage."""
    try:
        code = commands.main(arguments, prog_name=NAME, standalone_mode=False)
    except click.UsageError as error:
        where = f"{error.ctx.command_path} --help" if error.ctx else f"{NAME} --help"
        click.echo(f"{NAME}: {plain(error.format_message())} (see: {where})", err=True)
        return 2
    except click.Abort:
        click.echo(err=True)
        return 130
    except (click.ClickException, ProgressBarError, ValueError) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"{NAME}: {plain(text)}", err=True)
        return 1
    except BrokenPipeError:
        # The reader, such as head, has seen enough. Python would complain while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def version_text() -> str:
    """Return the installed version."""
    return importlib.metadata.version(NAME)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version_text(), "--version", message="%(version)s")
def commands() -> None:
    """See from anywhere how far a program is, when it will be done, and whether it failed."""


@commands.command()
def version() -> None:
    """Print the version."""
    click.echo(version_text())


def _server_missing() -> NoReturn:
    raise click.ClickException(EXTRA)


class _LocalConfig:
    """The user's config file, in the server's words."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[str, str] | None:
        found = _config.read_user_config(self._path)
        return None if found is None else (found.url, found.api_key)

    def write(self, url: str, api_key: str) -> None:
        _config.write_user_config(self._path, url, api_key)


@commands.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on (PROGRESSBAR_HOST; default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one (PROGRESSBAR_PORT; 8989).")
@click.option("--database", metavar="FILE", help="SQLite file (PROGRESSBAR_DATABASE; in the user's data folder).")
@click.option("--base-path", metavar="PATH", help="Path under which everything lives (PROGRESSBAR_BASE_PATH).")
@click.option("--max-items", type=int, help="Most items of one key (PROGRESSBAR_MAX_ITEMS; 10000).")
@click.option("--no-local-key", is_flag=True, help="Leave the user's config file alone (PROGRESSBAR_LOCAL_KEY=0).")
def serve(
    host: str | None,
    port: int | None,
    database: str | None,
    base_path: str | None,
    max_items: int | None,
    no_local_key: bool,
) -> None:
    """Run the server and its dashboard until Ctrl-C.

    ADMIN_USERNAME and ADMIN_PASSWORD set who may sign in to the dashboard; without them a one-time link is printed.
    PROGRESSBAR_ADMIN_KEY brings an admin key of your own. Each secret can be read from a file: ADMIN_PASSWORD_FILE,
    PROGRESSBAR_ADMIN_KEY_FILE.
    """
    try:
        from .server.run import Server
        from .server.settings import Settings
    except ImportError:
        _server_missing()
    settings = Settings.from_environ(
        os.environ,
        host=host,
        port=port,
        database=database,
        base_path=base_path,
        max_items=max_items,
        local_key=False if no_local_key else None,
    )
    config = _LocalConfig(_config.user_config_path(os.environ))
    server = Server(settings, say=click.echo, local_config=config)
    server.run(lambda: click.echo(f"Serving on {server.url} from {settings.database}; Ctrl-C stops."))


@commands.command()
@click.option("--once", is_flag=True, help="End when the work is done, instead of waiting for Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the server; by default a free one.")
def demo(once: bool, port: int) -> None:
    """Show it all: a server on a free port, and a real job running on it."""
    try:
        from .demo import show
    except ImportError:
        _server_missing()
    show(once=once, port=port, say=click.echo)


# --- items ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _client(url: str | None) -> Iterator[ProgressBar]:
    """Connect to the server that is named or configured."""
    found = _config.discover(os.environ, url=url)
    if found is None:
        raise click.ClickException(
            f"no server is configured: set {_config.URL} and {_config.API_KEY}, or run: {NAME} login URL"
        )
    try:
        client = ProgressBar(found.url, found.api_key, auto_detect=False)
    except ConfigError as error:
        raise _config.told_where(found, error) from error
    with client:
        yield client


url_option = click.option("--url", metavar="URL", help="Server to ask in place of the configured one.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, which programs can rely on.")


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def _lines(items: Sequence[Item], width: int | None) -> list[str]:
    heading, *lines = table([row(item) for item in items], width)
    return [
        click.style(heading, bold=True),
        *(click.style(line, fg=COLOURS.get(state(item))) for item, line in zip(items, lines, strict=True)),
    ]


def _width() -> int | None:
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@commands.command("ls")
@url_option
@json_option
def list_items(url: str | None, as_json: bool) -> None:
    """List the items, highest weight first."""
    with _client(url) as client:
        items = client.get_all()
    if as_json:
        _print_json(items)
    elif not items:
        click.echo("Nothing is running.", err=True)
    else:
        click.echo("\n".join(_lines(items, _width())))


@commands.command()
@click.argument("item_id", metavar="ID")
@url_option
@json_option
def get(item_id: str, url: str | None, as_json: bool) -> None:
    """Show one item in full."""
    with _client(url) as client:
        item = client.get(item_id)
    if as_json:
        _print_json(item)
        return
    shown = {name: value for name, value in item.items() if value not in (None, "", {})}
    wide = max(len(name) for name in shown)
    for name, value in shown.items():
        pairs = cast("dict[str, str]", value).items() if isinstance(value, dict) else ()
        text = ", ".join(f"{key}={entry}" for key, entry in pairs) if isinstance(value, dict) else str(value)
        click.echo(f"{name:<{wide}}  {plain(text)}")


@commands.command("set")
@click.argument("item_id", metavar="ID")
@click.argument("value", type=float, required=False)
@click.option("--title", help="What to call it; by default the id.")
@click.option("--description", help="Its state in words.")
@click.option("--weight", type=int, help="Higher is shown first.")
@url_option
def set_item(
    item_id: str,
    value: float | None,
    title: str | None,
    description: str | None,
    weight: int | None,
    url: str | None,
) -> None:
    """Create or update an item: VALUE from 0 to 1, where 1 ends it as succeeded. What is left out stays."""
    with _client(url) as client:
        try:
            before = client.get(item_id)
        except ItemNotFoundError:
            client.create(item_id, title or item_id, description or "", value or 0.0, weight or 0)
            return
        client.update(
            item_id,
            before["title"] if title is None else title,
            before["description"] if description is None else description,
            before["value"] if value is None else value,
            before["weight"] if weight is None else weight,
        )


@commands.command("rm")
@click.argument("item_ids", metavar="ID...", nargs=-1, required=True)
@url_option
def remove(item_ids: tuple[str, ...], url: str | None) -> None:
    """Delete items."""
    with _client(url) as client:
        missing = [item_id for item_id in item_ids if not client.delete(item_id)]
    if missing:
        raise click.ClickException(f"there is no item with the id {', '.join(missing)}")


@commands.command()
@click.option("--interval", type=click.FloatRange(0.2, 3600), default=1.0, help="Seconds between two looks (1).")
@url_option
def watch(interval: float, url: str | None) -> None:
    """Watch the items until Ctrl-C: live in a terminal, through a pipe a line for each change."""
    with _client(url) as client, contextlib.suppress(KeyboardInterrupt):
        if sys.stdout.isatty():
            _watch_screen(client, interval)
        else:
            _watch_lines(client, interval)


def _watch_screen(client: ProgressBar, interval: float) -> NoReturn:
    import shutil

    items: Sequence[Item] = client.get_all()  # a first failure is an error, a later one is shown
    answered = time.monotonic()
    trouble = ""
    click.echo("\x1b[?1049h\x1b[?25l", nl=False)  # a screen of its own, and no cursor
    try:
        while True:
            size = shutil.get_terminal_size()
            lines = _lines(items, size.columns) if items else ["Nothing is running."]
            if trouble:
                silent = int(time.monotonic() - answered)
                lines.insert(0, click.style(f"No answer for {silent} s: {trouble}"[: size.columns], fg="red"))
            # Each line is cleared behind its text, and the rest of the screen below: nothing flickers.
            frame = "".join(f"{line}\x1b[K\n" for line in lines[: size.lines - 1])
            click.echo(f"\x1b[H{frame}\x1b[J", nl=False)
            time.sleep(interval)
            try:
                items, answered, trouble = client.get_all(), time.monotonic(), ""
            except ProgressBarError as error:
                trouble = plain(error)
    finally:
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)


def _watch_lines(client: ProgressBar, interval: float) -> NoReturn:
    before: dict[str, tuple[str, ...]] = {}
    while True:
        now = {item["id"]: row(item) for item in client.get_all()}
        for item_id, cells in now.items():
            if before.get(item_id) != cells:
                click.echo("  ".join(cell for cell in cells if cell))
        for item_id in before.keys() - now.keys():
            click.echo(f"- gone  {plain(item_id)}")
        sys.stdout.flush()
        before = now
        time.sleep(interval)


@commands.command()
@click.argument("url")
def login(url: str) -> None:
    """Store a server and a key for track() and for this command line; asks for the key without echo."""
    from ._wire import base_url

    base_url(url, "URL")
    key = click.prompt("Key", hide_input=True, err=True).strip()
    with ProgressBar(url, key, auto_detect=False) as client:
        info = client.key_info
    path = _config.user_config_path(os.environ)
    _config.write_user_config(path, url, key)
    click.echo(f"Stored a {info.type} key for {url} in {path}.")


# --- keys -------------------------------------------------------------------------------------------------------------


@commands.group("keys")
def keys_group() -> None:
    """Make, list, revoke and rotate keys: in the server's database file, or with --url over HTTP.

    Over HTTP an admin key is needed: PROGRESSBAR_ADMIN_KEY, PROGRESSBAR_API_KEY, the config file, or else it is asked
    for. A running server takes a change of its file up at once.
    """


database_option = click.option("--database", metavar="FILE", help="The database file (PROGRESSBAR_DATABASE).")
keys_url_option = click.option("--url", metavar="URL", help="Do it over HTTP, at this server.")


class _FileKeys:
    """Keys in a database file, told as the HTTP interface tells them."""

    def __init__(self, database: str | None) -> None:
        try:
            from .server.key_file import KeyFile
            from .server.records import told
            from .server.settings import Settings
        except ImportError:
            _server_missing()
        settings = Settings.from_environ(os.environ, database=database)
        self._file = KeyFile(settings.database)
        self._told = told

    def list(self) -> list[dict[str, object]]:
        return [self._told(record) for record in self._file.list()]

    def create(self, kind: KeyType, name: str, expires_at: float | None) -> dict[str, object]:
        made = self._file.create(kind, name, expires_at=expires_at)
        return {**self._told(made.record), "key": made.secret}

    def revoke(self, key_id: str) -> None:
        self._file.revoke(key_id)

    def rotate(self, key_id: str) -> dict[str, object]:
        made = self._file.rotate(key_id)
        return {**self._told(made.record), "key": made.secret}

    def close(self) -> None:
        self._file.close()


class _HttpKeys:
    """Keys of a server, over its HTTP interface."""

    def __init__(self, url: str) -> None:
        from ._transport import HttpTransport
        from ._wire import base_url

        base_url(url, "--url")
        key = os.environ.get("PROGRESSBAR_ADMIN_KEY") or _config.environ_key(os.environ)
        if not key:
            with contextlib.suppress(ConfigError):
                found = _config.discover(os.environ, url=url)
                key = found.api_key if found is not None else None
        if not key:
            key = click.prompt("Admin key", hide_input=True, err=True).strip()
        self._transport = HttpTransport(url, key, timeout=10.0)

    def list(self) -> list[dict[str, object]]:
        from ._wire import ask_keys

        return self._transport.run(ask_keys())

    def create(self, kind: KeyType, name: str, expires_at: float | None) -> dict[str, object]:
        from ._wire import ask_new_key

        told = None if expires_at is None else datetime.fromtimestamp(expires_at, UTC).isoformat()
        return self._transport.run(ask_new_key(kind, name, told))

    def revoke(self, key_id: str) -> None:
        from ._wire import ask_revoke

        self._transport.run(ask_revoke(key_id))

    def rotate(self, key_id: str) -> dict[str, object]:
        from ._wire import ask_rotate

        return self._transport.run(ask_rotate(key_id))

    def close(self) -> None:
        self._transport.close()


@contextlib.contextmanager
def _keys(database: str | None, url: str | None) -> Iterator[_FileKeys | _HttpKeys]:
    if database and url:
        raise click.UsageError("--database and --url exclude each other")
    keys = _HttpKeys(url) if url else _FileKeys(database)
    try:
        yield keys
    finally:
        keys.close()


def _say_key(made: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        _print_json(made)
        return
    click.echo(f"{made['type']} key {made['key_id']} ({plain(made['name'])}), shown this once:", err=True)
    click.echo(made["key"])


@keys_group.command("create")
@click.option("--type", "kind", type=click.Choice(KEY_TYPES), required=True, help="What the key may do.")
@click.option("--name", required=True, help="Whose it is; shown as the owner of its items.")
@click.option("--expires", metavar="DAYS", type=click.FloatRange(0, 36500, min_open=True), help="Days it is good for.")
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
    """Make a key. It is printed this once, alone on stdout."""
    expires_at = None if expires is None else time.time() + expires * 86400
    with _keys(database, url) as keys:
        _say_key(keys.create(kind, name, expires_at), as_json=as_json)


@keys_group.command("list")
@database_option
@keys_url_option
@json_option
def keys_list(database: str | None, url: str | None, as_json: bool) -> None:
    """List the keys, without their secrets."""
    with _keys(database, url) as keys:
        records = keys.list()
    if as_json:
        _print_json(records)
        return
    columns = ("key_id", "type", "name", "created_at", "last_used_at", "expires_at", "revoked_at")
    rows = [[plain(record.get(column)) for column in columns] for record in records]
    click.echo("\n".join(table(rows, _width(), [column.removesuffix("_at").upper() for column in columns])))


@keys_group.command("revoke")
@click.argument("key_id")
@database_option
@keys_url_option
def keys_revoke(key_id: str, database: str | None, url: str | None) -> None:
    """Make a key invalid, at once and for good."""
    with _keys(database, url) as keys:
        keys.revoke(key_id)
    click.echo(f"Revoked {key_id}.", err=True)


@keys_group.command("rotate")
@click.argument("key_id")
@database_option
@keys_url_option
@json_option
def keys_rotate(key_id: str, database: str | None, url: str | None, as_json: bool) -> None:
    """Give a key a new secret. It keeps its items; the old secret works for another day."""
    with _keys(database, url) as keys:
        _say_key(keys.rotate(key_id), as_json=as_json)
