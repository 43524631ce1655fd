"""The bells: a browser follows items, runs and groups, and its service worker shows the messages."""

from __future__ import annotations

import json

import pytest

from tests.support.access import PUSH_FIELDS
from tests.support.browser_site import BrowserServer
from tests.support.waiting import wait_until

from .conftest import find_violations, sign_in
from .test_install import App

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

PUSH_STUB = """(() => {
  const fields = %s;
  const state = { permission: "%s", answer: "granted", endpoint: fields.endpoint, current: null, key: null };
  window.pushState = state;
  const makeSubscription = () => ({
    endpoint: state.endpoint,
    options: { get applicationServerKey() { return state.key; } },
    toJSON: () => ({ endpoint: state.endpoint, keys: { p256dh: fields.p256dh, auth: fields.auth } }),
    unsubscribe: async () => { state.current = null; return true; },
  });
  state.makeSubscription = makeSubscription;
  const pushManager = {
    getSubscription: async () => state.current,
    subscribe: async (options) => {
      if (state.isRefusing) throw new DOMException("no connection", "AbortError");
      const text = atob(options.applicationServerKey.replace(/-/g, "+").replace(/_/g, "/"));
      state.key = Uint8Array.from(text, (char) => char.charCodeAt(0)).buffer;
      return (state.current = makeSubscription());
    },
  };
  Object.defineProperty(navigator.serviceWorker, "ready", { value: Promise.resolve({ pushManager }) });
  Object.defineProperty(Notification, "permission", { get: () => state.permission });
  Notification.requestPermission = async () => (state.permission = state.answer);
})()"""
"""A push service of the page, because the real one of the browser is on the internet."""


@pytest.fixture(scope="module")
def module_app(chromium, tmp_path_factory):
    """A profile with a service worker and the permission to notify, and its server."""
    site = BrowserServer(tmp_path_factory.mktemp("bell"))
    found = App(chromium, site)
    found.context.grant_permissions(["notifications"])
    found.reset()
    yield found
    found.context.close()
    site.close()


@pytest.fixture
def open_page(chromium, module_app):
    """Return a function that opens a page of a new session, with a push service of its own."""
    contexts = []

    def open_page(path="", permission="default", script=""):
        context = sign_in(chromium, module_app.site, [])
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(PUSH_STUB % (json.dumps(PUSH_FIELDS), permission) + ";" + script)
        page.goto(f"{module_app.site.background.url}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def item(module_app):
    """An item in a group."""
    module_app.site.put("import", title="Import", run_id="r", group="nightly", total=9)
    return "import"


def read_subscriptions(page):
    url = page.url.split("/items/")[0].split("?")[0].rstrip("/")
    return page.context.request.get(f"{url}/api/v1/push/subscriptions").json()["subscriptions"]


def list_subscriptions(page):
    return [(one["item"], one["run_id"], one["group"], one["events"]) for one in read_subscriptions(page)]


def find_bell(page, name):
    return page.get_by_role("button", name=f"Notify me about {name}")


def test_bell_of_a_row_follows_the_item(open_page, item):
    page = open_page()
    bell = find_bell(page, "Import")
    expect(bell).to_have_attribute("aria-pressed", "false")
    bell.click()
    dialog = page.get_by_role("dialog", name="Notify this browser about Import")
    assert find_violations(page) == []
    dialog.get_by_label("It fails").check()
    dialog.get_by_role("button", name="Notify me").click()
    expect(bell).to_have_attribute("aria-pressed", "true")
    assert list_subscriptions(page) == [(item, None, None, ["end", "failure", "stuck"])]
    bell.click()
    expect(dialog.get_by_label("It fails")).to_be_checked()
    dialog.get_by_role("button", name="Stop notifying").click()
    expect(bell).to_have_attribute("aria-pressed", "false")
    assert list_subscriptions(page) == []


def test_bell_of_a_group_follows_the_group(open_page, item):
    page = open_page()
    find_bell(page, "the group nightly").click()
    page.get_by_role("button", name="Notify me", exact=True).click()
    expect(find_bell(page, "the group nightly")).to_have_attribute("aria-pressed", "true")
    assert list_subscriptions(page) == [(None, None, "nightly", ["end", "stuck"])]


def test_bell_of_an_item_page_follows_one_run(open_page, item):
    page = open_page(f"items/{item}")
    find_bell(page, "Import").click()
    page.get_by_label("Only this run").check()
    page.get_by_role("button", name="Notify me", exact=True).click()
    expect(find_bell(page, "Import")).to_have_attribute("aria-pressed", "true")
    assert list_subscriptions(page) == [(item, "r", None, ["end", "stuck"])]


@pytest.mark.parametrize(
    ("permission", "script", "text"),
    [
        ("default", "Object.defineProperty(window, 'isSecureContext', { value: false })", "over HTTPS only"),
        ("default", "delete window.PushManager", "add this page to the home screen"),
        ("denied", "", "blocks the notifications of this page"),
    ],
    ids=["plain HTTP", "no push", "denied"],
)
def test_dialog_explains_what_prevents_notifications(open_page, item, permission, script, text):
    page = open_page("", permission, script)
    find_bell(page, "Import").click()
    expect(page.get_by_role("dialog")).to_contain_text(text)
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_refused_permission_subscribes_nothing(open_page, item):
    page = open_page()
    page.evaluate("pushState.answer = 'denied'")
    find_bell(page, "Import").click()
    page.get_by_role("button", name="Notify me", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="blocks the notifications")).to_be_visible()
    assert list_subscriptions(page) == []


