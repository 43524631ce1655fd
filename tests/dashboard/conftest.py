"""Chromium and a server for each worker, and a browser context for each test."""

from __future__ import annotations

import contextlib
import os
import shutil

import pytest

from progressbar_tracker.server import hub, maintenance
from progressbar_tracker.server.dashboard.static_files import STATIC_FILES, prepare_file
from tests.support.browser_site import BrowserServer
from tests.support.waiting import wait_until

HEADLESS_SHELL = "chromium-headless-shell"
"""Chromium without windows, of the same package and version: the tests need two thirds of the processor time."""

BROWSER_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

CHANGED_DELAYS = {
    "item_stream.js": {b"RETRY_DELAY = 2000": b"RETRY_DELAY = 200", b"SPREAD = 1000": b"SPREAD = 100"},
    "item.js": {b"MIN_RELOAD_INTERVAL = 10000": b"MIN_RELOAD_INTERVAL = 300"},
    "next_start.js": {b"RETRY_DELAYS = [1500, 4000, 15000, 45000]": b"RETRY_DELAYS = [100, 400, 1000, 3000]"},
    "offline.js": {b"RETRY_INTERVAL = 4000": b"RETRY_INTERVAL = 400"},
    "toast.js": {b"TOAST_TIMEOUT_MS = 6000": b"TOAST_TIMEOUT_MS = 60000"},
}
"""Delays that tests would wait for, and the time to undo, which a busy machine exceeds."""

# Without motion, which is expensive without a graphics card.
# A service worker would answer requests that a test wants to change.
DEFAULT_OPTIONS = {
    "viewport": {"width": 1200, "height": 800},
    "reduced_motion": "reduce",
    "service_workers": "block",
}


PAGE_TIMEOUT = 60_000
"""Milliseconds for an action or an expectation on a busy machine; a test that passes never waits for so long."""


# In the scope of the package, not of the session: an event loop runs meanwhile in the thread of the tests, and no
# other test can run one.
@pytest.fixture(scope="package")
def browser_driver():
    """Playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")
    api.expect.set_options(timeout=PAGE_TIMEOUT)
    with api.sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="package")
def chromium(browser_driver):
    """The Chromium or Chrome of the system; playwright never downloads one."""
    browser = launch_chromium(browser_driver, HEADLESS_SHELL, *BROWSER_NAMES)
    yield browser
    browser.close()


@pytest.fixture
def windowed_chromium(browser_driver):
    """The whole Chromium or Chrome of the system, as people use it."""
    browser = launch_chromium(browser_driver, *BROWSER_NAMES)
    yield browser
    browser.close()


def launch_chromium(driver, *names):
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs a Chromium or Chrome: install one, or name it in CHROMIUM")
    # Without a sandbox, which is not available to root in a container; it opens only pages of the tests.
    return driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--process-per-site"])


@pytest.fixture(scope="package", autouse=True)
def changed_timers():
    """Short ticks and retries, which tests would wait for most of their time, and a long time to undo."""
    with pytest.MonkeyPatch.context() as patch:
        for name, delays in CHANGED_DELAYS.items():
            body = STATIC_FILES[name].body
            for usual, short in delays.items():
                assert body.count(usual) == 1
                body = body.replace(usual, short)
            patch.setitem(STATIC_FILES, name, prepare_file(name, body))
        patch.setattr(hub, "TICK_INTERVAL", 0.05)
        patch.setattr(hub, "COALESCE_SECONDS", 0.005)
        patch.setattr(maintenance, "MAINTENANCE_INTERVAL", 0.1)
        yield


@pytest.fixture(scope="package")
def package_server(tmp_path_factory):
    """One server for all browser tests of a worker."""
    site = BrowserServer(tmp_path_factory.mktemp("dashboard"))
    yield site
    site.close()


@pytest.fixture
def server(package_server):
    """A server with an empty board."""
    package_server.clear()
    return package_server


@pytest.fixture
def stream_count(first_tab, server):
    """The number of streams once those of former tests have ended: that of the tab that stays open."""
    wait_until(lambda: server.count_streams() == 1)
    return 1


@pytest.fixture
def job(request):
    """An id of one test: the history of the shared server is never empty."""
    return request.node.name.partition("[")[0]


@pytest.fixture
def own_server(tmp_path):
    """A server of one test, which may stop and start it."""
    site = BrowserServer(tmp_path)
    yield site
    site.close()


# Follows the stream that the tabs share.
FOLLOW_SCRIPT = """async () => {
    const { src } = document.querySelector("script[src$='/board.js']");
    const { subscribe } = await import(new URL("stream.js", src));
    const { ItemStore } = await import(new URL("state.js", src));
    const store = new ItemStore();
    window.listItems = () => [...store.items.values()].map(({ id, updated_at }) => [id, updated_at]).sort();
    subscribe((message) => store.apply(message));
}"""


@pytest.fixture(scope="package")
def first_tab(chromium, package_server):
    """A tab that stays open, of a signed-in profile. It keeps the worker and the stream, which the other tabs share."""
    errors = []
    context = sign_in(chromium, package_server, errors)
    page = context.new_page()
    page.goto(f"{package_server.background.url}/?q=nothing-has-this-text")  # a board that draws no rows
    page.evaluate(FOLLOW_SCRIPT)
    yield page, errors
    context.close()


@pytest.fixture(scope="package")
def profile(first_tab):
    """A signed-in profile and the errors of its pages; most tests open a tab in it, which is cheapest."""
    page, errors = first_tab
    return page.context, errors


@pytest.fixture(scope="package")
def make_profile(chromium, package_server):
    """Return a function that returns a signed-in profile for options; each is created once, as it is expensive."""
    errors, contexts = [], {}

    def get_profile(**options):
        key = tuple(sorted(options.items()))
        if key not in contexts:
            contexts[key] = sign_in(chromium, package_server, errors, **options)
        return contexts[key], errors

    yield get_profile
    for context in contexts.values():
        context.close()


@pytest.fixture(scope="package")
def anonymous_context(chromium):
    """A profile that is not signed in."""
    context = chromium.new_context(**DEFAULT_OPTIONS)
    context.set_default_timeout(PAGE_TIMEOUT)
    yield context
    context.close()


@pytest.fixture
def anonymous_page(anonymous_context):
    """A tab of the profile that is not signed in."""
    page = anonymous_context.new_page()
    yield page
    page.close()
    assert anonymous_context.cookies() == []


@pytest.fixture(scope="module")
def call(anonymous_context, package_server):
    """Return a function that calls a function of a module in a page without scripts of its own."""
    page = anonymous_context.new_page()
    page.goto(f"{package_server.background.url}/login")

    def call_function(module, name, *arguments):
        return page.evaluate(
            "async ([module, name, args]) => (await import(`${location.origin}/static/${module}`))[name](...args)",
            [module, name, arguments],
        )

    call_function.page = page
    yield call_function
    page.close()


@pytest.fixture
def unshared_page(chromium, server):
    """A tab without a shared worker, and thus with its own stream, in its own profile; its errors are not checked."""
    context = sign_in(chromium, server, [])
    page = context.new_page()
    page.add_init_script("Object.defineProperty(window, 'SharedWorker', { value: undefined });")
    yield page
    context.close()


@pytest.fixture
def clock_profile(chromium, server):
    """A profile of one test, and the errors of its pages, for a clock of the test.

    ``page.clock`` replaces the clock of all pages of a profile, later ones too: with a clock that stands still, no
    timer of a later test would fire.
    """
    errors = []
    context = sign_in(chromium, server, errors)
    yield context, errors
    context.close()


def has_clock(page):
    """Return whether a test has replaced the clock of a page's profile."""
    with contextlib.suppress(Exception):  # the page may be on its way to another one
        return not page.is_closed() and page.evaluate("'__pwClock' in window")
    return False


