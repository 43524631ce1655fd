"""The configured server of the tools: found with each call, so that ``login`` needs no restart of the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from progressbar_tracker._client import DEFAULT_TIMEOUT, AsyncProgressBar
from progressbar_tracker._http.transport import AsyncHttpTransport
from progressbar_tracker.cli.connection import find_server, name_source

if TYPE_CHECKING:
    from progressbar_tracker._config import Config
    from progressbar_tracker._http.exchanges import Exchange

T = TypeVar("T")


class Session(NamedTuple):
    """The connections to one server with one key.

    Attributes:
        config: The server and the key.
        transport: Runs exchanges.
        client: Follows the items.
    """

    config: Config
    transport: AsyncHttpTransport
    client: AsyncProgressBar

    async def run(self, exchange: Exchange[T]) -> T:
        """Return the result of an exchange."""
        return await self.transport.run(exchange)


class ServerConnection:
    """The server of ``--url`` or of the configuration.

    Args:
        url: The value of ``--url``.
    """

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._sessions: dict[Config, Session] = {}  # those of earlier configurations may have calls

    def open(self) -> Session:
        """Return the session of the server that is configured now. Sends no request.

        Raises:
            ClickException: There is none.
            ConfigError: A setting cannot be used.
        """
        config = find_server(self._url)
        if config not in self._sessions:
            with name_source(config):
                transport = AsyncHttpTransport(config.url, config.api_key, timeout=DEFAULT_TIMEOUT)
                client = AsyncProgressBar(config.url, config.api_key, auto_detect=False)
            self._sessions[config] = Session(config, transport, client)
        return self._sessions[config]

    async def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            await session.transport.close()
            await session.client.close()
