"""The mode for wall screens: slides, pauses, sizes, the wake lock, and the version of the server."""

from __future__ import annotations

import itertools
import re

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from tests.support.waiting import wait_until

from .conftest import find_violations

WALL_SCREEN = {"width": 1920, "height": 1080}


@pytest.fixture
def visit_wall(visit):
    """Return a function that opens a page on a wall screen."""

    def open_wall(query):
        page = visit(query, size=WALL_SCREEN, locale="en-GB")
        expect(page.locator(".tv-as-of")).not_to_be_empty()
        return page

    return open_wall


@pytest.fixture(scope="module")
def tv_module(make_profile, package_server):
    """A page with the functions of the mode."""
    context, _ = make_profile(locale="en-GB")
    page = context.new_page()
    page.goto(f"{package_server.background.url}/docs")
    page.evaluate("""async () => {
        for (const name of ["tv", "tv_version", "today_tv"]) {
            Object.assign(window, await import(new URL(`static/${name}.js`, document.baseURI)));
        }
    }""")
    yield page
    page.close()


def put_groups(site, *counts, name="group"):
    ops = [
        {"op": "put", "id": f"g{group}/{n:02}", "title": f"Job {n:02}", "group": f"{name} {group}"}
        for group, count in enumerate(counts)
        for n in range(count)
    ]
    site.batch(ops)


def read_title(page):
    return page.locator(".tv-title").inner_text()


def skip_time(page, seconds):
    """Let the next tick find that so much time has passed."""
    page.evaluate(
        """(seconds) => {
            const now = performance.now.bind(performance);
            let count = 0; // a tick reads the time
            performance.now = () => {
                document.documentElement.dataset.readCount = ++count;
                return now() + seconds * 1000;
            };
        }""",
        seconds,
    )


def wait_for_tick(page):
    expect(page.locator("html")).to_have_attribute("data-read-count", re.compile("[2-9]|.."))


@pytest.mark.parametrize(
    ("query", "seconds"),
    [("", None), ("tv", 15), ("tv=30", 30), ("tv=0.1", 3), ("tv=-4", 15), ("tv=soon", 15), ("q=tv", None)],
)
def test_seconds_are_read_from_the_address(tv_module, query, seconds):
    assert tv_module.evaluate("(query) => readTvSeconds(new URLSearchParams(query))", query) == seconds


def test_slides_that_need_attention_come_first(tv_module):
    keys = tv_module.evaluate("""() => {
        const slides = [["a", 0], ["b", 2], ["c", 0], ["d", 3]].map(([key, rank]) => ({ key, rank, title: key }));
        return orderSlides(slides).map(({ key }) => key);
    }""")
    assert keys == ["d", "b", "a", "c"]


def test_next_slide_follows_and_wraps_in_a_changed_list(tv_module):
    keys = tv_module.evaluate("""() => {
        const slides = ["a", "b", "c"].map((key) => ({ key, rank: 0, title: key }));
        const choose = (...place) => chooseSlide(slides, ...place)?.key;
        return [choose("a", 1, 0), choose("c", 1, 2), choose("a", -1, 0), choose("gone", 1, 1)];
    }""")
    assert keys == ["b", "a", "c", "b"]
    assert tv_module.evaluate("chooseSlide([], 'a', 1, 0)") is None


def test_pages_have_as_many_entries_as_fit(tv_module):
    pages = tv_module.evaluate("splitPages([40, 40, 30, 90, 200, 10], (height) => height, 100)")
    assert pages == [[40, 40], [30], [90], [200], [10]]


@pytest.mark.parametrize("query", ["?tv", "today?tv"])
def test_wall_screen_has_no_header_and_shows_groups_in_turn(server, visit_wall, query):
    put_groups(server, 2, 3)
    page = visit_wall(query)
    expect(page.locator("header.top")).to_be_hidden()
    # The timeline also has the groups of the tests before, as the history of the server is shared.
    expect(page.locator(".tv-title")).to_have_text(re.compile("^group [01]$" if query == "?tv" else "."))
    # A group with many lanes has several pages with the same title.
    first = page.locator(".tv-dots").inner_text()
    skip_time(page, 16)
    expect(page.locator(".tv-dots")).not_to_have_text(first)


