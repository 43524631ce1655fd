"""The cost of viewers of the stream: ``python tests/benchmarks/viewers.py [--quick]``.

1,000 streams on one server with 500 updates a second of 50 items. The figures are the server's share of a core, its
memory, and the delay from the writer to a viewer. One viewer in fifty parses the stream, the others only receive it.
The peer is the same server with the same updates and no viewers.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from harness import ADMIN_KEY, format_ratio, parse_options, print_table, run_server

ITEM_COUNT = 50
UPDATES_PER_SECOND = 500
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def server_pid():
    """Return the process id of the server, the only child of this process."""
    (pid,) = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return int(pid)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def resident_bytes(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def send_updates(url, done):
    """Send ``UPDATES_PER_SECOND`` updates a second in ten batches, each update with its instant."""
    with httpx.Client(base_url=url, headers={"X-API-KEY": ADMIN_KEY}, timeout=10) as client:
        put = [{"op": "put", "id": f"item-{n}", "run_id": "r", "total": 10**9} for n in range(ITEM_COUNT)]
        client.post("/api/v1/items:batch", json={"ops": put}).raise_for_status()
        seq, at = 0, time.monotonic()
        while not done.is_set():
            seq += 1
            instant = f"{time.time():.4f}"
            ops = [
                {"op": "patch", "id": f"item-{n}", "seq": seq, "completed": seq, "description": instant}
                for n in range(UPDATES_PER_SECOND // 10)
            ]
            client.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()
            at += 0.1
            done.wait(max(at - time.monotonic(), 0))


async def follow_stream(url, reads, delays, opened, done):
    """Follow the stream as one viewer."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    reader, writer = await asyncio.open_connection(host, port)
    try:
        request = f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nX-API-KEY: {ADMIN_KEY}\r\n\r\n"
        writer.write(request.encode())
        await reader.readuntil(b"\r\n\r\n")
        opened.release()
        buffer = b""
        while not done.is_set():
            chunk = await reader.read(1 << 16)
            if not chunk:
                return
            if not reads:
                continue
            buffer += chunk
            *events, buffer = buffer.split(b"\n\n")
            now = time.time()
            for event in events:
                if b"event: change" in event:
                    data = event.partition(b"data: ")[2].replace(b"\r\n", b"")
                    instants = re.findall(rb'"description":"([0-9.]+)"', data)
                    delays.extend(now - float(instant) for instant in instants)
    finally:
        writer.close()


async def measure_viewers(url, pid, viewers, seconds):
    done, delays, opened = asyncio.Event(), [], asyncio.Semaphore(0)
    tasks = []
    for n in range(viewers):
        tasks.append(asyncio.create_task(follow_stream(url, n % 50 == 0, delays, opened, done)))
        if n % 50 == 49:
            await asyncio.sleep(0.05)  # one after another, not all at once
    for _ in range(viewers):
        await opened.acquire()
    await asyncio.sleep(1)
    delays.clear()
    cpu, started = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    used = (cpu_seconds(pid) - cpu) / (time.monotonic() - started)
    memory = resident_bytes(pid)
    done.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used, memory, sorted(delays)


def main():
    quick = parse_options(__doc__).quick
    viewers, seconds = (50, 2.0) if quick else (1000, 15.0)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 10_000), most))
    rows = []
    alone = None
    for count in (0, viewers):
        with run_server() as url:
            pid, done = server_pid(), threading.Event()
            writer = threading.Thread(target=send_updates, args=(url, done))
            writer.start()
            try:
                used, memory, delays = asyncio.run(measure_viewers(url, pid, count, seconds))
            finally:
                done.set()
                writer.join()
        alone = used if alone is None else alone
        late = [f"{delays[int(len(delays) * share)] * 1000:.0f} ms" for share in (0.5, 0.99)] if delays else ["", ""]
        rows.append([str(count), f"{used:.0%}", format_ratio(used, alone), f"{memory:.0f} MB", *late])
    print_table(
        f"{UPDATES_PER_SECOND} updates a second of {ITEM_COUNT} items",
        ["viewers", "of a core", "ratio to none", "memory", "p50 delivery", "p99 delivery"],
        rows,
    )


if __name__ == "__main__":
    main()
