"""One interface to three browser engines: Chromium, Firefox and WebKit.

Each implementation drives the browser of the system with a tool of its own. No tool drives all three: playwright drives
an installed Chromium, but only its own builds of the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from tests.support.waiting import wait_until

WAIT_TIMEOUT = 60.0
POLL_INTERVAL = 0.05  # seconds: each poll is a request to the browser


class MissingProgramError(Exception):
    """A program or a package that an engine needs is not installed; the text says how to install it."""


class Engine(ABC):
    """A browser with one tab. Selectors are CSS; the first element counts."""

    name: ClassVar[str]

    @abstractmethod
    def open(self, url: str) -> None:
        """Load a page and wait until it is loaded."""

    @abstractmethod
    def evaluate(self, expression: str) -> object:
        """Return the value of a JavaScript expression, which JSON can represent."""

    @abstractmethod
    def click(self, selector: str) -> None:
        """Click an element with the mouse."""

    @abstractmethod
    def type(self, selector: str, text: str) -> None:
        """Focus a field and press the keys of a text."""

    @abstractmethod
    def press(self, key: str) -> None:
        """Press a key of the focused element: a character, or a name such as ``Enter``."""

    @abstractmethod
    def take_screenshot(self) -> bytes:
        """Return the visible part of the page as PNG."""

    @abstractmethod
    def clear_cookies(self) -> None:
        """Delete the cookies of the opened page."""

    @abstractmethod
    def close(self) -> None:
        """End the browser."""

    def wait_for(self, expression: str, timeout: float = WAIT_TIMEOUT) -> None:
        """Wait until an expression is true; a page that loads meanwhile may have no result.

        Raises:
            AssertionError: It is not true after ``timeout`` seconds; the message has the text of the page.
        """
        failure: Exception | None = None

        def is_true() -> bool:
            nonlocal failure
            try:
                return bool(self.evaluate(expression))
            except Exception as error:  # each driver has its own errors
                failure = error
                return False

        try:
            wait_until(is_true, timeout, POLL_INTERVAL)
        except TimeoutError:
            text = self.evaluate("document.body.innerText")
            message = f"{self.name}: not true after {timeout:g} s: {expression} ({failure})\n{text}"
            raise AssertionError(message) from None

    def wait_for_text(self, text: str, selector: str = "body") -> None:
        """Wait until the first element of a selector shows a text."""
        self.wait_for(f"document.querySelector({selector!r})?.innerText.includes({text!r})")
