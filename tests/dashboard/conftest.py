"""Chromium and a server for each worker, and a browser context for each test."""

from __future__ import annotations

import os
import shutil

import pytest

from progressbar_tracker.server import hub, maintenance
from progressbar_tracker.server.dashboard.static_files import STATIC_FILES
from tests.support.browser_site import BrowserServer

BROWSER_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

SHORTENED_DELAYS = {
    "stream.js": {b"RETRY_DELAY = 2000": b"RETRY_DELAY = 200", b"SPREAD = 1000": b"SPREAD = 100"},
    "share.js": {b"RETRY_DELAY = 5000": b"RETRY_DELAY = 500"},
}

# Without motion, which is expensive without a graphics card.
DEFAULT_OPTIONS = {"viewport": {"width": 1200, "height": 800}, "reduced_motion": "reduce"}


# In the scope of the package, not of the session: an event loop runs meanwhile in the thread of the tests, and no
# other test can run one.
@pytest.fixture(scope="package")
def chromium():
    """The Chromium or Chrome of the system; playwright never downloads one."""
    api = pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSER_NAMES)), None)
    if path is None:
        pytest.skip("needs a Chromium or Chrome: install one, or name it in CHROMIUM")
    with api.sync_playwright() as playwright:
        # Without a sandbox, which is not available to root in a container; it opens only pages of the tests.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--process-per-site"])
        yield browser
        browser.close()


@pytest.fixture(scope="package", autouse=True)
def fast_timers():
    """Short ticks and retries, which tests would wait for most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        for name, delays in SHORTENED_DELAYS.items():
            body, content_type = STATIC_FILES[name]
            for usual, short in delays.items():
                assert body.count(usual) == 1
                body = body.replace(usual, short)
            patch.setitem(STATIC_FILES, name, (body, content_type))
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
def own_server(tmp_path):
    """A server of one test, which may stop and start it."""
    site = BrowserServer(tmp_path)
    yield site
    site.close()


@pytest.fixture(scope="package")
def profile(chromium, package_server):
    """A signed-in profile and the errors of its pages; most tests open a tab in it, which is cheapest."""
    errors = []
    context = sign_in(chromium, package_server, errors)
    # A tab that stays open keeps the process, the worker and the stream, which the other tabs share.
    context.new_page().goto(package_server.background.url)
    yield context, errors
    context.close()


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
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def anonymous_page(anonymous_context):
    """A tab of the profile that is not signed in."""
    page = anonymous_context.new_page()
    yield page
    page.close()
    assert anonymous_context.cookies() == []


@pytest.fixture
def unshared_page(make_profile, server):
    """A tab without a shared worker, and thus with its own stream; its errors are not checked."""
    context, _ = make_profile(locale="en-US")  # its own profile: the script applies to all tabs of a profile
    page = context.new_page()
    page.add_init_script("Object.defineProperty(window, 'SharedWorker', { value: undefined });")
    yield page
    page.close()


@pytest.fixture
def visit(profile, make_profile, server):
    """Return a function that opens the board in a tab of the shared profile, or of a profile with options.

    At the end, no page may have reported an error, a violation of the content security policy, or a dialog.
    """
    pages, watched = [], []

    def open_board(query="", **options):
        context, errors = make_profile(**options) if options else profile
        if all(errors is not other for other in watched):
            errors.clear()
            watched.append(errors)
        page = context.new_page()
        pages.append(page)
        page.goto(f"{server.background.url}/{query}")
        return page

    yield open_board
    for page in pages:
        page.close()
    assert [error for errors in watched for error in errors] == []


@pytest.fixture
def own_profile(chromium, own_server):
    """A signed-in profile of one test; the errors of its pages are not checked."""
    context = sign_in(chromium, own_server, [])
    yield context
    context.close()


def sign_in(chromium, site, errors, **options):
    context = chromium.new_context(**{**DEFAULT_OPTIONS, **options})
    context.set_default_timeout(10_000)
    context.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    # Following the link sets the cookie, without opening a page.
    assert context.request.get(site.background.create_sign_in_url()).ok
    return context


APPEARANCE_RULES = ("color-contrast", "scrollable-region-focusable", "meta-viewport")
"""The rules of axe that depend on the theme and the size of the screen."""


def find_violations(page, *rules):
    """Return the violations that axe finds by all rules or by ``rules``; skip the test if it is not installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="install axe-playwright-python")
    options = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    violations = axe.Axe().run(page, options=options).response["violations"]
    return [(violation["id"], violation["nodes"][0]["html"]) for violation in violations]


def measure_overflow(page):
    """Return by how many pixels the page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
