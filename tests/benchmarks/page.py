"""The cost of a tick for the page: 2,000 items on the board, and 200 of them change twice a second.

A frame at 60 Hz has 16.7 ms, and a tick's script has to stay below 16 ms. The first table is the script alone with the
events of a stream, from the first one on, with garbage collection. It is the CPU time of the page's own thread. The
peer renders all rows again, as a page without keyed updates does. The second table has the ticks of a real server, by
Chromium's own metrics: script, style, layout and paint. The third one has the memory of the page during ten minutes
(``--quick``: a few seconds).

    python tests/benchmarks/page.py [--quick]
"""

from __future__ import annotations

import json
import shutil
import statistics
import time

import harness
import httpx
from playwright.sync_api import sync_playwright

ITEM_COUNT = 2000
CHANGES_PER_TICK = 200

TICK_SCRIPT = """async ([changes, ticks, sort]) => {
    const { handleMessage } = await import(new URL("static/app.js", document.baseURI));
    const { items } = await (await fetch("api/v1/items?limit=10000")).json();
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
        performance.mark(`begun ${tick}`);
        handleMessage({ type: "change", time, items: changed, gone: [], ended: [] });
        performance.mark(`done ${tick}`);
        await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
    }
}"""

REBUILD_SCRIPT = """async (ticks) => {
    const board = document.querySelector("#board .items");
    const rows = Array.from(board.children);
    for (let tick = 0; tick < ticks; tick++) {
        performance.mark(`begun ${tick}`);
        board.replaceChildren(...rows.map((row) => row.cloneNode(true)));
        performance.mark(`done ${tick}`);
        await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
    }
}"""

SHIFT_SCRIPT = """() => {
    window.shifted = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.shifted += entry.value;
    }).observe({ type: "layout-shift" });
}"""


def main():
    quick = harness.parse_options(__doc__).quick
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with harness.run_server() as url, sync_playwright() as playwright, httpx.Client(base_url=url, timeout=60) as http:
        http.headers["X-API-KEY"] = harness.ADMIN_KEY
        fill_board(http)
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--enable-precise-memory-info"]
        )
        context = browser.new_context(viewport={"width": 1600, "height": 900})
        page = context.new_page()
        page.goto(f"{url}/login")
        page.get_by_label("Key").fill(harness.ADMIN_KEY)
        page.get_by_role("button").last.click()
        page.locator("html[data-live]").wait_for()
        measure_script(page, 20 if quick else 200)
        page.reload()
        page.locator("html[data-live]").wait_for()
        measure_server(page, context.new_cdp_session(page), http, 5 if quick else 1200, at_once=120 if quick else 0)
        browser.close()


def fill_board(http):
    for start in range(0, ITEM_COUNT, 500):
        ops = [
            {"op": "put", "id": f"i{n}", "title": f"Job {n}", "total": 100_000, "completed": 1,
             "group": f"group {n % 5}", "unit": "files", "run_id": "r", "description": "as it goes"}
            for n in range(start, start + 500)
        ]  # fmt: skip
        http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()


def measure_script(page, ticks):
    rows = []
    for name, look in (("by weight", ""), ("furthest first", "progress")):
        page.get_by_label("Order").select_option(look)
        rows.append([f"keyed, {name}", *summarize(time_ticks(page, TICK_SCRIPT, [CHANGES_PER_TICK, ticks, look]))])
    page.get_by_label("Order").select_option("")
    rows.append(["peer: all rows again", *summarize(time_ticks(page, REBUILD_SCRIPT, min(ticks, 10)))])
    harness.print_table(
        f"script of a tick, ms: {CHANGES_PER_TICK} changes of {ITEM_COUNT} items", ["", "median", "99th", "most"], rows
    )


def time_ticks(page, script, argument):
    """Return the milliseconds of the page's thread for each tick of a script."""
    browser = page.context.browser
    browser.start_tracing(page=page, categories=["blink.user_timing"])
    page.evaluate(script, argument)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    at = {event["name"]: event["tts"] for event in events if event["name"].startswith(("begun ", "done "))}
    ticks = [name.partition(" ")[2] for name in at if name.startswith("begun ")]
    return [(at[f"done {tick}"] - at[f"begun {tick}"]) / 1000 for tick in ticks]


def summarize(took):
    took.sort()
    return [f"{value:.1f}" for value in (statistics.median(took), took[int(len(took) * 0.99)], took[-1])]


def measure_server(page, cdp, http, ticks, *, at_once):
    page.evaluate(SHIFT_SCRIPT)
    cdp.send("Performance.enable")
    before = read_metrics(cdp)
    samples = [before]
    for tick in range(ticks + at_once):
        started = time.monotonic()
        ops = [
            {"op": "patch", "id": f"i{(tick * CHANGES_PER_TICK + n * 7) % ITEM_COUNT}", "completed": 2 + tick * 50 + n}
            for n in range(CHANGES_PER_TICK)
        ]
        http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()
        if tick < ticks:
            page.wait_for_timeout(max(0.5 - (time.monotonic() - started), 0) * 1000)
        if tick == ticks - 1:
            after = read_metrics(cdp)
        if (tick + 1) % ((ticks + at_once) // 5) == 0:
            samples.append(read_metrics(cdp))
    rows = [
        [name, f"{(after[name] - before[name]) * 1000 / ticks:.1f}"]
        for name in ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration", "TaskDuration")
    ]
    rows.append(["layout shift, sum", f"{page.evaluate('window.shifted'):.3f}"])
    harness.print_table("a real tick (two a second), ms of the main thread", ["", "a tick"], rows)
    rows = [
        [f"after {n * (ticks + at_once) // 5:,} ticks", f"{metrics['JSHeapUsedSize'] / 1e6:.2f}",
         f"{metrics['Nodes']:,.0f}", f"{metrics['JSEventListeners']:.0f}"]
        for n, metrics in enumerate(samples)
    ]  # fmt: skip
    # The first ticks fill the caches of each row: its latest rates, and their curve.
    grown = samples[-1]["JSHeapUsedSize"] / samples[2]["JSHeapUsedSize"]
    harness.print_table("memory of the page", ["", "heap, MB", "nodes", "listeners"], rows)
    print(f"heap at the end by that after two fifths: {grown:.3f}")


def read_metrics(cdp):
    cdp.send("HeapProfiler.collectGarbage")
    return {metric["name"]: metric["value"] for metric in cdp.send("Performance.getMetrics")["metrics"]}


if __name__ == "__main__":
    main()
