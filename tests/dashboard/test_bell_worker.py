"""Messages in the service worker: one notification for each item, and the page that a click opens."""

from __future__ import annotations

import json

import pytest

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
