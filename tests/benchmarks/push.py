"""The cost of push subscriptions: ``python tests/benchmarks/push.py [--quick]``.

A server has 1,000 subscriptions of 50 keys to one group, and 20 items of this group progress twice a second. The table
has the processor time of the server in percent of one core, idle and with this load; the peer is the same server before
the browsers subscribe. Then one item fails, so that all 1,000 browsers get a message. The push service is local and
accepts each message at once, without TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from harness import ADMIN_KEY, format_ratio, parse_options, print_table, run_server

from progressbar_tracker.server.access.subscriptions import MAX_SUBSCRIPTIONS
from progressbar_tracker.server.notifications.web_push import _encode_base64

FOLLOWED_GROUP = "nightly"
LOADED_ITEMS = 20
LOAD_INTERVAL = 0.5
GOAL_PERCENT = 5.0
BURST_TIMEOUT = 300.0


class LocalPushService:
    """Counts the messages, on an event loop in a thread."""

    def __init__(self):
        self.count = 0
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait()

    async def _serve(self):
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=1024)
        self.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await server.serve_forever()

    async def _answer(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))
            writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            self.count += 1
        writer.close()


def read_cpu(http):
    """Return the processor time of the server in seconds."""
    return float(re.search(r"^process_cpu_seconds_total (\S+)$", http.get("/metrics").text, re.MULTILINE)[1])


def measure_share(http, seconds, act=lambda: None):
    """Return the percentage of one core that the server uses while ``act`` is called at intervals."""
    before, start = read_cpu(http), time.perf_counter()
    while time.perf_counter() - start < seconds:
        act()
        time.sleep(LOAD_INTERVAL)
    return 100 * (read_cpu(http) - before) / (time.perf_counter() - start)


def subscribe(http, origin, count):
    """Create the subscriptions, with as many keys as they need."""
    assert http.get("/api/v1/push/key").is_success
    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    fields = {
        "p256dh": _encode_base64(point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)),
        "auth": _encode_base64(b"0" * 16), "events": ["end"], "group": FOLLOWED_GROUP,
    }  # fmt: skip
    key = ""
    for number in range(count):
        if number % MAX_SUBSCRIPTIONS == 0:
            key = http.post("/api/v1/keys", json={"type": "read", "name": f"reader {number}"}).json()["key"]
        body = {**fields, "endpoint": f"{origin}/{number}"}
        reply = http.post("/api/v1/push/subscriptions", json=body, headers={"X-API-KEY": key})
        assert reply.status_code == 201, reply.text


def measure_burst(http, service, count):
    """Return the processor time and the time until all browsers have got the message of one failure, in seconds."""
    before, cpu, start = service.count, read_cpu(http), time.perf_counter()
    assert http.put(
        "/api/v1/items/burst", json={"group": FOLLOWED_GROUP, "status": "failed", "run_id": str(start)}
    ).is_success
    while service.count < before + count:
        assert time.perf_counter() - start < BURST_TIMEOUT, service.count - before
        time.sleep(0.01)
    elapsed = time.perf_counter() - start
    return read_cpu(http) - cpu, elapsed


def main():
    options = parse_options(__doc__)
    count, seconds = (40, 1.0) if options.quick else (1000, 15.0)
    service = LocalPushService()
    with (
        run_server(PROGRESSBAR_PUSH_ORIGINS=service.origin) as url,
        httpx.Client(base_url=url, headers={"X-API-KEY": ADMIN_KEY}, timeout=60) as http,
    ):
        done = 0

        def progress():
            nonlocal done
            done += 1
            ops = [
                {
                    "op": "put",
                    "id": f"item-{n}",
                    "group": FOLLOWED_GROUP,
                    "run_id": "r",
                    "completed": done,
                    "total": 10**6,
                }
                for n in range(LOADED_ITEMS)
            ]
            assert http.post("/api/v1/items:batch", json={"ops": ops}).is_success

        loads = {"idle": lambda: None, f"{LOADED_ITEMS} items progress": progress}
        without = {name: measure_share(http, seconds, act) for name, act in loads.items()}
        subscribe(http, service.origin, count)
        with_them = {name: measure_share(http, seconds, act) for name, act in loads.items()}
        cpu, elapsed = measure_burst(http, service, count)
    rows = [
        (name, f"{without[name]:.2f} %", f"{with_them[name]:.2f} %", format_ratio(with_them[name], without[name]))
        for name in loads
    ]
    print_table(f"{count} subscriptions, in percent of a core", ["load", "without", "with them", "ratio"], rows)
    added = max(with_them[name] - without[name] for name in loads)
    print(f"They add at most {added:.2f} % of a core; the goal is {GOAL_PERCENT:g} %.")
    print(
        f"A burst of {count} messages: {cpu:.2f} s of processor time, {1000 * cpu / count:.2f} ms each, "
        f"all delivered after {elapsed:.2f} s."
    )


if __name__ == "__main__":
    main()
