"""``backup`` and ``restore``: copies of the database file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .options import raise_server_missing

if TYPE_CHECKING:
    from progressbar_tracker.server.stores.sqlite.backup import CopySummary

database_option = click.option("--database", metavar="FILE", help="The database file (PROGRESSBAR_DATABASE).")
POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")
file_type = click.Path(path_type=Path)


def _resolve_file(database: str | None, tools: str) -> Path:
    """Return the database file: as given, of the environment, or the usual one."""
    given = database or os.environ.get("PROGRESSBAR_DATABASE")
    if not given:
        from progressbar_tracker.server.settings import default_database

        return default_database()
    if given.startswith(POSTGRES_SCHEMES):
        # Not repeated: it may hold a password.
        raise click.ClickException(f"the database is PostgreSQL's, and so are the tools for copies of it: {tools}")
    return Path(given)


def _format_count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _describe_contents(copied: CopySummary) -> str:
    items, runs, keys = (
        _format_count(copied.items, "item"),
        _format_count(copied.runs, "run"),
        _format_count(copied.keys, "key"),
    )
    return f"{items}, {runs} of the history, {keys}"


@click.command()
@click.argument("target", type=file_type)
@click.option("--force", is_flag=True, help="Replace TARGET if it is there.")
@database_option
def backup(target: Path, force: bool, database: str | None) -> None:
    """Copy the database into the file TARGET, while the server runs or not.

    The copy is checked before it gets its name, and holds all that was on disk when it was begun.
    """
    try:
        from progressbar_tracker.server.stores.sqlite import backup as files

        source = _resolve_file(database, "pg_dump (and pg_restore for the way back)")
    except ImportError:
        raise_server_missing()
    copied = files.create_backup(source, target, replace=force)
    click.echo(f"Wrote {target}: {_describe_contents(copied)}.")


@click.command()
@click.argument("source", type=file_type)
@database_option
def restore(source: Path, database: str | None) -> None:
    """Put the copy SOURCE in the place of the database, while no server runs on it.

    The file that was there is kept beside it. What has happened since the copy is undone: keys that were revoked work
    again.
    """
    try:
        from progressbar_tracker.server.stores.sqlite import backup as files

        path = _resolve_file(database, "pg_restore (of what pg_dump has written)")
    except ImportError:
        raise_server_missing()
    copied = files.restore_backup(source, path)
    click.echo(f"Restored {path}: {_describe_contents(copied)}.")
    if copied.previous_path is not None:
        click.echo(f"The former file is {copied.previous_path}.")


@click.command()
@click.option("--from", "source", type=file_type, required=True, metavar="FILE", help="The database file.")
@click.option("--to", "url", required=True, metavar="URL", help="postgresql://user@host/name, with nothing in it yet.")
def migrate(source: Path, url: str) -> None:
    """Copy everything from a database file to PostgreSQL: items, history, keys, sessions, shares.

    No server may run on the file. All of it arrives, counted, or nothing. The file stays where it is.
    """
    if not url.startswith(POSTGRES_SCHEMES):
        raise click.ClickException("--to must be a postgresql:// URL")
    try:
        from progressbar_tracker.server.stores.open import require_postgres_driver

        require_postgres_driver()
        from progressbar_tracker.server.stores.postgres.migrate import migrate_database
    except ImportError:
        raise_server_missing()
    moved = migrate_database(source, url)
    click.echo(
        f"Moved {_format_count(moved.items, 'item')}, {_format_count(moved.runs, 'run')} of the history, "
        f"{_format_count(moved.samples, 'sample')}, {_format_count(moved.keys, 'key')}, "
        f"{_format_count(moved.sessions, 'session')} and "
        f"{_format_count(moved.shares, 'share')}."
    )


CLI_COMMANDS: Final = (backup, restore, migrate)
