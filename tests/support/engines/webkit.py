"""WebKit, as WebKitGTK's MiniBrowser, by selenium and WebKitWebDriver, on a virtual display."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings

from . import Engine, MissingProgramError


class VirtualDisplay:
    """An X server without a screen; it chooses a free number."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
        self._process = subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
        os.close(writer)
        with os.fdopen(reader) as lines:
            self.name = f":{lines.readline().strip()}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)


class WebKitEngine(Engine):
    """A MiniBrowser with a new profile."""

    name = "webkit"

    def __init__(self) -> None:
        driver = shutil.which("WebKitWebDriver")
        if driver is None or shutil.which("Xvfb") is None:
            raise MissingProgramError("needs WebKitGTK: install Debian's webkit2gtk-driver and xvfb")
        from selenium import webdriver
        from selenium.webdriver.common.keys import Keys
        from selenium.webdriver.webkitgtk.options import Options
        from selenium.webdriver.webkitgtk.service import Service

        self._keys = Keys
        self._display = VirtualDisplay()
        # Without the processes of a desktop, such as that of accessibility.
        environ = {**os.environ, "DISPLAY": self._display.name, "NO_AT_BRIDGE": "1", "GDK_BACKEND": "x11"}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # selenium uses parameters that it deprecates
                self._driver = webdriver.WebKitGTK(options=Options(), service=Service(driver, env=environ))
            self._driver.set_window_size(1280, 880)
        except BaseException:
            self._display.close()
            raise

    def open(self, url: str) -> None:
        self._driver.get(url)

    def evaluate(self, expression: str) -> object:
        return self._driver.execute_script(f"return ({expression})")

    def click(self, selector: str) -> None:
        self._driver.find_element("css selector", selector).click()

    def type(self, selector: str, text: str) -> None:
        self._driver.find_element("css selector", selector).send_keys(text)

    def press(self, key: str) -> None:
        code = key if len(key) == 1 else getattr(self._keys, key.upper())
        self._driver.switch_to.active_element.send_keys(code)

    def take_screenshot(self) -> bytes:
        return self._driver.get_screenshot_as_png()

    def clear_cookies(self) -> None:
        self._driver.delete_all_cookies()

    def close(self) -> None:
        try:
            self._driver.quit()
        finally:
            self._display.close()