def test_group_with_a_failure_is_the_first_slide(server, visit_wall):
    put_groups(server, 2, 2, 2)
    server.put("bad", title="Bad", group="group 2", status="failed", error="OSError: disk full")
    page = visit_wall("?tv")
    expect(page.locator(".tv-title")).to_have_text("group 2")
    expect(page.locator("#board .item").first).to_contain_text("Bad")


def test_single_group_stays(server, visit_wall):
    put_groups(server, 2)
    page = visit_wall("?tv")
    expect(page.locator(".tv-title")).to_have_text("group 0")
    skip_time(page, 100)
    wait_for_tick(page)
    expect(page.locator(".tv-title")).to_have_text("group 0")
    expect(page.locator("#board .item")).to_have_count(2)
    expect(page.locator(".tv-dots")).to_be_empty()


def test_large_group_has_pages_that_fit_the_screen(server, visit_wall):
    put_groups(server, 40)
    server.put("bad", title="Bad", group="group 0", status="failed")
    page = visit_wall("?tv")
    expect(page.locator("#board .item").first).to_contain_text("Bad")
    seen = 0
    read_boxes = "Array.from(document.querySelectorAll('#board .item'), (row) => row.getBoundingClientRect().bottom)"
    wait_until(lambda: max(page.evaluate(read_boxes)) <= WALL_SCREEN["height"])
    for _ in range(3):
        boxes = page.evaluate(read_boxes)
        assert max(boxes) <= WALL_SCREEN["height"]
        seen += len(boxes)
        page.locator("body").press("ArrowRight")
    assert seen == 41
    assert len(boxes) < 15 <= (seen - len(boxes)) / 2 + 1


def test_interaction_pauses_and_escape_continues(server, visit_wall):
    put_groups(server, 1, 1)
    page = visit_wall("?tv")
    page.mouse.move(300, 300, steps=3)
    expect(page.locator("html")).to_have_class(re.compile("tv-paused"))
    title = read_title(page)
    skip_time(page, 30)
    wait_for_tick(page)
    assert read_title(page) == title
    page.locator("body").press("Escape")
    expect(page.locator(".tv-title")).not_to_have_text(title)


def test_pointer_that_rests_is_no_interaction(server, visit_wall):
    """Chromium sends a move if the page changes below the pointer."""
    page = visit_wall("?tv")
    page.add_init_script("""addEventListener("pointermove", (event) => {
        if (event.isTrusted) event.stopImmediatePropagation();  // a real move, of a pointer at another place
    }, true);""")
    page.reload()
    expect(page.locator(".tv-as-of")).not_to_be_empty()
    page.evaluate("""() => {
        for (let n = 0; n < 3; n++) dispatchEvent(new PointerEvent("pointermove", { screenX: 7, screenY: 7 }));
    }""")
    expect(page.locator("html")).not_to_have_class(re.compile("tv-paused"))
    page.evaluate("dispatchEvent(new PointerEvent('pointermove', { screenX: 8, screenY: 7 }))")
    expect(page.locator("html")).to_have_class(re.compile("tv-paused"))


def test_letters_grow_with_the_screen(server, visit_wall):
    put_groups(server, 1)
    page = visit_wall("?tv")
    measure = "parseFloat(getComputedStyle(document.querySelector('#board .title')).fontSize)"
    expect(page.locator("#board .title")).to_be_visible()
    full_hd = page.evaluate(measure)
    page.set_viewport_size({"width": 3840, "height": 2160})
    assert full_hd >= 24
    wait_until(lambda: page.evaluate(measure) == pytest.approx(2 * full_hd, rel=0.02))


def test_missing_wake_lock_is_noted_once(server, visit_wall):
    page = visit_wall("?tv")
    page.evaluate("localStorage.clear()")
    page.add_init_script("delete Navigator.prototype.wakeLock;")
    page.reload()
    expect(page.locator(".tv-note")).to_contain_text("The screen may turn off")
    page.reload()
    expect(page.locator(".tv-as-of")).not_to_be_empty()
    expect(page.locator(".tv-note")).to_be_empty()


