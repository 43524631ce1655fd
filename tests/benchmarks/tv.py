"""The memory of the pages on a wall screen: two hours of ticks at twice a second, as fast as the browser handles them.

200 items change, end and begin again, and the clock of the server advances with each tick. The heap is measured after
garbage collection: first after ten minutes of ticks, and last after two hours more. It may grow by 5 MB.

The peer is the same page in a desktop window, without ``?tv``.

    python tests/benchmarks/tv.py [--quick]
"""

from __future__ import annotations

import shutil
import sys

import harness
from playwright.sync_api import sync_playwright

MAX_GROWTH_MB = 5
TICKS_PER_MINUTE = 120
WARM_UP_MINUTES = 10

SILENT_STREAM = "export function subscribe() { return () => {}; }"

TICK_SCRIPT = """async ([name, from, ticks]) => {
    const { handleMessage } = await import(document.querySelector(`script[src$="${name}"]`).src);
    window.begun ??= Date.now();
    const iso = (tick) => new Date(window.begun + tick * 500).toISOString();
    const createItem = (n, run, tick) => ({
        id: `job/${n}`, title: `Job ${n}`, description: "", value: 0, completed: 0, total: 1000, unit: "files",
        weight: 0, status: "running", stalled: false, late: n % 17 === 0, stuck: n % 23 === 0, slower: false,
        error: null,
        group: `group ${n % 8}`, parent: null, meta: {}, rate: 2, eta: 300, eta_low: 250, eta_high: 400,
        finish_at: iso(tick + 600), basis: null, estimated_total: null, estimated_value: null, usual_gap_seconds: 1,
        usual_duration_seconds: 600,
        owner: "ci", run_id: `${run}`, seq: tick, created_at: iso(tick), started_at: iso(tick),
        progressed_at: iso(tick), updated_at: iso(tick), ended_at: null, heartbeat_timeout: null,
        deadline: n % 17 === 0 ? iso(0) : null, notify: [], ttl: null,
    });
    window.items ??= Array.from({ length: 200 }, (_, n) => createItem(n, 0, -n * 6));
    if (from === 0) handleMessage({ type: "snapshot", time: iso(0), items: window.items });
    for (let tick = from + 1; tick <= from + ticks; tick++) {
        const changed = [];
        const ended = [];
        for (let n = tick % 10; n < window.items.length; n += 10) {
            const item = window.items[n];
            const completed = item.completed + 10;
            const times = { updated_at: iso(tick), progressed_at: iso(tick) };
            if (completed < 1000) window.items[n] = { ...item, ...times, completed, value: completed / 1000 };
            else {
                const status = n % 9 === 0 ? "failed" : "succeeded";
                ended.push({ ...item, status, ended_at: iso(tick), error: status === "failed" ? "gone" : null });
                window.items[n] = createItem(n, Number(item.run_id) + 1, tick);
            }
            changed.push(window.items[n]);
        }
        handleMessage({ type: "change", time: iso(tick), items: changed, gone: [], ended });
        // A frame now and then, and the time of the next slide.
        if (tick % 30 === 0) {
            document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
            await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
        }
    }
}"""


def main():
    quick = harness.parse_options(__doc__).quick
    minutes = 10 if quick else 120
    path = shutil.which("chromium") or shutil.which("google-chrome")
    rows, failed = [], False
    with harness.run_server() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1920, "height": 1080})
        assert context.request.post(f"{url}/login", form={"key": harness.ADMIN_KEY}, headers={"Origin": url}).ok
        context.route("**/stream.js", lambda route: route.fulfill(body=SILENT_STREAM, content_type="text/javascript"))
        for name, script in (("board", "board.js"), ("today", "today.js")):
            growths = {}
            for mode in ("?tv", ""):
                first, last, nodes = measure_growth(
                    context, f"{url}/{'' if name == 'board' else name}{mode}", script, minutes
                )
                growths[mode] = last - first
                rows.append((f"{name} {mode or '(peer)'}", f"{first:.2f}", f"{last:.2f}", f"{last - first:.2f}", nodes))
            failed |= growths["?tv"] > MAX_GROWTH_MB
        browser.close()
    title = f"Heap in MB over {minutes} minutes of ticks; at most {MAX_GROWTH_MB} of growth"
    harness.print_table(title, ("page", "first", "last", "growth", "nodes"), rows)
    sys.exit(failed)


def measure_growth(context, url, script, minutes):
    """Return the heap in MB before and after the ticks, and the nodes at the end."""
    page = context.new_page()
    page.goto(url)
    session = context.new_cdp_session(page)
    warm_up = WARM_UP_MINUTES * TICKS_PER_MINUTE
    page.evaluate(TICK_SCRIPT, [script, 0, warm_up])
    first, _ = read_memory(session)
    page.evaluate(TICK_SCRIPT, [script, warm_up, minutes * TICKS_PER_MINUTE])
    last, nodes = read_memory(session)
    page.close()
    return first, last, nodes


def read_memory(session):
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    return heap, session.send("Memory.getDOMCounters")["nodes"]


if __name__ == "__main__":
    main()