@pytest.fixture
def visit(request, first_tab, profile, make_profile, server):
    """Return a function that opens a page in a tab of the shared profile, or of a profile with options.

    The query is ``None`` for a tab without a page. The first state of a board is that of the server.
    At the end, no page may have reported an error, a violation of the content security policy, or a dialog.
    """
    pages, watched = [], []
    clocked = request.getfixturevalue("clock_profile") if "clock_profile" in request.fixturenames else None

    def open_page(query="", size=None, **options):
        context, errors = clocked or (make_profile(**options) if options else profile)
        if all(errors is not other for other in watched):
            errors.clear()
            watched.append(errors)
        page = context.new_page()
        pages.append(page)
        if size is not None:
            page.set_viewport_size(size)
        if query is not None:
            wait_until(lambda: first_tab[0].evaluate("listItems()") == server.list_updates())
            page.goto(f"{server.background.url}/{query}")
        return page

    yield open_page
    is_shared_clock_replaced = clocked is None and any(map(has_clock, pages))
    for page in pages:
        page.close()
    assert not is_shared_clock_replaced, (
        "use the fixture clock_profile: a clock replaces that of all pages of a profile"
    )
    assert [error for errors in watched for error in errors] == []


@pytest.fixture
def own_profile(chromium, own_server):
    """A signed-in profile of one test; the errors of its pages are not checked."""
    context = sign_in(chromium, own_server, [])
    yield context
    context.close()


def sign_in(chromium, site, errors, **options):
    context = chromium.new_context(**{**DEFAULT_OPTIONS, **options})
    context.set_default_timeout(PAGE_TIMEOUT)
    context.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    # Following the link sets the cookie, without opening a page.
    assert context.request.get(site.background.create_sign_in_url()).ok
    return context


APPEARANCE_RULES = ("color-contrast", "scrollable-region-focusable", "meta-viewport")
"""The rules of axe that depend on the theme and the size of the screen."""


AXE_RUN_SCRIPT = """async (rules) => {
    const options = { resultTypes: ["violations"], preload: false };
    if (rules.length > 0) options.runOnly = { type: "rule", values: rules };
    const { violations } = await axe.run(document, options);
    return violations.map(({ id, nodes: [{ html, any }] }) => [id, html, any[0]?.message ?? ""]);
}"""

# With forced colors, the browser reports the forced value of `color` only, and axe prefers this property.
FILL_COLOR_SCRIPT = """() => {
    const getValue = CSSStyleDeclaration.prototype.getPropertyValue;
    CSSStyleDeclaration.prototype.getPropertyValue = function (name) {
        return getValue.call(this, name === "-webkit-text-fill-color" ? "color" : name);
    };
}"""


def find_violations(page, *rules):
    """Return the violations that axe finds by all rules or by ``rules``; skip the test if it is not installed."""
    axe = pytest.importorskip("axe_playwright_python.base", reason="install axe-playwright-python")
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe.AXE_SCRIPT)
        page.evaluate(FILL_COLOR_SCRIPT)
    return page.evaluate(AXE_RUN_SCRIPT, list(rules))


def measure_overflow(page):
    """Return by how many pixels the page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def wait_for_fit(page):
    """Wait until the page is not wider than the screen: charts take a new size in the next frame."""
    try:
        wait_until(lambda: measure_overflow(page) <= 0)
    except TimeoutError:
        message = f"{measure_overflow(page)} pixels too wide at {page.viewport_size}"
        raise AssertionError(message) from None