def test_wake_lock_is_requested_where_it_exists(server, visit_wall):
    page = visit_wall("?tv")
    page.add_init_script("""
        navigator.wakeLock.request = async (type) => { document.documentElement.dataset.lock = type; };
    """)
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-lock", "screen")


def test_other_version_of_the_server_reloads_the_page(server, tv_module):
    page = tv_module
    check = """async (own) => {
        let count = 0;
        await checkVersion(own, () => count++);
        return count;
    }"""
    own = page.evaluate("readVersion(document.documentElement.outerHTML)")
    assert re.fullmatch("[0-9a-f]{8,}", own)
    assert page.evaluate(check, own) == 0
    assert page.evaluate(check, "0123456789ab") == 1
    page.route("**/docs", lambda route: route.fulfill(status=200, body="an error of a proxy"))
    assert page.evaluate(check, own) == 0
    page.unroute_all()


def test_pointer_is_hidden_while_it_rests(server, visit_wall):
    page = visit_wall("?tv")
    expect(page.locator("html")).to_have_class(re.compile("tv-idle"))
    assert page.evaluate("getComputedStyle(document.body).cursor") == "none"
    places = itertools.count()

    def is_shown_when_it_moves():
        page.mouse.move(10, 10 + next(places) % 100, steps=3)
        return not page.evaluate("document.documentElement.classList.contains('tv-idle')")

    wait_until(is_shown_when_it_moves)


@pytest.mark.parametrize("path", ["?tv", "/today?tv"])
def test_shared_group_is_shown_on_wall_screens(server, anonymous_page, path):
    name = f"shared{len(path)}"
    put_groups(server, 3, 1, name=name)
    anonymous_page.set_viewport_size(WALL_SCREEN)
    anonymous_page.goto(f"{server.background.url}/{server.create_share(group=f'{name} 0')}{path}")
    expect(anonymous_page.locator(".tv-title")).to_have_text(f"{name} 0")
    expect(anonymous_page.locator("header.top")).to_be_hidden()
    expect(anonymous_page.locator("#bars .bar, .timeline-label")).to_have_count(3)


def test_large_shared_group_has_pages_that_fit(server, anonymous_page):
    put_groups(server, 60)
    anonymous_page.set_viewport_size(WALL_SCREEN)
    anonymous_page.goto(f"{server.background.url}/{server.create_share(group='group 0')}?tv")
    expect(anonymous_page.locator("#bars .bar").first).to_be_visible()
    expect(anonymous_page.locator("#bars .family:nth-of-type(40)")).to_have_count(0)
    read_bottoms = "Array.from(document.querySelectorAll('#bars .bar'), (bar) => bar.getBoundingClientRect().bottom)"
    wait_until(lambda: max(anonymous_page.evaluate(read_bottoms)) <= WALL_SCREEN["height"])
    assert len(anonymous_page.evaluate(read_bottoms)) >= 6


def test_group_in_the_address_limits_the_slides(server, visit_wall):
    put_groups(server, 1, 2)
    page = visit_wall("?tv&group=group+1")
    expect(page.locator(".tv-title")).to_have_text("group 1")
    expect(page.locator("#board .item")).to_have_count(2)
    expect(page.locator(".tv-dots")).to_be_empty()


@pytest.mark.parametrize("query", ["?tv", "today?tv"])
def test_wall_screen_has_no_axe_violations(server, visit_wall, query):
    put_groups(server, 2, 1)
    page = visit_wall(query)
    expect(page.locator(".tv-title")).not_to_be_empty()
    assert find_violations(page) == []


def test_wall_screen_survives_a_restart_of_the_server(own_server, own_profile):
    put_groups(own_server, 1)
    page = own_profile.new_page()
    page.goto(f"{own_server.background.url}/today?tv")
    expect(page.locator(".timeline-label")).to_have_count(1)
    page.evaluate("window.isSame = true")
    own_server.stop()
    expect(page.locator("#offline")).to_be_visible()
    own_server.start()
    own_server.put("new", title="New", group="group 0")
    expect(page.locator(".timeline-label")).to_have_count(2)
    expect(page.locator("#offline")).to_be_hidden()
    assert page.evaluate("window.isSame")
