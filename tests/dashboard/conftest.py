"""A real Chromium on a real server: one of each for a worker, a context of its own for each test."""

from __future__ import annotations

import os
import shutil

import pytest

from progressbar_tracker.server import live, sweep
from progressbar_tracker.server.routes import pages

from .site import Site

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
        patch.setattr(live, "TICK", 0.05)
        patch.setattr(live, "GATHER", 0.005)
        patch.setattr(sweep, "TICK", 0.1)
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


@pytest.fixture
def visit(profile, chromium, site):
    """Return a function that opens the board: in a tab, or with options in a profile of its own.

    No page may have complained at the end: of an error, of what the content security policy refuses, by a dialog.
    """
    context, complaints = profile
    complaints.clear()
    opened = []

    def open_board(query="", **options):
        if options:
            own = signed_in(chromium, site, complaints, **options)
            opened.append(own)
        page = (own if options else context).new_page()
        if not options:
            opened.append(page)
        page.goto(f"{site.server.url}/{query}")
        return page

    yield open_board
    for one in opened:
        one.close()
    assert complaints == []


@pytest.fixture
def own_profile(chromium, own_site):
    """A signed-in profile of the test's own, on its own server; what its pages complain of is not looked at."""
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
