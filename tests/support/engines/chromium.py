"""Chromium, by playwright."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import Engine

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class ChromiumEngine(Engine):
    """A new profile of a Chromium that runs already."""

    name = "chromium"

    def __init__(self, browser: Browser) -> None:
        self._context = browser.new_context(viewport={"width": 1280, "height": 800})
        self._page = self._context.new_page()

    def open(self, url: str) -> None:
        self._page.goto(url)

    def evaluate(self, expression: str) -> object:
        return self._page.evaluate(f"() => ({expression})")

    def click(self, selector: str) -> None:
        self._page.locator(selector).first.click()

    def type(self, selector: str, text: str) -> None:
        self._page.locator(selector).first.press_sequentially(text)

    def press(self, key: str) -> None:
        self._page.keyboard.press(key)

    def take_screenshot(self) -> bytes:
        return self._page.screenshot()

    def clear_cookies(self) -> None:
        self._context.clear_cookies()

    def close(self) -> None:
        self._context.close()
