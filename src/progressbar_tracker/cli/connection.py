"""The configured server of a command: a client for it, and exchanges that the client has no method for."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, TypeVar

import click

from progressbar_tracker import _config
from progressbar_tracker._client import DEFAULT_TIMEOUT, ProgressBar
from progressbar_tracker._errors import ConfigError
from progressbar_tracker._reader_clock import Clock

from .streams import PROGRAM_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker._http.exchanges import Exchange

T = TypeVar("T")


def find_server(url: str | None) -> _config.Config:
    """Return the server of ``--url`` or of the configuration.

    Raises:
        ClickException: There is none.
    """
    found = _config.discover(os.environ, url=url)
    if found is None:
        raise click.ClickException(
            f"no server is configured: set {_config.URL_VARIABLE} and {_config.API_KEY_VARIABLE}, or run: "
            f"{PROGRAM_NAME} login URL"
        )
    return found


@contextlib.contextmanager
def name_source(found: _config.Config) -> Iterator[None]:
    """Make an error about the URL or the key name the place where it was found."""
    try:
        yield
    except ConfigError as error:
        raise _config.add_error_source(found, error) from error


@contextlib.contextmanager
def connect(url: str | None) -> Iterator[ProgressBar]:
    """Open a client for the server of ``--url`` or of the configuration."""
    found = find_server(url)
    with name_source(found):
        client = ProgressBar(found.url, found.api_key, auto_detect=False)
    with client:
        yield client


def request(url: str | None, exchange: Exchange[T]) -> T:
    """Return the result of an exchange with the server, which has no method of the client."""
    from progressbar_tracker._http.transport import HttpTransport

    found = find_server(url)
    with name_source(found):
        transport = HttpTransport(found.url, found.api_key, timeout=DEFAULT_TIMEOUT)
    with contextlib.closing(transport):
        return transport.run(exchange)


def read_clock() -> Clock:
    """Return the clock of the terminal: its zone, and 12 hours only for the locale ``en_US``."""
    names = (os.environ.get(name) for name in ("LC_ALL", "LC_TIME", "LANG"))
    return Clock(locale="en-US" if next(filter(None, names), "").startswith("en_US") else "en-GB")
