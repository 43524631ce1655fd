"""The frames of the timeline with 10,000 runs of 30 days: while it is zoomed, moved and scrolled.

A frame at 60 Hz has 16.7 ms. `frame` is the time between two frames of the browser, and `work` is the time of the main
thread a frame, from script to paint. The medians are followed by the value that 95 % do not exceed. The runs belong to
one, 120 or 2,000 ids.

The peer draws each run of the timeline as a rectangle in each frame, without leaving out or merging any.

    python tests/benchmarks/timeline.py [--quick]
"""

from __future__ import annotations

import datetime as dt
import random
import shutil
import statistics
import time

import harness
from playwright.sync_api import sync_playwright

RUN_COUNT = 10_000
SPAN_SECONDS = 30 * 86400
ID_COUNTS = (120, 2000, 1)

FRAME_SCRIPT = """async ([frames, gesture]) => {
    const plot = document.querySelector(".timeline-plot");
    const { left } = plot.getBoundingClientRect();
    const turn = (options) => plot.dispatchEvent(
        new WheelEvent("wheel", { clientX: left + 400, clientY: 300, cancelable: true, bubbles: true, ...options }));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [1200, 1600];
    const context = canvas.getContext("2d");
    const draw = (shift) => {
        context.clearRect(0, 0, 1200, 1600);
        for (const [x, y, width, colour] of window.rectangles) {
            context.fillStyle = colour;
            context.beginPath();
            context.roundRect(x + shift, y, width, 16, 4);
            context.fill();
        }
    };
    if (gesture === "peer") plot.append(canvas);
    window.rectangles ??= Array.from({ length: 10000 }, (_, n) =>
        [(n * 7919) % 1200, ((n * 104729) % 100) * 16, 1 + (n % 30), n % 10 === 0 ? "#bb3027" : "#17754a"]);
    const gestures = {
        zoom: (n) => turn({ deltaY: n % 40 < 20 ? -60 : 60, ctrlKey: true }),
        move: (n) => turn({ deltaX: n % 40 < 20 ? -60 : 60 }),
        scroll: (n) => scrollBy(0, n % 60 < 30 ? 90 : -90),
        peer: (n) => draw(n % 40),
    };
    const nextFrame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const times = [];
    let last = await nextFrame();
    for (let n = 0; n < frames; n++) {
        gestures[gesture](n);
        const at = await nextFrame();
        times.push(at - last);
        last = at;
    }
    canvas.remove();
    return times;
}"""


def main():
    frames = 30 if harness.parse_options(__doc__).quick else 240
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with harness.run_server() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        assert context.request.post(f"{url}/login", form={"key": harness.ADMIN_KEY}, headers={"Origin": url}).ok
        rows = [row for id_count in ID_COUNTS for row in measure_frames(context, url, id_count, frames)]
        browser.close()
    heads = ("gesture", "frame", "95 %", "work", "ratio to the peer")
    harness.print_table(f"{RUN_COUNT} runs: milliseconds of {frames} frames", heads, rows)


def measure_frames(context, url, id_count, frames):
    """Yield the rows of the table for runs of so many ids."""
    runs = build_runs(id_count)
    page = context.new_page()
    page.route(
        "**/api/v1/timeline?*", lambda route: route.fulfill(json={"since": "", "until": "", "omitted": 0, "runs": runs})
    )
    page.goto(f"{url}/today?range=30d")
    page.locator("#today[data-loaded]").wait_for()
    session = context.new_cdp_session(page)
    session.send("Performance.enable")
    peer_work = None
    for gesture in ("peer", "zoom", "move", "scroll"):
        before = read_task_seconds(session)
        times = page.evaluate(FRAME_SCRIPT, [frames, gesture])
        work = (read_task_seconds(session) - before) * 1000 / frames
        peer_work = peer_work or work
        p95 = statistics.quantiles(times, n=20)[-1]
        yield (f"{gesture}, {id_count} ids", f"{statistics.median(times):.1f}", f"{p95:.1f}", f"{work:.1f}",
               harness.format_ratio(work, peer_work))  # fmt: skip
    page.close()


def read_task_seconds(session):
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


def build_runs(id_count):
    """Return ended runs at random times."""
    chance, now = random.Random(7), time.time()
    runs = []
    for n in range(RUN_COUNT):
        at = chance.randrange(id_count)
        start = now - chance.random() * SPAN_SECONDS
        end = min(start + chance.lognormvariate(7, 1.2), now - 1)
        status = chance.choices(("succeeded", "failed", "stopped"), (86, 10, 4))[0]
        runs.append({
            "id": f"job/{at}", "run_id": f"r{n}", "title": f"Job {at}", "group": f"group {at % 7}", "status": status,
            "started_at": format_instant(start), "ended_at": format_instant(end),
            "error": "OSError: disk full" if status == "failed" else None,
        })  # fmt: skip
    return runs


def format_instant(seconds):
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")


if __name__ == "__main__":
    main()
