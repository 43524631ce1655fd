"""A real Chromium on a real server: one of each for a worker, a context of its own for each test."""

from __future__ import annotations

import os
import shutil

import pytest

from progressbar_tracker.server import hub, maintenance
from progressbar_tracker.server.dashboard import pages
from tests.support.browser_site import BrowserServer

BROWSER_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

SHORTENED_DELAYS = {
    "stream.js": {b"RETRY_DELAY = 2000": b"RETRY_DELAY = 200", b"SPREAD = 1000": b"SPREAD = 100"},
    "share.js": {b"RETRY_DELAY = 5000": b"RETRY_DELAY = 500"},
}

# Without motion, which a machine without a graphics card pays for dearly.
DEFAULT_OPTIONS = {"viewport": {"width": 1200, "height": 800}, "reduced_motion": "reduce"}


# For the package and not the session: as long as it is there, an event loop runs in the thread of the tests, and no
# other test could run one.
@pytest.fixture(scope="package")
def chromium():
    """A Chromium or Chrome of the system's; the package that drives it never downloads one."""
    api = pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSER_NAMES)), None)
    if path is None:
        pytest.skip("needs a Chromium or Chrome: install one, or name it in CHROMIUM")
    with api.sync_playwright() as playwright:
        # Without a sandbox, as root in a container has none; it opens the tests' own pages only.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--process-per-site"])
        yield browser
        browser.close()


@pytest.fixture(scope="package", autouse=True)
def fast_timers():
    """Ticks and retries that are short: they are what tests would wait for most."""
    with pytest.MonkeyPatch.context() as patch:
        for name, waits in SHORTENED_DELAYS.items():
            body, kind = pages._STATIC_FILES[name]
            for usual, short in waits.items():
                assert body.count(usual) == 1
                body = body.replace(usual, short)
            patch.setitem(pages._STATIC_FILES, name, (body, kind))
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
    """A server of the test's own, to be stopped and started."""
    site = BrowserServer(tmp_path)
    yield site
    site.close()


@pytest.fixture(scope="package")
def profile(chromium, package_server):
    """One signed-in profile and what its pages complain of; most tests open a tab in it, which is the cheapest."""
    complaints = []
    context = sign_in(chromium, package_server, complaints)
    # A tab that stays keeps the process, the worker and the stream that the others then share.
    context.new_page().goto(package_server.background.url)
    yield context, complaints
    context.close()


@pytest.fixture(scope="package")
def make_profile(chromium, package_server):
    """Return a function that gives a signed-in profile of some options, each made once: a profile is dear."""
    complaints, made = [], {}

    def of(**options):
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = sign_in(chromium, package_server, complaints, **options)
        return made[key], complaints

    yield of
    for context in made.values():
        context.close()


@pytest.fixture(scope="package")
def anonymous_context(chromium):
    """A profile that is signed in nowhere."""
    context = chromium.new_context(**DEFAULT_OPTIONS)
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def anonymous_page(anonymous_context):
    """A tab of somebody who is not signed in."""
    page = anonymous_context.new_page()
    yield page
    page.close()
    assert anonymous_context.cookies() == []


@pytest.fixture
def unshared_page(make_profile, server):
    """A tab that has no worker to share a stream with others, and whose complaints are not looked at."""
    context, _ = make_profile(locale="en-US")  # not that of the others: the script would be in all of its tabs
    page = context.new_page()
    page.add_init_script("Object.defineProperty(window, 'SharedWorker', { value: undefined });")
    yield page
    page.close()


@pytest.fixture
def visit(profile, make_profile, server):
    """Return a function that opens the board: in a tab, or with options in a profile of its own.

    No page may have complained at the end: of an error, of what the content security policy refuses, by a dialog.
    """
    opened, listening = [], []

    def open_board(query="", **options):
        context, complaints = make_profile(**options) if options else profile
        if complaints not in listening:
            complaints.clear()
            listening.append(complaints)
        page = context.new_page()
        opened.append(page)
        page.goto(f"{server.background.url}/{query}")
        return page

    yield open_board
    for page in opened:
        page.close()
    assert [complaint for complaints in listening for complaint in complaints] == []


@pytest.fixture
def own_profile(chromium, own_server):
    """A signed-in profile of the test's own; what its pages complain of is not looked at."""
    context = sign_in(chromium, own_server, [])
    yield context
    context.close()


def sign_in(chromium, site, complaints, **options):
    context = chromium.new_context(**{**DEFAULT_OPTIONS, **options})
    context.set_default_timeout(10_000)
    context.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    # The link gives the cookie to whoever follows it, without a page being opened.
    assert context.request.get(site.background.create_sign_in_url()).ok
    return context


APPEARANCE_RULES = ("color-contrast", "scrollable-region-focusable", "meta-viewport")
"""The rules of axe that depend on the theme and on the size of the screen."""


def find_violations(page, *rules):
    """Return what axe finds, by all of its rules or by some; nothing where it is not installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="install axe-playwright-python")
    options = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found]


def measure_overflow(page):
    """Return by how many pixels the page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
