"""Loads of a page: one at a time, repeated after a failure."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

# Runs steps on a loader with fake timers; returns the delays of its timers, and what became of each load.
LOADER_SCRIPT = """async ([steps]) => {
    const { Loader } = await import(`${location.origin}/static/loader.js`);
    const { setTimeout, clearTimeout } = window;
    const delays = [], loads = [];
    let timer = null;
    window.setTimeout = (callback, delay) => {
        timer = callback;
        return delays.push(delay);
    };
    window.clearTimeout = () => (timer = null);
    const loader = new Loader((signal) => new Promise((resolve, reject) => {
        const load = { state: "loading", resolve, reject };
        signal.addEventListener("abort", () => {
            load.state = "aborted";
            reject(signal.reason);
        });
        loads.push(load);
    }));
    const seen = [];
    try {
        for (const [name, ...args] of steps) {
            if (name === "expire") {
                const callback = timer;
                timer = null;
                callback?.();
            } else if (name === "succeed" || name === "fail") {
                const load = loads.at(-1);
                load.state = name;
                if (name === "fail") load.reject(new Error("down"));
                else load.resolve();
            } else loader[name](...args);
            for (let n = 0; n < 5; n++) await Promise.resolve();
            seen.push(loader.isBusy);
        }
    } finally {
        Object.assign(window, { setTimeout, clearTimeout });
    }
    return { delays, states: loads.map(({ state }) => state), busy: seen };
}"""


def run_loader(call, *steps):
    steps = [[step] if isinstance(step, str) else step for step in steps]
    return call.page.evaluate(LOADER_SCRIPT, [steps])


def test_load_starts_once_after_the_last_delay(call):
    result = run_loader(call, ["start", 1500], ["start", 150], "expire", "expire", "succeed")
    assert result == {"delays": [1500, 150], "states": ["succeed"], "busy": [True, True, True, True, False]}


def test_refresh_while_a_load_is_to_start_starts_it_now(call):
    result = run_loader(call, ["start", 1500], "refresh", "expire", "succeed")
    assert result == {"delays": [1500, 0], "states": ["succeed"], "busy": [True, True, True, False]}


def test_refreshes_during_a_load_queue_one_more(call):
    steps = [["start", 0], "expire", *["refresh"] * 3, "expire", "succeed", "expire", "succeed", "expire"]
    result = run_loader(call, *steps)
    assert result["delays"] == [0, 0]
    assert result["states"] == ["succeed", "succeed"]
    assert not result["busy"][-1]


def test_start_during_a_load_replaces_it_when_it_is_due(call):
    steps = [["start", 0], "expire", "refresh", ["start", 150]]
    assert run_loader(call, *steps)["states"] == ["loading"]
    result = run_loader(call, *steps, "expire", "succeed", "expire")
    assert result["states"] == ["aborted", "succeed"]
    assert result["delays"] == [0, 150]
    assert not result["busy"][-1]


def test_load_that_ends_before_its_successor_starts_is_kept(call):
    result = run_loader(call, ["start", 0], "expire", ["start", 150], "succeed", "expire", "succeed")
    assert result["states"] == ["succeed", "succeed"]
    assert result["delays"] == [0, 150]


def test_failed_load_is_repeated_after_five_seconds(call):
    result = run_loader(call, ["start", 0], "expire", "refresh", "fail", "expire", "succeed")
    assert result == {
        "delays": [0, 5000], "states": ["fail", "succeed"], "busy": [True, True, True, True, True, False]
    }  # fmt: skip
