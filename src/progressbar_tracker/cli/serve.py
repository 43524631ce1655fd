"""``serve`` and ``demo``: the server, and the server with a real job on it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, Unpack

import click

from progressbar_tracker import _config
from progressbar_tracker._errors import ConfigError
from progressbar_tracker._log import WARNING, log

from . import streams
from .help import list_examples
from .options import SERVER_MISSING_MESSAGE, name_options, require_extra

if TYPE_CHECKING:
    from pathlib import Path

    from progressbar_tracker.server.settings import SettingsOverrides


class _LocalConfig:
    """The user's config file behind the server's interface."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[str, str] | None:
        found = _config.read_user_config(self._path)
        return None if found is None else (found.url, found.api_key)

    def write(self, url: str, api_key: str) -> None:
        try:
            _config.write_user_config(self._path, url, api_key)
        except ConfigError as error:
            log(
                WARNING, "Local programs need the server's URL and a key (progressbar-tracker login %s): %s", url, error
            )


def _open_local_config() -> _LocalConfig | None:
    try:
        return _LocalConfig(_config.get_user_config_path(os.environ))
    except ConfigError as error:
        log(WARNING, "Local programs cannot find this server and a key: %s", error)
        return None


def _print_line(text: str) -> None:
    """Write a line to stdout. The server also runs if stdout is closed or full."""
    try:
        click.echo(text)
    except OSError as error:
        log(WARNING, "stdout cannot be written: %s", error.strerror)
        streams.discard_output()


@click.command(
    epilog=list_examples(
        "serve",
        "serve --host 0.0.0.0 --public-url https://host.example",
        "serve --database postgresql://host/bars --keep 7d",
    )
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on (PROGRESSBAR_HOST; default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one (PROGRESSBAR_PORT; 8989).")
@click.option("--database", metavar="FILE", help="SQLite file, or postgresql:// URL (PROGRESSBAR_DATABASE).")
@click.option("--base-path", metavar="PATH", help="Path prefix of all routes, such as /p (PROGRESSBAR_BASE_PATH).")
@click.option("--public-url", metavar="URL", help="Public base URL used in links (PROGRESSBAR_PUBLIC_URL).")
@click.option("--max-items", type=int, help="Items that a key may have (PROGRESSBAR_MAX_ITEMS; 10000).")
@click.option("--max-requests", type=int, help="Requests a second of one key (PROGRESSBAR_MAX_REQUESTS; 0: no limit).")
@click.option(
    "--max-unread", type=int, help="MiB of responses that clients may leave unread (PROGRESSBAR_MAX_UNREAD; 64)."
)
@click.option(
    "--trusted-proxies", metavar="ADDRESSES",
    help="Proxies whose X-Forwarded-For and -Proto are trusted: addresses, networks, loopback "
    "(PROGRESSBAR_TRUSTED_PROXIES; none).",
)  # fmt: skip
@click.option(
    "--allowed-hosts", metavar="NAMES",
    help="Host names that the server accepts besides loopback's (PROGRESSBAR_ALLOWED_HOSTS; "
    "on a loopback address none, otherwise any).",
)  # fmt: skip
@click.option(
    "--public-read",
    is_flag=True,
    default=None,
    help="Allow reading without a key or a session (PROGRESSBAR_PUBLIC_READ=1).",
)
@click.option("--keep", metavar="PERIODS", help="How long ended items stay listed: succeeded=1h,7d (PROGRESSBAR_KEEP).")
@click.option("--history", metavar="PERIODS", help="How long the history keeps runs (PROGRESSBAR_HISTORY; 90d).")
@click.option(
    "--give-up", metavar="PERIOD",
    help="Silence after which the server stops a running item and removes it (PROGRESSBAR_GIVE_UP).",
)  # fmt: skip
@click.option(
    "--stall-after", metavar="SECONDS",
    help="Silence after which an item without a heartbeat_timeout is stalled (PROGRESSBAR_STALL_AFTER; forever).",
)  # fmt: skip
@click.option(
    "--no-stuck", "stuck", is_flag=True, flag_value=False, default=None,
    help="Do not look for items without progress (PROGRESSBAR_STUCK=off).",
)  # fmt: skip
@click.option(
    "--credential-age", metavar="PERIOD",
    help="How long keys are accepted while PostgreSQL does not answer (PROGRESSBAR_CREDENTIAL_AGE; 60s).",
)  # fmt: skip
@click.option(
    "--drain", metavar="SECONDS",
    help="How long to serve after SIGTERM, while /readyz is 503 for balancers (PROGRESSBAR_DRAIN; 0).",
)  # fmt: skip
@click.option("--channels", metavar="FILE", help="TOML file with notification channels (PROGRESSBAR_CHANNELS).")
@click.option(
    "--push-origins", metavar="ORIGINS",
    help="Push services in your own network, such as https://push.lan:8443 (PROGRESSBAR_PUSH_ORIGINS; none).",
)  # fmt: skip
@click.option(
    "--monitor-url", metavar="URL",
    help="URL to request each minute while the server works (PROGRESSBAR_MONITOR_URL).",
)  # fmt: skip
@click.option("--metrics-items", type=int, help="Items with a progress metric (PROGRESSBAR_METRICS_ITEMS; 0).")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), help="Format of the log (PROGRESSBAR_LOG_FORMAT; text)."
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]),
              help="Lowest level that is logged (PROGRESSBAR_LOG_LEVEL; warning, with JSON info).")  # fmt: skip
@click.option("--access-log", is_flag=True, default=None, help="Log each request (PROGRESSBAR_ACCESS_LOG=1).")
@click.option(
    "--no-local-key",
    "local_key",
    is_flag=True,
    flag_value=False,
    default=None,
    help="Do not write the user's config file (PROGRESSBAR_LOCAL_KEY=0).",
)
def serve(**options: Unpack[SettingsOverrides]) -> int:
    """Run the server and its dashboard until Ctrl-C.

    ADMIN_USERNAME and ADMIN_PASSWORD sign in to the dashboard; without them the server prints a one-time link.
    PROGRESSBAR_ADMIN_KEY sets the admin key. ADMIN_PASSWORD_FILE and PROGRESSBAR_ADMIN_KEY_FILE read a secret from a
    file.
    """
    import logging

    with require_extra(SERVER_MISSING_MESSAGE):
        from progressbar_tracker.server import logs
        from progressbar_tracker.server.run import Server
        from progressbar_tracker.server.settings import PORT_VARIABLE, Settings, is_service_address
    with name_options(options):
        settings = Settings.from_environ(os.environ, **options)
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
        logging.getLogger(logs.EVENT_LOGGER).critical("%s", error)  # readers of a JSON log do not see stderr's text
        return 1

    def print_addresses() -> None:
        _print_line(f"Serving on {server.url} from {settings.redacted_database}; Ctrl-C stops.")
        if server.network_url is not None:
            _print_line(f"Other machines reach it at {server.network_url}.")

    server.run(print_addresses)
    return 0


@click.command(epilog=list_examples("demo", "demo --once --port 8989"))
@click.option("--once", is_flag=True, help="Exit when the job is done, instead of at Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the server (default: a free one).")
def demo(once: bool, port: int) -> None:
    """Run a server on a free port with a real job on it."""
    with require_extra(SERVER_MISSING_MESSAGE):
        from progressbar_tracker.demo import run_demo
    run_demo(once=once, port=port, print_line=_print_line)


CLI_COMMANDS: Final = (serve, demo)
