"""Sign-in in a browser: links from other sites, and the page that a sign-in returns to."""

import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import DEFAULT_OPTIONS, PAGE_TIMEOUT
from tests.support.browser_site import BrowserServer

OTHER_SITE = "http://other-site.example"
ITEM_ID = "night/ly job?100%"
ITEM_PATH = "items/night%2Fly%20job%3F100%25"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server with a password, under a base path."""
    served = BrowserServer(
        tmp_path_factory.mktemp("sign-in"), admin_username="root", admin_password="right", base_path="/base"
    )
    served.put(ITEM_ID, run_id="r", title="Nightly job")
    yield served
    served.close()


@pytest.fixture(scope="module")
def context(chromium, site):
    """A profile in which another site has a link to the item, and forms that write to the server."""
    context = chromium.new_context(**DEFAULT_OPTIONS)
    context.set_default_timeout(PAGE_TIMEOUT)
    url = site.background.url
    body = (
        f"<a href='{url}/{ITEM_PATH}'>the item</a>"
        f"<form method=post action='{url}/logout'><button>sign out</button></form>"
        f"<form method=post action='{url}/api/v1/items:batch' enctype='text/plain'><button>write</button></form>"
    )
    context.route(f"{OTHER_SITE}/**", lambda route: route.fulfill(body=body, content_type="text/html"))
    yield context
    context.close()


@pytest.fixture
def page(context):
    """A tab that is not signed in."""
    page = context.new_page()
    yield page
    page.close()
    context.clear_cookies()


def open_item(page, site):
    page.goto(f"{site.background.url}/{ITEM_PATH}")
    expect(page).to_have_url(f"{site.background.url}/login?next=items/night%252Fly%2520job%253F100%2525")


def expect_item(page, site):
    expect(page).to_have_url(f"{site.background.url}/{ITEM_PATH}")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def sign_in(page, password="right"):
    page.get_by_label("User name").fill("root")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def test_link_of_another_site_opens_the_page_if_signed_in(page, site):
    page.goto(site.background.create_sign_in_url())
    page.goto(f"{OTHER_SITE}/mail")
    page.get_by_role("link", name="the item").click()
    expect_item(page, site)


def test_form_of_another_site_changes_nothing(page, site):
    page.goto(site.background.create_sign_in_url())
    for name in ("sign out", "write"):
        page.goto(f"{OTHER_SITE}/form")
        with page.expect_response(lambda reply: reply.request.method == "POST") as response:
            page.get_by_role("button", name=name).click()
        assert response.value.status in {401, 403}
    page.goto(f"{site.background.url}/docs")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_password_returns_to_the_requested_page(page, site):
    open_item(page, site)
    sign_in(page, "wrong")
    expect(page.get_by_role("alert")).to_have_text("The name, password or key is wrong.")
    expect(page.get_by_label("User name")).to_have_value("root")
    expect(page.get_by_label("Password")).to_be_focused()
    sign_in(page)
    expect_item(page, site)


def test_key_returns_to_the_requested_page(page, site):
    open_item(page, site)
    page.get_by_label("Key").fill(site.key)
    page.get_by_role("button", name="Sign in with a key").click()
    expect_item(page, site)


def test_link_returns_to_the_requested_page(page, site):
    open_item(page, site)
    page.goto(site.background.create_sign_in_url())
    expect_item(page, site)
    page.goto(f"{site.background.url}/login?next=history")
    expect(page).to_have_url(f"{site.background.url}/history")


def test_hostile_next_stays_on_the_server(page, site):
    page.goto(site.background.create_sign_in_url())
    for text in (
        "//evil.example",
        "/%5Cevil.example",
        "%5C%5Cevil.example",
        "http:evil.example",
        "..",
        "%2509//evil.example",
    ):
        page.goto(f"{site.background.url}/login?next={text}")
        expect(page).to_have_url(f"{site.background.url}/")
