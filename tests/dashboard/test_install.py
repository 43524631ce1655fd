"""The mark, the icons, and the page as an installed app."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from progressbar_tracker.server.dashboard import static_files
from tests.support.browser_site import BrowserServer
from tests.support.waiting import wait_until

from .conftest import sign_in

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

DASHBOARD_FOLDER = Path(static_files.__file__).parent
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def measure_png(body):
    assert body.startswith(PNG_SIGNATURE)
    return struct.unpack(">II", body[16:24])


@pytest.mark.parametrize(
    ("name", "size"),
    [("icon-192.png", 192), ("icon-512.png", 512), ("icon-maskable-512.png", 512), ("apple-touch-icon.png", 180)],
)
def test_icon_has_the_size_of_its_name(name, size):
    file = static_files.STATIC_FILES[name]
    assert measure_png(file.body) == (size, size)
    assert file.content_type == b"image/png"


def test_favicon_has_the_sizes_of_tabs():
    body = static_files.STATIC_FILES["favicon.ico"].body
    offsets = [struct.unpack_from("<I", body, 6 + 16 * number + 12)[0] for number in range(body[4])]
    assert [measure_png(body[offset:])[0] for offset in offsets] == [16, 32, 48]


def test_icon_and_header_show_the_same_mark():
    mark = (DASHBOARD_FOLDER / "templates" / "mark.jinja").read_text("utf-8").strip()
    assert mark in static_files.STATIC_FILES["icon.svg"].body.decode()


# The service worker


class App:
    """A signed-in profile whose service worker controls its page."""

    def __init__(self, chromium, site):
        self.site, self.errors = site, []
        self.context = sign_in(chromium, site, self.errors, service_workers="allow")
        self.page = self.context.new_page()

    def reset(self):
        """Sign in and open a page under the worker of this version, whatever a former test did.

        The page has no stream. Chromium restarts the former worker for a request of the shared worker, and waits 30
        seconds until that has nothing to do. It never handles a request for a page if the driver watches it.
        """
        assert self.context.request.get(self.site.background.create_sign_in_url()).ok
        self.go("history")
        wait_until(lambda: self.read_worker("(await navigator.serviceWorker.getRegistration())?.active"))
        # A worker that was registered before, and that a test has withdrawn, claims no page: it controls the next one.
        if not self.read_worker("navigator.serviceWorker.controller"):
            self.go("history")
            wait_until(lambda: self.read_worker("navigator.serviceWorker.controller"))

    def read_worker(self, expression):
        """Return whether a worker is that of this version, and is activated."""
        return self.page.evaluate(
            f"""async (digest) => {{
              const worker = {expression};
              return worker?.scriptURL.endsWith(digest) === true && worker.state === "activated";
            }}""",
            static_files.STATIC_DIGEST,
        )

    def go(self, path):
        self.page.goto(f"{self.site.background.url}/{path}")

    def evaluate_in_all_caches(self, expression):
        """Return the results of an expression for each response in a cache, by its URL."""
        return self.page.evaluate(
            f"""async () => {{
              const results = {{}};
              for (const name of await caches.keys()) {{
                const cache = await caches.open(name);
                for (const request of await cache.keys()) {{
                  const response = await cache.match(request);
                  results[request.url] = await ({expression})(response, name);
                }}
              }}
              return results;
            }}"""
        )


@pytest.fixture(scope="module")
def module_app(chromium, tmp_path_factory):
    """A profile and its server, which the tests of this file do not stop; both are expensive."""
    site = BrowserServer(tmp_path_factory.mktemp("app"))
    found = App(chromium, site)
    yield found
    found.context.close()
    site.close()


@pytest.fixture
def app(module_app):
    """The profile on a page."""
    module_app.reset()
    module_app.errors.clear()
    return module_app


@pytest.mark.parametrize("base_path", ["", "/p"])
def test_page_without_a_server_waits_for_it(tmp_path, chromium, base_path):
    site = BrowserServer(tmp_path, base_path=base_path)
    try:
        app = App(chromium, site)
        app.reset()
        assert app.errors == []
        site.stop()
        app.page.reload()
        expect(app.page.get_by_role("heading", name="No connection to the server")).to_be_visible()
        expect(app.page.locator(".mark")).to_have_js_property("naturalWidth", 150)
        assert app.page.evaluate("getComputedStyle(document.querySelector('.top')).display") == "flex"
        site.start()
        expect(app.page.get_by_role("heading", name="History")).to_be_visible()
        app.context.close()
    finally:
        site.close()


def test_cache_has_files_of_the_offline_page_and_never_data(app):
    app.site.put("secret-item", title="Secret title", run_id="r")
    for path in ("", "items/secret-item", "history", "keys"):
        app.go(path)
    app.page.evaluate("Promise.all(['api/v1/items', 'api/v1/history'].map((url) => fetch(url)))")
    app.page.locator(".top").get_by_role("button", name="Sign out").click()
    expect(app.page).to_have_title("Sign in - Progress")
    bodies = app.evaluate_in_all_caches("async (response) => response.text()")
    static = f"{app.site.background.url}/static/{static_files.STATIC_DIGEST}/"
    # Files of other pages would be stored while the next worker removes those of this version.
    assert set(bodies) == {static + name for name in ("app.css", "icon.svg", "offline.js")}
    assert [url for url, body in bodies.items() if "secret-item" in body or "Secret title" in body] == []


def test_worker_of_another_version_removes_the_old_files(app):
    app.page.evaluate(
        """async () => {
          const policy = trustedTypes.createPolicy("test", { createScriptURL: (url) => url });
          await navigator.serviceWorker.register(policy.createScriptURL("sw.js?0123456789ab"));
        }"""
    )

    def list_versions():
        return {url.split("/static/")[1].split("/")[0] for url in app.evaluate_in_all_caches("() => 0")}

    wait_until(lambda: list_versions() == {"0123456789ab"})


def test_withdrawn_worker_leaves_with_its_files(app, monkeypatch):
    monkeypatch.delitem(static_files.STATIC_FILES, "service_worker.js")
    app.go(app.site.create_share(group="g"))  # a page that registers no worker, as those of a server without it

    def is_gone():
        count = app.page.evaluate("navigator.serviceWorker.getRegistrations().then((all) => all.length)")
        return count == 0 and app.evaluate_in_all_caches("() => 0") == {}

    wait_until(is_gone)


def test_sign_in_link_works_once_through_the_worker(app):
    app.page.goto(app.site.background.create_sign_in_url())
    expect(app.page.get_by_role("link", name="Board")).to_be_visible()


def test_share_page_is_no_app(app):
    app.go(app.site.create_share(group="g"))
    expect(app.page.locator("link[rel=manifest]")).to_have_count(0)


def test_dashboard_is_installable(app):
    session = app.context.new_cdp_session(app.page)
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert {error["errorId"] for error in errors} <= {"in-incognito"}  # as each profile of a test is
    document = json.loads(manifest["data"])
    for entry in (*document["icons"], *document["shortcuts"]):
        path = entry.get("src") or entry["url"]
        assert app.context.request.get(f"{app.site.background.url}/{path}").ok, path
