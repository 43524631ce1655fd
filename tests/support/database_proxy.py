"""A TCP proxy in front of PostgreSQL that stalls, and that switches to another server."""

from __future__ import annotations

import contextlib
import socket
import threading


class StallingProxy:
    """A TCP proxy that also accepts connections while it is stalled, but passes no data on."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._flows = threading.Event()
        self._flows.set()
        self._trigger = b""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        self._flows.clear()

    def stall_at(self, trigger: bytes) -> None:
        """Stall when a client sends these bytes."""
        self._trigger = trigger

    def resume(self) -> None:
        self._trigger = b""
        self._flows.set()

    @property
    def is_stalled(self) -> bool:
        return not self._flows.is_set()

    def switch(self, port: int, *, keep_open: bool = False) -> None:
        """Pass new connections on to another port, and break the open ones unless they are kept."""
        with self._lock:
            self._target = port
        if not keep_open:
            self._break_connections()

    def close(self) -> None:
        self.resume()
        self._break_connections()
        _break(self._listener)

    def _break_connections(self) -> None:
        with self._lock:
            broken, self._open = self._open, []
        for connection in broken:
            _break(connection)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                # Under the lock, so that a switch meets each connection either before its target is chosen, or open.
                with self._lock:
                    try:
                        server = socket.create_connection(("127.0.0.1", self._target))
                    except OSError:
                        client.close()
                        continue
                    self._open += [client, server]
                for source, sink, is_client in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass_on, args=(source, sink, is_client), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_client and self._trigger and self._trigger in data:
                    self.stall()
                self._flows.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def _break(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
