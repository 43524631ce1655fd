"""A local push service for Firefox: the websocket protocol of Mozilla's autopush, and the endpoints of messages.

Firefox opens the websocket of ``dom.push.serverURL``. Its messages are JSON: ``hello``, ``register`` and ``unregister``
from the browser, ``notification`` to it, and ``ack`` for a notification that its service worker has handled.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import socketserver
import threading
import uuid
from typing import NamedTuple

import wsproto
from py_vapid.jwt import decode as verify_token
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage

PUSH_SUBPROTOCOL = "push-notification"

ACK_CODES = {100: "delivered", 101: "not decrypted", 102: "not delivered"}
"""The codes of Firefox in an ``ack``."""


class Channel(NamedTuple):
    """A subscription: its browser, the key of the application server, and the connection that registered it."""

    agent_id: str
    server_key: str


class AutopushService:
    """A push service.

    Attributes:
        channels: The subscriptions, by their id.
        sent: The status of each message that an application server has sent, in order.
        acks: The outcome of each notification of a browser, in order.
    """

    def __init__(self) -> None:
        self.channels: dict[str, Channel] = {}
        self.sent: list[int] = []
        self.acks: list[str] = []
        self._connections: dict[str, BrowserConnection] = {}
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), make_handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.port: int = self._server.server_address[1]
        self.origin = f"http://127.0.0.1:{self.port}"

    @property
    def preferences(self) -> dict[str, object]:
        """The preferences of a Firefox that uses this service, and lets every page show notifications."""
        return {
            "dom.push.connection.enabled": True,
            "dom.push.serverURL": f"ws://127.0.0.1:{self.port}/",
            "dom.push.testing.allowInsecureServerURL": True,
            "dom.push.retryBaseInterval": 100,  # milliseconds until it connects again
            "permissions.default.desktop-notification": 1,
            "alerts.useSystemBackend": False,  # that of the desktop, which a headless system has not
        }

    def close(self) -> None:
        self._server.shutdown()
        for connection in list(self._connections.values()):
            connection.close()
        self._server.server_close()

    def forget_browsers(self) -> None:
        """End all subscriptions, as a service that has lost its data does; the browsers connect again."""
        self.channels.clear()
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.close()

    # Of the browsers.

    def handle_message(self, connection: BrowserConnection, message: dict[str, object]) -> None:
        """Answer a message of a browser."""
        kind, channel_id = message.get("messageType"), str(message.get("channelID"))
        match kind:
            case None | "ping":
                connection.send({})
            case "hello":
                # A browser with an id of another service, or from before its loss of data, gets a new id.
                agent_id = str(message.get("uaid"))
                connection.agent_id = agent_id if agent_id in self._connections else uuid.uuid4().hex
                self._connections[connection.agent_id] = connection
                answer = {"status": 200, "uaid": connection.agent_id, "use_webpush": True, "broadcasts": {}}
                connection.send({"messageType": kind, **answer})
            case "register":
                self.channels[channel_id] = Channel(connection.agent_id, str(message["key"]).rstrip("="))
                endpoint = f"{self.origin}/push/{channel_id}"
                connection.send({"messageType": kind, "channelID": channel_id, "status": 200, "pushEndpoint": endpoint})
            case "unregister":
                self.channels.pop(channel_id, None)
                connection.send({"messageType": kind, "channelID": channel_id, "status": 200})
            case "ack":
                updates = message["updates"]
                assert isinstance(updates, list)
                self.acks += [ACK_CODES.get(update.get("code"), str(update)) for update in updates]

    # Of the application servers.

    def accept_push(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Deliver a message to its browser; return the status of the response."""
        channel_id = path.removeprefix("/push/")
        channel = self.channels.get(channel_id)
        connection = None if channel is None else self._connections.get(channel.agent_id)
        if channel is None or connection is None:
            return 410
        scheme, _, parameters = headers.get("authorization", "").partition(" ")
        values = dict(part.split("=", 1) for part in parameters.split(",") if "=" in part)
        if scheme != "vapid" or values.get("k") != channel.server_key:
            return 403
        if verify_token(values["t"], values["k"])["aud"] != self.origin:
            return 401
        if headers.get("content-encoding") != "aes128gcm" or "ttl" not in headers or len(body) > 4096:
            return 400
        data = base64.urlsafe_b64encode(body).rstrip(b"=").decode()
        connection.send({
            "messageType": "notification", "channelID": channel_id, "version": uuid.uuid4().hex, "data": data,
            "headers": {"encoding": "aes128gcm"},
        })  # fmt: skip
        return 201


class BrowserConnection:
    """The websocket of a browser."""

    def __init__(self, connection: socket.socket, protocol: wsproto.WSConnection) -> None:
        self.agent_id = ""
        self._socket = connection
        self._protocol = protocol
        self._lock = threading.Lock()

    def send(self, message: dict[str, object]) -> None:
        self.send_event(TextMessage(json.dumps(message)))

    def send_event(self, event: wsproto.events.Event) -> None:
        with self._lock, contextlib.suppress(OSError, wsproto.utilities.LocalProtocolError):
            self._socket.sendall(self._protocol.send(event))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def make_handler(service: AutopushService) -> type[socketserver.BaseRequestHandler]:
    """Return the class that serves the connections of a service."""

    class ConnectionHandler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                data = b""
                while b"\r\n\r\n" not in data:
                    data += self._receive()
                head, _, body = data.partition(b"\r\n\r\n")
                line, *lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): text.strip() for name, _, text in (entry.partition(":") for entry in lines)}
                if headers.get("upgrade", "").lower() == "websocket":
                    self._serve_browser(data)
                    return
                while len(body) < int(headers.get("content-length", 0)):
                    body += self._receive()
                status = service.accept_push(line.split()[1], headers, body)
                self.request.sendall(b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % status)
                service.sent.append(status)

        def _receive(self) -> bytes:
            chunk: bytes = self.request.recv(65536)
            if not chunk:
                raise ConnectionResetError
            return chunk

        def _serve_browser(self, data: bytes) -> None:
            protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
            connection = BrowserConnection(self.request, protocol)
            text = ""
            while True:
                protocol.receive_data(data)
                for event in protocol.events():
                    match event:
                        case Request(subprotocols=offered):
                            chosen = PUSH_SUBPROTOCOL if PUSH_SUBPROTOCOL in offered else None
                            connection.send_event(AcceptConnection(subprotocol=chosen))
                        case Ping():
                            connection.send_event(event.response())
                        case CloseConnection():
                            connection.send_event(event.response())
                            return
                        case TextMessage(data=part, message_finished=is_finished):
                            text += part
                            if is_finished:
                                message, text = json.loads(text), ""
                                service.handle_message(connection, message)
                data = self._receive()

    return ConnectionHandler
