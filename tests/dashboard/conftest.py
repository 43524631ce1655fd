"""A real Chromium on a real server: one of each for a worker, a context of its own for each test."""

from __future__ import annotations

import os
import shutil

import pytest

from progressbar_tracker.server import hub, maintenance
from progressbar_tracker.server.dashboard import pages
from tests.support.browser_site import Site

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

WAITS = {
    "stream.js": {b"RETRY = 2000": b"RETRY = 200", b"SPREAD = 1000": b"SPREAD = 100"},
    "share.js": {b"RETRY = 5000": b"RETRY = 500"},
}

# Without motion, which a machine without a graphics card pays for dearly.
USUAL = {"viewport": {"width": 1200, "height": 800}, "reduced_motion": "reduce"}


# For the package and not the session: as long as it is there, an event loop runs in the thread of the tests, and no
# other test could run one.
@pytest.fixture(scope="package")
def chromium():
    """A Chromium or Chrome of the system's; the package that drives it never downloads one."""
    api = pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("needs a Chromium or Chrome: install one, or name it in CHROMIUM")
    with api.sync_playwright() as playwright:
        # Without a sandbox, as root in a container has none; it opens the tests' own pages only.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--process-per-site"])
        yield browser
        browser.close()


@pytest.fixture(scope="package", autouse=True)
def quick():
    """Ticks and retries that are short: they are what tests would wait for most."""
    with pytest.MonkeyPatch.context() as patch:
        for name, waits in WAITS.items():
            body, kind = pages._FILES[name]
            for usual, short in waits.items():
                assert body.count(usual) == 1
                body = body.replace(usual, short)
            patch.setitem(pages._FILES, name, (body, kind))
        patch.setattr(hub, "TICK", 0.05)
        patch.setattr(hub, "GATHER", 0.005)
        patch.setattr(maintenance, "TICK", 0.1)
        yield


@pytest.fixture(scope="package")
def shared_site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("dashboard"))
    yield site
    site.close()


@pytest.fixture
def site(shared_site):
    """A server with an empty board."""
    shared_site.clear()
    return shared_site


@pytest.fixture
def own_site(tmp_path):
    """A server of the test's own, to be stopped and started."""
    site = Site(tmp_path)
    yield site
    site.close()


@pytest.fixture(scope="package")
def profile(chromium, shared_site):
    """One signed-in profile and what its pages complain of; most tests open a tab in it, which is the cheapest."""
    complaints = []
    context = signed_in(chromium, shared_site, complaints)
    # A tab that stays keeps the process, the worker and the stream that the others then share.
    context.new_page().goto(shared_site.server.url)
    yield context, complaints
    context.close()


@pytest.fixture(scope="package")
def profiles(chromium, shared_site):
    """Return a function that gives a signed-in profile of some options, each made once: a profile is dear."""
    complaints, made = [], {}

    def of(**options):
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = signed_in(chromium, shared_site, complaints, **options)
        return made[key], complaints

    yield of
    for context in made.values():
        context.close()


@pytest.fixture(scope="package")
def strangers(chromium):
    """A profile that is signed in nowhere."""
    context = chromium.new_context(**USUAL)
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def stranger(strangers):
    """A tab of somebody who is not signed in."""
    page = strangers.new_page()
    yield page
    page.close()
    assert strangers.cookies() == []


@pytest.fixture
def alone(profiles, site):
    """A tab that has no worker to share a stream with others, and whose complaints are not looked at."""
    context, _ = profiles(locale="en-US")  # not that of the others: the script would be in all of its tabs
    page = context.new_page()
    page.add_init_script("Object.defineProperty(window, 'SharedWorker', { value: undefined });")
    yield page
    page.close()


@pytest.fixture
def visit(profile, profiles, site):
    """Return a function that opens the board: in a tab, or with options in a profile of its own.

    No page may have complained at the end: of an error, of what the content security policy refuses, by a dialog.
    """
    opened, listening = [], []

    def open_board(query="", **options):
        context, complaints = profiles(**options) if options else profile
        if complaints not in listening:
            complaints.clear()
            listening.append(complaints)
        page = context.new_page()
        opened.append(page)
        page.goto(f"{site.server.url}/{query}")
        return page

    yield open_board
    for page in opened:
        page.close()
    assert [complaint for complaints in listening for complaint in complaints] == []


@pytest.fixture
def own_profile(chromium, own_site):
    """A signed-in profile of the test's own; what its pages complain of is not looked at."""
    context = signed_in(chromium, own_site, [])
    yield context
    context.close()


def signed_in(chromium, site, complaints, **options):
    context = chromium.new_context(**{**USUAL, **options})
    context.set_default_timeout(10_000)
    context.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    # The link gives the cookie to whoever follows it, without a page being opened.
    assert context.request.get(site.server.sign_in_url()).ok
    return context


LOOKS = ("color-contrast", "scrollable-region-focusable", "meta-viewport")
"""The rules of axe that depend on the theme and on the size of the screen."""


def judged(page, *rules):
    """Return what axe finds, by all of its rules or by some; nothing where it is not installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="install axe-playwright-python")
    options = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found]


def overflow(page):
    """Return by how many pixels the page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
