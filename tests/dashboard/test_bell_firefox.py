"""Messages of a real server in a real Firefox, through a local push service that a preference names."""

from __future__ import annotations

import pytest

from progressbar_tracker.server.access.key_admin import KeyAdmin
from progressbar_tracker.server.notifications import dispatcher, web_push
from tests.support.autopush import AutopushService
from tests.support.browser_site import BrowserServer
from tests.support.engines import MissingProgramError
from tests.support.engines.firefox import FirefoxEngine
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

LIST_NOTIFICATIONS = """navigator.serviceWorker.ready.then((registration) => registration.getNotifications())
  .then((shown) => shown.map(({ title, body, data }) => [title, body.split("\\n")[0], data.url]).sort())"""


class PushSite(BrowserServer):
    """A server, its push service, and a Firefox of a reader who is signed in."""

    def __init__(self, folder):
        self.service = AutopushService()
        super().__init__(folder, push_origins=self.service.origin)
        self.folder, self.firefox = folder, None

    def start_firefox(self):
        self.firefox = FirefoxEngine(self.service.preferences)

    def close(self):
        if self.firefox is not None:
            self.firefox.close()
        super().close()
        self.service.close()

    def open_board(self):
        self.firefox.open(self.background.create_sign_in_url())
        self.firefox.wait_for("document.documentElement.hasAttribute('data-live')")

    def follow(self, item_id):
        """Put an item, and press its bell."""
        self.put(item_id, title=f"Title of {item_id}", run_id="r")
        bell = f"[aria-label='Notify me about Title of {item_id}']"
        self.firefox.wait_for(f'document.querySelector("{bell}") !== null')
        self.firefox.evaluate(f'document.querySelector("{bell}").click()')
        self.firefox.wait_for("document.querySelector('dialog.bell-dialog button[type=submit]') !== null")
        self.firefox.click("dialog.bell-dialog button[type=submit]")
        self.firefox.wait_for(f'document.querySelector("{bell}").getAttribute("aria-pressed") === "true"')

    def list_notifications(self):
        return self.firefox.evaluate(LIST_NOTIFICATIONS)

    def fail(self, item_id):
        """Let an item fail, and wait until Firefox shows this."""
        self.patch(item_id, status="failed", error="ValueError: no")
        url = f"{self.background.url}/items/{item_id}?run=r"
        expected = [f"Title of {item_id} has failed", "ValueError: no", url]
        wait_until(lambda: expected in self.list_notifications())

    def get_subscriptions(self):
        return self.background.app.services.credentials.subscriptions.all()


@pytest.fixture(scope="module")
def module_site(tmp_path_factory):
    """The server and the browser of all tests of this file: the browser starts slowly."""
    site = PushSite(tmp_path_factory.mktemp("push"))
    try:
        site.start_firefox()
        yield site
    except MissingProgramError as error:
        pytest.skip(str(error))
    finally:
        site.close()


@pytest.fixture
def site(module_site, monkeypatch):
    """A board without items, of a new session that follows nothing."""
    monkeypatch.setattr(dispatcher, "POLL_INTERVAL", 0.05)
    module_site.firefox.open("about:blank")
    module_site.clear()
    credentials = module_site.background.app.services.credentials
    for record in module_site.get_subscriptions():  # of the sessions of former tests
        credentials.end_subscription(record.subscription_id)
    module_site.open_board()
    module_site.service.sent.clear()
    module_site.service.acks.clear()
    return module_site


def test_firefox_shows_the_notification_of_a_failed_item(site):
    site.follow("import")
    site.fail("import")
    wait_until(lambda: site.service.acks == ["delivered"])
    assert site.service.sent == [201]


def test_firefox_continues_after_its_push_service_has_lost_it(site):
    site.follow("export")
    (before,) = site.get_subscriptions()
    site.service.forget_browsers()
    wait_until(lambda: site.get_subscriptions()[0].endpoint != before.endpoint)
    site.fail("export")
    assert site.get_subscriptions()[0].subscription_id == before.subscription_id
    assert site.service.sent == [201]


def test_firefox_renews_its_subscription_after_a_key_rotation(site):
    site.follow("backup")
    (before,) = site.get_subscriptions()
    with KeyAdmin(site.folder / "progress.db") as admin:
        admin.rotate_push_key(web_push.rotate_vapid_keys)
    wait_until(lambda: len(site.background.app.services.credentials.vapid_keys) == 2)
    site.fail("backup")
    wait_until(lambda: site.get_subscriptions()[0].endpoint != before.endpoint)
    (after,) = site.get_subscriptions()
    assert after.server_key == web_push.derive_public_key(site.background.app.services.credentials.vapid_key)
    site.put("backup", title="Title of backup", run_id="next")
    site.patch("backup", run_id="next", status="succeeded")
    wait_until(lambda: any(title == "Title of backup has succeeded" for title, *_ in site.list_notifications()))
    assert site.service.sent == [201, 201]
