"""``doctor``: checks the configuration and the server. Each finding that is not ok says what to do."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import click

from progressbar_tracker import _config
from progressbar_tracker._client import ProgressBar
from progressbar_tracker._errors import (
    FOREIGN_REPLY_CODE,
    ConfigError,
    PermissionError,
    ProgressBarError,
    TransportError,
)
from progressbar_tracker._http.messages import Request, error_from_reply, parse_base_url
from progressbar_tracker._http.proxy import find_proxy
from progressbar_tracker._text import sanitize_line
from progressbar_tracker._version import VERSION

from .help import list_examples
from .options import SERVER_MISSING_MESSAGE, json_option, print_json, url_option
from .streams import PROGRAM_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from progressbar_tracker._http.exchanges import Exchange
    from progressbar_tracker._models import KeyInfo

State: TypeAlias = Literal["ok", "note", "bad"]

MAX_CLOCK_SKEW: Final = 5.0
"""Seconds between the clocks of this machine and of the server."""

SLOW_RESPONSE_SECONDS: Final = 1.0
"""Response time from which a server counts as slow."""

_STATE_MARKS: Final[Mapping[State, str]] = {"ok": "ok", "note": "note", "bad": "BAD"}


class Finding(NamedTuple):
    """One line of the report. Its field names are those of ``--json``."""

    what: str
    state: State
    text: str


@click.command(epilog=list_examples("doctor", "doctor --url http://server:8989 --json"))
@url_option
@click.option("--database", metavar="FILE-OR-URL", help="Also check this database (PROGRESSBAR_DATABASE).")
@json_option
def doctor(url: str | None, database: str | None, as_json: bool) -> int:
    """Check whether tracking works here: configuration, server, clock and key, and a local database if there is one.

    The exit code is 1 if a finding is bad. Doctor changes nothing.
    """
    findings = [*_check_configuration(url), *_check_database(database)]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{_STATE_MARKS[finding.state]:4}  {finding.what}: {sanitize_line(finding.text)}")
    return int(any(finding.state == "bad" for finding in findings))


def _check_configuration(url: str | None) -> Iterator[Finding]:
    yield _report_versions()
    if _config.is_disabled(os.environ):
        yield Finding("tracking", "bad", f"{_config.DISABLE_VARIABLE} turns it off: unset it")
    named_url, name = (url, "--url") if url else (os.environ.get(_config.URL_VARIABLE), _config.URL_VARIABLE)
    try:
        if named_url:
            parse_base_url(named_url, name)  # before the advice to log in to it
        found = _config.discover(os.environ, url=url)
    except ConfigError as error:
        yield Finding("configuration", "bad", str(error))
        return
    try:
        path = _config.get_user_config_path(os.environ)
    except ConfigError as error:
        path = None
        yield Finding("config file", "note", str(error))
    if found is None:
        yield Finding(
            "configuration", "bad",
            "none: start a server here (progressbar-tracker serve), or log in to one (progressbar-tracker login URL), "
            f"or set {_config.URL_VARIABLE} and {_config.API_KEY_VARIABLE}; there is no {path or 'config file'}",
        )  # fmt: skip
        return
    source = "--url" if url else found.source
    try:
        parse_base_url(found.url, source)
    except ConfigError as error:
        yield Finding("configuration", "bad", str(error))
        return
    yield Finding("configuration", "ok", f"{found.url}, from {source}")
    if path is not None:
        yield from _check_file_mode(path)
    yield from _check_proxy(found.url)
    yield from _check_server(found)


def _report_versions() -> Finding:
    parts = sys.version_info
    names = ", ".join(f"{name} {_installed_version(name)}" for name in (PROGRAM_NAME, "tqdm", "httpx"))
    return Finding("versions", "ok", f"{names}, Python {parts[0]}.{parts[1]}.{parts[2]}")


def _installed_version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow, and only this command needs it

    try:
        return VERSION if name == PROGRAM_NAME else version(name)
    except PackageNotFoundError:
        return "of unknown version"  # a zip file without the package's metadata


def _check_file_mode(path: Path) -> Iterator[Finding]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("config file", "bad", f"others can read the key in {path}: chmod 600 {path}")


def _check_proxy(url: str) -> Iterator[Finding]:
    try:
        proxy = find_proxy(url, os.environ)
    except ConfigError as error:
        yield Finding("proxy", "bad", str(error))
        return
    except ValueError:
        return  # an invalid URL; _check_server reports it
    if proxy is not None:
        through, host = urlsplit(proxy.url).hostname, urlsplit(url).hostname
        yield Finding(
            "proxy",
            "note",
            f"requests go through {through} ({proxy.variable}); if that is wrong, add {host} to NO_PROXY",
        )


def _check_server(found: _config.Config) -> Iterator[Finding]:
    url, key = found.url, found.api_key
    try:
        parse_base_url(url)
        client = ProgressBar(url, key, timeout=10.0, auto_detect=False)
    except ProgressBarError as error:
        yield Finding("server", "bad", str(error))
        return
    with client:
        started = time.monotonic()
        try:
            info = client.key_info
        except TransportError as error:
            yield Finding("server", "bad", f"{error}: is it running, and is the URL right?")
            return
        except PermissionError as error:
            if error.code == FOREIGN_REPLY_CODE:
                yield Finding("server", "bad", str(error))
                return
            remedy = (
                f"log in again (progressbar-tracker login {url})"
                if found.key_source.startswith("the config file")
                else f"the key is from {found.key_source}: correct or unset it, because it wins over login"
            )
            yield Finding("key", "bad", f"{error}: {remedy}")
            return
        except ProgressBarError as error:
            yield Finding("server", "bad", str(error))
            return
        yield _describe_server(info, time.monotonic() - started)
        yield _describe_key(info)
    yield from _check_health(url, key, info)


def _describe_server(info: KeyInfo, seconds: float) -> Finding:
    if not info.api:
        return Finding(
            "server", "note", f"speaks the 1.0.0 protocol ({seconds * 1000:.0f} ms): no status, no groups, no history"
        )
    summary = f"version {info.server_version}, answered in {seconds * 1000:.0f} ms"
    if seconds >= SLOW_RESPONSE_SECONDS:
        return Finding("server", "note", f"{summary}: check the network and the load of its machine")
    if info.server_version.partition(".")[0] != VERSION.partition(".")[0]:
        return Finding("server", "note", f"{summary}; this is version {VERSION}: update the older of the two")
    return Finding("server", "ok", summary)


def _describe_key(info: KeyInfo) -> Finding:
    if "create" in info.permissions:
        return Finding("key", "ok", f"{info.type}: may {', '.join(info.permissions)}")
    return Finding("key", "bad", f"{info.type}: may only {', '.join(info.permissions)}; track() needs a write key")


def _check_health(url: str, key: str, info: KeyInfo) -> Iterator[Finding]:
    from progressbar_tracker._http.transport import HttpTransport

    before = time.time()
    with contextlib.closing(HttpTransport(url, key, timeout=10.0)) as transport:
        status, date, reason = transport.run(_request_readiness())
    if date is not None:
        # The header has whole seconds. The estimate of its instant is the middle of the request.
        skew = parsedate_to_datetime(date).timestamp() + 0.5 - (before + time.time()) / 2
        if abs(skew) > MAX_CLOCK_SKEW:
            yield Finding(
                "clock", "note",
                f"the server's is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}: set both by NTP (the page "
                "shows the server's time)",
            )  # fmt: skip
        else:
            yield Finding("clock", "ok", "agrees with the server's")
    if info.api and status == 200:
        yield Finding("database", "ok", "takes writes")
    elif info.api:
        yield Finding(
            "database", "bad", f"{reason or f'/readyz answers {status}'}: check the server's log and its disk"
        )


def _request_readiness() -> Exchange[tuple[int, str | None, str]]:
    request = Request("GET", "readyz")
    reply = yield request
    reason = "" if reply.status == 200 else error_from_reply(reply, request).detail
    return reply.status, reply.headers.get("date"), reason


def _check_database(database: str | None) -> Iterator[Finding]:
    is_named = bool(database or os.environ.get("PROGRESSBAR_DATABASE") or os.environ.get("PROGRESSBAR_DATABASE_FILE"))
    try:
        from progressbar_tracker.server.settings import resolve_database
        from progressbar_tracker.server.stores.check import check_database
    except ImportError:
        if is_named:
            yield Finding("database", "note", SERVER_MISSING_MESSAGE)
        return
    try:
        location = resolve_database(os.environ, database)
    except ConfigError as error:
        if is_named:  # a user without a home folder has no default file
            yield Finding("database", "bad", str(error))
        return
    try:
        if not is_named and isinstance(location, Path) and not location.exists():
            return
        yield Finding("database", "ok", check_database(location))
    except ConfigError as error:
        yield Finding("database", "bad", str(error))


CLI_COMMANDS: Final = (doctor,)
