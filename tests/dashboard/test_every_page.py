"""Every page with difficult content: accessibility, keyboard, small screens, zoom, motion and print."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from progressbar_tracker.server.routes import ROUTES
from tests.support.full_board import create_page_urls, open_full_site
from tests.support.waiting import wait_until

from .conftest import APPEARANCE_RULES, PAGE_TIMEOUT, find_violations, sign_in, wait_for_fit

PAGE_NAMES = (
    "board", "board of a group", "board without a match", "board on a screen", "item that runs", "item that failed",
    "item with children", "item with hostile texts", "former run", "unknown item", "today", "today on a screen",
    "history", "history without a match", "schedules", "schedule that is changed", "keys", "channels", "documentation",
    "problem", "sign-in", "handbook", "page of the handbook", "used sign-in link", "shared group", "shared timeline",
    "shared failure",
)  # fmt: skip
DESKTOP_VIEWPORT = {"width": 1440, "height": 900}
PHONE_VIEWPORT = {"width": 390, "height": 844}
ZOOMED_VIEWPORT = {"width": 320, "height": 256}
"""A desktop of 1280 by 1024 pixels at a zoom of 400 %."""

ANONYMOUS_PAGES = {
    "sign-in",
    "used sign-in link",
    "shared group",
    "shared timeline",
    "shared failure",
    "handbook",
    "page of the handbook",
}

KEYBOARD_SCRIPT = """() => {
    const selector = "a[href], button, input, select, textarea, summary, [tabindex]";
    const isReachable = (node) => node.tabIndex >= 0 && !node.disabled && node.closest("[inert]") === null
        && node.checkVisibility({ visibilityProperty: true }) && node.getClientRects().length > 0;
    const nameOf = (node) => node.getAttribute("aria-label") || node.textContent.trim() || node.outerHTML;
    const describe = (node) => nameOf(node).slice(0, 60);
    // What may show the focus: an outline, or another style of the element or of its parts.
    const readStyle = (node) => {
        const { outlineStyle, boxShadow, borderColor, backgroundColor, stroke, fill } = getComputedStyle(node);
        return [outlineStyle, boxShadow, borderColor, backgroundColor, stroke, fill].join();
    };
    const readStyles = (node) => [node, ...node.querySelectorAll("*")].slice(0, 9).map(readStyle).join();
    const controls = [...document.querySelectorAll(selector)].filter(isReachable);
    const styles = new Map(controls.map((node) => [node, readStyles(node)]));
    window.unreached = new Set(controls);
    window.unseen = [];
    window.list = () => [...window.unreached].map(describe);
    addEventListener("focusin", ({ target }) => {
        window.unreached.delete(target);
        const isMarked = readStyles(target) !== styles.get(target);
        const { top, bottom } = target.getBoundingClientRect();
        const isVisible = bottom > 0 && top < innerHeight;
        if (!isMarked || !isVisible) window.unseen.push(describe(target));
    });
    return controls.length;
}"""


@pytest.fixture(scope="package")
def full_site(tmp_path_factory):
    """A server with difficult content."""
    site = open_full_site(tmp_path_factory.mktemp("full-site"))
    yield site
    site.close()


@pytest.fixture(scope="package")
def page_urls(full_site):
    """The pages of the server: the pattern of the route, and the relative URL."""
    return create_page_urls(full_site)


@pytest.fixture(scope="package")
def full_profiles(chromium, full_site):
    """A signed-in and an anonymous profile, and the errors of their pages."""
    errors = []
    signed_in = sign_in(chromium, full_site, errors, viewport=DESKTOP_VIEWPORT)
    anonymous = chromium.new_context(viewport=DESKTOP_VIEWPORT, reduced_motion="reduce")
    anonymous.set_default_timeout(PAGE_TIMEOUT)
    yield {"signed in": signed_in, "anonymous": anonymous}
    signed_in.close()
    anonymous.close()


@pytest.fixture(scope="module")
def open_page(full_site, full_profiles, page_urls):
    """Return a function that opens a page by its name."""

    def open_by_name(name):
        page = full_profiles["anonymous" if name in ANONYMOUS_PAGES else "signed in"].new_page()
        page.goto(f"{full_site.background.url}/{page_urls[name][1]}")
        wait_for_content(page)
        return page

    return open_by_name


@pytest.fixture(scope="module", params=PAGE_NAMES)
def named_page(request, open_page):
    """A page and its name. The tests of a page share it, as to load it takes longer than most of them."""
    page = open_page(request.param)
    yield page, request.param
    page.close()


@pytest.fixture
def page(named_page):
    """A page as it was opened: on a desktop, in the light theme."""
    page, _ = named_page
    page.emulate_media(color_scheme="light", forced_colors="none")
    page.set_viewport_size(DESKTOP_VIEWPORT)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    yield page
    page.evaluate(CLOSE_SCRIPT)


@pytest.fixture
def own_page(open_page):
    """Return a function that opens a page of one test."""
    pages = []

    def open_by_name(name):
        pages.append(open_page(name))
        return pages[-1]

    yield open_by_name
    for page in pages:
        page.close()


OPEN_SCRIPT = """() => {
    for (const details of document.querySelectorAll("details:not([open])")) {
        details.open = true;
        details.dataset.isOpened = "";
    }
}"""
CLOSE_SCRIPT = """() => {
    for (const details of document.querySelectorAll("details[data-is-opened]")) {
        details.open = false;
        delete details.dataset.isOpened;
    }
}"""


def shorten_tables(page):
    """Leave a few rows of each table, as the documentation has hundreds that are alike."""
    page.evaluate("""() => {
        for (const body of document.querySelectorAll("tbody")) while (body.rows.length > 3) body.deleteRow(3);
        const sections = [...document.querySelectorAll("section.card")];
        if (sections.length > 30) for (const section of sections.slice(10)) section.remove();
    }""")


def wait_for_content(page):
    """Wait until the requests of the page have been answered, and what they bring is rendered."""
    page.evaluate("""async () => {
        const waitForPaint = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
        let count = -1;
        while (count !== document.querySelectorAll("*").length) {
            count = document.querySelectorAll("*").length;
            for (let frame = 0; frame < 4; frame++) await waitForPaint();
        }
    }""")


def test_every_page_route_has_a_page_here(page_urls):
    assert set(page_urls) == set(PAGE_NAMES)
    patterns = {route.path for route in ROUTES if route.method == "GET" and route.doc.response == "text/html"}
    assert {pattern for pattern, _ in page_urls.values()} == patterns


def test_page_of_any_width_does_not_overflow(page):
    page.evaluate(OPEN_SCRIPT)
    for width in (1400, 800, 500, 320):
        page.set_viewport_size({"width": width, "height": 640})
        wait_for_fit(page)
    page.set_viewport_size(ZOOMED_VIEWPORT)
    wait_for_fit(page)
    # Parts that do not scroll leave room for the content.
    heights = page.evaluate("""() => [...document.querySelectorAll("body *")]
        .filter((node) => ["fixed", "sticky"].includes(getComputedStyle(node).position) && node.checkVisibility())
        .map((node) => node.clientHeight)""")
    assert sum(heights) <= ZOOMED_VIEWPORT["height"] / 2


def test_page_is_usable_by_keyboard_alone(page, named_page):
    if named_page[1] == "documentation":
        shorten_tables(page)
    wait_for_content(page)
    count = page.evaluate(KEYBOARD_SCRIPT)
    page.evaluate("document.activeElement.blur()")
    # Parts of a field, such as the month of a date, are stops as well.
    for _ in range(4):
        for _ in range(count // 2 + 2):
            page.keyboard.press("Tab")
        if not page.evaluate("window.unreached.size"):
            break
    assert page.evaluate("window.list()") == []
    assert page.evaluate("window.unseen") == []


def test_page_has_no_axe_violations(page, named_page):
    if named_page[1] == "documentation":
        shorten_tables(page)
    page.evaluate(OPEN_SCRIPT)
    first, *variants = itertools.product((DESKTOP_VIEWPORT, PHONE_VIEWPORT), ("light", "dark"), ("none", "active"))
    violations = {str(first): find_violations(page)}  # by all rules, as the page was opened
    for viewport, scheme, colors in variants:
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme, forced_colors=colors)
        violations[viewport["width"], scheme, colors] = find_violations(page, *APPEARANCE_RULES)
    assert {variant: found for variant, found in violations.items() if found} == {}


@pytest.mark.parametrize("name", ["board", "item that runs", "item with children", "today", "shared group"])
def test_page_with_reduced_motion_does_not_move(own_page, name):
    page = own_page(name)
    count = "document.getAnimations().filter(({ playState }) => playState === 'running').length"
    assert page.evaluate(count) == 0


def test_board_without_reduced_motion_moves(own_page):
    page = own_page("board")
    page.emulate_media(reduced_motion="no-preference")
    wait_until(lambda: page.evaluate("document.getAnimations().length > 0"))
