"""``backup``, ``restore`` and ``migrate``: copies of the database file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .help import list_examples
from .options import SERVER_MISSING_MESSAGE, database_option, name_options, require_database_file, require_extra

if TYPE_CHECKING:
    from progressbar_tracker.server.stores.sqlite.backup import CopySummary


POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")
file_type = click.Path(path_type=Path)


def _resolve_file(database: str | None) -> Path:
    """Return the database file: of the option, of the environment, or the default one."""
    from progressbar_tracker.server.settings import resolve_database

    with name_options({"database": database}):
        location = resolve_database(os.environ, database)
    if isinstance(location, str):
        # The message omits the URL, which may contain a password.
        raise click.ClickException("the database is in PostgreSQL: copy it with pg_dump and pg_restore")
    return location


def _format_count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _describe_contents(copied: CopySummary) -> str:
    items, runs, keys = (
        _format_count(copied.items, "item"),
        _format_count(copied.runs, "run"),
        _format_count(copied.keys, "key"),
    )
    return f"{items}, {runs} of the history, {keys}"


@click.command(epilog=list_examples("backup copy.db", "backup --force /mnt/backup/progress.db"))
@click.argument("target", type=file_type)
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
@database_option
def backup(target: Path, force: bool, database: str | None) -> None:
    """Copy the database to the file TARGET. The server may be running.

    The copy contains every write that was on disk at its start. It is checked before it gets its name.
    """
    with require_extra(SERVER_MISSING_MESSAGE):
        from progressbar_tracker.server.stores.sqlite import backup as files

        source = _resolve_file(database)
    require_database_file(source)
    copied = files.create_backup(source, target, replace=force)
    click.echo(f"Wrote {target}: {_describe_contents(copied)}.")


@click.command(epilog=list_examples("restore copy.db"))
@click.argument("source", type=file_type)
@database_option
def restore(source: Path, database: str | None) -> None:
    """Replace the database with the copy SOURCE. No server may be running on it.

    The former file stays beside it. Changes since the copy are lost: keys that were revoked since then work again.
    """
    with require_extra(SERVER_MISSING_MESSAGE):
        from progressbar_tracker.server.stores.sqlite import backup as files

        path = _resolve_file(database)
    copied = files.restore_backup(source, path)
    click.echo(f"Restored {path}: {_describe_contents(copied)}.")
    if copied.previous_path is not None:
        click.echo(f"The former file is {copied.previous_path}.")


@click.command(epilog=list_examples("migrate --from progress.db --to postgresql://host/bars"))
@click.option("--from", "source", type=file_type, required=True, metavar="FILE", help="The database file.")
@click.option("--to", "url", required=True, metavar="URL", help="postgresql://user@host/name, an empty database.")
def migrate(source: Path, url: str) -> None:
    """Copy everything from a database file to PostgreSQL: items, history, keys, sessions, shares.

    No server may be running on the file. The copy is complete, with its rows counted, or it fails as a whole. The file
    stays.
    """
    if not url.startswith(POSTGRES_SCHEMES):
        raise click.ClickException("--to must be a postgresql:// URL")
    with require_extra(SERVER_MISSING_MESSAGE):
        from progressbar_tracker.server.stores.open import require_postgres_driver

        require_postgres_driver()
        from progressbar_tracker.server.stores.postgres.migrate import migrate_database
    moved = migrate_database(source, url)
    click.echo(
        f"Moved {_format_count(moved.items, 'item')}, {_format_count(moved.runs, 'run')} of the history, "
        f"{_format_count(moved.samples, 'sample')}, {_format_count(moved.keys, 'key')}, "
        f"{_format_count(moved.sessions, 'session')} and "
        f"{_format_count(moved.shares, 'share')}."
    )


CLI_COMMANDS: Final = (backup, restore, migrate)
