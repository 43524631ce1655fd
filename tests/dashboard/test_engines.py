"""The most used flows in three browser engines: Chromium, Firefox and WebKit.

A test runs all flows in one engine, as the start of a browser takes longer than the flows.
"""

from __future__ import annotations

import importlib

import pytest

from tests.support.browser_site import BrowserServer
from tests.support.engines import MissingProgramError

ENGINE_CLASSES = {"chromium": "ChromiumEngine", "firefox": "FirefoxEngine", "webkit": "WebKitEngine"}


@pytest.fixture
def engine(request):
    """A browser of the engine that the parameter names."""
    module = importlib.import_module(f"tests.support.engines.{request.param}")
    arguments = [request.getfixturevalue("windowed_chromium")] if request.param == "chromium" else []
    try:
        engine = getattr(module, ENGINE_CLASSES[request.param])(*arguments)
    except MissingProgramError as error:
        pytest.skip(str(error))
    yield engine
    engine.close()


@pytest.fixture
def site(tmp_path):
    """A server that the flows may stop."""
    site = BrowserServer(tmp_path)
    yield site
    site.close()


def open_board(engine, site):
    """Open an empty board as a user who is signed in."""
    engine.open("about:blank")  # the former page could react to the deletions
    site.clear()
    engine.open(site.background.create_sign_in_url())
    engine.wait_for("document.documentElement.hasAttribute('data-live')")


def check_sign_in_with_a_key_shows_the_board(engine, site):
    engine.open(f"{site.background.url}/login")
    engine.clear_cookies()
    engine.open(f"{site.background.url}/")
    engine.wait_for("location.pathname === '/login'")
    engine.type("input[name=key]", site.key)
    engine.press("Enter")
    engine.wait_for("location.pathname === '/'")
    engine.wait_for("document.documentElement.hasAttribute('data-live')")


def check_board_follows_an_item(engine, site):
    site.put("a", title="Import", total=4, completed=1, group="etl", run_id="r")
    engine.wait_for_text("25 %", "#board .item")
    site.patch("a", completed=3)
    engine.wait_for_text("75 %", "#board .item")
    assert "Import" in engine.evaluate("document.querySelector('#board .item').innerText")
    assert len(engine.take_screenshot()) > 5000


def check_board_search_hides_other_items(engine, site):
    for name in ("apple", "banana"):
        site.put(name, title=name, value=0.5)
    engine.wait_for("document.querySelectorAll('#board .item').length === 2")
    engine.type("input[type=search]", "banana")
    engine.wait_for("document.querySelectorAll('#board .item').length === 1")
    engine.wait_for_text("banana", "#board .item")


def check_item_page_opens_from_the_board(engine, site):
    site.put("a/b c", title="Import", total=4, completed=1)
    engine.wait_for_text("Import", "#board .item")
    engine.click("#board .item a")
    engine.wait_for("location.pathname.includes('/items/')")
    engine.wait_for_text("Import", "h1")
    site.patch("a/b c", completed=3)
    engine.wait_for_text("75 %", "main")


def check_history_page_shows_a_failed_run(engine, site):
    site.put("a", title="Export", status="failed", error="OSError: gone")
    site.delete("a")
    engine.open(f"{site.background.url}/history")
    engine.wait_for_text("Export", "main table")
    engine.wait_for_text("OSError: gone", "main table")


def check_schedule_is_set_by_its_form(engine, site):
    engine.open(f"{site.background.url}/schedules")
    engine.wait_for("document.querySelector('input[name=timezone]').value !== ''")
    engine.type("input[name=id]", "job")
    engine.press("Enter")
    engine.wait_for_text("This is needed.", "#cron-error")
    engine.type("input[name=cron]", "0 3 * * *")
    engine.press("Enter")
    engine.wait_for_text("The schedule of job is set.", "#saved")


def check_today_page_shows_the_runs_of_the_day(engine, site):
    site.put("a", title="Export", status="failed", error="OSError: gone")
    site.put("b", title="Import", value=0.5)
    engine.open(f"{site.background.url}/today")
    engine.wait_for_text("Export", "#timeline")
    engine.wait_for_text("Import", "#timeline")
    assert engine.evaluate("document.querySelectorAll('#timeline canvas, #timeline svg').length") > 0


def check_share_page_follows_the_item_of_a_group(engine, site):
    site.put("a", title="Import", total=4, completed=1, group="etl")
    path = site.create_share(group="etl")
    engine.open(f"{site.background.url}/{path}")
    engine.wait_for_text("25 %", "main")
    site.patch("a", completed=3)
    engine.wait_for_text("75 %", "main")


def check_lost_connection_shows_a_banner(engine, site):
    assert not engine.evaluate("document.querySelector('#offline').checkVisibility()")
    site.stop()
    try:
        engine.wait_for("document.querySelector('#offline').checkVisibility()")
    finally:
        site.start()
    engine.wait_for("!document.querySelector('#offline').checkVisibility()")


def check_slash_key_focuses_the_search(engine, site):
    site.put("a", title="Import", value=0.5)
    engine.wait_for_text("Import", "#board .item")
    engine.press("/")
    engine.wait_for("document.activeElement.type === 'search'")
    assert engine.evaluate("document.activeElement.value") == ""


def check_tab_key_reaches_the_skip_link_first(engine, site):
    engine.press("Tab")
    engine.wait_for("document.activeElement.className === 'skip-link'")
    engine.press("Enter")
    engine.wait_for("location.hash === '#main'")


USER_FLOWS = (
    check_sign_in_with_a_key_shows_the_board,
    check_board_follows_an_item,
    check_board_search_hides_other_items,
    check_item_page_opens_from_the_board,
    check_history_page_shows_a_failed_run,
    check_schedule_is_set_by_its_form,
    check_today_page_shows_the_runs_of_the_day,
    check_share_page_follows_the_item_of_a_group,
    check_lost_connection_shows_a_banner,
    check_slash_key_focuses_the_search,
    check_tab_key_reaches_the_skip_link_first,
)


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("engine", ENGINE_CLASSES, indirect=True)
def test_engine_passes_every_flow(engine, site):
    failures = {}
    for flow in USER_FLOWS:
        open_board(engine, site)
        try:
            flow(engine, site)
        except Exception as error:
            failures[flow.__name__] = str(error)
    assert failures == {}
