"""Pages as they are printed: a PDF without backgrounds, which browsers leave out by default, as pixels."""

from __future__ import annotations

import shutil
import subprocess

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .test_board import find_row, wait_for_stream
from .test_item_page import find_field


@pytest.fixture
def print_page():
    """Return a function that prints a page, and returns the number of its pixels that are not white."""
    if shutil.which("pdftoppm") is None:
        pytest.skip("needs pdftoppm: install Debian's poppler-utils")

    def count_ink(page):
        command = ["pdftoppm", "-r", "72", "-f", "1", "-l", "1", "-gray"]
        picture = subprocess.run(command, input=page.pdf(), capture_output=True, check=True, timeout=60).stdout
        kind, width, height, _, pixels = picture.split(maxsplit=4)
        assert kind == b"P5"
        assert len(pixels) >= int(width) * int(height) - 1  # the first pixels may look like the white space before them
        return sum(pixel < 200 for pixel in pixels)

    return count_ink


def test_printed_board_has_bars(server, visit, print_page):
    server.put("a", title="Import", value=0.1)
    page = wait_for_stream(visit())
    expect(find_row(page, "a").locator(".percent")).to_have_text("10 %")
    empty = print_page(page)
    server.patch("a", value=0.9)
    expect(find_row(page, "a").locator(".percent")).to_have_text("90 %")
    assert empty > 200
    assert print_page(page) > empty + 150


def test_printed_item_page_has_its_bar(server, visit, print_page):
    server.put("a", title="Import", value=0.1)
    page = visit("items/a")
    expect(find_field(page, "percent")).to_have_text("10 %")
    empty = print_page(page)
    server.patch("a", value=0.9)
    expect(find_field(page, "percent")).to_have_text("90 %")
    assert empty > 200
    assert print_page(page) > empty + 500


def test_printed_history_has_its_runs(server, visit, print_page):
    page = visit("history?q=nothing-has-this-text")
    expect(page.locator("main")).to_contain_text("No run")
    empty = print_page(page)
    for n in range(9):
        server.put(f"a{n}", title="A run that is printed", status="succeeded")
        server.delete(f"a{n}")
    page = visit("history")
    expect(page.locator("tbody tr").nth(8)).to_be_visible()
    assert print_page(page) > empty + 1000


def test_printed_timeline_has_its_runs(server, visit, print_page):
    for n in range(9):
        server.put(f"a{n}", title="A run that is printed", status="failed")
    page = visit("today")
    expect(page.locator("#timeline")).to_contain_text("A run that is printed")
    with_runs = print_page(page)
    page.get_by_role("button", name="Earlier").click()
    expect(page.locator("#empty")).to_be_visible()
    assert with_runs > print_page(page) + 300
