"""Messages in the service worker: notifications, the page that a click opens, and the renewal of the subscription."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.support.access import PUSH_FIELDS
from tests.support.browser_site import BrowserServer
from tests.support.waiting import wait_until

from .test_install import App

SHOWN_STUB = """() => {
  const shown = self.shown = new Map();
  self.registration.getNotifications = async ({ tag }) => [...shown.values()].filter((one) => one.tag === tag);
  self.registration.showNotification = async (title, options) => { shown.set(options.tag, { title, ...options }); };
  self.clients.openWindow = async (url) => { self.opened = url; };
}"""
"""Notifications of the test: Chromium without a screen shows none."""

LIST_SCRIPT = "() => [...self.shown.values()].map(({ title, body, data }) => [title, body, data.url]).sort()"

CLICK_SCRIPT = """(tag) => {
  const event = new ExtendableEvent("notificationclick");
  event.notification = { close: () => self.shown.delete(tag), data: self.shown.get(tag).data };
  self.dispatchEvent(event);
}"""


@pytest.fixture
def app(chromium, tmp_path):
    """A profile with a service worker, and its server."""
    site = BrowserServer(tmp_path)
    found = App(chromium, site)
    found.reset()
    yield found
    found.context.close()
    site.close()


def deliver(app, **message):
    """Deliver a message to the service worker, as the push service of the browser does."""
    session = app.context.new_cdp_session(app.page)
    registrations = []
    session.on("ServiceWorker.workerRegistrationUpdated", lambda event: registrations.extend(event["registrations"]))
    session.send("ServiceWorker.enable")
    wait_until(lambda: app.page.evaluate("1") and registrations)
    target = {"origin": app.site.background.url, "registrationId": registrations[-1]["registrationId"]}
    session.send("ServiceWorker.deliverPushMessage", {**target, "data": json.dumps(message)})
    session.detach()


def test_item_has_one_notification_that_opens_its_run(app):
    url, (worker,) = app.site.background.url, app.context.service_workers
    worker.evaluate(SHOWN_STUB)
    message = {"at": 2.0, "tag": "item-a", "title": "a is stuck", "text": "<b>", "url": "items/a?run=r"}
    page = f"{url}/items/a?run=r"
    deliver(app, **message)
    wait_until(lambda: worker.evaluate(LIST_SCRIPT) == [["a is stuck", "<b>", page]])
    deliver(app, **{**message, "at": 3.0, "title": "a has failed"})
    wait_until(lambda: worker.evaluate(LIST_SCRIPT) == [["a has failed", "<b>", page]])
    deliver(app, **{**message, "at": 1.0, "title": "an older one"})
    deliver(app, **{**message, "tag": "item-b", "title": "b has failed"})
    wait_until(lambda: worker.evaluate(LIST_SCRIPT) == [["a has failed", "<b>", page], ["b has failed", "<b>", page]])
    worker.evaluate(CLICK_SCRIPT, "item-a")
    wait_until(lambda: worker.evaluate("self.opened") == page)


PUSH_STUB = """(fields) => {
  self.push = { fields, key: null, current: false, unsubscribed: 0 };
  const subscription = {
    options: { get applicationServerKey() { return self.push.key; } },
    toJSON: () => ({ endpoint: self.push.fields.endpoint, keys: self.push.fields }),
    unsubscribe: async () => { self.push.unsubscribed += 1; self.push.current = false; },
  };
  self.registration.pushManager.getSubscription = async () => (self.push.current ? subscription : null);
  self.registration.pushManager.subscribe = async ({ applicationServerKey: text }) => {
    const bytes = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    self.push.key = Uint8Array.from(bytes, (char) => char.charCodeAt(0)).buffer;
    self.push.current = true;
    return subscription;
  };
}"""
"""A push service of the test: the real one of the browser is on the internet."""


RENEW_SCRIPT = "() => renewSubscription().then(() => null, (error) => error.message)"


@pytest.fixture
def following(app):
    """The worker of a browser that follows an item and a group, with a push service of the test."""
    (worker,) = app.context.service_workers
    worker.evaluate(SHOWN_STUB)
    worker.evaluate(PUSH_STUB, {**PUSH_FIELDS, "endpoint": "https://push.example.org/renewed"})
    for subject in ({"item": "a", "run_id": "r"}, {"group": "g"}):
        assert request_push(app, "POST", "subscriptions", {**PUSH_FIELDS, **subject, "events": ["stuck"]})
    return worker


def request_push(app, method, path, body=None):
    """Return the JSON of a response to the page."""
    return app.page.evaluate(
        """async ([method, path, body]) => {
          const headers = { "Content-Type": "application/json" };
          const options = { method, ...(body && { headers, body: JSON.stringify(body) }) };
          const response = await fetch(`api/v1/push/${path}`, options);
          return response.ok ? response.json() : null;
        }""",
        [method, path, body],
    )


def list_subscriptions(app):
    return request_push(app, "GET", "subscriptions")["subscriptions"]


def make_moved(subscriptions):
    digest = hashlib.sha256(b"https://push.example.org/renewed").hexdigest()[:16]
    return [{**one, "browser": digest} for one in subscriptions]


def test_replaced_subscription_continues_with_its_items(app, following):
    before = list_subscriptions(app)
    following.evaluate("self.dispatchEvent(new ExtendableEvent('pushsubscriptionchange'))")
    wait_until(lambda: list_subscriptions(app) == make_moved(before))
    assert len(before) == 2


def test_message_of_the_former_key_renews_the_subscription(app, following):
    before = list_subscriptions(app)
    following.evaluate("self.push.current = true; self.push.key = new Uint8Array(65).buffer")
    deliver(app, at=2.0, tag="item-a", title="a is stuck", text="", url="items/a?run=r", renew=True)
    wait_until(lambda: list_subscriptions(app) == make_moved(before))
    assert following.evaluate("self.push.unsubscribed") == 1
    wait_until(lambda: following.evaluate("self.shown.size") == 1)


def test_usual_message_renews_nothing(app, following):
    before = list_subscriptions(app)
    deliver(app, at=2.0, tag="item-a", title="a is stuck", text="", url="items/a?run=r")
    wait_until(lambda: following.evaluate("self.shown.size") == 1)
    assert following.evaluate("self.push.key") is None
    assert list_subscriptions(app) == before


def test_signed_out_browser_does_not_subscribe_again(app, following):
    app.context.clear_cookies()
    assert following.evaluate(RENEW_SCRIPT) == "subscriptions: 401"
    assert following.evaluate("self.push.current") is False


def test_browser_that_follows_nothing_does_not_subscribe_again(app, following):
    for record in list_subscriptions(app):
        assert request_push(app, "DELETE", f"subscriptions/{record['subscription_id']}")
    assert following.evaluate(RENEW_SCRIPT) is None
    assert following.evaluate("self.push.current") is False


def test_worker_without_permission_keeps_the_subscriptions(app, following):
    """The next page ends them, because it can say so."""
    before = list_subscriptions(app)
    following.evaluate("() => { self.registration.pushManager.subscribe = async () => { throw Error('revoked'); }; }")
    assert following.evaluate(RENEW_SCRIPT) == "revoked"
    assert list_subscriptions(app) == before
