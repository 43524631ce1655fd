"""Downloads with httpx, in bytes: each inside the bar of all of them. They come from a server that is started here."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from progressbar_tracker import track

SIZE = 500_000


class Slow(BaseHTTPRequestHandler):
    """The server."""

    def do_GET(self) -> None:
        """Send a file, slowly."""
        self.send_response(200)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        for _ in range(10):
            self.wfile.write(bytes(SIZE // 10))
            time.sleep(0.08)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def download(client: httpx.Client, name: str) -> None:
    with client.stream("GET", name) as response:
        size = int(response.headers["Content-Length"])
        with track(total=size, unit="B", id=f"example-downloads/{name}", title=name) as bar:
            for chunk in response.iter_bytes():
                bar.advance(len(chunk))


with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", trust_env=False) as client:
        for name in track(["a.iso", "b.iso"], id="example-downloads", title="Downloads", unit="files"):
            download(client, name)
    server.shutdown()
