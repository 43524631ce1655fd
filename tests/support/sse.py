"""Reads a stream of Server-Sent Events in a thread, so that a test waits for what it expects, and not for ever."""

from __future__ import annotations

import json
import queue
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from tests.support.connections import open_client
from tests.support.server import RunningServer

if TYPE_CHECKING:
    from .server import RunningServer


class Event(NamedTuple):
    id: str
    name: str
    data: Any


class SseStream:
    """One stream, from when it is open. Ended streams give ``None``."""

    def __init__(
        self, served: RunningServer, key: str | None, query: str = "", *, path: str = "/api/v1/events", **headers: str
    ) -> None:
        secret = None if key is None else served.keys.get(key, key)
        self._client = open_client(served.url, secret, **headers)
        self.events: queue.Queue[Event | None] = queue.Queue()
        self.status = 0
        self.headers: httpx.Headers = httpx.Headers()
        self._opened_event = threading.Event()
        self._url = path + query
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._opened_event.wait(10)

    def _read(self) -> None:
        try:
            with self._client.stream("GET", self._url) as reply:
                self.status, self.headers = reply.status_code, reply.headers
                fields: dict[str, str] = {}
                for line in reply.iter_lines():
                    self._opened_event.set()
                    name, _, value = line.partition(": ")
                    if line:
                        fields[name] = value
                    elif "data" in fields:
                        self.events.put(Event(fields["id"], fields["event"], json.loads(fields["data"])))
                        fields = {}
        except httpx.HTTPError:
            pass
        finally:
            self._client.close()  # a server that has ended the stream leaves the connection open
            self._opened_event.set()
            self.events.put(None)

    def next(self, timeout: float = 10.0) -> Event | None:
        return self.events.get(timeout=timeout)

    def read_until(self, wanted: Any) -> list[Event]:
        """Return the events up to the first that is ``wanted``."""
        seen = []
        while True:
            event = self.next()
            assert event is not None, seen
            seen.append(event)
            if wanted(event):
                return seen

    def close(self) -> None:
        self._client.close()
