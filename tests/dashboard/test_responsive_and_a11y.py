"""The board by keyboard, on phones and wall screens, in both themes, with reduced motion, and for screen readers."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .conftest import APPEARANCE_RULES, find_violations, wait_for_fit
from .test_board import find_group, find_row, wait_for_stream

PHONE_VIEWPORT = {"width": 360, "height": 740}
DESKTOP_VIEWPORT = {"width": 1600, "height": 900}


def fill_board(site):
    site.put("a", title="Import of everything there is", total=2_000_000, completed=500_000, unit="files", group="etl")
    site.put(
        "b", title="Export", description="a description " * 20, status="failed", error="OSError: gone", group="etl"
    )
    site.put("c", title="W" * 200, description="w" * 400, completed=1e14, unit="u" * 20, parent="b", group="g" * 200)
    site.put("d", title="Done", status="succeeded", value=1)
    site.put("e", title="Silent", heartbeat_timeout=0)
    site.put("f", title="E" * 200, error="e" * 2000, status="failed")
    site.delete("f")


def test_empty_board_has_no_axe_violations(server, visit):
    page = wait_for_stream(visit())
    expect(page.locator("#empty")).to_be_visible()
    violations = find_violations(page)
    page.set_viewport_size(PHONE_VIEWPORT)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    assert violations + find_violations(page, *APPEARANCE_RULES) == []


def test_board_in_any_width_does_not_overflow(server, visit):
    page = wait_for_stream(visit())
    for size in (
        {"width": 320, "height": 500},
        PHONE_VIEWPORT,
        {"width": 800, "height": 600},
        {"width": 1200, "height": 800},
    ):
        page.set_viewport_size(size)
        wait_for_fit(page)
    fill_board(server)
    expect(find_row(page, "e")).to_be_visible()
    # 800 by 450 is a desktop at a zoom of 200 %.
    for width, height in ((320, 500), (360, 740), (599, 800), (800, 450), (960, 800), (1366, 768), (3840, 2160)):
        page.set_viewport_size({"width": width, "height": height})
        wait_for_fit(page)
        bar_width = find_row(page, "a").evaluate("row => row.querySelector('.meter').clientWidth")
        assert bar_width >= 60, width


def test_keyboard_reaches_every_control(server, visit):
    fill_board(server)
    page = wait_for_stream(visit())
    page.locator("body").press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip-link"
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("""() => {
            const at = document.activeElement;
            return at === document.body ? null : at.getAttribute("aria-label") ?? at.textContent.trim().slice(0, 20);
        }""")
        if name is None:
            break
        reached.append(name)
    for name in ("Board", "History", "Keys", "Sign out", "Search", "Status", "Order", "Export", "OSError: gone",
                 "Dismiss Export", "Dismiss Done"):  # fmt: skip
        assert name in reached, (name, reached)
    assert any(name.startswith("etl") for name in reached)


def test_keyboard_folds_opens_dismisses_and_undoes(server, visit):
    fill_board(server)
    page = wait_for_stream(visit())
    find_row(page, "b").get_by_role("button", name="OSError: gone").press("Enter")
    expect(page.locator(".error-entry pre")).to_be_visible()
    fold = find_group(page, "etl").locator(".fold")
    fold.press("Enter")
    expect(find_row(page, "b")).to_have_count(0)
    expect(fold).to_be_focused()
    fold.press("Enter")
    page.get_by_role("button", name="Dismiss Done").press("Enter")
    expect(find_row(page, "d")).to_have_count(0)
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(find_row(page, "d")).to_be_visible()


def test_focus_is_kept_while_rows_are_reordered(server, visit):
    for n in range(5):
        server.put(f"i{n}", weight=n, status="failed")
    page = wait_for_stream(visit())
    button = find_row(page, "i0").locator(".dismiss")
    button.focus()
    server.put("new", weight=9)
    server.delete("i2")
    server.delete("i0")
    server.put("i0", weight=99, status="failed")
    server.delete("i4")
    expect(find_row(page, "i4")).to_have_count(0)
    find_row(page, "i1").locator(".dismiss").focus()
    server.delete("i3")
    server.put("last", weight=-1)
    expect(find_row(page, "last")).to_be_visible()
    expect(find_row(page, "i1").locator(".dismiss")).to_be_focused()


def test_bars_with_reduced_motion_do_not_move(server, visit):
    server.put("a", value=0.1)
    server.put("b", completed=3)
    page = wait_for_stream(visit())
    server.patch("a", value=0.2)
    expect(find_row(page, "a").locator(".percent")).to_have_text("20 %")
    fill_style = """row => {
        const style = getComputedStyle(row.querySelector(".meter .fill"));
        return [style.transitionProperty, style.animationName];
    }"""
    assert find_row(page, "a").evaluate(fill_style) == ["none", "none"]
    assert find_row(page, "b").evaluate(fill_style)[1] == "none"


def test_bar_moves_to_the_last_value_and_not_beyond(server, visit):
    server.put("a", value=0.1)
    page = wait_for_stream(visit(reduced_motion="no-preference"))
    page.evaluate("""() => {
        window.samples = [];
        const fill = document.querySelector("#board .item .fill");
        const sample = () => {
            const wide = fill.parentElement.getBoundingClientRect().width;
            window.samples.push(new DOMMatrix(getComputedStyle(fill).transform).m41 / wide + 1);
            requestAnimationFrame(sample);
        };
        sample();
    }""")
    server.patch("a", value=0.6)
    expect(find_row(page, "a").locator(".percent")).to_have_text("60 %")
    find_row(page, "a").locator(".fill").evaluate(
        "fill => Promise.all(fill.getAnimations().map((animation) => animation.finished))"
    )
    samples = page.evaluate("window.samples")
    assert abs(samples[0] - 0.1) < 0.01
    assert max(samples) <= 0.6001
    assert samples == sorted(samples)
    expect(find_row(page, "a").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "60")


def test_screen_reader_hears_ends_once_and_no_ticks(server, visit):
    for n in range(5):
        server.put(f"i{n}", title=f"Job {n}", value=0.1)
    page = wait_for_stream(visit())
    server.batch([{"op": "patch", "id": f"i{n}", "value": 0.2} for n in range(5)])
    expect(find_row(page, "i4").locator(".percent")).to_have_text("20 %")
    expect(page.locator("#announcement")).to_be_empty()
    server.batch([{"op": "patch", "id": f"i{n}", "status": "failed"} for n in range(5)])
    expect(page.locator("#announcement")).to_have_text("Job 0: failed. Job 1: failed. Job 2: failed. and 2 more")
    assert page.locator("[aria-live]").count() == 1
    assert page.locator("[role=alert]").count() == 0
