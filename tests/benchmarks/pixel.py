"""From a tracked loop to the pixel: ``python tests/benchmarks/pixel.py [--quick]``.

Loops in a process of their own record the instant of each number. A Chromium with the board records the numbers of each
frame. The delay of a number is the difference, on the machine's clock. 99 of 100 delays have to be within the loop's
interval and 0.7 s. The peer is the page without a stream, which polls the list.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys

import harness
from playwright.sync_api import sync_playwright

EXTRA_SECONDS = 0.7

LOOPS_PROGRAM = """
import json, sys, threading, time
from progressbar_tracker import ProgressBar
from progressbar_tracker._tracking.run_options import DEFAULT_INTERVAL

url, key, loops, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
reached = {}

def loop(client, name):
    times = reached[name] = []
    for n in client.track(range(10**9), id=name):
        times.append(time.time())  # n items are done
        if time.monotonic() >= end:
            return
        time.sleep(0.02)

sys.stdin.readline()
end = time.monotonic() + seconds
with ProgressBar(url, key) as client:
    threads = [threading.Thread(target=loop, args=(client, f"loop-{n}")) for n in range(loops)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(json.dumps([DEFAULT_INTERVAL, reached]))
"""

# A timeout that an animation callback sets runs after the frame is painted.
WATCH_SCRIPT = """() => {
    window.seen = {};
    const board = document.getElementById("board");
    const look = () => setTimeout(() => {
        const now = Date.now() / 1000;
        for (const row of board.querySelectorAll(".item")) {
            const count = Number(row.querySelector(".count").textContent.split(" ")[0].replaceAll(",", ""));
            const seen = (window.seen[row.dataset.id] ??= []);
            if (seen.length === 0 || seen.at(-1)[0] < count) seen.push([count, now]);
        }
    });
    new MutationObserver(() => requestAnimationFrame(look))
        .observe(board, { subtree: true, childList: true, characterData: true });
}"""


def main():
    quick = harness.parse_options(__doc__).quick
    seconds = 4.0 if quick else 30.0
    path = shutil.which("chromium") or shutil.which("google-chrome")
    rows = []
    with harness.run_server() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, loops, held in (("one loop", 1, False), ("fifty loops", 50, False), ("peer: polling", 1, True)):
            took, interval = measure_delays(browser, url, loops, seconds + (8 if held else 0), held=held)
            took.sort()
            late = took[int(len(took) * 0.99)]
            rows.append(
                [name, len(took), *(f"{one:.2f}" for one in (statistics.median(took), late, took[-1])),
                 f"{interval + EXTRA_SECONDS:.1f}", "yes" if late <= interval + EXTRA_SECONDS else "NO"]
            )  # fmt: skip
        browser.close()
    harness.print_table(
        "seconds from a number of the loop to the pixel",
        ["", "numbers", "median", "99th", "most", "allowed", "kept"],
        rows,
    )


def measure_delays(browser, url, loops, seconds, *, held):
    """Return the delay of each number, and the interval of the loops."""
    context = browser.new_context(viewport={"width": 1600, "height": 3200}, reduced_motion="reduce")
    page = context.new_page()
    if held:
        page.add_init_script("Object.defineProperty(window, 'SharedWorker', { value: undefined });")
        page.route("**/api/v1/events", lambda route: None)
    page.goto(f"{url}/login")
    page.get_by_label("Key").fill(harness.ADMIN_KEY)
    page.get_by_role("button").last.click()
    page.locator("html[data-live]").wait_for()
    page.evaluate(WATCH_SCRIPT)
    command = [sys.executable, "-c", LOOPS_PROGRAM, url, harness.ADMIN_KEY, str(loops), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        output, _ = running.communicate("go\n", timeout=seconds + 60)
    interval, reached = json.loads(output)
    seen = page.evaluate("window.seen")
    context.close()
    took = []
    for name, times in reached.items():
        shown = iter(seen[name])
        count, at = next(shown)
        # The last numbers may be missing: the board drops an item that has ended.
        for number, time in enumerate(times):
            while count < number and (following := next(shown, None)) is not None:
                count, at = following
            if count < number:
                break
            took.append(at - time)
    return took, interval


if __name__ == "__main__":
    main()
