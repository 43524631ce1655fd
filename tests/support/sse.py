"""A client for Server-Sent Events that reads in a thread, so that a test can wait with a timeout."""

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
    """An open stream. After its end, the next event is ``None``."""

    def __init__(
        self, server: RunningServer, key: str | None, query: str = "", *, path: str = "/api/v1/events", **headers: str
    ) -> None:
        secret = None if key is None else server.keys.get(key, key)
        self._client = open_client(server.url, secret, **headers)
        self.events: queue.Queue[Event | None] = queue.Queue()
        self.status = 0
        self.headers: httpx.Headers = httpx.Headers()
        self._opened_event = threading.Event()
        self._url = path + query
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._opened_event.wait(60)

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
            self._client.close()  # the server keeps the connection open after the stream
            self._opened_event.set()
            self.events.put(None)

    def next(self, timeout: float = 60.0) -> Event | None:
        """Return the next event; raise ``queue.Empty`` after ``timeout`` seconds."""
        return self.events.get(timeout=timeout)

    def read_until(self, wanted: Any) -> list[Event]:
        """Return the events up to the first for which ``wanted`` is true."""
        events = []
        while True:
            event = self.next()
            assert event is not None, events
            events.append(event)
            if wanted(event):
                return events

    def close(self) -> None:
        self._client.close()
