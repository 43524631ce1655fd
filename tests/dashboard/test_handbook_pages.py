"""The handbook in a browser: its search, its keyboard, its copy buttons and its links from other pages."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from progressbar_tracker.server.dashboard.handbook import load_handbook

from .conftest import APPEARANCE_RULES, find_violations, measure_overflow

SEARCH_INDEX = [
    {
        "path": "how-to/nginx",
        "title": "Serve with nginx",
        "sections": [["Serve with nginx", "", "After this page."], ["Certificates", "certificates", "TLS for install"]],
    },
    {"path": "reference/errors", "title": "Errors", "sections": [["Errors", "", "stalled items, c++ [x]"]]},
]


@pytest.fixture(scope="module")
def handbook_index():
    """The index of the pages of this version."""
    return json.loads(load_handbook().search_index.body)


@pytest.fixture
def page(anonymous_page, package_server):
    """A page of the handbook, without a sign-in."""
    anonymous_page.set_viewport_size({"width": 1200, "height": 800})
    anonymous_page.emulate_media(color_scheme="light")
    anonymous_page.goto(f"{package_server.background.url}/handbook/reference/errors")
    return anonymous_page


def find_field(page):
    return page.get_by_role("searchbox", name="Search the handbook")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("stall", ["reference/errors#", "how-to/nginx#certificates"]),
        ("NGINX cert", ["how-to/nginx#certificates"]),
        ("c++ [", ["reference/errors#"]),
        ("are the certificates there?", ["how-to/nginx#certificates"]),
        ("install missing", ["how-to/nginx#certificates"]),
        ("installer certification", ["how-to/nginx#certificates"]),
        ("engine nginx", ["how-to/nginx#", "how-to/nginx#certificates"]),
        ("nothing", []),
        ("", []),
    ],
)
def test_search_lists_sections_with_most_words_first(call, query, found):
    results = call("handbook_search.js", "searchPages", SEARCH_INDEX, query)
    assert [f"{result['path']}#{result['anchor']}" for result in results] == found


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("keep item on the board after success", "how-to/loops"),
        ("multiprocessing", "how-to/many-processes"),
        ("vscode", "how-to/notebooks"),
        ("port", "tutorial/first-bar"),
        ("Why is my outer loop stuck?", "explanation/eta"),
        ("print torn line", "how-to/tqdm-script"),
        ("print torn line", "how-to/terminal"),
    ],
)
def test_search_by_own_words_finds_the_page(call, handbook_index, query, path):
    results = call("handbook_search.js", "searchPages", handbook_index, query)
    assert path in list(dict.fromkeys(result["path"] for result in results))[:5]


def test_search_by_keyboard_opens_the_section(page):
    page.locator("body").press("/")
    expect(find_field(page)).to_be_focused()
    page.keyboard.type("last-admin-key")
    results = page.get_by_role("region", name="Results of the search")
    expect(results.get_by_role("link").first).to_have_text("last-admin-key")
    expect(page.get_by_role("article")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page).to_have_url(page.url.partition("#")[0] + "#last-admin-key")
    expect(page.get_by_role("heading", name="last-admin-key")).to_be_in_viewport()


def test_escape_ends_the_search(page):
    find_field(page).fill("unauthorized")
    expect(page.get_by_role("status")).to_contain_text("result")
    assert find_violations(page) == []
    page.keyboard.press("Escape")
    expect(find_field(page)).to_have_value("")
    expect(page.get_by_role("article")).to_be_visible()


def test_link_with_a_query_shows_its_results(page, package_server):
    page.goto(f"{package_server.background.url}/handbook?q=unauthorized")
    expect(page.get_by_role("region", name="Results of the search")).to_contain_text("unauthorized")


def test_copy_button_copies_the_code(page):
    figure = page.locator("figure.code", has_text="problems/item-not-found")
    figure.get_by_role("button", name="Copy").click()
    expect(figure.get_by_role("button")).to_have_text("Copied")


def test_current_page_is_marked_and_has_neighbours(page):
    navigation = page.get_by_role("navigation", name="Handbook")
    expect(navigation.get_by_role("link", name="Errors")).to_have_attribute("aria-current", "page")
    page.locator("a[rel=next]").click()
    expect(page.locator("a[rel=prev]")).to_have_text("Errors")


def test_longest_page_fits_any_width(page, package_server):
    page.goto(f"{package_server.background.url}/handbook/reference/settings")
    for width in (1440, 900, 390, 320):
        page.set_viewport_size({"width": width, "height": 640})
        assert measure_overflow(page) <= 0, width
    page.emulate_media(color_scheme="dark")
    assert find_violations(page, *APPEARANCE_RULES) == []


@pytest.mark.parametrize("path", ["login", "problems/forbidden", "docs", "nothing"])
def test_other_pages_lead_to_the_handbook(anonymous_page, package_server, path):
    anonymous_page.goto(f"{package_server.background.url}/{path}")
    anonymous_page.locator("a[href*=handbook]").first.click()
    expect(anonymous_page).to_have_title(re.compile("Handbook|Errors"))
