"""What a tick costs the page: 2,000 items on the board, 200 of which change twice a second.

A frame at 60 a second has 16.7 ms; what the script takes of it a tick is to stay below 16. The first table is the
script alone, told changes as the stream tells them, and timed by the page's own clock. The second is a real server's
real ticks, by Chromium's own accounts: script, style and layout, what is painted included. The peer is what a page
without keyed updates would do: make all rows anew.

    python tests/benchmarks/page.py [--quick]
"""

from __future__ import annotations

import shutil
import statistics
import time

import harness
import httpx
from playwright.sync_api import sync_playwright

ITEMS = 2000
CHANGES = 200

TICK = """async ([changes, ticks, sort]) => {
    const { hear } = await import(new URL("static/app.js", document.baseURI));
    const { items } = await (await fetch("api/v1/items?limit=10000")).json();
    const took = [];
    for (let tick = 0; tick < ticks; tick++) {
        const time = new Date().toISOString();
        const changed = [];
        for (let n = 0; n < changes; n++) {
            const at = (tick * changes + n * 7) % items.length;
            const completed = items[at].completed + 1;
            items[at] = { ...items[at], completed, value: completed / items[at].total, rate: 100 + Math.random() * 50,
                eta: 1000 - tick, updated_at: time, description: `step ${tick}` };
            changed.push(items[at]);
        }
        const before = performance.now();
        hear({ type: "change", time, items: changed, gone: [], ended: [] });
        took.push(performance.now() - before);
        await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
    }
    return took;
}"""

ANEW = """async (ticks) => {
    const board = document.querySelector("#board .items");
    const rows = Array.from(board.children);
    const took = [];
    for (let tick = 0; tick < ticks; tick++) {
        const before = performance.now();
        board.replaceChildren(...rows.map((row) => row.cloneNode(true)));
        took.push(performance.now() - before);
        await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
    }
    return took;
}"""

SHIFTS = """() => {
    window.shifted = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.shifted += entry.value;
    }).observe({ type: "layout-shift" });
}"""


def main():
    quick = harness.options(__doc__).quick
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with harness.served() as url, sync_playwright() as playwright, httpx.Client(base_url=url, timeout=60) as http:
        http.headers["X-API-KEY"] = harness.ADMIN_KEY
        fill(http)
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--enable-precise-memory-info"]
        )
        context = browser.new_context(viewport={"width": 1600, "height": 900})
        page = context.new_page()
        page.goto(f"{url}/login")
        page.get_by_label("Key").fill(harness.ADMIN_KEY)
        page.get_by_role("button").last.click()
        page.locator("html[data-live]").wait_for()
        by_script(page, 10 if quick else 200)
        page.reload()
        page.locator("html[data-live]").wait_for()
        by_server(page, context.new_cdp_session(page), http, 5 if quick else 60)
        browser.close()


def fill(http):
    for start in range(0, ITEMS, 500):
        ops = [
            {"op": "put", "id": f"i{n}", "title": f"Job {n}", "total": 100_000, "completed": 1,
             "group": f"group {n % 5}", "unit": "files", "run_id": "r", "description": "as it goes"}
            for n in range(start, start + 500)
        ]  # fmt: skip
        http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()


def by_script(page, ticks):
    rows = []
    for name, look in (("by weight", ""), ("furthest first", "progress")):
        page.get_by_label("Order").select_option(look)
        rows.append(told(f"keyed, {name}", page.evaluate(TICK, [CHANGES, ticks, look])))
    page.get_by_label("Order").select_option("")
    rows.append(told("peer: all rows anew", page.evaluate(ANEW, min(ticks, 10))))
    harness.table(f"script of a tick, ms: {CHANGES} changes of {ITEMS} items", ["", "median", "99th", "most"], rows)


def told(name, took):
    took.sort()
    return [name, *(f"{value:.1f}" for value in (statistics.median(took), took[int(len(took) * 0.99)], took[-1]))]


def by_server(page, cdp, http, ticks):
    page.evaluate(SHIFTS)
    cdp.send("Performance.enable")
    before = metrics(cdp)
    for tick in range(ticks):
        started = time.monotonic()
        ops = [
            {"op": "patch", "id": f"i{(tick * CHANGES + n * 7) % ITEMS}", "completed": 2 + tick * 50 + n}
            for n in range(CHANGES)
        ]
        http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()
        page.wait_for_timeout(max(0.5 - (time.monotonic() - started), 0) * 1000)
    after = metrics(cdp)
    rows = [
        [name, f"{(after[name] - before[name]) * 1000 / ticks:.1f}"]
        for name in ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration", "TaskDuration")
    ]
    rows.append(["layout shift, sum", f"{page.evaluate('window.shifted'):.3f}"])
    rows.append(["heap before, MB", f"{before['JSHeapUsedSize'] / 1e6:.1f}"])
    rows.append(["heap after, MB", f"{after['JSHeapUsedSize'] / 1e6:.1f}"])
    harness.table("a real tick (two a second), ms of the main thread", ["", "a tick"], rows)


def metrics(cdp):
    cdp.send("HeapProfiler.collectGarbage")
    return {one["name"]: one["value"] for one in cdp.send("Performance.getMetrics")["metrics"]}


if __name__ == "__main__":
    main()
