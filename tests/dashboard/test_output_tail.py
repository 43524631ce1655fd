"""The output on the page of an item: live, as text, and only for readers with the permission."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .conftest import APPEARANCE_RULES, find_violations

HOSTILE_LINE = "<img src=x onerror=alert(1)> <script>alert(2)</script>"


@pytest.fixture
def put_job(server, job):
    """Return a function that creates the item of the test, or changes it."""

    def put(**fields):
        server.put(job, **{"title": "Import", "run_id": "r", "total": 9, **fields})

    return put


def find_tail(page):
    return page.locator("pre.tail")


def test_output_is_shown_as_text_and_grows(server, visit, put_job, job):
    put_job(tail=f"first\n{HOSTILE_LINE}\npassword=hunter2")
    page = visit(f"items/{job}")
    expect(find_tail(page)).to_have_text(f"first\n{HOSTILE_LINE}\npassword=***", timeout=60_000)
    expect(page.locator(".item-tail")).to_contain_text("Secrets are masked by their form, which can miss some.")
    find_tail(page).scroll_into_view_if_needed()
    put_job(tail="second", completed=1)
    expect(find_tail(page)).to_have_text("second", timeout=60_000)
    assert find_violations(page, *APPEARANCE_RULES) == []


def test_last_lines_of_a_run_are_shown_after_its_end(visit, put_job, job):
    put_job(tail="first")
    page = visit(f"items/{job}")
    expect(find_tail(page)).to_have_text("first", timeout=60_000)
    put_job(tail="last", status="failed")
    expect(find_tail(page)).to_have_text("last", timeout=60_000)


def test_page_of_a_run_shows_its_own_output(visit, put_job, job):
    put_job(tail="former")
    put_job(tail="current", run_id="s")
    page = visit(f"items/{job}?run=r")
    expect(find_tail(page)).to_have_text("former", timeout=60_000)


def test_long_lines_scroll_within_the_section(visit, put_job, job):
    put_job(tail="x" * 1900)
    page = visit(f"items/{job}")
    expect(find_tail(page)).to_be_visible(timeout=60_000)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_run_without_output_has_no_section(visit, put_job, job):
    put_job()
    page = visit(f"items/{job}")
    expect(page.locator("#item[aria-busy=false] .bar[data-state]")).to_be_visible(timeout=60_000)
    expect(page.locator(".item-tail")).to_be_hidden()
