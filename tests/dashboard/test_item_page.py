"""The page of an item: live, with its curve, its former runs, its inner bars and its error."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from tests.support.waiting import wait_until

from .conftest import wait_for_fit
from .test_stream import set_hidden

LONG_ERROR = "ValueError: bad row\n" + "".join(f'  File "/srv/{"long_" * 40}.py", line {n}\n' for n in range(40))


def find_field(page, name):
    return page.locator(f".bar [data-field={name}]")


def add_run(server, item_id, run_id, *, seconds=600, status="succeeded", ago=0, **fields):
    """Add an ended run that has left the board."""
    server.put(item_id, run_id=run_id, completed=0, total=100, age_seconds=seconds + ago, **fields)
    share = 1.0 if status == "succeeded" else 0.4
    server.patch(
        item_id, completed=100 * share, status=status, age_seconds=seconds + ago, duration_seconds=seconds,
        error="OSError: gone" if status == "failed" else None,
    )  # fmt: skip
    server.delete(item_id)


def add_runs(server, item_id, count):
    for n in range(count):
        add_run(server, item_id, f"former-{n}", seconds=600 + 10 * n)


def mark(page):
    """Mark the document, which a reload would replace."""
    page.evaluate("window.isMarked = true")


def is_marked(page):
    return page.evaluate("window.isMarked === true")


def test_item_page_follows_its_item_in_place(server, visit, job):
    server.put(f"{job}/b c", title="Import", total=4, completed=1, run_id="r", meta={"host": "box-7"})
    page = visit(f"items/{job}%2Fb%20c")
    expect(find_field(page, "percent")).to_have_text("25 %")
    expect(page.locator("dl.facts")).to_contain_text("box-7")
    mark(page)
    server.patch(f"{job}/b c", completed=3, description="nearly")
    expect(find_field(page, "percent")).to_have_text("75 %")
    expect(find_field(page, "description")).to_have_text("nearly")
    expect(page).to_have_title("75 % - Import")
    server.patch(f"{job}/b c", completed=4, status="succeeded")
    expect(find_field(page, "state")).to_have_text("succeeded")
    expect(page.locator("#announcement")).to_have_text("Import: succeeded")
    server.delete(f"{job}/b c")
    expect(page.locator("#gone-notice")).to_be_visible()
    expect(page.locator(".item-runs tbody tr")).to_have_count(1)
    expect(page.locator("h1")).to_have_text("Import")
    assert is_marked(page)


def test_next_run_is_shown_in_place(server, visit, job):
    server.put(job, total=4, completed=2, run_id="first", age_seconds=100)
    page = visit(f"items/{job}")
    expect(page.locator("dl.facts")).to_contain_text("first")
    mark(page)
    server.patch(job, status="failed", error="OSError: gone")
    expect(page.locator(".bar .error-text")).to_contain_text("OSError: gone")
    server.put(job, total=4, completed=1, run_id="second", status="running", error=None)
    expect(page.locator("dl.facts")).to_contain_text("second")
    expect(find_field(page, "percent")).to_have_text("25 %")
    expect(page.locator(".bar .error-text")).to_have_count(0)
    expect(page.locator(".item-runs tbody tr").first).to_contain_text("first")
    expect(page.locator(".trend .run-mark")).to_have_count(2)
    assert is_marked(page)


def test_run_that_ended_without_a_stream_is_shown(server, unshared_page, job):
    add_run(server, job, "first")
    page = unshared_page
    page.goto(f"{server.background.url}/items/{job}")
    expect(page.locator("#gone-notice")).to_be_visible()
    set_hidden(page, True)
    add_run(server, job, "second", status="failed")
    set_hidden(page, False)
    expect(find_field(page, "state")).to_have_text("failed")
    expect(page.locator(".item-runs tbody tr").first).to_contain_text("failed")


def test_curve_is_drawn_over_those_of_former_runs(server, visit, job):
    add_runs(server, job, 4)
    server.put(job, run_id="now", completed=0, total=100, unit="", age_seconds=300)
    server.patch(job, completed=40)
    page = visit(f"items/{job}")
    expect(page.locator(".curve polyline.former")).to_have_count(4)
    for part in ("polyline.median", "polyline.current", "polyline.predicted", "polygon.range"):
        expect(page.locator(f".curve {part}")).to_have_attribute("points", re.compile(r"^\S+ \S+"))
    expect(page.locator(".curve .chart-summary")).to_have_text(
        re.compile(r"^40 % after 5 min\. By then, the median of 4 former runs was at (4[5-9]|5\d) %\.$")
    )
    expect(page.locator(".curve .axes")).to_contain_text("time since the start")
    expect(page.locator(".curve .legend")).to_contain_text("predicted finish and range")
    expect(find_field(page, "basis")).to_have_text("from 4 former runs")


def test_curve_grows_with_the_run(server, visit, job):
    server.put(job, run_id="now", completed=0, total=100, age_seconds=300)
    server.patch(job, completed=40)
    page = visit(f"items/{job}")
    expect(page.locator(".curve .chart-summary")).to_contain_text("40 % after")
    server.patch(job, completed=60)
    expect(page.locator(".curve .chart-summary")).to_contain_text("60 % after")


def test_curve_shows_its_values_to_keyboard_and_pointer(server, visit, job):
    server.put(job, run_id="now", completed=0, total=100, age_seconds=300)
    server.patch(job, completed=40)
    page = visit(f"items/{job}")
    drawing, tip = page.locator(".curve .chart-drawing"), page.locator(".curve .chart-tip")
    # The page may still be moving the drawing away from the pointer.
    wait_until(lambda: [page.mouse.move(0, 0), drawing.hover(), tip.is_visible()][-1])
    expect(tip).to_have_text(re.compile(r"^after 2 min \d+ s: (19|20) %$"))
    drawing.press("ArrowLeft")
    expect(tip).to_have_text(re.compile(r": (18|19) %$"))
    drawing.press("Escape")
    expect(tip).to_be_hidden()


def test_former_runs_are_described_in_words(server, visit, job):
    add_runs(server, job, 3)
    add_run(server, job, "bad", status="failed")
    page = visit(f"items/{job}")
    expect(page.locator(".habits li")).to_have_text(
        ["usually 10 min", "75 % of 4 runs succeeded", re.compile("^usually starts about ")]
    )


def test_trend_links_each_run_to_its_page(server, visit, job):
    add_run(server, job, "good", seconds=600, ago=2000)
    add_run(server, job, "bad", seconds=61, status="failed", ago=1000)
    server.put(job, run_id="now", value=0.1)
    page = visit(f"items/{job}")
    marks = page.locator(".trend .run-mark")
    expect(marks).to_have_count(3)
    shapes = marks.evaluate_all("marks => marks.map((mark) => mark.querySelector('.run-dot').outerHTML.split(' ')[0])")
    assert len(set(shapes)) == 2  # running is a hollow circle
    expect(marks.nth(1)).to_have_attribute("aria-label", re.compile("^failed after 1 min 1 s, started "))
    marks.nth(2).focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".trend .chart-tip")).to_contain_text("failed after 1 min 1 s")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"/items/{job}\?run=bad$"))


def test_trend_of_one_run_is_hidden(server, visit, job):
    server.put(job, run_id="now", value=0.1, age_seconds=60)
    page = visit(f"items/{job}")
    expect(page.locator(".item-runs")).to_contain_text("No run of this item has left the board yet.")
    expect(page.locator(".trend")).to_be_hidden()


def test_parent_counts_inner_bars_that_were_too_short(server, visit, job):
    server.put(job, total=4, completed=1, run_id="r")
    page = visit(f"items/{job}")
    section = page.locator(".item-children")
    expect(section).to_be_hidden()
    server.patch(job, short_runs=1)
    expect(section.locator("p:visible")).to_have_text("1 inner bar ended too soon to be listed.")
    expect(section.locator("h2")).to_have_text("Inner bars")
    server.patch(job, short_runs=4213)
    server.put(f"{job}/1", title="Epoch 1", parent=job, run_id="c")
    expect(section.locator("h2")).to_have_text("Inner bars (1)")
    expect(section).to_contain_text("4,213 more inner bars ended too soon to be listed.")


def test_parent_lists_its_children(server, visit, job):
    server.put(job, title="Training", run_id="r", value=0.1, age_seconds=100)
    server.put(f"{job}/1", title="Epoch 1", parent=job, run_id="c", status="failed", error="OSError: gone\nfar away")
    server.delete(f"{job}/1")
    server.put(f"{job}/2", title="Epoch 2", parent=job, run_id="c", value=0.25)
    page = visit(f"items/{job}")
    rows = page.locator(".child-row")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("Epoch 2")
    expect(rows.last).to_contain_text("OSError: gone")
    server.patch(f"{job}/2", value=0.5)
    expect(rows.first.locator("[data-part=percent]")).to_have_text("50 %")
    server.put(f"{job}/3", title="Epoch 3", parent=job, run_id="c", value=0.1)
    expect(rows).to_have_count(3)
    rows.filter(has_text="Epoch 1").get_by_role("link").click()
    expect(page).to_have_url(re.compile(rf"/items/{job}%2F1\?run=c$"))


def test_long_error_scrolls_in_its_box_and_is_copied(server, visit, job):
    server.put(job, run_id="r", status="failed", error=LONG_ERROR[:2000])
    page = visit(f"items/{job}")
    lines = page.locator(".bar .error-lines pre")
    expect(lines).to_contain_text("ValueError: bad row")
    style = "getComputedStyle(pre)"
    assert lines.evaluate(f"pre => [{style}.whiteSpace, {style}.overflowX]") == ["pre", "auto"]
    assert "mono" in lines.evaluate(f"pre => {style}.fontFamily")
    page.set_viewport_size({"width": 360, "height": 700})
    assert lines.evaluate("pre => pre.scrollWidth > pre.clientWidth")
    wait_for_fit(page)
    # As on a page over plain HTTP from another machine, where there is no clipboard.
    page.evaluate("""() => {
        Object.defineProperty(navigator, 'clipboard', { value: undefined });
        document.addEventListener('copy', () => (window.copied = String(document.activeElement.value)));
    }""")
    button = page.locator(".bar .copy")
    button.click()
    expect(button).to_have_text("Copied")
    assert page.evaluate("window.copied") == LONG_ERROR[:2000].rstrip()
    expect(button).to_be_focused()


def test_unreadable_history_is_reported_and_tried_again(server, visit, job, profile):
    add_run(server, job, "former")
    server.put(job, run_id="now", value=0.1)
    page = visit()
    page.route("**/history:statistics*", lambda route: route.abort())
    page.goto(f"{server.background.url}/items/{job}")
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("The former runs cannot be shown")
    page.unroute("**/history:statistics*")
    problem.get_by_role("button", name="Try again").click()
    expect(page.locator(".item-runs tbody tr")).to_have_count(1)
    expect(problem).to_be_hidden()
    _, errors = profile
    errors.clear()  # Chromium reports the aborted request


def test_item_page_fits_every_width(server, visit, job):
    add_runs(server, job, 3)
    server.put(job, run_id="n" * 100, title="W" * 150, group="g" * 100, unit="u" * 20, completed=10, total=1e12)
    server.put(f"{job}-child", parent=job, title="C" * 200, run_id="c", status="failed", error="x" * 500)
    page = visit(f"items/{job}")
    expect(page.locator(".child-row")).to_have_count(1)
    expect(page.locator(".trend .run-mark")).to_have_count(4)
    for width in (320, 390, 600, 900, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        wait_for_fit(page)


def test_children_of_the_current_run_are_fetched_with_it(server, visit, job):
    add_run(server, job, "former", ago=5000)
    server.put(job, run_id="now", value=0.1, age_seconds=100)
    server.put(f"{job}/1", title="Epoch 1", parent=job, run_id="c")
    server.delete(f"{job}/1")
    page = visit(f"items/{job}")
    expect(page.locator(".child-row")).to_contain_text(["Epoch 1"])
    server.put(f"{job}/2", title="Epoch 2", parent=job, run_id="c", status="succeeded")
    server.delete(f"{job}/2")
    expect(page.locator(".child-row")).to_have_count(2)


def test_bar_and_curve_are_dark_on_paper(server, visit, job):
    server.put(job, run_id="now", completed=0, total=100, age_seconds=300)
    server.patch(job, completed=40)
    page = visit(f"items/{job}", color_scheme="dark")
    expect(page.locator(".curve polyline.current")).to_be_visible()
    page.emulate_media(media="print", color_scheme="dark")
    read = """name => {
        const style = getComputedStyle(document.querySelector(name));
        return [style.color, style.stroke, style.printColorAdjust];
    }"""
    assert page.evaluate(read, "h1")[0] == "rgb(27, 36, 48)"
    assert page.evaluate(read, ".bar progress")[2] == "exact"
    assert page.evaluate(read, ".curve polyline.current")[1] == "rgb(26, 103, 199)"


def test_bar_and_curve_are_visible_in_forced_colours(server, visit, job):
    server.put(job, run_id="now", completed=0, total=100, age_seconds=300)
    server.patch(job, completed=40)
    page = visit(f"items/{job}", forced_colors="active")
    expect(page.locator(".curve polyline.current")).to_be_visible()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    bar = page.locator(".bar progress")
    assert bar.evaluate("bar => getComputedStyle(bar).borderTopStyle") == "solid"
    assert bar.evaluate("bar => getComputedStyle(bar).color") != background
    line = page.locator(".curve polyline.current").evaluate("line => getComputedStyle(line).stroke")
    assert line not in (background, "none")


def test_parts_of_a_run_show_their_counts(server, visit, job):
    for n in (1, 2, 10):
        server.put(job, run_id="r", part=f"worker {n}", completed=10 * n, unit="rows")
    server.patch(job, run_id="r", part="worker 2", completed=30)
    page = visit(f"items/{job}")
    rows = page.locator(".parts li")
    expect(rows).to_have_count(3)
    assert [re.sub(r"\s+", " ", text) for text in rows.all_inner_texts()] == [
        "worker 1 10 rows", "worker 2 30 rows", "worker 10 100 rows"
    ]  # fmt: skip
    server.patch(job, status="succeeded")
    server.delete(job)
    page.goto(f"{page.url}?run=r")
    expect(rows).to_have_count(3)
