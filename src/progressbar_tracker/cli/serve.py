"""``serve`` and ``demo``: the server, and the server with a real job running on it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, Unpack

import click

from progressbar_tracker import _config
from progressbar_tracker._errors import ConfigError
from progressbar_tracker._log import WARNING, log

from . import streams
from .options import raise_server_missing

if TYPE_CHECKING:
    from pathlib import Path

    from progressbar_tracker.server.settings import SettingsOverrides


class _LocalConfig:
    """The user's config file, in the server's words."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[str, str] | None:
        found = _config.read_user_config(self._path)
        return None if found is None else (found.url, found.api_key)

    def write(self, url: str, api_key: str) -> None:
        try:
            _config.write_user_config(self._path, url, api_key)
        except ConfigError as error:
            log(WARNING, "Programs here need to be told of this server (progressbar-tracker login %s): %s", url, error)


def _open_local_config() -> _LocalConfig | None:
    try:
        return _LocalConfig(_config.get_user_config_path(os.environ))
    except ConfigError as error:
        log(WARNING, "Programs here find neither this server nor a key by themselves: %s", error)
        return None


def _print_line(text: str) -> None:
    """Write a line for a person; a server whose stdout is closed or full serves all the same."""
    try:
        click.echo(text)
    except OSError as error:
        log(WARNING, "stdout cannot be written: %s", error.strerror)
        streams.discard_output()


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on (PROGRESSBAR_HOST; default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one (PROGRESSBAR_PORT; 8989).")
@click.option("--database", metavar="FILE", help="SQLite file, or postgresql:// URL (PROGRESSBAR_DATABASE).")
@click.option("--base-path", metavar="PATH", help="Path under which everything lives (PROGRESSBAR_BASE_PATH).")
@click.option("--public-url", metavar="URL", help="What people come by, for links (PROGRESSBAR_PUBLIC_URL).")
@click.option("--max-items", type=int, help="Most items of one key (PROGRESSBAR_MAX_ITEMS; 10000).")
@click.option("--max-requests", type=int, help="Most requests a second of one key (PROGRESSBAR_MAX_REQUESTS; 0: any).")
@click.option(
    "--max-unread", type=int, help="Most MiB of responses that clients leave unread (PROGRESSBAR_MAX_UNREAD; 64)."
)
@click.option(
    "--trusted-proxies", metavar="ADDRESSES",
    help="Proxies whose X-Forwarded-For and -Proto are believed: addresses, networks, loopback "
    "(PROGRESSBAR_TRUSTED_PROXIES; none).",
)  # fmt: skip
@click.option(
    "--allowed-hosts", metavar="NAMES",
    help="Names under which the server answers, besides those of loopback (PROGRESSBAR_ALLOWED_HOSTS; "
    "on a loopback address none, else any).",
)  # fmt: skip
@click.option(
    "--public-read",
    is_flag=True,
    default=None,
    help="Let everybody read without signing in (PROGRESSBAR_PUBLIC_READ=1).",
)
@click.option("--keep", metavar="PERIODS", help="How long ended items stay listed: succeeded=1h,7d (PROGRESSBAR_KEEP).")
@click.option("--history", metavar="PERIODS", help="How long runs are remembered (PROGRESSBAR_HISTORY; 90d).")
@click.option("--give-up", metavar="PERIOD", help="Silence after which a running item leaves (PROGRESSBAR_GIVE_UP).")
@click.option(
    "--credential-age", metavar="PERIOD",
    help="How long keys are accepted while PostgreSQL does not answer (PROGRESSBAR_CREDENTIAL_AGE; 60s).",
)  # fmt: skip
@click.option("--channels", metavar="FILE", help="Whom to tell of items, in TOML (PROGRESSBAR_CHANNELS).")
@click.option("--metrics-items", type=int, help="Items whose progress /metrics tells (PROGRESSBAR_METRICS_ITEMS; 0).")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Form of the log (PROGRESSBAR_LOG_FORMAT).")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]),
              help="From which level on (PROGRESSBAR_LOG_LEVEL; warning, with JSON info).")  # fmt: skip
@click.option("--access-log", is_flag=True, default=None, help="A line for each request (PROGRESSBAR_ACCESS_LOG=1).")
@click.option(
    "--no-local-key",
    "local_key",
    is_flag=True,
    flag_value=False,
    default=None,
    help="Leave the user's config file alone (PROGRESSBAR_LOCAL_KEY=0).",
)
def serve(**given: Unpack[SettingsOverrides]) -> int:
    """Run the server and its dashboard until Ctrl-C.

    ADMIN_USERNAME and ADMIN_PASSWORD set who may sign in to the dashboard; without them a one-time link is printed.
    PROGRESSBAR_ADMIN_KEY brings an admin key of your own. Each secret can be read from a file: ADMIN_PASSWORD_FILE,
    PROGRESSBAR_ADMIN_KEY_FILE.
    """
    import logging

    try:
        from progressbar_tracker.server import logs
        from progressbar_tracker.server.run import Server
        from progressbar_tracker.server.settings import PORT_VARIABLE, Settings, is_service_address
    except ImportError:
        raise_server_missing()
    settings = Settings.from_environ(os.environ, **given)
    logs.configure(settings.log_format, settings.log_level, sys.stderr)
    logging.captureWarnings(True)
    if is_service_address(os.environ.get(PORT_VARIABLE, "")):
        logging.getLogger(logs.EVENT_LOGGER).warning(
            "%s is a service's address and no port, and is ignored", PORT_VARIABLE
        )
    try:
        server = Server(
            settings, print_line=_print_line, local_config=_open_local_config() if settings.local_key else None
        )
    except ConfigError as error:
        if settings.log_format != "json":
            raise
        logging.getLogger(logs.EVENT_LOGGER).critical("%s", error)  # whoever reads the log reads nothing else
        return 1
    server.run(lambda: _print_line(f"Serving on {server.url} from {settings.redacted_database}; Ctrl-C stops."))
    return 0


@click.command()
@click.option("--once", is_flag=True, help="End when the work is done, instead of waiting for Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the server; by default a free one.")
def demo(once: bool, port: int) -> None:
    """Show it all: a server on a free port, and a real job running on it."""
    try:
        from progressbar_tracker.demo import run_demo
    except ImportError:
        raise_server_missing()
    run_demo(once=once, port=port, print_line=_print_line)


CLI_COMMANDS: Final = (serve, demo)
