"""The cost of the board in Chromium at 2,000 and 10,000 items: how soon it is there, and how soon it reacts.

- first paint: first contentful paint of a visit with an empty cache, in ms.
- live: until the rows of the server's list are painted, and follow the stream, in ms.
- tick: the main thread's time for 200 changes, from the message to the paint, in ms. A frame at 60 Hz has 16.7 ms.
- search, order: from a keystroke or another order until the board does not change any more and is painted, in ms.
- heap, nodes: the page's memory after garbage collection, and the nodes of its document.
- transfer: the bytes that the browser receives until the board is live, by a proxy that counts them.
- shift: the sum of layout shifts during the ticks.

The figures are medians. ``--source`` measures another checkout of the project first, and prints the ratios; the rounds
of both alternate, as the load of the machine changes.

    python tests/benchmarks/page.py [--quick] [--source /path/to/other/src]
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import statistics
import threading
import time
from pathlib import Path

import harness
import httpx
from playwright.sync_api import sync_playwright

CHANGES_PER_TICK = 200
SEARCH_KEYS = ("1", "2", "Backspace", "Backspace")
SORT_ORDERS = ("title", "newest", "progress", "")

PROBE_SCRIPT = """(() => {
    const probe = window.probe = { shifted: 0 };
    const isLive = () => document.documentElement.hasAttribute("data-live")
        && document.querySelector("#board")?.textContent.includes("Job ");
    const afterPaint = (then) => requestAnimationFrame(() => setTimeout(then));
    probe.live = new Promise((resolve) => {
        const observer = new MutationObserver(() => {
            if (!isLive()) return;
            observer.disconnect();
            afterPaint(() => resolve(performance.now()));
        });
        observer.observe(document, { subtree: true, childList: true, attributeFilter: ["data-live"] });
    });
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) probe.shifted += entry.value;
    }).observe({ type: "layout-shift" });

    // Resolves to the time from an input event to the paint after the last change of elements before a calm time. A
    // change of texts alone does not count: once a second, the page updates its ages.
    probe.time = (type) => {
        probe.took = new Promise((resolve) => addEventListener(type, (event) => {
            let painted = null;
            const isElement = (node) => node.nodeType === Node.ELEMENT_NODE;
            const changes = new MutationObserver((records) => {
                const nodes = records.flatMap(({ addedNodes, removedNodes }) => [...addedNodes, ...removedNodes]);
                if (nodes.some(isElement)) painted = null;
            });
            changes.observe(document.querySelector("main"), { subtree: true, childList: true });
            const watch = () => {
                painted ??= performance.now();
                if (performance.now() - painted < 250) return afterPaint(watch);
                changes.disconnect();
                resolve(painted - event.timeStamp);
            };
            afterPaint(watch);
        }, { capture: true, once: true }));
    };
})();"""


class CountingProxy:
    """Forwards connections to a server and counts the bytes that it sends."""

    def __init__(self, url):
        self._target = (httpx.URL(url).host, httpx.URL(url).port)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.byte_count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):  # the end closes the socket
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client):
        with client, socket.create_connection(self._target) as server, contextlib.suppress(OSError):
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is server:
                        self.byte_count += len(data)
                    (client if ready is server else server).sendall(data)

    def close(self):
        self._socket.close()


class Board:
    """A server with items, and a browser that visits it."""

    def __init__(self, browser, url, item_count):
        self._browser, self._url, self._item_count = browser, url, item_count
        self._http = httpx.Client(base_url=url, timeout=60, headers={"X-API-KEY": harness.ADMIN_KEY})
        self._ticks = 0
        for start in range(0, item_count, 500):
            ops = [
                {"op": "put", "id": f"i{n}", "title": f"Job {n}", "total": 100_000, "completed": 1 + n * 7919 % 90_000,
                 "group": f"group {n % 5}", "unit": "files", "run_id": "r", "description": "as it goes"}
                for n in range(start, start + 500)
            ]  # fmt: skip
            self._http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()

    def close(self):
        self._http.close()

    @contextlib.contextmanager
    def _visit(self, url):
        """Open the live board in a new profile."""
        with contextlib.closing(self._browser.new_context(viewport={"width": 1440, "height": 900})) as context:
            context.set_default_timeout(120_000)
            answer = context.request.post(f"{url}/login", form={"key": harness.ADMIN_KEY}, headers={"Origin": url})
            assert answer.ok, answer.status
            page = context.new_page()
            page.add_init_script(PROBE_SCRIPT)
            page.goto(f"{url}/")
            yield page, page.evaluate("window.probe.live")

    def measure_load(self):
        """Return the times of one visit, its memory and its transfer."""
        with self._visit(self._url) as (page, live):
            first_paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            page.wait_for_timeout(300)
            metrics = read_metrics(page.context.new_cdp_session(page), collect=True)
        proxy = CountingProxy(self._url)
        with contextlib.closing(proxy), self._visit(proxy.url):
            byte_count = proxy.byte_count
        return {
            "first paint, ms": first_paint, "live, ms": live, "heap, MB": metrics["JSHeapUsedSize"] / 1e6,
            "nodes": metrics["Nodes"], "transfer, kB": byte_count / 1000,
        }  # fmt: skip

    def measure_reactions(self, tick_count, input_count):
        """Return the times of ticks, keystrokes and changes of the order, in one visit."""
        with self._visit(self._url) as (page, _):
            cdp = page.context.new_cdp_session(page)
            cdp.send("Performance.enable")
            ticks = [self._measure_tick(page, cdp) for _ in range(tick_count)]
            shifted = page.evaluate("window.probe.shifted")
            searches, orders = [], []
            field, select = page.locator("input[type=search]"), page.locator("select[name=sort]")
            for _ in range(input_count):
                searches += [measure_input(page, field.press, key) for key in SEARCH_KEYS]
                orders += [measure_input(page, select.select_option, order) for order in SORT_ORDERS]
        median = statistics.median
        return {
            "tick, ms": median(ticks), "search, ms": median(searches), "slowest search, ms": max(searches),
            "order, ms": median(orders), "shift": shifted,
        }  # fmt: skip

    def _measure_tick(self, page, cdp):
        """Return the milliseconds that the main thread works for one tick of the server."""
        self._ticks += 1
        ops = [
            {"op": "patch", "id": f"i{n * 7 % self._item_count}", "completed": 90_000 + self._ticks,
             "description": f"step {self._ticks}"}
            for n in range(CHANGES_PER_TICK)
        ]  # fmt: skip
        before = read_metrics(cdp)["TaskDuration"]
        self._http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()
        page.wait_for_timeout(900)  # the tick comes within half a second; one update of the ages is in it as well
        return (read_metrics(cdp)["TaskDuration"] - before) * 1000


def measure_input(page, act, argument):
    page.evaluate("window.probe.time('input')")
    act(argument)
    took = page.evaluate("window.probe.took")
    page.wait_for_timeout(100)
    return took


def read_metrics(cdp, *, collect=False):
    if collect:
        cdp.send("Performance.enable")
        cdp.send("HeapProfiler.collectGarbage")
    return {metric["name"]: metric["value"] for metric in cdp.send("Performance.getMetrics")["metrics"]}


@contextlib.contextmanager
def open_board(browser, item_count, source):
    """Serve the code of a folder, or the installed one."""
    environ = {"PYTHONPATH": str(source)} if source else {}
    with harness.run_server(**environ) as url, contextlib.closing(Board(browser, url, item_count)) as board:
        yield board


def merge_medians(results):
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def measure(browser, item_count, options):
    """Print a table of one size, with a column for each version."""
    sources = {"before": options.source, "after": None} if options.source else {"now": None}
    rounds, ticks, inputs = (1, 2, 1) if options.quick else (options.rounds, 12, 3)
    with contextlib.ExitStack() as stack:
        boards = {name: stack.enter_context(open_board(browser, item_count, path)) for name, path in sources.items()}
        results = {name: [] for name in boards}
        for _ in range(rounds):
            for name, board in boards.items():
                results[name].append({**board.measure_load(), **board.measure_reactions(ticks, inputs)})
    columns = {name: merge_medians(values) for name, values in results.items()}
    rows = []
    for figure in next(iter(columns.values())):
        values = [column[figure] for column in columns.values()]
        ratio = [harness.format_ratio(values[1], values[0])] if len(values) > 1 else []
        rows.append([figure, *(f"{value:,.{3 if figure == 'shift' else 1}f}" for value in values), *ratio])
    harness.print_table(f"{item_count:,} items", ["", *columns, *(["ratio"] if options.source else [])], rows)


def main():
    def add_options(parser):
        parser.add_argument("--source", type=Path, help="the source folder of another version, measured for comparison")
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--items", type=int, nargs="+", default=[2000, 10_000])

    options = harness.parse_options(__doc__, add_options)
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--enable-precise-memory-info"]
        )
        for item_count in options.items[:1] if options.quick else options.items:
            measure(browser, item_count, options)
        browser.close()


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"\n{time.monotonic() - started:.0f} s")