def follow_item(page):
    find_bell(page, "Import").click()
    page.get_by_role("button", name="Notify me", exact=True).click()
    expect(find_bell(page, "Import")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("permission", ["denied", "default"], ids=["revoked", "expired"])
def test_ended_permission_ends_the_subscriptions(open_page, item, permission):
    page = open_page("", "granted")
    follow_item(page)
    page.add_init_script(f"pushState.permission = '{permission}'")
    page.reload()
    wait_until(lambda: list_subscriptions(page) == [])
    expect(find_bell(page, "Import")).to_have_attribute("aria-pressed", "false")


def list_browsers(page):
    """Return the digests of the endpoints to which the subscriptions of a page's session send."""
    return {one["browser"] for one in read_subscriptions(page)}


def test_expired_subscription_is_renewed(open_page, item):
    page = open_page("", "granted")
    follow_item(page)
    before = read_subscriptions(page)
    page.add_init_script("pushState.endpoint += '/renewed'")
    page.reload()
    wait_until(lambda: list_browsers(page) != {before[0]["browser"]})
    expect(find_bell(page, "Import")).to_have_attribute("aria-pressed", "true")
    (after,) = read_subscriptions(page)
    assert after == {**before[0], "browser": after["browser"]}


CHANGE_KEY_SCRIPT = "() => { pushState.key = new Uint8Array(65).buffer; pushState.endpoint += '/new-key'; }"


def test_changed_key_of_the_server_renews_the_subscription(open_page, item):
    page = open_page("", "granted")
    follow_item(page)
    before = list_browsers(page)
    page.evaluate(CHANGE_KEY_SCRIPT)
    find_bell(page, "the group nightly").click()
    page.get_by_role("button", name="Notify me", exact=True).click()
    expect(find_bell(page, "the group nightly")).to_have_attribute("aria-pressed", "true")
    assert len(read_subscriptions(page)) == 2
    assert len(list_browsers(page) - before) == len(list_browsers(page)) == 1


def test_bell_shows_what_the_worker_has_renewed(open_page, item):
    page = open_page("", "granted")
    follow_item(page)
    (before,) = read_subscriptions(page)
    url = f"{page.url}api/v1/push/subscriptions/{before['subscription_id']}"
    fields = {**PUSH_FIELDS, "endpoint": f"{PUSH_FIELDS['endpoint']}/of-the-worker"}
    assert page.context.request.patch(url, data=fields, headers={"Origin": page.url.rstrip("/")}).ok
    page.add_init_script("pushState.endpoint += '/of-the-worker'; pushState.current = pushState.makeSubscription()")
    page.reload()
    expect(find_bell(page, "Import")).to_have_attribute("aria-pressed", "true")


def test_page_without_the_new_endpoint_keeps_its_subscriptions(open_page, item):
    """A push service that cannot be reached loses nothing: the next visit renews."""
    page = open_page("", "granted")
    follow_item(page)
    before = read_subscriptions(page)
    page.add_init_script("pushState.isRefusing = true")
    with page.expect_console_message(lambda message: "Without notifications" in message.text):
        page.reload()
    assert read_subscriptions(page) == before
