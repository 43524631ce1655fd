"""Downloads with httpx, in bytes, with a bar for each file and one for all. The example starts its own file server."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from progressbar_tracker import track

FILE_BYTES = 500_000


class SlowFileHandler(BaseHTTPRequestHandler):
    """Serves one file for any path."""

    def do_GET(self) -> None:
        """Send the file within 0.8 seconds."""
        self.send_response(200)
        self.send_header("Content-Length", str(FILE_BYTES))
        self.end_headers()
        for _ in range(10):
            self.wfile.write(bytes(FILE_BYTES // 10))
            time.sleep(0.08)

    def log_message(self, *args: object) -> None:
        """Log no requests."""


def download(client: httpx.Client, name: str) -> None:
    with client.stream("GET", name) as response:
        size = int(response.headers["Content-Length"])
        with track(total=size, unit="B", id=f"example-downloads/{name}", title=name) as bar:
            for chunk in response.iter_bytes():
                bar.advance(len(chunk))


with ThreadingHTTPServer(("127.0.0.1", 0), SlowFileHandler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", trust_env=False) as client:
        for name in track(["a.iso", "b.iso"], id="example-downloads", title="Downloads", unit="files"):
            download(client, name)
    server.shutdown()
